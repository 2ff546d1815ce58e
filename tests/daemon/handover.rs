//! Clients whose next command comes just when their thread gives up waiting for it, and the like: whatever the moment, it
//! is answered.
//!
//! With files as disks (`--emulate`) a thread leaves its device's lane after each command, to close the file; with disks
//! it stays. So each is tried; for the latter `cargo xtask test` has the simulated disk.

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

/// A thread waits for so long for its client's next command (`MOMENT` of connection.rs).
const MOMENT: Duration = Duration::from_millis(50);

/// An answer that takes longer was forgotten.
const PATIENCE: Duration = Duration::from_secs(30);

/// REGISTER AND IGNORE EXISTING KEY, padded as the protocol has it.
const REGISTER_AND_IGNORE: [u8; 16] = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];

/// Numbers that look random, and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64: Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Waits not at all, or for about as long as a thread does.
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

/// How long to go on: longer if somebody asks for it.
fn time() -> Duration {
    let seconds = std::env::var("HANDOVER_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

/// Sends the bytes of a message in one part or two, with a pause between, and the descriptor with the first.
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

/// Sends commands until the time is over; returns how many were answered. `lengths` are those that READ KEYS may have.
fn converse(client: &mut Client, disk: &File, number: u8, time: Duration, lengths: &[usize]) -> u64 {
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
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
                // Refused, and its descriptor closed aside.
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

/// Has 24 clients send commands, each as this gives it, and ends the daemon.
fn all_converse(daemon: Daemon, client: impl Fn(u8) -> (Client, File), lengths: &[usize]) {
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
fn whenever_a_command_comes_it_is_answered() {
    let cluster = Cluster::new();
    let client = |number| {
        let disk = cluster.disk(if number % 3 == 0 { "disk" } else { "other" });
        (cluster.node(if number % 2 == 0 { "a" } else { "b" }), disk)
    };
    // Two nexuses, two keys at most.
    all_converse(cluster.start_with(&[]), client, &[8, 16, 24]);
}

#[test]
fn two_commands_at_once_are_both_answered_while_a_thread_waits_and_while_none_does() {
    let cluster = Cluster::new();
    let daemon = cluster.start_with(&[]);
    let mut client = cluster.node("a");
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    let disk = cluster.disk("disk");
    for pause in [Duration::ZERO, MOMENT, 3 * MOMENT] {
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
fn who_sends_byte_by_byte_does_not_keep_a_thread() {
    let cluster = Cluster::new();
    let daemon = cluster.start_with(&[]);
    let disk = cluster.disk("disk");
    let mut clients: Vec<Client> = (0..50).map(|_| cluster.node("a")).collect();
    // A byte each time before a thread would give up.
    for byte in 0..15 {
        for client in &mut clients {
            let descriptors = [disk.as_fd()];
            client.send(&read_keys(8)[byte..=byte], if byte == 0 { &descriptors } else { &[] }).unwrap();
        }
        thread::sleep(MOMENT / 2);
    }
    eventually("the threads leave", || daemon.status("Threads").parse::<u32>().unwrap() <= 3);
    for client in &mut clients {
        client.send(&[0], &[]).unwrap();
        client.expect_reply_to(&read_keys(8)[..10], &[]);
        assert_eq!(client.reply().unwrap().payload.len(), 8);
    }
    daemon.stop();
}

/// Whether a thread of the daemon waits in a read of a Unix socket.
fn a_thread_stays(daemon: &Daemon) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    tasks.flatten().any(|task| {
        fs::read_to_string(task.path().join("wchan")).is_ok_and(|wchan| wchan.starts_with("unix_stream"))
    })
}

#[test]
#[ignore = "needs root and /dev/loop0, /dev/loop1"]
fn whenever_a_command_comes_it_is_answered_by_threads_that_stay() {
    let daemon = disks::start(Options::default());
    let mut first = daemon.client();
    eventually("a thread stays", || {
        assert_eq!(first.read(disk(0), &read_keys(256)[..10]).unwrap().payload.len(), 72);
        a_thread_stays(&daemon)
    });
    let socket = daemon.socket();
    all_converse(daemon, |_| (Client::connect(&socket).unwrap(), disk(0)), &[72]);
}

/// While a command hangs, too, which is given its time.
#[test]
#[ignore = "needs root and /dev/loop0, /dev/loop1"]
fn the_end_comes_at_once_for_clients_whose_threads_stay() {
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
