//! Privileges of the running daemon.

use std::{
    fs::{self, File},
    process::Command,
};

use scsi_sense::Status;
use test_support::{Daemon, Options};

use fixtures::{Disk, open};

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 2, 0, 0];
/// Bit 17, as in /proc/PID/status.
const CAP_SYS_RAWIO: &str = "0000000000020000";
const NONE: &str = "0000000000000000";

/// Checks the privileges of all threads, and that reservations work with them.
fn check_only_rawio(daemon: &Daemon, ids: &str) {
    let disk = open(&Disk::nexus_a().block);
    let mut client = daemon.client();
    let mut replies = (0..4).map(|_| client.read(&disk, &READ_KEYS).unwrap().status);
    assert!(replies.any(|status| status == Status::GOOD), "{}", daemon.log());
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let mut count = 0;
    for thread in threads {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("{name}")).trim().replace('\t', " ")
        };
        assert_eq!((field("CapPrm"), field("CapEff")), (CAP_SYS_RAWIO.into(), CAP_SYS_RAWIO.into()));
        for set in ["CapInh", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), NONE, "{set}");
        }
        assert_eq!((field("NoNewPrivs"), field("Groups")), ("1".into(), String::new()));
        assert_eq!((field("Uid"), field("Gid")), (ids.into(), ids.into()));
        count += 1;
    }
    assert!(count >= 2, "the event loop and a worker thread");
}

fn daemon(arguments: &[&str]) -> Daemon {
    Daemon::with(Options {
        arguments: arguments.iter().map(ToString::to_string).collect(),
        ..Options::default()
    })
}

#[test]
fn root_keeps_only_cap_sys_rawio() {
    let daemon = daemon(&[]);
    check_only_rawio(&daemon, "0 0 0 0");
    daemon.stop();
}

#[test]
fn user_given_by_name_is_served() {
    let daemon = daemon(&["-u", "nobody"]);
    check_only_rawio(&daemon, "65534 65534 65534 65534");
    daemon.stop();
}

#[test]
fn user_given_by_number_is_served() {
    let daemon = daemon(&["--user=12345", "--group=12345"]);
    check_only_rawio(&daemon, "12345 12345 12345 12345");
    daemon.stop();
}

/// Standard error is a pipe of root's, which is never read and which the daemon's user cannot open.
#[test]
fn full_standard_error_blocks_no_client() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let mut child = Daemon::command()
        .args(["-vv", "-u", "nobody", "-k"])
        .arg(&socket)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    test_support::eventually("the daemon listens", || test_support::Client::connect(&socket).is_ok());
    let disk = File::open(Disk::nexus_a().block).unwrap();
    let mut client = test_support::Client::connect(&socket).unwrap();
    for _ in 0..2000 {
        let _ = client.read(&disk, &READ_KEYS).unwrap();
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn socket_has_requested_owner_and_mode() {
    use std::os::unix::fs::MetadataExt as _;
    let daemon = daemon(&["--socket-owner=nobody", "--socket-group=12345", "--socket-mode=0660"]);
    let metadata = fs::metadata(daemon.socket()).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (65534, 12345, 0o660));
    daemon.stop();
}

#[test]
fn unprivileged_process_needs_the_helper() {
    // The same command that the helper sends, from a process without privileges.
    let disk = Disk::nexus_a().block;
    let script = format!("sg_persist -n -i -k {}", disk.display());
    let chmod = Command::new("chmod").arg("666").arg(&disk).status().unwrap();
    assert!(chmod.success());
    let output = {
        use std::os::unix::process::CommandExt as _;
        Command::new("sh").args(["-c", &script]).uid(65534).gid(65534).output().unwrap()
    };
    assert!(!output.status.success(), "{output:?}");
}
