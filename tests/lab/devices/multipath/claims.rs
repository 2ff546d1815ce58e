//! Sense data that the library misreads, on a map of a disk that fails as told.

use std::{fs, path::Path};

use fixtures::{Faulty, set_recorded_key};
use scsi_sense::Status;
use test_support::{Reply, eventually};

use super::{Host, KEY, Multipath, OTHER_KEY, PREEMPT, REGISTER, REGISTER_AND_IGNORE, RESERVE, daemon, open};

const OUT: u8 = 0x5f;
const NO_SENSE: (u8, u8, u8) = (0, 0, 0);
const IO_PROCESS_TERMINATED: Option<(u8, u8, u8)> = Some((0x0b, 0, 6));

/// Returns name and node of the map that multipathd has made on a disk.
fn map_on(disk: &Path) -> (String, std::path::PathBuf) {
    let holders = Path::new("/sys/class/block").join(disk.file_name().unwrap()).join("holders");
    let mut found = None;
    eventually("multipathd makes a map of the faulty disk", || {
        found = fs::read_dir(&holders).unwrap().flatten().next().map(|entry| entry.path());
        found.is_some()
    });
    let holder = found.unwrap();
    let name = fs::read_to_string(holder.join("dm/name")).unwrap().trim().to_owned();
    (name, Path::new("/dev").join(holder.file_name().unwrap()))
}

/// Checks that a reply is CHECK CONDITION with a sense key that no client reads as success.
fn assert_failure(what: &str, reply: &Reply) {
    assert_eq!(reply.status, Status::CHECK_CONDITION, "{what}");
    let (key, ..) = reply.sense_code().unwrap();
    assert!(![0, 1, 0xf].contains(&key), "{what}: {:02x?}", reply.sense_code());
}

/// Runs a test with a disk that fails as told, the name of the map on it, and this host, which uses that map.
fn with_faulty_map(test: impl FnOnce(&Faulty, &str, &mut Host)) {
    let faulty = Faulty::make();
    let _multipath = Multipath::with_extra_disk(&faulty.block);
    let daemon = daemon();
    let (name, node) = map_on(&faulty.block);
    let mut host = Host { client: daemon.client(), map: open(&node) };
    test(&faulty, &name, &mut host);
    faulty.heal();
    daemon.stop();
}

#[test]
fn failures_without_sense_are_failures_to_clients() {
    with_faulty_map(|faulty, name, host| {
        faulty.answer(OUT, NO_SENSE, false);
        let reply = host.change(REGISTER_AND_IGNORE, 0, 0, KEY);
        assert_eq!((reply.status, reply.sense_code()), (Status::CHECK_CONDITION, IO_PROCESS_TERMINATED));
        // Whether the host is registered already is asked by a REGISTER of its own, which fails, too.
        let reply = host.change(REGISTER, 0, 0, KEY);
        let no_answer = Some((0x0b, 8, 0));
        assert_eq!((reply.status, reply.sense_code()), (Status::CHECK_CONDITION, no_answer));
        set_recorded_key(name, KEY);
        for (action, new_key) in [(RESERVE, 0), (PREEMPT, OTHER_KEY), (PREEMPT, KEY)] {
            let reply = host.change(action, 5, KEY, new_key);
            assert_failure(&format!("service action {action}"), &reply);
        }
        assert_eq!(host.change(RESERVE, 5, KEY, 0).sense_code(), IO_PROCESS_TERMINATED);
    });
}

/// The library reads the additional sense code as the sense key: here 01h, RECOVERED ERROR, which is a success.
#[test]
fn failures_in_descriptor_format_are_no_success() {
    with_faulty_map(|faulty, name, host| {
        faulty.answer(OUT, (0x0b, 0x01, 0), true);
        for action in [REGISTER, REGISTER_AND_IGNORE] {
            assert_failure(&format!("service action {action}"), &host.change(action, 0, 0, KEY));
        }
        for (action, new_key) in [(RESERVE, 0), (PREEMPT, OTHER_KEY), (PREEMPT, KEY), (super::CLEAR, 0)] {
            set_recorded_key(name, KEY);
            let reply = host.change(action, 5, KEY, new_key);
            assert_failure(&format!("service action {action}"), &reply);
        }
    });
}
