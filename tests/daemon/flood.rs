//! Processes that connect again and again: what other clients notice, and what the log has of it.

use std::{
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use test_support::{Client, Daemon};

use crate::{null, read_keys};

/// The environment variable by which a flooding process gets the socket's path.
const SOCKET: &str = "FLOOD_SOCKET";
/// Longest time that a healthy client may wait. The benchmark measures; here a client that is starved must be told from one
/// on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3);

/// Not a test: the process that others start.
#[test]
#[ignore = "is started by another test"]
fn flooding_process() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    loop {
        // With a full backlog it waits here.
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
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn connection_flood_starves_no_client() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.client();
    command(&mut client);
    let flood = Flood::start(&daemon, 2);
    thread::sleep(Duration::from_millis(500));
    for _ in 0..10 {
        // Longer than a thread lingers: each command comes by way of the event loop.
        thread::sleep(Duration::from_millis(100));
        command(&mut client);
    }
    // A new client comes behind those that wait already.
    command(&mut daemon.client());
    let begun = Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < PATIENCE, "the signal was heard after {:?}", begun.elapsed());
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
