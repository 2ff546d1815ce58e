//! Service actions with all scopes and types: a map must answer as a disk does.

use std::{collections::BTreeSet, fs::File};

use fixtures::{Disk, clean};
use scsi_sense::Status;
use test_support::Reply;

use super::{
    CLEAR, Host, Hosts, KEY, Map, NEW_KEY, OTHER_KEY, OtherHost, PREEMPT, PREEMPT_AND_ABORT, REGISTER,
    REGISTER_AND_IGNORE, RELEASE, REPLACE_LOST_RESERVATION, RESERVE, State, change_disk, open, with_hosts,
};

/// The state of the disk before the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Both hosts are registered.
    Registered,
    /// Both hosts are registered, and this host holds a reservation of this type.
    ThisHostHolds(u8),
    /// Both hosts are registered, and the other host holds a reservation of this type.
    OtherHostHolds(u8),
}

/// A disk with two nexuses that is not in a map, for the expected answers.
struct Plain {
    own: File,
    other: File,
}

impl Plain {
    fn new() -> Self {
        Self { own: open(&Disk::nexus_a().block), other: open(&Disk::nexus_b().block) }
    }

    fn clean(&self) {
        clean(&[self.own.try_clone().unwrap(), self.other.try_clone().unwrap()]);
    }

    fn execute(&self, before: Before, (action, kind, key, new_key): Command) -> Outcome {
        self.clean();
        let expect_good = |disk: &File, action, kind, key, new_key| {
            assert_eq!(change_disk(disk, action, kind, key, new_key).status, Status::GOOD);
        };
        if before != Before::Nothing {
            expect_good(&self.own, REGISTER, 0, 0, KEY);
            expect_good(&self.other, REGISTER, 0, 0, OTHER_KEY);
        }
        match before {
            Before::ThisHostHolds(kind) => expect_good(&self.own, RESERVE, kind, KEY, 0),
            Before::OtherHostHolds(kind) => expect_good(&self.other, RESERVE, kind, OTHER_KEY, 0),
            _ => {}
        }
        let reply = change_disk(&self.own, action, kind, key, new_key);
        let own = Disk::nexus_a().initiator_port();
        Outcome::new(&reply, &State::seen_by(&Disk::nexus_a()), &[own])
    }
}

/// Other tests use the disk too.
impl Drop for Plain {
    fn drop(&mut self) {
        self.clean();
    }
}

/// Service action, scope and type, reservation key, and service action key.
type Command = (u8, u8, u64, u64);

/// The result of a command.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: Status,
    sense: Option<(u8, u8, u8)>,
    /// The registrations: whether it is this host's, and its key. All ports of this host count as one.
    registered: BTreeSet<(bool, u64)>,
    reservation: Option<(u64, u8)>,
}

impl Outcome {
    fn new(reply: &Reply, state: &State, own: &[u64]) -> Self {
        let by_own = state.registered.iter().filter(|(port, _)| own.contains(port)).count();
        assert!([0, own.len()].contains(&by_own), "not all paths are registered: {state:x?}");
        Self {
            status: reply.status,
            sense: reply.sense_code(),
            registered: state.registered.iter().map(|(port, key)| (own.contains(port), *key)).collect(),
            reservation: state.reservation,
        }
    }
}

/// Brings the map into a state, with as few commands as possible.
fn prepare(host: &mut Host, other: &OtherHost, map: &Map, before: Before) {
    let both = map.registered(KEY).with_other_host(OTHER_KEY);
    let expected = match before {
        Before::Nothing => State::default(),
        Before::Registered => both,
        Before::ThisHostHolds(kind) => both.with_reservation(KEY, kind),
        Before::OtherHostHolds(kind) => both.with_reservation(OTHER_KEY, kind),
    };
    if map.state() == expected {
        return;
    }
    other.expect_good(REGISTER_AND_IGNORE, 0, 0, OTHER_KEY);
    other.expect_good(CLEAR, 0, OTHER_KEY, 0);
    map.state();
    if before != Before::Nothing {
        host.expect_good(REGISTER_AND_IGNORE, 0, 0, KEY);
        other.expect_good(REGISTER, 0, 0, OTHER_KEY);
    }
    match before {
        Before::ThisHostHolds(kind) => host.expect_good(RESERVE, kind, KEY, 0),
        Before::OtherHostHolds(kind) => other.expect_good(RESERVE, kind, OTHER_KEY, 0),
        _ => {}
    }
    assert_eq!(map.state(), expected);
}

/// Compares map and disk for each of these service actions and keys, with these scopes and all types.
fn compare(before: Before, commands: &[(u8, u64, u64)], scopes: &[u8]) {
    with_hosts(|Hosts { map, host, other, .. }| {
        let plain = Plain::new();
        let mut differences = Vec::new();
        for &(action, key, new_key) in commands {
            for scope_and_type in scopes.iter().flat_map(|scope| (0..16).map(move |kind| scope << 4 | kind)) {
                let expected = plain.execute(before, (action, scope_and_type, key, new_key));
                prepare(host, other, map, before);
                let reply = host.change(action, scope_and_type, key, new_key);
                let outcome = Outcome::new(&reply, &map.state(), &map.ports());
                if outcome != expected {
                    differences
                        .push(format!("{action} {scope_and_type:02x}: {outcome:x?}, a disk {expected:x?}"));
                }
            }
        }
        assert!(differences.is_empty(), "{before:?}:\n{}", differences.join("\n"));
    });
}

const ALL_SCOPES: [u8; 3] = [0, 1, 0xf];

#[test]
fn types_of_reserve_without_reservation() {
    compare(Before::Registered, &[(RESERVE, KEY, 0)], &ALL_SCOPES);
}

#[test]
fn types_of_reserve_by_the_holder() {
    compare(Before::ThisHostHolds(5), &[(RESERVE, KEY, 0)], &[0, 1]);
}

#[test]
fn types_of_release_without_reservation() {
    compare(Before::Registered, &[(RELEASE, KEY, 0)], &[0, 1]);
}

#[test]
fn types_of_release_by_the_holder() {
    compare(Before::ThisHostHolds(5), &[(RELEASE, KEY, 0)], &[0, 1]);
}

#[test]
fn types_of_release_by_other_hosts() {
    compare(Before::OtherHostHolds(3), &[(RELEASE, KEY, 0)], &[0, 1]);
}

#[test]
fn types_of_release_by_all_registrants() {
    compare(Before::ThisHostHolds(8), &[(RELEASE, KEY, 0)], &[0, 1]);
}

#[test]
fn types_of_preempt_without_reservation() {
    compare(Before::Registered, &[(PREEMPT, KEY, OTHER_KEY)], &ALL_SCOPES);
}

#[test]
fn types_of_preempt_of_the_own_key() {
    compare(Before::Registered, &[(PREEMPT, KEY, KEY)], &[0, 1]);
}

#[test]
fn types_of_preempt_of_the_own_reservation() {
    compare(Before::ThisHostHolds(1), &[(PREEMPT, KEY, KEY)], &[0, 1]);
}

#[test]
fn types_of_preempt_of_all_registrants() {
    compare(Before::ThisHostHolds(7), &[(PREEMPT, KEY, KEY), (PREEMPT, KEY, OTHER_KEY)], &[0]);
}

#[test]
fn types_of_preempt_of_the_holder() {
    compare(Before::OtherHostHolds(5), &[(PREEMPT, KEY, OTHER_KEY)], &[0, 1]);
}

#[test]
fn types_of_preempt_of_unknown_keys() {
    // PREEMPT AND ABORT only of an unknown key: LIO over tcm_loop hangs if there is something to abort.
    let commands = [(PREEMPT, KEY, NEW_KEY), (PREEMPT_AND_ABORT, KEY, NEW_KEY), (PREEMPT, KEY, 0)];
    compare(Before::OtherHostHolds(5), &commands, &[0, 1]);
}

#[test]
fn types_are_ignored_by_registrations() {
    let commands = [(REGISTER, KEY, NEW_KEY), (REGISTER_AND_IGNORE, 0, NEW_KEY), (CLEAR, KEY, 0)];
    compare(Before::ThisHostHolds(5), &commands, &[0, 1]);
}

#[test]
fn types_are_ignored_by_first_registrations() {
    compare(Before::Nothing, &[(REGISTER, 0, KEY), (REGISTER, 0, 0)], &[0]);
}

/// The library refuses these without asking a path (docs/compatibility.md). A disk may check the type first.
#[test]
fn unregistered_host_always_conflicts() {
    with_hosts(|Hosts { map, host, .. }| {
        for kind in (0..16).chain([0x11, 0xf5]) {
            for (action, new_key) in [
                (RESERVE, 0),
                (RELEASE, 0),
                (CLEAR, 0),
                (PREEMPT, KEY),
                (PREEMPT_AND_ABORT, KEY),
                (REGISTER, NEW_KEY),
            ] {
                let reply = host.change(action, kind, KEY, new_key);
                let answer = (reply.status, reply.sense_code());
                assert_eq!(
                    answer,
                    (Status::RESERVATION_CONFLICT, None),
                    "service action {action}, {kind:02x}"
                );
            }
        }
        assert_eq!(map.state(), State::default());
    });
}

/// The library does not support these (docs/compatibility.md).
#[test]
fn unsupported_service_actions_are_invalid() {
    with_hosts(|Hosts { map, host, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        let state = map.state();
        for action in (REPLACE_LOST_RESERVATION..0x20).chain([7]) {
            for kind in [0, 1, 5, 0xf, 0x15] {
                let reply = host.change(action, kind, KEY, NEW_KEY);
                assert_eq!(reply.sense_code(), Some((5, 0x24, 0)), "service action {action}, {kind:02x}");
            }
        }
        assert_eq!(map.state(), state);
    });
}
