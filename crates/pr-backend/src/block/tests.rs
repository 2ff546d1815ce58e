//! The translation, against an NVMe namespace in software.

mod comparison;
mod faults;
mod races;

use std::time::Duration;

use block_pr::HostIdentifier;
use pr_proto::{Command, Completion, Data};
use scsi_sense::Status;

use super::{
    execute,
    identity::Identity,
    model::{Flavour, Host, Model},
};
use crate::Outcome;

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const IGNORE: u8 = 6;

const READ_KEYS: u8 = 0;
const READ_RESERVATION: u8 = 1;
const CAPABILITIES: u8 = 2;
const FULL_STATUS: u8 = 3;

const GOOD: (u8, u32) = (0x00, 0);
const CONFLICT: (u8, u32) = (0x18, 0);
const BUSY: (u8, u32) = (0x08, 0);

/// Returns CHECK CONDITION with this sense key, code and qualifier, one byte each.
const fn check(sense: u32) -> (u8, u32) {
    (0x02, sense)
}

/// Returns what /sys shows of a host: of an old controller, the controller's identifier only.
fn identity(host: Host<'_>) -> Identity {
    if host.model.flavour == Flavour::Old {
        Identity { hosts: Vec::new(), controllers: vec![host.number.into()] }
    } else {
        let own = HostIdentifier::Extended(Model::identifier(host.number));
        Identity { hosts: vec![own], controllers: vec![0xffff] }
    }
}

/// Returns the status, and key, code and qualifier of the sense data.
fn answer(outcome: &Outcome, mut sense: [u8; 96]) -> (u8, u32) {
    let Completion { status, sense_len, .. } = outcome.completion(&mut sense);
    let code = u32::from_be_bytes([0, sense[2], sense[12], sense[13]]);
    assert_eq!(sense_len, if status == Status::CHECK_CONDITION { 18 } else { 0 }, "{outcome:?}");
    (status.0, code)
}

fn send(host: Host<'_>, cdb: &[u8; 10], parameters: &[u8]) -> (Outcome, (u8, u32)) {
    let mut sense = [0; 96];
    let mut command = Command { cdb, data: Data::Out(parameters), sense: &mut sense };
    let outcome = execute(host, Duration::from_secs(1), &identity(host), &mut command);
    let answer = answer(&outcome, sense);
    (outcome, answer)
}

/// Runs a PERSISTENT RESERVE OUT with the basic parameter list.
fn change(host: Host<'_>, action: u8, kind: u8, key: u64, new: u64) -> (u8, u32) {
    change_with(host, action, kind, key, new, 0)
}

fn change_with(host: Host<'_>, action: u8, kind: u8, key: u64, new: u64, flags: u8) -> (u8, u32) {
    let parameters = [&key.to_be_bytes()[..], &new.to_be_bytes(), &[0, 0, 0, 0, flags, 0, 0, 0]].concat();
    send(host, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &parameters).1
}

/// Runs a PERSISTENT RESERVE IN. Returns the data in hexadecimal.
///
/// # Panics
///
/// If the answer is not GOOD.
fn read(host: Host<'_>, action: u8, length: u16) -> String {
    let (mut sense, mut data) = ([0; 96], vec![0; length.into()]);
    let [high, low] = length.to_be_bytes();
    let cdb = [0x5e, action, 0, 0, 0, 0, 0, high, low, 0];
    let mut command = Command { cdb: &cdb, data: Data::In(&mut data), sense: &mut sense };
    match execute(host, Duration::from_secs(1), &identity(host), &mut command) {
        Outcome::Device { status: Status::GOOD, transferred, .. } => {
            data[..transferred].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
        }
        other => panic!("{other:?}"),
    }
}

/// The cases were seen with nvmet, in this order, with the keys a1, b2 and c3.
#[test]
fn thirty_cases_of_three_hosts() {
    let model = Model::new(Flavour::Nvmet);
    let [a, b, c] = [0, 1, 2].map(|number| model.host(number));
    let sent = || std::mem::take(&mut *model.changes.borrow_mut());
    assert_eq!(read(a, READ_KEYS, 8192), "0000000000000000");
    assert_eq!(read(a, CAPABILITIES, 8192), "00080480ea010000");
    assert_eq!((change(a, REGISTER, 0, 0, 0), sent()), (GOOD, vec![]));
    assert_eq!(change(a, REGISTER, 0, 5, 0xa1), CONFLICT);
    sent();
    assert_eq!((change(a, REGISTER, 0, 0, 0xa1), sent()), (GOOD, vec![(0x0d, 0)]));
    assert_eq!((change(a, REGISTER, 0, 0, 0xa1), sent()), (CONFLICT, vec![]));
    assert_eq!((change(a, REGISTER, 0, 0, 0), sent()), (CONFLICT, vec![]));
    assert_eq!((change(a, REGISTER, 0, 0xa1, 0xa2), sent()), (GOOD, vec![(0x0d, 2)]));
    assert_eq!(change(a, REGISTER, 0, 0xa1, 0xa3), CONFLICT);
    assert_eq!(change_with(a, REGISTER, 0, 0xa2, 0xa1, 1), check(0x05_2600));
    sent();
    assert_eq!((change(a, IGNORE, 0, 0x99, 0xa1), sent()), (GOOD, vec![(0x0d, 0xa)]));
    assert_eq!(change(b, IGNORE, 0, 0x99, 0xb2), GOOD);
    sent();
    assert_eq!((change(c, IGNORE, 0, 0x99, 0), sent()), (GOOD, vec![(0x0d, 9)]));
    assert_eq!(change_with(a, REGISTER, 0, 0xa1, 0xa1, 8), check(0x05_1a00), "no length of TransportIDs");
    let with_ids = [&0xa1_u64.to_be_bytes()[..], &[0; 8], &[0, 0, 0, 0, 8, 0, 0, 0], &[0; 4]].concat();
    let (_, spec_i_pt) = send(a, &[0x5f, REGISTER, 0, 0, 0, 0, 0, 0, 28, 0], &with_ids);
    assert_eq!((spec_i_pt, sent()), (check(0x05_2600), vec![]));
    assert_eq!(change(c, REGISTER, 0, 0, 0xc3), GOOD);
    assert_eq!(change(a, RESERVE, 2, 0xa1, 0), check(0x05_2400));
    assert_eq!(change(a, RESERVE, 0x15, 0xa1, 0), check(0x05_2400));
    assert_eq!(change(a, RESERVE, 5, 0x77, 0), CONFLICT);
    sent();
    assert_eq!((change(a, RESERVE, 5, 0xa1, 0), sent()), (GOOD, vec![(0x11, 0x300)]));
    assert_eq!(change(a, RESERVE, 5, 0xa1, 0), GOOD);
    assert_eq!(change(a, RESERVE, 6, 0xa1, 0), CONFLICT);
    assert_eq!(change(b, RESERVE, 5, 0xb2, 0), CONFLICT);
    let keys = "000000050000001800000000000000a100000000000000b200000000000000c3";
    assert_eq!(read(b, READ_KEYS, 8192), keys);
    assert_eq!(read(b, READ_RESERVATION, 8192), "000000050000001000000000000000a10000000000050000");
    for length in [0, 8, 12] {
        assert_eq!(read(b, READ_KEYS, length), keys[..usize::from(length) * 2]);
    }
    assert_eq!(
        read(c, FULL_STATUS, 40),
        "000000050000009000000000000000a1000000000305000000000000000000180b00000000000000"
    );
    assert_eq!(&read(c, FULL_STATUS, 56)[80..], "10000000000000000000000000000000");
    assert_eq!(change(b, RELEASE, 5, 0xb2, 0), GOOD);
    assert_eq!(read(b, READ_RESERVATION, 8192), "000000050000001000000000000000a10000000000050000");
    assert_eq!(change(a, RELEASE, 6, 0xa1, 0), check(0x05_2604));
    assert_eq!(change(a, RELEASE, 5, 0x77, 0), CONFLICT);
    sent();
    assert_eq!((change(b, PREEMPT, 0, 0xb2, 0xc3), sent()), (GOOD, vec![(0x11, 0x301)]), "the type stays");
    assert_eq!(read(b, READ_KEYS, 8192), "000000060000001000000000000000a100000000000000b2");
    // The holder is fenced.
    assert_eq!((change(b, PREEMPT_AND_ABORT, 6, 0xb2, 0xa1), sent()), (GOOD, vec![(0x11, 0x402)]));
    assert_eq!(read(b, READ_RESERVATION, 8192), "000000070000001000000000000000b20000000000060000");
    assert_eq!((change(b, CLEAR, 0, 0xb2, 0), sent()), (GOOD, vec![(0x15, 1)]));
    assert_eq!(read(b, READ_KEYS, 8192), "0000000800000000");
}

/// Linux's nvmet answers success. A cluster would take the victim for fenced.
#[test]
fn preempt_that_removes_nobody_is_not_good() {
    for (flavour, expected) in [(Flavour::Nvmet, check(0x0b_0006)), (Flavour::Standard, GOOD)] {
        let model = Model::new(flavour);
        let [a, b] = [0, 1].map(|number| model.host(number));
        assert_eq!(change(a, REGISTER, 0, 0, 0xa1), GOOD);
        assert_eq!(change(b, REGISTER, 0, 0, 0xb2), GOOD);
        assert_eq!(change(a, RESERVE, 5, 0xa1, 0), GOOD);
        for action in [PREEMPT, PREEMPT_AND_ABORT] {
            assert_eq!(change(a, action, 5, 0xa1, 0xb2), expected, "{flavour:?}");
            change(b, REGISTER, 0, 0, 0xb2);
        }
        // Nor is the reservation's type changed by it.
        assert!(read(a, READ_RESERVATION, 24).ends_with("00000000000000a10000000000050000"));
    }
}

/// Linux's nvmet answers success, and the reservation stays.
#[test]
fn release_without_effect_is_not_good() {
    for (flavour, expected) in [(Flavour::Nvmet, check(0x0b_0006)), (Flavour::Standard, GOOD)] {
        let model = Model::new(flavour);
        let [a, b, c] = [0, 1, 2].map(|number| model.host(number));
        for (host, key) in [(a, 0xa1), (b, 0xb2)] {
            assert_eq!(change(host, REGISTER, 0, 0, key), GOOD);
            assert_eq!(change(host, RESERVE, 7, key, 0), GOOD, "all registrants hold it");
        }
        assert_eq!(change(b, RESERVE, 8, 0xb2, 0), CONFLICT, "of another type");
        assert_eq!(change(c, RESERVE, 7, 0xc3, 0), CONFLICT, "not registered");
        assert_eq!(change(b, RELEASE, 8, 0xb2, 0), check(0x05_2604));
        assert_eq!(change(b, RELEASE, 7, 0xb2, 0), expected);
        let reservation = read(a, READ_RESERVATION, 24);
        assert_eq!(reservation.len(), if flavour == Flavour::Nvmet { 48 } else { 16 }, "{reservation}");
    }
}

#[test]
fn release_by_another_host_changes_nothing() {
    for flavour in [Flavour::Standard, Flavour::Nvmet, Flavour::Spdk, Flavour::Old] {
        let model = Model::new(flavour);
        let [a, b] = [0, 1].map(|number| model.host(number));
        change(a, REGISTER, 0, 0, 0xa1);
        change(b, REGISTER, 0, 0, 0xb2);
        assert_eq!(change(b, RELEASE, 1, 0xb2, 0), GOOD, "there is no reservation");
        assert_eq!(change(a, RESERVE, 1, 0xa1, 0), GOOD);
        for kind in [1, 3] {
            assert_eq!(change(b, RELEASE, kind, 0xb2, 0), GOOD, "{flavour:?}, {kind}");
            assert_eq!(change(b, RELEASE, kind, 0xb3, 0), CONFLICT, "{flavour:?}, {kind}");
        }
        assert_eq!(change(a, RELEASE, 3, 0xa1, 0), check(0x05_2604), "{flavour:?}");
        assert_eq!(read(a, READ_RESERVATION, 24).len(), 48);
        assert_eq!(change(a, RELEASE, 1, 0xa1, 0), GOOD);
        assert_eq!(read(a, READ_RESERVATION, 24).len(), 16);
    }
}

#[test]
fn preempt_of_each_victim_follows_scsi() {
    let model = Model::new(Flavour::Standard);
    let [a, b, c] = [0, 1, 2].map(|number| model.host(number));
    let all = || {
        change(a, IGNORE, 0, 0, 0xa1);
        assert_eq!(change(a, CLEAR, 0, 0xa1, 0), GOOD);
        for (host, key) in [(a, 0xa1), (b, 0xb2), (c, 0xc3)] {
            assert_eq!(change(host, REGISTER, 0, 0, key), GOOD);
        }
    };
    let keys = || read(c, READ_KEYS, 8192)[16..].to_owned();
    let (a1, b2, c3) = ("00000000000000a1", "00000000000000b2", "00000000000000c3");
    all();
    assert_eq!(change(a, PREEMPT, 1, 0xa2, 0xb2), CONFLICT, "a wrong key");
    assert_eq!(change(a, PREEMPT, 1, 0xa1, 0xd4), CONFLICT, "an absent victim");
    assert_eq!(change(a, PREEMPT, 1, 0xa1, 0), CONFLICT, "no victim, and no reservation");
    assert_eq!(change(a, PREEMPT, 0, 0xa1, 0xb2), GOOD, "the type does not matter");
    assert_eq!(keys(), [a1, c3].concat());
    assert_eq!(change(a, PREEMPT, 0, 0xa1, 0xa1), GOOD, "its own key");
    assert_eq!(keys(), c3);
    // The holder's reservation is taken over.
    for kind in [1, 3, 5, 6] {
        all();
        assert_eq!(change(a, RESERVE, kind, 0xa1, 0), GOOD);
        assert_eq!(change(b, PREEMPT, 2, 0xb2, 0xa1), check(0x05_2400), "the type matters");
        assert_eq!(change(b, PREEMPT, 1, 0xb2, 0), check(0x05_2600));
        assert_eq!(change(b, PREEMPT, 3, 0xb2, 0xa1), GOOD);
        assert_eq!(keys(), [b2, c3].concat());
        assert!(read(c, READ_RESERVATION, 24).ends_with("00000000000000b20000000000030000"));
        assert_eq!(change(b, PREEMPT, 6, 0xb2, 0xb2), GOOD, "changes its type");
        assert!(read(c, READ_RESERVATION, 24).ends_with("00000000000000b20000000000060000"));
    }
    // All registrants hold it.
    all();
    assert_eq!(change(a, RESERVE, 7, 0xa1, 0), GOOD);
    assert!(read(c, READ_RESERVATION, 24).ends_with("00000000000000000000000000070000"));
    assert_eq!(change(b, PREEMPT, 0, 0xb2, 0xa1), GOOD, "one of them: the type stays");
    assert_eq!(keys(), [b2, c3].concat());
    assert!(read(c, READ_RESERVATION, 24).ends_with("00000000000000000000000000070000"));
    assert_eq!(change(b, PREEMPT, 0, 0xb2, 0), check(0x05_2400));
    assert_eq!(change(b, PREEMPT, 8, 0xb2, 0), GOOD, "all others: the type matters");
    assert_eq!(keys(), b2);
    assert!(read(c, READ_RESERVATION, 24).ends_with("00000000000000000000000000080000"));
}

/// Hosts that chose the same key are fenced together, as in SCSI.
#[test]
fn preempt_removes_every_host_with_the_key() {
    for (flavour, expected) in [(Flavour::Standard, GOOD), (Flavour::Nvmet, check(0x0b_0006))] {
        let model = Model::new(flavour);
        let [a, b, c] = [0, 1, 2].map(|number| model.host(number));
        for host in [a, b, c] {
            assert_eq!(change(host, REGISTER, 0, 0, 0x77), GOOD);
        }
        assert_eq!(change(a, RESERVE, 1, 0x77, 0), GOOD);
        assert_eq!(change(a, PREEMPT, 1, 0x77, 0x77), expected, "{flavour:?}");
    }
}

#[test]
fn namespace_that_persists_has_aptpl() {
    let mut model = Model::new(Flavour::Standard);
    model.rescap = 0xff;
    let model = model;
    let a = model.host(0);
    assert_eq!(read(a, CAPABILITIES, 8), "00080580ea010000");
    assert_eq!(change_with(a, REGISTER, 0, 0, 0xa1, 1), GOOD);
    assert_eq!(read(a, CAPABILITIES, 8), "00080581ea010000");
    assert_eq!(change(a, IGNORE, 0, 0, 0xa1), GOOD);
    assert_eq!(read(a, CAPABILITIES, 8), "00080580ea010000");
    assert_eq!(*model.changes.borrow(), [(0x0d, 0xc000_0000), (0x0d, 0x8000_000a)]);
}

#[test]
fn unsupported_actions_are_not_sent() {
    let model = Model::new(Flavour::Standard);
    let a = model.host(0);
    assert_eq!(change(a, REGISTER, 0, 0, 0xa1), GOOD);
    model.changes.borrow_mut().clear();
    for action in 7..0x20 {
        assert_eq!(change(a, action, 1, 0xa1, 0xa2), check(0x05_2400), "{action:x}");
    }
    for (cdb, length, expected) in [
        ([0x5f, RESERVE, 1, 0, 0, 0, 0, 0, 24, 4], 24, check(0x05_2400)),
        ([0x5f, RESERVE, 1, 0, 0, 0, 0, 0, 25, 0], 25, check(0x05_1a00)),
        ([0x5f, RESERVE, 1, 0, 0, 0, 0, 0, 23, 0], 23, check(0x05_1a00)),
    ] {
        assert_eq!(send(a, &cdb, &vec![0; length]).1, expected, "{cdb:x?}");
    }
    assert!(model.changes.borrow().is_empty());
    let mut sense = [0; 96];
    for action in 4..0x20 {
        let cdb = [0x5e, action, 0, 0, 0, 0, 0, 0, 8, 0];
        let mut command = Command { cdb: &cdb, data: Data::In(&mut [0; 8]), sense: &mut sense };
        let outcome = execute(a, Duration::from_secs(1), &identity(a), &mut command);
        assert_eq!(answer(&outcome, [0; 96]), check(0x05_2400), "{action:x}");
    }
}

#[test]
fn old_controller_is_served() {
    let model = Model::new(Flavour::Old);
    let [a, b] = [0, 1].map(|number| model.host(number));
    assert_eq!(change(a, IGNORE, 0, 0, 0xa1), GOOD);
    assert_eq!(change(a, IGNORE, 0, 0, 0xa2), GOOD);
    assert_eq!(*model.changes.borrow(), [(0x0d, 0xa), (0x0d, 0), (0x0d, 0xa)]);
    assert_eq!(change(a, REGISTER, 0, 0, 0xa2), CONFLICT, "known by its controller");
    assert_eq!(change(b, REGISTER, 0, 0, 0xb2), GOOD);
    assert_eq!(change(b, PREEMPT, 1, 0xb2, 0xa2), GOOD);
    assert_eq!(read(b, READ_KEYS, 16), "000000040000000800000000000000b2");
    // 64 bits of the host identifier in bytes 8 to 15.
    assert_eq!(&read(b, FULL_STATUS, 56)[64..], "0b0000000000000020000000000000010000000000000000");
}

#[test]
fn long_report_is_read_completely() {
    let model = Model::new(Flavour::Standard);
    model.register_many(1500);
    let keys = read(model.host(0), READ_KEYS, u16::MAX);
    assert_eq!(keys.len(), 2 * (8 + 1500 * 8));
    assert!(keys.ends_with("00000000000015db"));
    assert_eq!(change(model.host(1), REGISTER, 0, 0, 0xb2), GOOD);
    assert_eq!(change(model.host(1), PREEMPT, 1, 0xb2, 0x1000 + 1499), GOOD);
}

/// Every change that needs to know which registration is its host's fails, whatever the registrants.
#[test]
fn change_of_unknown_host_is_not_made() {
    let model = Model::new(Flavour::Standard);
    let (a, b) = (model.host(0), model.host(1));
    assert_eq!(change(b, REGISTER, 0, 0, 0xb2), GOOD);
    let two = Identity {
        hosts: vec![HostIdentifier::Extended([1; 16]), HostIdentifier::Extended([2; 16])],
        controllers: Vec::new(),
    };
    for (identity, expected) in [
        (Identity::default(), check(0x0b_0006)),
        (Identity { hosts: Vec::new(), controllers: vec![0xffff] }, check(0x0b_0006)),
        (
            Identity { hosts: vec![HostIdentifier::Short([0; 8])], controllers: vec![1, 0xfff0] },
            check(0x0b_0006),
        ),
        (two, check(0x05_2000)),
    ] {
        for (action, key, new) in [(REGISTER, 0_u64, 0xa1_u64), (PREEMPT, 0xa1, 0xb2), (REGISTER, 0, 0)] {
            let parameters = [&key.to_be_bytes()[..], &new.to_be_bytes(), &[0; 8]].concat();
            let (cdb, mut sense) = ([0x5f, action, 1, 0, 0, 0, 0, 0, 24, 0], [0; 96]);
            let mut command = Command { cdb: &cdb, data: Data::Out(&parameters), sense: &mut sense };
            let outcome = execute(a, Duration::from_secs(1), &identity, &mut command);
            assert_eq!(answer(&outcome, [0; 96]), expected, "{identity:?}, {action}");
        }
    }
    assert_eq!(model.changes.borrow().len(), 1);
}
