//! What the daemon may do, once it runs.

use std::{
    fs::{self, File},
    process::Command,
};

use scsi_sense::Status;
use test_support::{Daemon, Options};

use fixtures::Disk;

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 2, 0, 0];
/// Bit 17.
const CAP_SYS_RAWIO: &str = "0000000000020000";
const NONE: &str = "0000000000000000";

/// The privileges of all threads, and that reservations work with them.
fn has_only_rawio(daemon: &Daemon, ids: &str) {
    let disk = File::options().read(true).write(true).open(Disk::nexus_a().block).unwrap();
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
    assert!(count >= 2, "the loop and a thread that has served");
}

fn daemon(arguments: &[&str]) -> Daemon {
    Daemon::with(Options {
        arguments: arguments.iter().map(ToString::to_string).collect(),
        ..Options::default()
    })
}

#[test]
fn as_root_only_cap_sys_rawio_is_left() {
    let daemon = daemon(&[]);
    has_only_rawio(&daemon, "0 0 0 0");
    daemon.stop();
}

#[test]
fn as_another_user_by_name_it_still_works() {
    let daemon = daemon(&["-u", "nobody"]);
    has_only_rawio(&daemon, "65534 65534 65534 65534");
    daemon.stop();
}

#[test]
fn as_another_user_and_group_by_number_it_still_works() {
    let daemon = daemon(&["--user=12345", "--group=12345"]);
    has_only_rawio(&daemon, "12345 12345 12345 12345");
    daemon.stop();
}

/// A pipe of root's, that nobody empties and that the user cannot open.
#[test]
fn as_another_user_a_full_standard_error_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let mut child = Daemon::command()
        .args(["-vv", "-u", "nobody", "-k"])
        .arg(&socket)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    test_support::eventually("it listens", || test_support::Client::connect(&socket).is_ok());
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
fn the_socket_belongs_to_whom_it_was_ordered_to() {
    use std::os::unix::fs::MetadataExt as _;
    let daemon = daemon(&["--socket-owner=nobody", "--socket-group=12345", "--socket-mode=0660"]);
    let metadata = fs::metadata(daemon.socket()).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (65534, 12345, 0o660));
    daemon.stop();
}

#[test]
fn the_kernel_lets_the_unprivileged_do_what_the_helper_does_for_them_not() {
    // The same command from a process without privilege: that is why there is a helper.
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
