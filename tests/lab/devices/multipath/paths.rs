//! Paths that are taken away and come back.

use scsi_sense::Status;
use test_support::eventually;

use super::{
    CLEAR, Hosts, KEY, NEW_KEY, OTHER_KEY, PREEMPT, REGISTER, RELEASE, RESERVE, State, take_away, wait_for,
    with_hosts,
};

#[test]
fn returning_path_gets_the_key() {
    with_hosts(|Hosts { map, host, .. }| {
        for number in [0, 1] {
            let remaining = &map.paths[1 - number];
            let away = take_away(&map.paths[number]);
            host.expect_good(REGISTER, 0, 0, KEY);
            assert_eq!(State::seen_by(remaining).registered, [(remaining.initiator_port(), KEY)]);
            host.expect_good(RESERVE, 5, KEY, 0);
            drop(away);
            let both = map.registered(KEY).with_reservation(KEY, 5);
            eventually("multipathd registers the path", || State::seen_by(remaining) == both);
            wait_for(&map.paths[number], "active ready");
            assert_eq!(map.state(), both);
            host.expect_good(CLEAR, 0, KEY, 0);
        }
    });
}

#[test]
fn returning_path_gets_the_new_key() {
    with_hosts(|Hosts { map, host, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        let away = take_away(&map.paths[0]);
        host.expect_good(REGISTER, 0, KEY, NEW_KEY);
        host.expect_good(RESERVE, 6, NEW_KEY, 0);
        drop(away);
        let both = map.registered(NEW_KEY).with_reservation(NEW_KEY, 6);
        eventually("multipathd changes the key", || State::seen_by(&map.paths[1]) == both);
        wait_for(&map.paths[0], "active ready");
        assert_eq!(map.state(), both);
    });
}

#[test]
fn changes_work_by_the_remaining_path() {
    with_hosts(|Hosts { map, host, other, .. }| {
        for number in [0, 1] {
            let remaining = &map.paths[1 - number];
            host.expect_good(REGISTER, 0, 0, KEY);
            let registered = map.registered(KEY);
            let away = take_away(&map.paths[number]);
            host.expect_good(RESERVE, 5, KEY, 0);
            assert_eq!(State::seen_by(remaining), registered.clone().with_reservation(KEY, 5));
            host.expect_good(RELEASE, 5, KEY, 0);
            assert_eq!(State::seen_by(remaining), registered);

            other.expect_good(REGISTER, 0, 0, OTHER_KEY);
            other.expect_good(RESERVE, 3, OTHER_KEY, 0);
            host.expect_good(PREEMPT, 5, KEY, OTHER_KEY);
            assert_eq!(State::seen_by(remaining), registered.clone().with_reservation(KEY, 5));
            drop(away);
            wait_for(&map.paths[number], "active ready");
            host.expect_good(CLEAR, 0, KEY, 0);
        }
    });
}

/// RELEASE while the path that holds the reservation may be away: it must be GOOD only if the reservation is gone.
#[test]
fn good_release_leaves_no_reservation() {
    with_hosts(|Hosts { map, host, .. }| {
        // The library chooses the path that makes the reservation, so each is taken away once.
        for number in [0, 1] {
            host.expect_good(REGISTER, 0, 0, KEY);
            host.expect_good(RESERVE, 5, KEY, 0);
            let away = take_away(&map.paths[number]);
            let remaining = &map.paths[1 - number];
            let released = host.change(RELEASE, 5, KEY, 0);
            let state = State::seen_by(remaining);
            // From 0.13 on the library can move a reservation to a path that is not away.
            assert_eq!(
                state.reservation.is_none(),
                released.status == Status::GOOD,
                "{:x?}",
                released.sense_code()
            );
            assert!(state.registered.contains(&(remaining.initiator_port(), KEY)), "{state:x?}");
            drop(away);
            let both = State { reservation: state.reservation, ..map.registered(KEY) };
            eventually("both are registered", || State::seen_by(remaining) == both);
            wait_for(&map.paths[number], "active ready");
            host.expect_good(CLEAR, 0, KEY, 0);
        }
    });
}

#[test]
fn nothing_is_good_without_paths() {
    with_hosts(|Hosts { map, host, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        let away = [take_away(&map.paths[0]), take_away(&map.paths[1])];
        for _ in 0..2 {
            let reply = host.change(RESERVE, 5, KEY, 0);
            assert_eq!(reply.status, Status::CHECK_CONDITION);
            println!("RESERVE: {:02x?}", reply.sense_code());
            let reply = host.ask(0, 8192);
            assert_ne!(reply.status, Status::GOOD);
            println!("READ KEYS: {} {:02x?}", reply.status, reply.sense_code());
        }
        drop(away);
        for path in &map.paths {
            wait_for(path, "active ready");
        }
        assert_eq!(map.state(), map.registered(KEY));
        host.expect_good(RESERVE, 5, KEY, 0);
        assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, 5));
    });
}
