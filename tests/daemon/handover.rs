//! The handover of connections between worker threads and the event loop. A command that arrives just when
//! its thread stops lingering, or at any other moment, must be answered.
//!
//! With files as disks (`--emulate`) a thread leaves its device's lane after each command, to close the file;
//! with disks it lingers there. Both are tested; `cargo xtask test` runs the second with the simulated disk.

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use scsi_sense::Status;
use test_support::{Client, Daemon, Options, Reply, eventually};

use crate::{
    disks::{self, disk},
    emulate::Cluster,
    null, read_keys,
};

/// How long a thread waits for its client's next command (`LINGER` of pr-server's connection.rs).
const LINGER: Duration = Duration::from_millis(50);

/// A reply that takes longer counts as lost.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// REGISTER AND IGNORE EXISTING KEY, padded to the 16 bytes of the protocol.
const REGISTER_AND_IGNORE: [u8; 16] = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];

/// A generator of pseudo-random numbers. A seed always gives the same sequence.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64: Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Sleeps for a random time, often not at all or for about as long as a thread lingers.
    fn pause(&mut self) {
        let microseconds = match self.below(8) {
            0..4 => return,
            4 => self.below(100),
            5 => self.below(60_000),
            _ => 49_000 + self.below(2_500),
        };
        thread::sleep(Duration::from_micros(microseconds));
    }
}

/// Returns how long clients send commands: four seconds, or as many as `HANDOVER_SECONDS` says.
fn time() -> Duration {
    let seconds = std::env::var("HANDOVER_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

/// Sends a message in one part, or in two with a pause between them. The descriptor goes with the first part.
fn send(client: &mut Client, message: &[u8], descriptor: Option<&File>, random: &mut Random) {
    let descriptor = descriptor.map(|file| file.as_fd());
    let at = if random.below(4) == 0 { 1 + random.below(message.len() as u64 - 1) } else { 0 };
    let (first, second) = message.split_at(usize::try_from(at).unwrap());
    match (first, second) {
        ([], whole) => client.send(whole, descriptor.as_slice()).unwrap(),
        (first, second) => {
            client.send(first, descriptor.as_slice()).unwrap();
            random.pause();
            client.send(second, &[]).unwrap();
        }
    }
}

/// Sends commands for this time and returns how many were answered. `lengths` are the valid payload lengths
/// of READ KEYS.
fn converse(client: &mut Client, disk: &File, number: u8, time: Duration, lengths: &[usize]) -> u64 {
    client.stream().set_read_timeout(Some(REPLY_TIMEOUT)).unwrap();
    let mut random = Random(u64::from(number) + 1);
    let mut answered = 0;
    let begun = Instant::now();
    while begun.elapsed() < time {
        random.pause();
        match random.below(4) {
            0 => {
                send(client, &REGISTER_AND_IGNORE, Some(disk), &mut random);
                random.pause();
                let mut parameters = [0; 24];
                // The simulated disk knows keys 1 to 8.
                parameters[7] = 1;
                parameters[15] = number + 1;
                send(client, &parameters, None, &mut random);
                client.expect_reply_to(&REGISTER_AND_IGNORE, &parameters);
                assert_eq!(client.reply().unwrap().status, Status::GOOD);
            }
            1 => {
                // Refused; another thread closes the descriptor.
                assert!(client.read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
            }
            _ => {
                send(client, &read_keys(256), Some(disk), &mut random);
                client.expect_reply_to(&read_keys(256)[..10], &[]);
                let Reply { status, payload, .. } = client.reply().unwrap();
                assert!(
                    status == Status::GOOD && lengths.contains(&payload.len()),
                    "{status} {payload:02x?}"
                );
            }
        }
        answered += 1;
    }
    answered
}

/// Lets 24 clients, made by `client`, send commands at the same time, then stops the daemon.
fn converse_with_all(daemon: Daemon, client: impl Fn(u8) -> (Client, File), lengths: &[usize]) {
    let time = time();
    let answered: Vec<u64> = thread::scope(|scope| {
        let clients: Vec<_> = (0..24)
            .map(|number| {
                let (mut client, disk) = client(number);
                scope.spawn(move || converse(&mut client, &disk, number, time, lengths))
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(answered.iter().all(|answered| *answered > 0), "{answered:?}");
    eventually("the threads leave", || daemon.status("Threads").parse::<u32>().unwrap() <= 3);
    daemon.stop();
}

#[test]
fn no_command_is_lost_at_handover() {
    let cluster = Cluster::new();
    let client = |number| {
        let disk = cluster.disk(if number % 3 == 0 { "disk" } else { "other" });
        (cluster.node(if number % 2 == 0 { "a" } else { "b" }), disk)
    };
    // There are two nexuses and therefore at most two keys.
    converse_with_all(cluster.start_with(&[]), client, &[8, 16, 24]);
}

/// Sends the second command before the first is answered, while a thread lingers and while none does.
#[test]
fn two_queued_commands_are_both_answered() {
    let cluster = Cluster::new();
    let daemon = cluster.start_with(&[]);
    let mut client = cluster.node("a");
    client.stream().set_read_timeout(Some(REPLY_TIMEOUT)).unwrap();
    let disk = cluster.disk("disk");
    for pause in [Duration::ZERO, LINGER, 3 * LINGER] {
        for _ in 0..20 {
            thread::sleep(pause);
            client.send(&read_keys(8), &[disk.as_fd()]).unwrap();
            client.send(&read_keys(8), &[disk.as_fd()]).unwrap();
            for _ in 0..2 {
                client.expect_reply_to(&read_keys(8)[..10], &[]);
                assert_eq!(client.reply().unwrap().payload.len(), 8);
            }
        }
    }
    daemon.stop();
}

#[test]
fn byte_by_byte_client_keeps_no_thread() {
    let cluster = Cluster::new();
    let daemon = cluster.start_with(&[]);
    let disk = cluster.disk("disk");
    let mut clients: Vec<Client> = (0..50).map(|_| cluster.node("a")).collect();
    // Each byte arrives before a thread would stop lingering.
    for byte in 0..15 {
        for client in &mut clients {
            let descriptors = [disk.as_fd()];
            client.send(&read_keys(8)[byte..=byte], if byte == 0 { &descriptors } else { &[] }).unwrap();
        }
        thread::sleep(LINGER / 2);
    }
    eventually("the threads leave", || daemon.status("Threads").parse::<u32>().unwrap() <= 3);
    for client in &mut clients {
        client.send(&[0], &[]).unwrap();
        client.expect_reply_to(&read_keys(8)[..10], &[]);
        assert_eq!(client.reply().unwrap().payload.len(), 8);
    }
    daemon.stop();
}

/// Returns whether a thread of the daemon blocks in a read of a Unix socket.
fn a_thread_lingers(daemon: &Daemon) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    tasks.flatten().any(|task| {
        fs::read_to_string(task.path().join("wchan")).is_ok_and(|wchan| wchan.starts_with("unix_stream"))
    })
}

#[test]
#[ignore = "needs root and /dev/loop0, /dev/loop1"]
fn lingering_threads_lose_no_command() {
    let daemon = disks::start(Options::default());
    let mut first = daemon.client();
    eventually("a thread lingers", || {
        assert_eq!(first.read(disk(0), &read_keys(256)[..10]).unwrap().payload.len(), 72);
        a_thread_lingers(&daemon)
    });
    let socket = daemon.socket();
    converse_with_all(daemon, |_| (Client::connect(&socket).unwrap(), disk(0)), &[72]);
}

/// Also while another command hangs, for which the daemon waits.
#[test]
#[ignore = "needs root and /dev/loop0, /dev/loop1"]
fn shutdown_closes_lingering_clients_at_once() {
    let daemon = disks::start(Options::default());
    let mut hung = daemon.client();
    hung.send(&read_keys(8), &[disk(1).as_fd()]).unwrap();
    thread::sleep(Duration::from_millis(100));
    let mut clients: Vec<Client> = (0..20).map(|_| daemon.client()).collect();
    for client in &mut clients {
        assert_eq!(client.read(disk(0), &read_keys(8)[..10]).unwrap().status, Status::GOOD);
    }
    let begun = Instant::now();
    daemon.signal(Signal::TERM);
    for client in &mut clients {
        assert!(client.is_closed());
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    daemon.wait_for_log("stopping: 1 commands in flight");
}
