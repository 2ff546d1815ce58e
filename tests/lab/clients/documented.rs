//! The helper under the name and with the options of QEMU's documentation: qemu-pr-helper(8), and "Persistent reservation
//! managers" in QEMU's manual.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use fixtures::{Disk, State, clean, open};
use rustix::process::{Pid, Signal};
use test_support::eventually;

use crate::helper::wait_until_listening;
use crate::qemu::{Drive, Qemu};

#[test]
fn guest_is_served_with_documented_options() {
    let disk = Disk::nexus_a();
    clean(&[open(&disk.block), open(&Disk::nexus_b().block)]);
    let directory = tempfile::tempdir().unwrap();
    let (program, pidfile) = (directory.path().join("qemu-pr-helper"), directory.path().join("pid"));
    symlink(std::env::var_os("PR_HELPER").unwrap(), &program).unwrap();
    // The default socket of the helper and of QEMU's unit.
    let socket = Path::new("/var/run/qemu-pr-helper.sock");
    let mut command = Command::new(program);
    command.args(["--daemon", "--user", "daemon", "--group", "daemon", "--pidfile"]).arg(&pidfile);
    assert!(command.env_remove("DM_DISABLE_UDEV").status().unwrap().success());
    let pid: i32 = fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
    wait_until_listening(socket, || {});

    let mut qemu = Qemu::with_socket(socket, &[Drive::block(&disk.block)]);
    qemu.expect_success(0, "--out --register --param-sark=0xa1");
    let registered = State { registered: vec![(disk.initiator_port(), 0xa1)], reservation: None };
    assert_eq!(State::seen_by(&disk), registered);
    assert!(qemu.expect_success(0, "--in --read-keys").contains("0xa1"));
    qemu.expect_success(0, "--out --clear --param-rk=0xa1");
    assert_eq!(State::seen_by(&disk), State::default());

    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    eventually("the helper exits", || UnixStream::connect(socket).is_err());
}
