//! The key that multipathd keeps on record after its guest has migrated to another host.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use test_support::{Daemon, eventually};

use super::{
    CLEAR, Hosts, KEY, Map, NEW_KEY, REGISTER, RESERVE, State, migration::move_away, take_away, wait_for,
    with_hosts,
};

/// Name of the finding of `pr-ctl probe`.
const FINDING: &str = "key on multipathd's record";

/// Returns the line of `pr-ctl probe` about the record, with the advice below it.
fn probe(daemon: &Daemon, device: &Path) -> String {
    let mut command = Command::new("pr-ctl");
    let output = command.arg("--socket").arg(daemon.socket()).arg("probe").arg(device).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().skip_while(|line| !line.contains(FINDING)).take(2);
    lines.collect::<Vec<_>>().join("\n")
}

/// Takes the first path away and back, and blocks until multipathd uses it again.
fn interrupt_path(map: &Map) {
    drop(take_away(&map.paths[0]));
    wait_for(&map.paths[0], "active ready");
}

/// Checks that a state does not change for two seconds. multipathd checks its paths each second.
fn assert_unchanged(map: &Map, state: &State) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(map.state(), *state);
        thread::sleep(Duration::from_millis(50));
    }
}

/// The state after the guest has moved to the other host.
fn moved() -> State {
    State::default().with_other_host(KEY).with_reservation(KEY, 5)
}

#[test]
fn stale_record_is_reported() {
    with_hosts(|Hosts { map, host, other, daemon, .. }| {
        assert_eq!(probe(daemon, &map.node), format!("  ok  {FINDING}: none"));
        host.expect_good(REGISTER, 0, 0, KEY);
        let own = probe(daemon, &map.node);
        assert!(
            own.contains(&format!("  ok  {FINDING}: ")) && own.contains("this host is registered"),
            "{own}"
        );
        host.expect_good(CLEAR, 0, KEY, 0);

        move_away(host, other, 5);
        let stale = probe(daemon, &map.node);
        for text in
            ["  !!  ", "no path of this host is registered with it", "multipathd unsetprkey map map-a && "]
        {
            assert!(stale.contains(text), "{text}: {stale}");
        }
        assert_eq!(map.state(), moved());

        // What the guest left behind cannot be used, and says so.
        let line =
            "map-a: multipathd has key 0x1ab0000000000001 on record, but no path of this host is registered";
        assert_eq!(daemon.log().matches(line).count(), 0);
        for _ in 0..2 {
            let reply = host.change(RESERVE, 5, KEY, 0);
            assert_eq!(reply.status, scsi_sense::Status::RESERVATION_CONFLICT);
        }
        eventually("the log has the record", || daemon.log().contains(line));
        assert_eq!(daemon.log().matches(line).count(), 1, "once");
        assert_eq!(map.state(), moved());
        // A guest that comes back is registered all the same.
        host.expect_good(REGISTER, 0, 0, NEW_KEY);
        assert_eq!(map.state(), map.registered(NEW_KEY).with_other_host(KEY).with_reservation(KEY, 5));
    });
}

/// The key is in READ KEYS, as that of the other host, so multipathd takes it for registered.
#[test]
fn returning_path_gets_recorded_key() {
    with_hosts(|Hosts { map, host, other, .. }| {
        move_away(host, other, 5);
        interrupt_path(map);
        let [port, _] = map.ports();
        let is_registered = || map.state().registered.contains(&(port, KEY));
        eventually("multipathd registers the path", is_registered);
        // The guest comes back.
        host.expect_good(REGISTER, 0, 0, KEY);
        assert_eq!(map.state(), map.registered(KEY).with_other_host(KEY).with_reservation(KEY, 5));
    });
}

/// The remedy that `pr-ctl probe` and the log name.
#[test]
fn forgotten_record_registers_nothing() {
    with_hosts(|Hosts { map, host, other, daemon, multipath }| {
        move_away(host, other, 5);
        for command in ["unsetprkey", "unsetprstatus"] {
            let done = Command::new("multipathd").args([command, "map", map.name()]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "ok", "{command}: {done:?}");
        }
        assert_eq!(probe(daemon, &map.node), format!("  ok  {FINDING}: none"));
        interrupt_path(map);
        assert_unchanged(map, &moved());
        multipath.stop_multipathd();
        multipath.start_multipathd();
        assert_unchanged(map, &moved());
        host.expect_good(REGISTER, 0, 0, KEY);
        assert_eq!(map.state(), map.registered(KEY).with_other_host(KEY).with_reservation(KEY, 5));
    });
}

#[test]
fn restarted_multipathd_registers_recorded_key() {
    with_hosts(|Hosts { map, host, other, multipath, .. }| {
        move_away(host, other, 5);
        multipath.stop_multipathd();
        multipath.start_multipathd();
        eventually("multipathd registers the paths", || {
            map.ports().iter().all(|port| map.state().registered.contains(&(*port, KEY)))
        });
    });
}
