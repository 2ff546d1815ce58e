//! A descriptor permits only commands for its access mode, and only on a whole disk.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use fixtures::{Disk, direct, open};
use scsi_sense::Status;
use test_support::Reply;

use crate::reservations::daemon;

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 2, 0, 0];
const REGISTER_AND_IGNORE: [u8; 10] = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0];
const KEY: [u8; 8] = *b"intruder";
const INVALID_OPCODE: Option<(u8, u8, u8)> = Some((5, 0x20, 0));

fn parameters(new_key: [u8; 8]) -> Vec<u8> {
    [[0; 8], new_key, [0; 8]].concat()
}

fn keys(disk: &File) -> Reply {
    // A unit attention may come first.
    let _ = direct(disk, &READ_KEYS, None);
    direct(disk, &READ_KEYS, None)
}

#[test]
fn read_only_descriptor_cannot_change_reservations() {
    let daemon = daemon();
    for path in [Disk::nexus_a().block, Disk::nexus_a().generic] {
        let disk = File::open(&path).unwrap();
        let before = keys(&disk);
        let mut client = daemon.client();
        let reply = client.write(&disk, &REGISTER_AND_IGNORE, &parameters(KEY)).unwrap();
        assert_eq!(reply.sense_code(), INVALID_OPCODE, "{path:?}");
        assert_eq!(client.read(&disk, &READ_KEYS).unwrap(), before, "{path:?}: nothing has changed");
    }
    daemon.stop();
}

#[test]
fn short_parameter_list_never_reaches_the_disk() {
    let daemon = daemon();
    let disk = open(&Disk::nexus_a().block);
    let before = keys(&disk);
    let mut client = daemon.client();
    for length in [0, 1, 8, 16, 23] {
        let cdb = [0x5f, 6, 0, 0, 0, 0, 0, 0, length, 0];
        let reply = client.write(&disk, &cdb, &parameters(KEY)[..usize::from(length)]).unwrap();
        assert_eq!(reply.sense_code(), Some((5, 0x1a, 0)), "{length} bytes");
    }
    assert_eq!(client.read(&disk, &READ_KEYS).unwrap(), before);
    daemon.stop();
}

/// Checks that the helper refuses a command on a part of a disk. Sent by root without the helper, the same command reaches the
/// whole disk, which is the reason for the refusal.
fn check_refusal(path: &Path) {
    let whole = open(&Disk::other().block);
    let part = open(path);
    let before = keys(&whole);
    let daemon = daemon();
    let mut client = daemon.client();
    let reply = client.write(&part, &REGISTER_AND_IGNORE, &parameters(KEY)).unwrap();
    assert_eq!(reply.sense_code(), INVALID_OPCODE, "{path:?}");
    let reply = client.read(&part, &READ_KEYS).unwrap();
    assert_eq!((reply.sense_code(), reply.payload.len()), (INVALID_OPCODE, 0), "{path:?}");
    assert_eq!(keys(&whole), before, "{path:?}");
    daemon.wait_for_log("pass a descriptor of the disk itself");
    assert!(client.read(&whole, &READ_KEYS).unwrap().status == Status::GOOD, "the connection remains open");
    daemon.stop();

    let registered = direct(&part, &REGISTER_AND_IGNORE, Some(&parameters(KEY)));
    assert_eq!(registered.status, Status::GOOD, "{path:?}: the kernel permits it to root");
    assert_eq!(keys(&whole).payload[8..16], KEY, "{path:?}: the whole disk has the key");
    let removed = direct(&whole, &REGISTER_AND_IGNORE, Some(&parameters([0; 8])));
    assert_eq!(removed.status, Status::GOOD);
}

#[test]
fn partition_is_refused() {
    check_refusal(&Disk::other_partition());
}

#[test]
fn linear_map_is_refused() {
    let table = format!("0 2048 linear {} 0", Disk::other().block.display());
    let dmsetup =
        |arguments: &[&str]| assert!(Command::new("dmsetup").args(arguments).status().unwrap().success());
    dmsetup(&["create", "linear", "--table", &table]);
    check_refusal(&PathBuf::from("/dev/mapper/linear"));
    dmsetup(&["remove", "linear"]);
}

#[test]
fn other_block_devices_are_refused() {
    let daemon = daemon();
    let mut client = daemon.client();
    // A loop device is a block device also without a backing file.
    let device = File::open("/dev/loop0").unwrap();
    assert_eq!(client.read(&device, &READ_KEYS).unwrap().sense_code(), INVALID_OPCODE);
    daemon.wait_for_log("block device 7:0 takes no SCSI commands");
    daemon.stop();
}
