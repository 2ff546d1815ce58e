//! A guest that moves between two hosts, and hosts that use each other's keys: the registrations on the disk differ from
//! multipathd's record.

use scsi_sense::Status;

use super::{
    CLEAR, Host, Hosts, KEY, Map, NEW_KEY, OTHER_KEY, OtherHost, PREEMPT, REGISTER, REGISTER_AND_IGNORE,
    RELEASE, RESERVE, State, change_disk, open,
    transport_ids::{INVALID_FIELD_IN_PARAMETER_LIST, sas},
    with_hosts,
};
use crate::reservations::with_transport_ids;

/// Moves the guest, with its key and reservation, from this host to the other, with the commands that QEMU 11 sends there.
pub(super) fn move_away(host: &mut Host, other: &OtherHost, kind: u8) {
    host.expect_good(REGISTER, 0, 0, KEY);
    host.expect_good(RESERVE, kind, KEY, 0);
    other.expect_good(REGISTER, 0, 0, KEY);
    other.expect_good(PREEMPT, kind, KEY, KEY);
}

#[test]
fn guest_registers_again_after_moving_away() {
    with_hosts(|Hosts { map, host, other, .. }| {
        for (new_key, kind) in [(NEW_KEY, 5), (KEY, 1), (NEW_KEY, 8)] {
            move_away(host, other, kind);
            let away = State::default().with_other_host(KEY).with_reservation(KEY, kind);
            assert_eq!(map.state(), away, "type {kind}");
            host.expect_good(REGISTER, 0, 0, new_key);
            assert_eq!(map.state(), map.registered(new_key).with_other_host(KEY).with_reservation(KEY, kind));
            // It is registered now, so the next REGISTER must send the current key.
            let again = host.change(REGISTER, 0, 0, OTHER_KEY);
            assert_eq!(again.status, Status::RESERVATION_CONFLICT, "{:02x?}", again.sense_code());
            host.expect_good(CLEAR, 0, new_key, 0);
        }
    });
}

#[test]
fn guest_registers_again_after_clear() {
    with_hosts(|Hosts { map, host, other, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        host.expect_good(RESERVE, 5, KEY, 0);
        other.expect_good(REGISTER, 0, 0, OTHER_KEY);
        other.expect_good(CLEAR, 0, OTHER_KEY, 0);
        other.expect_good(REGISTER, 0, 0, KEY);
        host.expect_good(REGISTER, 0, 0, NEW_KEY);
        assert_eq!(map.state(), map.registered(NEW_KEY).with_other_host(KEY));
    });
}

#[test]
fn guest_moves_away_and_back() {
    with_hosts(|Hosts { map, host, other, .. }| {
        move_away(host, other, 5);
        host.expect_good(REGISTER, 0, 0, KEY);
        host.expect_good(PREEMPT, 5, KEY, KEY);
        assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, 5));
    });
}

/// multipathd registers the recorded key with a path that comes back, although the guest runs on the other host.
#[test]
fn path_registered_by_multipathd_is_no_conflict() {
    with_hosts(|Hosts { map, host, other, .. }| {
        for (number, new_key) in [(0, KEY), (1, KEY), (0, NEW_KEY), (1, NEW_KEY)] {
            move_away(host, other, 5);
            let path = open(&map.paths[number].block);
            assert_eq!(change_disk(&path, REGISTER_AND_IGNORE, 0, 0, KEY).status, Status::GOOD);
            host.expect_good(REGISTER, 0, 0, new_key);
            let both = map.registered(new_key).with_other_host(KEY).with_reservation(KEY, 5);
            assert_eq!(map.state(), both, "path {number}");
            host.expect_good(CLEAR, 0, new_key, 0);
        }
    });
}

/// Returns the changes that an unregistered nexus may not make with another nexus's key. The PREEMPTs are of that key and of a
/// third one.
fn forbidden(key: u64) -> [(u8, u8, u64, u64); 7] {
    [
        (RESERVE, 5, key, 0),
        (RELEASE, 5, key, 0),
        (CLEAR, 0, key, 0),
        (PREEMPT, 5, key, key),
        (PREEMPT, 5, key, NEW_KEY),
        (REGISTER, 0, key, NEW_KEY),
        (REGISTER, 0, key, 0),
    ]
}

/// Checks that all [`forbidden`] changes conflict, and that the disk remains in this state.
fn assert_forbidden(host: &mut Host, map: &Map, key: u64, state: &State, what: &str) {
    let answers = forbidden(key).map(|(action, kind, key, new_key)| {
        let reply = host.change(action, kind, key, new_key);
        assert_eq!(map.state(), *state, "{what}: service action {action}");
        (action, reply.status, reply.sense_code())
    });
    let expected = forbidden(key).map(|(action, ..)| (action, Status::RESERVATION_CONFLICT, None));
    assert_eq!(answers, expected, "{what}");
}

/// Checks that all changes with the other host's key conflict, also with TransportIDs.
fn assert_other_key_forbidden(host: &mut Host, map: &Map, state: &State, what: &str) {
    assert_forbidden(host, map, OTHER_KEY, state, what);
    let parameters = with_transport_ids(OTHER_KEY, NEW_KEY, 24, &sas(map.ports()[0]));
    let reply = host.send(REGISTER, 0, &parameters);
    assert_eq!((reply.status, reply.sense_code()), (Status::RESERVATION_CONFLICT, None), "{what}");
    assert_eq!(map.state(), *state, "{what}");
}

#[test]
fn key_of_another_host_conflicts() {
    with_hosts(|Hosts { map, host, other, .. }| {
        other.expect_good(REGISTER, 0, 0, OTHER_KEY);
        other.expect_good(RESERVE, 5, OTHER_KEY, 0);
        let of_other = State::default().with_other_host(OTHER_KEY).with_reservation(OTHER_KEY, 5);
        assert_other_key_forbidden(host, map, &of_other, "never registered");

        host.expect_good(REGISTER, 0, 0, KEY);
        let both = map.registered(KEY).with_other_host(OTHER_KEY).with_reservation(OTHER_KEY, 5);
        assert_other_key_forbidden(host, map, &both, "registered with another key");

        other.expect_good(PREEMPT, 5, OTHER_KEY, KEY);
        assert_other_key_forbidden(host, map, &of_other, "preempted");

        host.expect_good(REGISTER_AND_IGNORE, 0, 0, KEY);
        host.expect_good(REGISTER, 0, KEY, 0);
        assert_other_key_forbidden(host, map, &of_other, "unregistered");
    });
}

/// Both hosts have the same key, and this host is preempted: the recorded key is in READ KEYS, but belongs to the other host.
#[test]
fn recorded_key_of_another_host_conflicts() {
    with_hosts(|Hosts { map, host, other, .. }| {
        move_away(host, other, 5);
        let mut away = State::default().with_other_host(KEY).with_reservation(KEY, 5);
        // Also without a reservation, when LIO's answer is not RESERVATION CONFLICT.
        for is_held in [true, false] {
            if !is_held {
                other.expect_good(RELEASE, 5, KEY, 0);
                away.reservation = None;
            }
            assert_forbidden(host, map, KEY, &away, if is_held { "held" } else { "released" });
        }
    });
}

/// A change that was cut short leaves a key on record that differs from the registered one.
#[test]
fn wrong_record_is_corrected() {
    with_hosts(|Hosts { map, host, other, .. }| {
        other.expect_good(REGISTER, 0, 0, OTHER_KEY);
        let registered = map.registered(KEY).with_other_host(OTHER_KEY);
        let held = registered.clone().with_reservation(KEY, 5);
        for action in [RESERVE, RELEASE, PREEMPT, REGISTER, CLEAR] {
            host.expect_good(REGISTER_AND_IGNORE, 0, 0, KEY);
            if action == RELEASE {
                host.expect_good(RESERVE, 5, KEY, 0);
            }
            fixtures::set_recorded_key(map.name(), NEW_KEY);
            let (new_key, expected) = match action {
                RESERVE => (0, held.clone()),
                RELEASE => (0, registered.clone()),
                PREEMPT => (OTHER_KEY, map.registered(KEY)),
                REGISTER => (NEW_KEY + 1, map.registered(NEW_KEY + 1)),
                _ => (0, State::default()),
            };
            host.expect_good(action, 5, KEY, new_key);
            assert_eq!(map.state(), expected, "service action {action}");
            if action == RESERVE {
                host.expect_good(RELEASE, 5, KEY, 0);
            }
        }
    });
}

#[test]
fn registered_host_may_not_register_others() {
    with_hosts(|Hosts { map, host, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        let parameters = with_transport_ids(KEY, NEW_KEY, 24, &sas(map.ports()[0]));
        assert_eq!(host.send(REGISTER, 0, &parameters).sense_code(), INVALID_FIELD_IN_PARAMETER_LIST);
        assert_eq!(map.state(), map.registered(KEY));
    });
}

/// QEMU 11.0 sends PREEMPT with type 0 for a guest that holds no reservation. LIO of Linux 6.12 refuses that type, so the
/// migration fails; a later one takes it, and removes all registrations with the key, as SPC-4 says.
#[test]
fn preempt_of_type_0_is_judged_by_the_disk() {
    with_hosts(|Hosts { map, host, other, .. }| {
        other.expect_good(REGISTER, 0, 0, KEY);
        let parameters = [&[0; 8][..], &KEY.to_be_bytes(), &[0; 8]].concat();
        let registered =
            host.client.write(&host.map, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &parameters).unwrap();
        assert_eq!(registered.status, Status::GOOD);
        let parameters = [&KEY.to_be_bytes()[..], &KEY.to_be_bytes(), &[0; 8]].concat();
        let preempted =
            host.client.write(&host.map, &[0x5f, 4, 0, 0, 0, 0, 0, 0, 24, 0], &parameters).unwrap();
        let expected = if preempted.status == Status::GOOD {
            State::default()
        } else {
            assert_eq!(preempted.sense_code(), Some((5, 0x24, 0)));
            let of_disk = other.change(PREEMPT, 0, KEY, KEY);
            assert_eq!(preempted.sense_code(), of_disk.sense_code());
            map.registered(KEY).with_other_host(KEY)
        };
        assert_eq!(map.state(), expected);
    });
}
