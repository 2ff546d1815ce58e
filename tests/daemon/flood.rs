//! Processes that connect again and again: their effect on other clients and on the log.

use std::{
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use test_support::{Client, Daemon};

use crate::{null, read_keys};

/// The environment variable that passes the socket's path to a flooding process.
const SOCKET: &str = "FLOOD_SOCKET";
/// The longest time that a healthy client may wait. It only tells a starved client from a slow machine; the
/// benchmark measures the delay itself.
const MAX_DELAY: Duration = Duration::from_secs(3);

/// Not a test: the body of a flooding process, started by the tests below.
#[test]
#[ignore = "is started by another test"]
fn flooding_process() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    loop {
        // Blocks while the backlog is full.
        drop(UnixStream::connect(&socket));
    }
}

struct Flood(Vec<Child>);

impl Flood {
    fn start(daemon: &Daemon, processes: usize) -> Self {
        let start = || {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "flood::flooding_process", "--ignored"])
                .env(SOCKET, daemon.socket())
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

#[test]
fn connection_flood_starves_no_client() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.client();
    command(&mut client);
    let flood = Flood::start(&daemon, 2);
    thread::sleep(Duration::from_millis(500));
    for _ in 0..10 {
        // Longer than a thread lingers, so that each command passes through the event loop.
        thread::sleep(Duration::from_millis(100));
        command(&mut client);
    }
    // A new client queues behind those already in the backlog.
    command(&mut daemon.client());
    let begun = Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < MAX_DELAY, "stopped only after {:?}", begun.elapsed());
    drop(flood);
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
