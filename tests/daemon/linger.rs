//! Clients whose descriptors block close(2).

use std::{
    fs,
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;
use test_support::{Client, Daemon, LingeringSockets, Options, eventually};

use crate::{
    disks::{self, disk},
    null, read_keys,
};

fn assert_served(daemon: &Daemon) {
    let begun = Instant::now();
    assert!(daemon.client().read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

fn assert_stops_soon(daemon: Daemon) {
    let begun = Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn reset_with_lingering_socket_delays_no_client() {
    let mut lingering = LingeringSockets::new();
    let daemon = Daemon::start(&[]);
    for _ in 0..8 {
        // The greeting stays unread, so that the kernel reports a reset instead of an end of stream.
        let mut client = Client::connect_silently(&daemon.socket()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        client.send(&[0; 4], &[]).unwrap();
        client.send(&read_keys(8)[..15], &[lingering.make().as_fd()]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_served(&daemon);
    assert_stops_soon(daemon);
}

#[test]
fn half_request_with_lingering_socket_delays_nothing() {
    let mut lingering = LingeringSockets::new();
    let daemon = Daemon::start(&[]);
    let mut clients: Vec<Client> = (0..8).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.send(&read_keys(8)[..15], &[lingering.make().as_fd()]).unwrap();
    }
    assert_served(&daemon);
    assert_stops_soon(daemon);
}

#[test]
fn lingering_refused_descriptors_delay_no_reply() {
    let mut lingering = LingeringSockets::new();
    let daemon = Daemon::start(&[]);
    let mut clients: Vec<Client> = (0..160).map(|_| daemon.client()).collect();
    for client in &mut clients {
        // Close this process's copy while the daemon holds one: only the last close of the socket blocks.
        client.expect_reply_to(&read_keys(8)[..10], &[]);
        client.send(&read_keys(8)[..15], &[lingering.make().as_fd()]).unwrap();
        client.send(&[0], &[]).unwrap();
        let reply = client.reply().unwrap();
        assert_eq!(
            reply.sense_code(),
            Some((5, 0x20, 0)),
            "there are more descriptors than threads to close them"
        );
    }
    assert_served(&daemon);
    drop(lingering);
    for client in &mut clients {
        assert!(
            client.read(null(), &read_keys(8)[..10]).is_ok(),
            "once the descriptors are closed, all connections work again"
        );
    }
    assert_stops_soon(daemon);
}

#[test]
fn violation_with_lingering_socket_still_disconnects() {
    let mut lingering = LingeringSockets::new();
    let daemon = Daemon::start(&[]);
    for _ in 0..160 {
        let mut client = daemon.client();
        client.send(&[0x12; 15], &[lingering.make().as_fd()]).unwrap();
        client.send(&[0x12], &[]).unwrap();
        assert!(client.is_closed());
    }
    assert_served(&daemon);
    daemon.signal(Signal::HUP);
    assert_stops_soon(daemon);
}

/// The kernel keeps an out-of-band byte apart and drops it, with its descriptors, in the middle of a read.
#[test]
fn out_of_band_descriptors_delay_no_client() {
    let mut lingering = LingeringSockets::new();
    let daemon = Daemon::start(&[]);
    let clients: Vec<Client> = (0..4).map(|_| daemon.client()).collect();
    for client in &clients {
        let descriptor = lingering.make();
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        // Fails on kernels without out-of-band data on Unix sockets.
        let _ = rustix::net::sendmsg(client.stream(), &[IoSlice::new(b"x")], &mut control, SendFlags::OOB);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_served(&daemon);
    assert_stops_soon(daemon);
}

#[test]
fn unaccepted_clients_do_not_delay_shutdown() {
    let mut lingering = LingeringSockets::new();
    let daemon = Daemon::start(&["--max-clients=1"]);
    let _accepted = daemon.client();
    for _ in 0..4 {
        let mut waiting = Client::connect_silently(&daemon.socket()).unwrap();
        waiting.send(&[0; 4], &[lingering.make().as_fd()]).unwrap();
    }
    daemon.wait_for_log("new clients wait");
    let socket = daemon.socket();
    daemon.signal(Signal::TERM);
    eventually("the daemon has closed its socket", || Client::connect_silently(&socket).is_err());
    assert_stops_soon(daemon);
}

/// Environment variables of the attacking process: the daemon's process ID, its socket, and the kind of
/// attack.
const DAEMON: &str = "LINGER_DAEMON";
const SOCKET: &str = "LINGER_SOCKET";
const ATTACK: &str = "LINGER_ATTACK";
/// The path of a file that the attacker creates when it has sent everything.
const SENT: &str = "LINGER_SENT";

/// What the clients of the attacking process do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// Send a message with 253 descriptors, the most that the kernel allows.
    Many,
    /// Send such a message after a command for a disk, so that a thread lingers on the connection if one may.
    ManyAfterACommand,
    /// Send one descriptor with the greeting, without waiting for the daemon's.
    One,
}

/// Not a test: the body of the attacking process, started by the tests below.
#[test]
#[ignore = "is started by another test"]
fn attacker() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let attacks = [Attack::Many, Attack::ManyAfterACommand, Attack::One];
    let name = std::env::var(ATTACK).unwrap();
    let attack = attacks.into_iter().find(|attack| format!("{attack:?}") == name).unwrap();
    let daemon = std::env::var(DAEMON).unwrap().parse().ok().and_then(Pid::from_raw).unwrap();
    let mut lingering = LingeringSockets::new();
    let null = null();
    let connect = || Client::connect_silently(Path::new(&socket)).unwrap();
    if attack == Attack::One {
        let mut clients: Vec<Client> = (0..8).map(|_| connect()).collect();
        for client in &mut clients {
            client.send(&[0; 4], &[lingering.make().as_fd()]).unwrap();
        }
        fs::write(std::env::var_os(SENT).unwrap(), "").unwrap();
        std::thread::sleep(Duration::from_secs(600));
        drop(clients);
    }
    let mut clients: Vec<_> = (0..40).map(|_| (connect(), lingering.make())).collect();
    for (client, _) in &mut clients {
        client.receive_greeting().unwrap();
        client.send(&[0; 4], &[]).unwrap();
        if attack == Attack::ManyAfterACommand {
            assert!(client.read(disk(0), &read_keys(8)[..10]).is_ok());
        }
    }
    // The daemon is stopped until this process has closed its copies: only the last close of a socket blocks.
    kill_process(daemon, Signal::STOP).unwrap();
    let clients: Vec<Client> = clients
        .into_iter()
        .map(|(mut client, socket)| {
            let rest = std::iter::repeat_n(null.as_fd(), 252);
            let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(socket.as_fd()).chain(rest).collect();
            client.send(&read_keys(8), &descriptors).unwrap();
            client
        })
        .collect();
    kill_process(daemon, Signal::CONT).unwrap();
    // The test kills this process before.
    std::thread::sleep(Duration::from_secs(600));
    drop(clients);
}

/// A running attacking process. It is killed on drop.
struct Attacker {
    child: Child,
    directory: TempDir,
}

impl Attacker {
    fn start(daemon: &Daemon, attack: Attack) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "linger::attacker", "--ignored"]).stdout(Stdio::null());
        command.env(SOCKET, daemon.socket()).env(ATTACK, format!("{attack:?}"));
        let directory = tempfile::tempdir().unwrap();
        command.env(DAEMON, daemon.pid().to_string()).env(SENT, directory.path().join("sent"));
        Self { child: command.spawn().unwrap(), directory }
    }

    fn has_sent(&self) -> bool {
        self.directory.path().join("sent").exists()
    }

    /// Returns by how many descriptors the attack has raised the daemon's number at most, while another
    /// client runs `command`.
    fn peak_descriptors(self, daemon: &Daemon, mut command: impl FnMut()) -> usize {
        let before = daemon.descriptors();
        let mut most = 0;
        let mut begun = None::<Instant>;
        eventually("the attack has gone on for a while", || {
            command();
            most = most.max(daemon.descriptors());
            if daemon.log().contains("more than one file descriptor") {
                begun.get_or_insert_with(Instant::now);
            }
            begun.is_some_and(|begun| begun.elapsed() > Duration::from_millis(500))
        });
        drop(self);
        most - before
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kernel closes such descriptors in the middle of the receiving thread's read, which blocks that thread.
#[test]
fn unreceivable_lingering_sockets_delay_no_client() {
    let daemon = Daemon::with(few_files());
    let mut client = daemon.client();
    // The daemon is stopped until the attackers have closed their copies: only the last close of a socket
    // blocks.
    daemon.signal(Signal::STOP);
    let attackers = [(); 5].map(|()| Attacker::start(&daemon, Attack::One));
    eventually("all is sent", || attackers.iter().all(Attacker::has_sent));
    // Enough for the connections and for nothing they send.
    daemon.limit_open_files(daemon.descriptors() + attackers.len() * 8);
    let threads = || daemon.status("Threads").parse::<usize>().unwrap();
    daemon.signal(Signal::CONT);
    eventually("a thread reads from each attacker", || threads() > attackers.len());
    std::thread::sleep(Duration::from_millis(200));
    assert!(!daemon.log().contains("could not be received"), "they are still being read");
    daemon.limit_open_files(1024);
    let begun = Instant::now();
    assert!(client.read(null(), &read_keys(8)[..10]).is_ok());
    assert_served(&daemon);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(attackers);
    assert_stops_soon(daemon);
}

/// Returns options with a low limit of open files: that of a daemon started from a shell.
fn few_files() -> Options {
    Options { arguments: vec!["--unprivileged".into()], open_files: Some((4096, 4096)), ..Options::default() }
}

#[test]
fn descriptors_of_one_process_stay_few() {
    let daemon = Daemon::with(few_files());
    let mut client = daemon.client();
    let attacker = Attacker::start(&daemon, Attack::Many);
    let most = attacker.peak_descriptors(&daemon, || {
        assert!(client.read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
    });
    // Forty connections, each with itself and the two or three descriptors for which a receive buffer has
    // room.
    assert!(most <= 40 * 4 + 10, "{most}");
    assert_served(&daemon);
    assert_stops_soon(daemon);
}

#[test]
#[ignore = "needs root and /dev/loop0, /dev/loop1"]
fn descriptors_to_lingering_threads_stay_few() {
    let daemon = disks::start(few_files());
    let mut client = daemon.client();
    let attacker = Attacker::start(&daemon, Attack::ManyAfterACommand);
    let most = attacker.peak_descriptors(&daemon, || {
        assert_eq!(client.read(disk(0), &read_keys(8)[..10]).unwrap().payload.len(), 8);
    });
    assert!(most <= 40 * 4 + 10, "{most}");
    assert_served(&daemon);
    assert_stops_soon(daemon);
}
