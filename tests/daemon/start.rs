//! How the daemon starts: sockets, pidfile, background, and what it refuses to start beside.

use std::{
    fs,
    io::Read as _,
    os::{
        fd::OwnedFd,
        unix::{
            fs::MetadataExt as _,
            net::{UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use test_support::{Client, Daemon, eventually};

use crate::{null, read_keys};

/// Runs a helper to its end, which must be soon: it cannot start.
fn fails_to_start(arguments: &[&str]) -> String {
    let output = Daemon::command().arg("--unprivileged").args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_second_helper_on_the_same_socket_fails_and_the_first_goes_on() {
    let daemon = Daemon::start(&[]);
    let socket = daemon.socket();
    let mut client = daemon.client();
    let message = fails_to_start(&["-k", text(&socket)]);
    assert!(message.contains("another process answers on this socket"), "{message}");
    assert!(client.read(null(), &read_keys(8)[..10]).is_ok());
    assert!(daemon.client().read(null(), &read_keys(8)[..10]).is_ok());
    daemon.stop();
    assert!(!socket.exists(), "its end removes the socket that it made");
}

#[test]
fn of_two_helpers_started_at_once_one_wins_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    for _ in 0..20 {
        // A dead socket in the way of both.
        drop(UnixListener::bind(&socket).unwrap());
        let start = || -> Child {
            Daemon::command()
                .args(["--unprivileged", "-k", text(&socket)])
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let mut both = [start(), start()];
        eventually("one has lost", || both.iter_mut().any(|child| child.try_wait().unwrap().is_some()));
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
fn a_file_at_the_sockets_path_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    fs::write(&path, "data").unwrap();
    let message = fails_to_start(&["-k", text(&path)]);
    assert!(message.contains("is not a socket"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"data");
}

#[test]
fn the_socket_has_the_mode_that_was_ordered() {
    let daemon = Daemon::start(&["--socket-mode", "0600"]);
    assert_eq!(fs::metadata(daemon.socket()).unwrap().mode() & 0o777, 0o600);
    daemon.stop();
}

#[test]
fn relative_paths_are_of_the_directory_it_was_started_in() {
    let directory = tempfile::tempdir().unwrap();
    let output = background(&directory.path().join("socket"), &["-f", "pid"], directory.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let pid: i32 = fs::read_to_string(directory.path().join("pid")).unwrap().trim().parse().unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    end(pid);
    assert!(!directory.path().join("socket").exists() && !directory.path().join("pid").exists());
}

#[test]
fn in_the_background_it_listens_before_its_starter_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, pidfile) = (directory.path().join("socket"), directory.path().join("pid"));
    let output = background(&socket, &["-f", text(&pidfile)], Path::new("/"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut client = Client::connect(&socket).expect("it listens");
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
    assert!(!second.exists(), "it never listened");
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), written, "a locked pidfile is left alone");
    end(pid);
}

/// The C helper's starter exits with 0 here.
#[test]
fn what_fails_in_the_background_is_told_by_the_starter() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let pidfile = directory.path().join("pid");
    let output = background(&file, &["-f", text(&pidfile)], Path::new("/"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not a socket"));
    assert!(!pidfile.exists(), "what was made goes away again");
}

/// Starts a helper with `--daemon`, and waits for the starter.
fn background(socket: &Path, arguments: &[&str], directory: &Path) -> Output {
    let mut command = Daemon::command();
    command.args(["--unprivileged", "-d", "-k", text(socket)]).args(arguments);
    command.current_dir(directory).output().unwrap()
}

fn end(pid: i32) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let process = format!("/proc/{pid}/stat");
    eventually("it ends", || fs::read_to_string(&process).map_or(true, |stat| stat.contains(") Z ")));
}

/// Starts a helper with this socket passed as systemd does, and others beside it.
fn activated(socket: OwnedFd, count: u32, arguments: &[&str]) -> Child {
    let mut command = Daemon::activation(socket, count);
    command.arg(Daemon::command().get_program()).arg("--unprivileged").args(arguments);
    command.stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_socket_that_systemd_passes_is_served_and_left_where_it_is() {
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
    assert!(path.exists(), "the socket is systemd's");
}

#[test]
fn activation_with_anything_but_one_listening_socket_is_an_error() {
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

/// libvirtd leaves its own environment to the helpers that it starts.
#[test]
fn the_service_manager_of_another_process_is_told_nothing() {
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
    let heard = notify.recv(&mut [0; 256]);
    assert!(heard.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

#[test]
fn activation_meant_for_another_process_is_ignored() {
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
fn without_privilege_it_says_what_is_missing() {
    if rustix::process::geteuid().is_root() {
        // Root may give the privilege up, and what is left is nobody's.
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
            .arg(Daemon::command().get_program())
            .args(["-k", "/nowhere/socket"])
            .output()
            .unwrap();
        // A checkout that nobody may read cannot be tried as nobody.
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
