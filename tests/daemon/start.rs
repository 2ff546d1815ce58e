//! How the daemon starts: sockets, pidfile, background, socket activation, and the conditions under which it
//! refuses.

use std::{
    fs::{self, File},
    io::Read as _,
    os::{
        fd::OwnedFd,
        unix::{
            fs::MetadataExt as _,
            net::{UnixDatagram, UnixListener, UnixStream},
            process::ExitStatusExt as _,
        },
    },
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::{
    fs::FlockOperation,
    process::{Pid, Signal},
};
use test_support::{Client, Daemon, eventually};

use crate::{null, read_keys};

/// Runs a daemon that cannot start, waits for its exit, and returns its standard error.
fn fails_to_start(arguments: &[&str]) -> String {
    let output = Daemon::command().arg("--unprivileged").args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn second_daemon_on_same_socket_fails() {
    let daemon = Daemon::start(&[]);
    let socket = daemon.socket();
    let mut client = daemon.client();
    let message = fails_to_start(&["-k", text(&socket)]);
    assert!(message.contains("another process answers on this socket"), "{message}");
    assert!(client.read(null(), &read_keys(8)[..10]).is_ok());
    assert!(daemon.client().read(null(), &read_keys(8)[..10]).is_ok());
    daemon.stop();
    assert!(!socket.exists(), "the daemon removes its socket on exit");
}

#[test]
fn one_of_two_simultaneous_starts_wins() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    for _ in 0..20 {
        // Both find a dead socket in their way.
        drop(UnixListener::bind(&socket).unwrap());
        let start = || -> Child {
            Daemon::command()
                .args(["--unprivileged", "-k", text(&socket)])
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let mut both = [start(), start()];
        eventually("one has exited", || both.iter_mut().any(|child| child.try_wait().unwrap().is_some()));
        eventually("the other answers", || Client::connect(&socket).is_ok());
        let running = both.iter_mut().map(|child| child.try_wait().unwrap()).filter(Option::is_none).count();
        assert_eq!(running, 1);
        for child in &mut both {
            let _ = child.kill();
            child.wait().unwrap();
        }
        let _ = fs::remove_file(&socket);
    }
}

#[test]
fn file_at_socket_path_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    fs::write(&path, "data").unwrap();
    let message = fails_to_start(&["-k", text(&path)]);
    assert!(message.contains("is not a socket"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"data");
}

#[test]
fn socket_mode_option_applies() {
    let daemon = Daemon::start(&["--socket-mode", "0600"]);
    assert_eq!(fs::metadata(daemon.socket()).unwrap().mode() & 0o777, 0o600);
    daemon.stop();
}

#[test]
fn relative_paths_use_the_starting_directory() {
    let directory = tempfile::tempdir().unwrap();
    let output = background(&directory.path().join("socket"), &["-f", "pid"], directory.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let pid: i32 = fs::read_to_string(directory.path().join("pid")).unwrap().trim().parse().unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    end(pid);
    assert!(!directory.path().join("socket").exists() && !directory.path().join("pid").exists());
}

#[test]
fn background_daemon_listens_before_starter_exits() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, pidfile) = (directory.path().join("socket"), directory.path().join("pid"));
    let output = background(&socket, &["-f", text(&pidfile)], Path::new("/"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut client = Client::connect(&socket).expect("the daemon listens");
    assert!(client.read(null(), &read_keys(8)[..10]).is_ok());
    let written = fs::read_to_string(&pidfile).unwrap();
    let pid: i32 = written.trim().parse().unwrap();
    assert_eq!(written, format!("{pid}\n"));
    assert_eq!(fs::metadata(&pidfile).unwrap().mode() & 0o777, 0o600);
    for fd in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap(), Path::new("/dev/null"));
    }

    let second = directory.path().join("second");
    let message = fails_to_start(&["-k", text(&second), "-f", text(&pidfile)]);
    assert!(message.contains("locked by another process"), "{message}");
    assert!(!second.exists(), "the second daemon never listened");
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), written, "a locked pidfile is left alone");
    end(pid);
}

/// With the C helper, the starter exits with 0 here.
#[test]
fn background_start_failure_reaches_the_starter() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let pidfile = directory.path().join("pid");
    let output = background(&file, &["-f", text(&pidfile)], Path::new("/"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not a socket"));
    assert!(!pidfile.exists(), "the pidfile is removed again");
}

/// The starter exits after the daemon has logged its error: a service manager may read the log then.
#[test]
fn error_is_logged_before_starter_exits() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, log) = (directory.path().join("socket"), directory.path().join("log"));
    // Without the rule, the starter exits at about the time at which the line is written.
    for _ in 0..50 {
        let status = Daemon::command()
            .args(["--unprivileged", "-d", "-k", text(&socket), "-f", text(&directory.path().join("pid"))])
            .args(["--emulate", text(&log)])
            .stderr(File::create(&log).unwrap())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(1));
        let log = fs::read_to_string(&log).unwrap();
        assert!(log.contains("error: --emulate: "), "{log:?}");
    }
}

/// The last step of the start fails if the starter was killed. The daemon then exits and removes its files.
#[test]
fn daemon_of_killed_starter_leaves_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let [socket, other, metrics, pidfile, log, state] =
        ["socket", "other", "metrics", "pid", "log", "state"].map(|name| directory.path().join(name));
    // The daemon waits for this lock before it binds a socket, for a second each.
    let lock = File::open(directory.path()).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    let mut starter = Daemon::command()
        .args(["--unprivileged", "-d", "-k", text(&socket), "-f", text(&pidfile)])
        .args(["--metrics-socket", text(&metrics)])
        // The supervisor of multipath workers removes the first socket, if the daemon does not; it does not know this one.
        .args(["--emulate", text(&state), "--initiator", &format!("a={}", text(&other))])
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut pid = None;
    eventually("the daemon has written its pidfile", || {
        let written = fs::read_to_string(&pidfile).unwrap_or_default();
        pid = written.strip_suffix('\n').and_then(|pid| pid.parse().ok());
        pid.is_some()
    });
    starter.kill().unwrap();
    assert_eq!(starter.wait().unwrap().signal(), Some(9), "the starter still waits");
    drop(lock);
    wait_for_exit(pid.unwrap());
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("listening on"), "{log}");
    for file in [socket, other, metrics, pidfile] {
        assert!(!file.exists(), "{}", file.display());
    }
}

/// Starts a daemon in the background with `-d`, and returns the output of the starter.
fn background(socket: &Path, arguments: &[&str], directory: &Path) -> Output {
    let mut command = Daemon::command();
    command.args(["--unprivileged", "-d", "-k", text(socket)]).args(arguments);
    command.current_dir(directory).output().unwrap()
}

fn end(pid: i32) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    wait_for_exit(pid);
}

fn wait_for_exit(pid: i32) {
    let process = format!("/proc/{pid}/stat");
    eventually("the daemon exits", || {
        fs::read_to_string(&process).map_or(true, |stat| stat.contains(") Z "))
    });
}

/// Starts a daemon with `count` copies of this socket passed in the way of systemd.
fn activated(socket: OwnedFd, count: u32, arguments: &[&str]) -> Child {
    let mut command = Daemon::activation(socket, count);
    command.arg(Daemon::command().get_program()).arg("--unprivileged").args(arguments);
    command.stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn systemd_socket_is_served_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let notified = directory.path().join("notify");
    let notify = UnixDatagram::bind(&notified).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(60))).unwrap();

    let mut child = Daemon::activation(listener.into(), 1)
        .arg(Daemon::command().get_program())
        .arg("--unprivileged")
        .env("NOTIFY_SOCKET", &notified)
        .spawn()
        .unwrap();
    let mut client = Client::connect(&path).unwrap();
    assert!(client.read(null(), &read_keys(8)[..10]).is_ok());
    let mut message = [0; 256];
    let n = notify.recv(&mut message).unwrap();
    assert_eq!(std::str::from_utf8(&message[..n]).unwrap().trim(), "READY=1");
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let n = notify.recv(&mut message).unwrap();
    assert_eq!(std::str::from_utf8(&message[..n]).unwrap().trim(), "STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(path.exists(), "the socket belongs to systemd");
}

#[test]
fn activation_needs_one_listening_socket() {
    let directory = tempfile::tempdir().unwrap();
    let listen = |name: &str| OwnedFd::from(UnixListener::bind(directory.path().join(name)).unwrap());
    let (connected, _peer) = UnixStream::pair().unwrap();
    for (socket, count, arguments, message) in [
        (listen("a"), 2, &[][..], "2 sockets were passed where one is expected"),
        (listen("b"), 1, &["-k", "/nowhere"], "--socket cannot be used with socket activation"),
        (connected.into(), 1, &[], "not a listening Unix stream socket"),
        (null(), 1, &[], "not a listening Unix stream socket"),
    ] {
        let mut child = activated(socket, count, arguments);
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{message}");
        assert!(stderr.contains(message), "{message}: {stderr}");
    }
}

/// Passed descriptors are checked before the daemon opens files of its own, which get the same numbers.
#[test]
fn missing_activation_descriptor_is_an_error() {
    let script = "exec 3<&-; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(Daemon::command().get_program())
        .arg("--unprivileged")
        .env_remove("NOTIFY_SOCKET")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("the descriptor passed cannot be used: Bad file descriptor"), "{stderr}");
}

/// libvirtd passes its own environment, with its `NOTIFY_SOCKET`, to the helpers that it starts.
#[test]
fn inherited_notify_socket_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    notify.set_nonblocking(true).unwrap();
    let another = std::os::unix::process::parent_id().to_string();
    let options = test_support::Options {
        arguments: vec!["--unprivileged".into()],
        environment: vec![("NOTIFY_SOCKET".into(), text(&path).into()), ("SYSTEMD_EXEC_PID".into(), another)],
        ..test_support::Options::default()
    };
    let daemon = Daemon::with(options);
    assert!(daemon.client().read(null(), &read_keys(8)[..10]).is_ok());
    daemon.stop();
    let received = notify.recv(&mut [0; 256]);
    assert!(received.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

#[test]
fn activation_for_another_process_is_ignored() {
    let options = test_support::Options {
        arguments: vec!["--unprivileged".into()],
        environment: vec![("LISTEN_PID".into(), "1".into()), ("LISTEN_FDS".into(), "1".into())],
        ..test_support::Options::default()
    };
    let daemon = Daemon::with(options);
    assert!(daemon.client().read(null(), &read_keys(8)[..10]).is_ok());
    daemon.stop();
}

#[test]
fn missing_capability_is_named() {
    if rustix::process::geteuid().is_root() {
        // As root, drop all capabilities and run as the user nobody.
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
            .arg(Daemon::command().get_program())
            .args(["-k", "/nowhere/socket"])
            .output()
            .unwrap();
        // Skipped if the user nobody may not execute files in this checkout.
        if output.status.code() == Some(126) || output.status.code() == Some(127) {
            return;
        }
        assert_no_privilege(&output);
    } else {
        assert_no_privilege(&Daemon::command().args(["-k", "/nowhere/socket"]).output().unwrap());
    }
}

fn assert_no_privilege(output: &Output) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(message.contains("CAP_SYS_RAWIO is missing"), "{message}");
}
