//! `pr-ctl doctor` on disks of a real kernel.

use std::{
    path::Path,
    process::{Command, Output},
};

use fixtures::{Disk, REGISTER, State, change_disk, clean, open};
use scsi_sense::Status;
use test_support::Daemon;

use crate::reservations::daemon;

const KEY: u64 = 0x1ab0_0000_0000_0001;
const OTHER_KEY: u64 = 0x07e4_0000_0000_0001;

/// Runs `pr-ctl doctor --write` on a device; returns its exit status and its output, which ends with the verdict that
/// belongs to the exit status.
#[track_caller]
pub(crate) fn doctor(daemon: &Daemon, device: &Path) -> (i32, String) {
    let mut command = Command::new("pr-ctl");
    command.arg("--socket").arg(daemon.socket()).args(["doctor", "--write"]).arg(device);
    let Output { status, stdout, .. } = command.output().unwrap();
    let output = String::from_utf8(stdout).unwrap();
    let status = status.code().unwrap();
    let verdict = if status == 0 { "READY" } else { "NOT READY" };
    assert_eq!(output.lines().last(), Some(verdict), "{output}");
    (status, output)
}

#[test]
fn disk_is_ready_and_left_unregistered() {
    let (a, b) = (Disk::nexus_a(), Disk::nexus_b());
    let disks = [open(&a.block), open(&b.block)];
    let daemon = daemon();
    for device in [&a.block, &a.generic] {
        clean(&disks);
        assert_eq!(change_disk(&disks[1], REGISTER, 0, 0, OTHER_KEY).status, Status::GOOD);
        let (status, output) = doctor(&daemon, device);
        assert_eq!(status, 0, "{output}");
        for line in [
            "ok  the helper's process: pid ",
            "with CAP_SYS_RAWIO",
            "--  multipathd: not asked",
            "ok  Windows failover clusters: WRITE EXCLUSIVE, REGISTRANTS ONLY (5h)",
            "ok  REGISTER: key 0x",
            "ok  registered\n  ok  unregistered\n",
        ] {
            assert!(output.contains(line), "{line}:\n{output}");
        }
        let only_b = State { registered: vec![(b.initiator_port(), OTHER_KEY)], reservation: None };
        assert_eq!(State::seen_by(&a), only_b);
    }
    clean(&disks);
}

#[test]
fn registered_disk_keeps_its_key() {
    let (a, b) = (Disk::nexus_a(), Disk::nexus_b());
    let disks = [open(&a.block), open(&b.block)];
    clean(&disks);
    assert_eq!(change_disk(&disks[0], REGISTER, 0, 0, KEY).status, Status::GOOD);
    let (status, output) = doctor(&daemon(), &a.block);
    assert_eq!(status, 24, "{output}");
    assert!(output.contains("NO  REGISTER: RESERVATION CONFLICT (18h)"), "{output}");
    assert_eq!(State::seen_by(&a).registered, [(a.initiator_port(), KEY)]);
    clean(&disks);
}
