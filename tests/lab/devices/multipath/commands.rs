//! The service actions and their effects on all paths.

use std::process::Command;

use fixtures::direct;
use scsi_sense::{
    Status,
    pr::{FullStatus, Keys, ReservationData},
};
use test_support::Reply;

use super::{
    CLEAR, Host, Hosts, KEY, Map, NEW_KEY, OTHER_KEY, PREEMPT, PREEMPT_AND_ABORT, READ_FULL_STATUS,
    READ_KEYS, READ_RESERVATION, REGISTER, REGISTER_AND_IGNORE, REGISTER_AND_MOVE, RELEASE,
    REPLACE_LOST_RESERVATION, RESERVE, State, ask_disk, in_cdb, open, transport_ids::sas, with_hosts,
};

const INVALID_FIELD_IN_CDB: Option<(u8, u8, u8)> = Some((5, 0x24, 0));

#[test]
fn each_reservation_type_with_all_paths() {
    with_hosts(|Hosts { map, host, other, .. }| {
        for kind in [1, 3, 5, 6, 7, 8] {
            host.expect_good(REGISTER, 0, 0, KEY);
            assert_eq!(map.state(), map.registered(KEY), "type {kind}");
            other.expect_good(REGISTER, 0, 0, OTHER_KEY);
            let registered = map.registered(KEY).with_other_host(OTHER_KEY);
            host.expect_good(RESERVE, kind, KEY, 0);
            assert_eq!(map.state(), registered.clone().with_reservation(KEY, kind));
            assert_eq!(
                other.change(RESERVE, kind % 8 + 1, OTHER_KEY, 0).status,
                Status::RESERVATION_CONFLICT
            );
            host.expect_good(RESERVE, kind, KEY, 0);
            assert_eq!(
                map.state(),
                registered.clone().with_reservation(KEY, kind),
                "it holds the reservation already"
            );
            host.expect_good(RELEASE, kind, KEY, 0);
            assert_eq!(map.state(), registered, "type {kind}");
            other.expect_good(REGISTER, 0, OTHER_KEY, 0);
            host.expect_good(REGISTER, 0, KEY, 0);
            assert_eq!(map.state(), State::default(), "type {kind}");
        }
    });
}

#[test]
fn key_is_changed_on_all_paths() {
    with_hosts(|Hosts { map, host, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        host.expect_good(RESERVE, 5, KEY, 0);
        host.expect_good(REGISTER, 0, KEY, NEW_KEY);
        assert_eq!(map.state(), map.registered(NEW_KEY).with_reservation(NEW_KEY, 5));
        host.expect_good(REGISTER_AND_IGNORE, 0, 0, KEY);
        assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, 5), "the existing key is ignored");
        host.expect_good(REGISTER_AND_IGNORE, 0, 0, 0);
        assert_eq!(map.state(), State::default(), "unregistering releases the reservation");
        host.expect_good(REGISTER_AND_IGNORE, 0, 0, NEW_KEY);
        assert_eq!(map.state(), map.registered(NEW_KEY));
    });
}

#[test]
fn clear_removes_registrations_of_all_hosts() {
    with_hosts(|Hosts { map, host, other, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        other.expect_good(REGISTER, 0, 0, OTHER_KEY);
        other.expect_good(RESERVE, 3, OTHER_KEY, 0);
        host.expect_good(CLEAR, 0, KEY, 0);
        assert_eq!(map.state(), State::default());
        host.expect_good(REGISTER, 0, 0, NEW_KEY);
        assert_eq!(map.state(), map.registered(NEW_KEY), "registered again");
    });
}

#[test]
fn preempt_fences_the_other_host() {
    with_hosts(|Hosts { map, host, other, .. }| {
        for kind in [1, 5, 8] {
            host.expect_good(REGISTER, 0, 0, KEY);
            other.expect_good(REGISTER, 0, 0, OTHER_KEY);
            other.expect_good(RESERVE, 5, OTHER_KEY, 0);
            host.expect_good(PREEMPT, kind, KEY, OTHER_KEY);
            assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, kind), "type {kind}");
            assert_eq!(other.change(RESERVE, 5, OTHER_KEY, 0).status, Status::RESERVATION_CONFLICT, "fenced");
            host.expect_good(CLEAR, 0, KEY, 0);
        }
    });
}

#[test]
fn fenced_host_can_register_again() {
    with_hosts(|Hosts { map, host, other, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        host.expect_good(RESERVE, 5, KEY, 0);
        other.expect_good(REGISTER, 0, 0, OTHER_KEY);
        other.expect_good(PREEMPT, 5, OTHER_KEY, KEY);
        let fenced = State::default().with_other_host(OTHER_KEY).with_reservation(OTHER_KEY, 5);
        assert_eq!(map.state(), fenced);
        let actions = [(RESERVE, 0), (RELEASE, 0), (CLEAR, 0), (PREEMPT, OTHER_KEY), (REGISTER, NEW_KEY)];
        let answers = actions.map(|(action, new_key)| {
            let reply = host.change(action, 5, KEY, new_key);
            assert_eq!(map.state(), fenced, "service action {action}");
            (action, reply.status, reply.sense_code())
        });
        assert_eq!(answers, actions.map(|(action, _)| (action, Status::RESERVATION_CONFLICT, None)));
        host.expect_good(REGISTER_AND_IGNORE, 0, 0, NEW_KEY);
        let back = map.registered(NEW_KEY).with_other_host(OTHER_KEY).with_reservation(OTHER_KEY, 5);
        assert_eq!(map.state(), back);
    });
}

/// Other cases are not tested: LIO over `tcm_loop` hangs forever if there is something to abort (see `reservations`).
#[test]
fn preempt_and_abort_of_unknown_key_conflicts() {
    with_hosts(|Hosts { map, host, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        host.expect_good(RESERVE, 5, KEY, 0);
        let reply = host.change(PREEMPT_AND_ABORT, 5, KEY, OTHER_KEY);
        assert_eq!(reply.status, Status::RESERVATION_CONFLICT, "{:02x?}", reply.sense_code());
        assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, 5));
    });
}

#[test]
fn wrong_or_missing_key_changes_nothing() {
    with_hosts(|Hosts { map, host, .. }| {
        for (action, new_key) in
            [(RESERVE, 0), (RELEASE, 0), (CLEAR, 0), (PREEMPT, OTHER_KEY), (REGISTER, NEW_KEY)]
        {
            let reply = host.change(action, 5, KEY, new_key);
            assert_eq!(reply.status, Status::RESERVATION_CONFLICT, "{action}: {:02x?}", reply.sense_code());
        }
        assert_eq!(map.state(), State::default());
        host.expect_good(REGISTER, 0, 0, KEY);
        for (action, new_key) in [(RESERVE, 0), (RELEASE, 0), (CLEAR, 0), (PREEMPT, KEY), (REGISTER, 0x17)] {
            let reply = host.change(action, 5, NEW_KEY, new_key);
            assert_eq!(reply.status, Status::RESERVATION_CONFLICT, "{action}: {:02x?}", reply.sense_code());
            assert_eq!(map.state(), map.registered(KEY), "service action {action}");
        }
    });
}

#[test]
fn actions_impossible_on_maps_are_refused() {
    with_hosts(|Hosts { map, host, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        host.expect_good(RESERVE, 5, KEY, 0);
        let state = map.state();
        // TransportID of the initiator port to which the reservation is moved.
        let other = sas(map.ports()[1]);
        let to_other =
            [&KEY.to_be_bytes()[..], &NEW_KEY.to_be_bytes(), &[0; 4], &[0, 0, 0, 24], &other].concat();
        assert_eq!(host.send(REGISTER_AND_MOVE, 5, &to_other).sense_code(), INVALID_FIELD_IN_CDB);
        for action in [REPLACE_LOST_RESERVATION, 9, 0x1f] {
            assert_eq!(host.change(action, 5, KEY, 0).sense_code(), INVALID_FIELD_IN_CDB, "{action}");
        }
        assert_eq!(map.state(), state);
    });
}

#[test]
fn in_commands_return_the_paths_bytes() {
    with_hosts(|Hosts { map, host, other, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        other.expect_good(REGISTER, 0, 0, OTHER_KEY);
        host.expect_good(RESERVE, 6, KEY, 0);
        map.state();
        let path = open(&map.paths[0].block);
        for action in [0, 1, 2, 3, 4, 0x1f] {
            for length in [0, 1, 4, 7, 8, 12, 24, 8192] {
                let expected = direct(&path, &in_cdb(action, length), None);
                let reply = host.ask(action, length);
                let what = format!("service action {action}, allocation length {length}");
                assert_eq!(
                    (reply.status, reply.sense_code()),
                    (expected.status, expected.sense_code()),
                    "{what}"
                );
                assert_eq!(reply.payload, expected.payload, "{what}");
            }
        }
    });
}

/// Returns the output of `mpathpersist --in` for a map.
fn mpathpersist(option: &str, map: &Map) -> String {
    let output = Command::new("mpathpersist").args(["--in", option]).arg(&map.node).output().unwrap();
    assert!(output.status.success(), "{option}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn mpathpersist_shows_the_same_state() {
    with_hosts(|Hosts { map, host, .. }| {
        let agree = |host: &mut Host| {
            let ask = |host: &mut Host, action| -> Reply {
                let reply = host.ask(action, 8192);
                assert_eq!(reply.status, Status::GOOD);
                reply
            };
            let keys = ask(host, READ_KEYS).payload;
            let keys: Vec<String> =
                Keys::parse(&keys).unwrap().iter().map(|key| format!("{:#x}", key.0)).collect();
            let output = mpathpersist("-k", map);
            assert_eq!(output.lines().skip(1).map(str::trim).collect::<Vec<_>>(), keys, "{output}");

            let reservation = ask(host, READ_RESERVATION).payload;
            let holder = ReservationData::parse(&reservation).unwrap().reservation().unwrap();
            let output = mpathpersist("-r", map);
            match holder {
                Some(holder) => assert!(output.contains(&format!("Key = {:#x}\n", holder.key.0)), "{output}"),
                None => assert!(output.contains("NO reservation held"), "{output}"),
            }

            let capabilities = ask(host, 2).payload;
            let output = mpathpersist("-c", map);
            let bit = |byte: usize, bit: u8| capabilities[byte] >> bit & 1;
            for (name, value) in [("(SIP_C)", bit(2, 3)), ("(ATP_C)", bit(2, 2)), ("(PTPL_C)", bit(2, 0))] {
                assert!(output.contains(&format!("{name}: {value}\n")), "{output}");
            }

            let status = ask(host, READ_FULL_STATUS).payload;
            let output = mpathpersist("-s", map);
            let keys: Vec<String> = FullStatus::parse(&status)
                .unwrap()
                .iter()
                .map(|registration| format!("Key = {:#x}", registration.key.0))
                .collect();
            let lines = output.lines().map(str::trim).filter(|line| line.starts_with("Key"));
            assert_eq!(lines.collect::<Vec<_>>(), keys, "{output}");
        };
        agree(host);
        host.expect_good(REGISTER, 0, 0, KEY);
        agree(host);
        host.expect_good(RESERVE, 6, KEY, 0);
        agree(host);

        // Also for a change by mpathpersist.
        let release = format!("--param-rk={KEY:x}");
        let arguments = ["--out", "--release", &release, "--prout-type=6"];
        let output = Command::new("mpathpersist").args(arguments).arg(&map.node).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        agree(host);
        assert_eq!(map.state(), map.registered(KEY));
        assert!(ask_disk(&open(&map.paths[0].block), READ_RESERVATION).payload[4..8] == [0; 4]);
        host.expect_good(REGISTER, 0, KEY, 0);
        agree(host);
    });
}
