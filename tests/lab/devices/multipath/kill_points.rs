//! SIGKILL of each process at many points of a change. Afterwards the map is not suspended, keys and multipathd's record are
//! as a next guest needs them, and a change that was reported as GOOD has been made.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use scsi_sense::Status;
use test_support::{Daemon, Reply, eventually};

use super::{
    CLEAR, Host, KEY, Map, Multipath, NEW_KEY, OTHER_KEY, OtherHost, PREEMPT, REGISTER, REGISTER_AND_IGNORE,
    RESERVE, daemon,
    process_tree::{of, send},
};

/// How many points of each change.
const POINTS: u32 = 9;

/// A change of this host, which is registered with [`KEY`]: service action and service action key.
type Change = (u8, u64);

const REGISTERING: Change = (REGISTER, NEW_KEY);
const RESERVING: Change = (RESERVE, 0);
const PREEMPTING: Change = (PREEMPT, OTHER_KEY);
const CLEARING: Change = (CLEAR, 0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Daemon,
    Supervisor,
    Worker,
}

#[test]
fn worker_killed_during_register() {
    kill_at_all_points(Victim::Worker, REGISTERING);
}

#[test]
fn worker_killed_during_reserve() {
    kill_at_all_points(Victim::Worker, RESERVING);
}

#[test]
fn worker_killed_during_preempt() {
    kill_at_all_points(Victim::Worker, PREEMPTING);
}

#[test]
fn worker_killed_during_clear() {
    kill_at_all_points(Victim::Worker, CLEARING);
}

#[test]
fn supervisor_killed_during_register() {
    kill_at_all_points(Victim::Supervisor, REGISTERING);
}

#[test]
fn supervisor_killed_during_reserve() {
    kill_at_all_points(Victim::Supervisor, RESERVING);
}

#[test]
fn supervisor_killed_during_preempt() {
    kill_at_all_points(Victim::Supervisor, PREEMPTING);
}

#[test]
fn supervisor_killed_during_clear() {
    kill_at_all_points(Victim::Supervisor, CLEARING);
}

#[test]
fn daemon_killed_during_register() {
    kill_at_all_points(Victim::Daemon, REGISTERING);
}

#[test]
fn daemon_killed_during_reserve() {
    kill_at_all_points(Victim::Daemon, RESERVING);
}

#[test]
fn daemon_killed_during_preempt() {
    kill_at_all_points(Victim::Daemon, PREEMPTING);
}

#[test]
fn daemon_killed_during_clear() {
    kill_at_all_points(Victim::Daemon, CLEARING);
}

fn kill_at_all_points(victim: Victim, change: Change) {
    let _multipath = Multipath::start();
    let (map, other) = (Map::a(), OtherHost::new());
    let mut daemon = daemon();
    let mut duration = Duration::ZERO;
    // The last point is the end: nothing is killed, and the time that the change takes is known.
    for point in (0..=POINTS).rev() {
        prepare(&daemon, &map, &other);
        let delay = duration * point / POINTS;
        let begun = Instant::now();
        let reply = interrupt(&daemon, &map, change, (point < POINTS).then_some((victim, delay)));
        if reply.is_some_and(|reply| reply.status == Status::GOOD) {
            assert_made(&map, change, point);
        }
        if point == POINTS {
            duration = begun.elapsed();
        } else if victim != Victim::Worker {
            // Without its supervisor the daemon serves no maps, and says so: it must be restarted.
            drop(daemon);
            daemon = super::daemon();
        }
        eventually("the map is not suspended", || !is_suspended(&map));
    }
    prepare(&daemon, &map, &other);
    daemon.stop();
}

/// Brings the map into the state before a change, by commands that must succeed whatever has happened before.
fn prepare(daemon: &Daemon, map: &Map, other: &OtherHost) {
    let mut host = Host::new(daemon, map);
    let mut until_good = |action, key, new_key| {
        eventually(&format!("service action {action} succeeds"), || {
            host.change(action, 0, key, new_key).status == Status::GOOD
        });
    };
    until_good(REGISTER_AND_IGNORE, 0, KEY);
    until_good(CLEAR, KEY, 0);
    until_good(REGISTER, 0, KEY);
    other.expect_good(REGISTER_AND_IGNORE, 0, 0, OTHER_KEY);
    assert_eq!(map.state(), map.registered(KEY).with_other_host(OTHER_KEY));
}

/// Sends a change and kills a process after a delay; returns the reply, if there was one.
fn interrupt(
    daemon: &Daemon,
    map: &Map,
    (action, new_key): Change,
    kill: Option<(Victim, Duration)>,
) -> Option<Reply> {
    let mut client = daemon.client();
    let map = map.open();
    let processes = of(daemon.pid()).expect("a supervisor");
    let changing = thread::spawn(move || {
        let parameters = super::basic(KEY, new_key);
        client.write(&map, &super::out_cdb(action, 5, &parameters), &parameters).ok()
    });
    if let Some((victim, delay)) = kill {
        thread::sleep(delay);
        match victim {
            Victim::Daemon => daemon.signal(Signal::KILL),
            Victim::Supervisor => send(processes.supervisor, Signal::KILL),
            Victim::Worker => processes.workers.iter().for_each(|worker| send(*worker, Signal::KILL)),
        }
    }
    changing.join().unwrap()
}

/// Checks that the disk has a change that was reported as GOOD.
fn assert_made(map: &Map, (action, _): Change, point: u32) {
    let both = map.registered(KEY).with_other_host(OTHER_KEY);
    let expected = match action {
        REGISTER => map.registered(NEW_KEY).with_other_host(OTHER_KEY),
        RESERVE => both.with_reservation(KEY, 5),
        PREEMPT => map.registered(KEY),
        _ => super::State::default(),
    };
    assert_eq!(map.state(), expected, "service action {action}, point {point}");
}

fn is_suspended(map: &Map) -> bool {
    let output = Command::new("dmsetup")
        .args(["info", "--columns", "--noheadings", "-o", "suspended", map.name()])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim() == "Suspended"
}
