//! Processes that connect again and again: their effect on other clients and on the log.

use std::{
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use test_support::{Client, Daemon, eventually};

use crate::{null, read_keys};

/// The environment variable that passes the socket's path to a flooding process.
const SOCKET: &str = "FLOOD_SOCKET";
/// The environment variable that passes the number of connections that a flooding process keeps open.
const HELD: &str = "FLOOD_HELD";
/// The longest time that a healthy client may wait. It only tells a starved client from a slow machine; the
/// benchmark measures the delay itself.
const MAX_DELAY: Duration = Duration::from_secs(3);

/// Not a test: the body of a flooding process, started by the tests below.
#[test]
#[ignore = "is started by another test"]
fn flooding_process() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let held: usize = std::env::var(HELD).unwrap().parse().unwrap();
    let _held: Vec<_> = (0..held).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    // Blocks while the backlog is full. Fails when the daemon has stopped: without that, the process would outlive a test
    // that was killed, and load the machine.
    while UnixStream::connect(&socket).is_ok() {}
}

struct Flood(Vec<Child>);

impl Flood {
    /// Starts processes that connect and close again and again, each beside `held` connections that it keeps open.
    fn start(daemon: &Daemon, processes: usize, held: usize) -> Self {
        let start = || {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "flood::flooding_process", "--ignored"])
                .env(SOCKET, daemon.socket())
                .env(HELD, held.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        Self((0..processes).map(|_| start()).collect())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn command(client: &mut Client) {
    let begun = Instant::now();
    assert!(client.read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
    assert!(begun.elapsed() < MAX_DELAY, "{:?}", begun.elapsed());
}

fn serve_during_flood(daemon: &Daemon, client: &mut Client) {
    for _ in 0..10 {
        // Longer than a thread lingers, so that each command passes through the event loop.
        thread::sleep(Duration::from_millis(100));
        command(client);
    }
    // A new client queues behind those already in the backlog.
    command(&mut daemon.client());
}

/// Stops the daemon, and returns its log.
fn stop_during_flood(daemon: Daemon) -> String {
    let begun = Instant::now();
    let log = daemon.stop_and_read_log();
    assert!(begun.elapsed() < MAX_DELAY, "stopped only after {:?}", begun.elapsed());
    log
}

#[test]
fn connection_flood_starves_no_client() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.client();
    command(&mut client);
    let flood = Flood::start(&daemon, 2, 0);
    thread::sleep(Duration::from_millis(500));
    serve_during_flood(&daemon, &mut client);
    stop_during_flood(daemon);
    drop(flood);
}

/// Each further connection of such a process is accepted, rejected and closed by a thread.
#[test]
fn process_over_its_quota_starves_no_client() {
    // The quota of a process is 64.
    let daemon = Daemon::start(&["--max-clients=256"]);
    let mut client = daemon.client();
    command(&mut client);
    let flood = Flood::start(&daemon, 1, 64);
    eventually("connections are rejected", || daemon.log().contains("too many connections"));
    serve_during_flood(&daemon, &mut client);
    let log = stop_during_flood(daemon);
    drop(flood);
    assert_eq!(log.matches("too many connections").count(), 1, "{log}");
    assert!(log.lines().count() < 20, "{log}");
}

#[test]
fn log_of_one_process_is_limited() {
    let daemon = Daemon::start(&[]);
    let null = null();
    for _ in 0..1000 {
        let mut client = daemon.client();
        client.send(&read_keys(8), &[null.as_fd(); 2]).unwrap();
        assert!(client.is_closed());
    }
    let warnings = daemon.log().matches("warning").count();
    assert!((1..=150).contains(&warnings), "{warnings} warnings");
    let log = daemon.stop_and_read_log();
    assert!(log.contains("900 more lines were left out"), "{log}");
}
