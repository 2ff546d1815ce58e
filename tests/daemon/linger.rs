//! Clients whose descriptors do not let themselves be closed: a TCP socket with unsent data and `SO_LINGER` makes close(2)
//! wait for as long as the other end likes. Any process can make one.

use std::{
    fs,
    io::{IoSlice, Write as _},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
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
use test_support::{Client, Daemon, Options, eventually};

use crate::{
    disks::{self, disk},
    null, read_keys,
};

/// Sockets that take long to close, until this is dropped.
struct Lingering {
    listener: TcpListener,
    others: Vec<TcpStream>,
}

impl Lingering {
    fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap(), others: Vec::new() }
    }

    fn make(&mut self) -> TcpStream {
        let mut socket = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        self.others.push(self.listener.accept().unwrap().0);
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::from_secs(300))).unwrap();
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[0; 8192]).is_ok() {}
        socket
    }
}

fn is_served(daemon: &Daemon) {
    let begun = Instant::now();
    assert!(daemon.client().read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

fn stops_soon(daemon: Daemon) {
    let begun = Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_connection_that_is_reset_in_mid_request_holds_up_nobody() {
    let mut lingering = Lingering::new();
    let daemon = Daemon::start(&[]);
    for _ in 0..8 {
        // The greeting is not read: so the kernel reports a reset, not an end.
        let mut client = Client::connect_silently(&daemon.socket()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        client.send(&[0; 4], &[]).unwrap();
        client.send(&read_keys(8)[..15], &[lingering.make().as_fd()]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    is_served(&daemon);
    stops_soon(daemon);
}

#[test]
fn a_half_request_holds_up_neither_others_nor_the_end() {
    let mut lingering = Lingering::new();
    let daemon = Daemon::start(&[]);
    let mut clients: Vec<Client> = (0..8).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.send(&read_keys(8)[..15], &[lingering.make().as_fd()]).unwrap();
    }
    is_served(&daemon);
    stops_soon(daemon);
}

#[test]
fn refused_descriptors_that_do_not_close_hold_up_no_answer() {
    let mut lingering = Lingering::new();
    let daemon = Daemon::start(&[]);
    let mut clients: Vec<Client> = (0..160).map(|_| daemon.client()).collect();
    for client in &mut clients {
        // Our own copy goes while the helper has one: who closes last is the one who waits.
        client.expect_reply_to(&read_keys(8)[..10], &[]);
        client.send(&read_keys(8)[..15], &[lingering.make().as_fd()]).unwrap();
        client.send(&[0], &[]).unwrap();
        let reply = client.reply().unwrap();
        assert_eq!(reply.sense_code(), Some((5, 0x20, 0)), "more than there are places for closing");
    }
    is_served(&daemon);
    drop(lingering);
    for client in &mut clients {
        assert!(client.read(null(), &read_keys(8)[..10]).is_ok(), "and once they are closed all go on");
    }
    stops_soon(daemon);
}

#[test]
fn violations_with_descriptors_that_do_not_close_are_closed_for_their_clients() {
    let mut lingering = Lingering::new();
    let daemon = Daemon::start(&[]);
    for _ in 0..160 {
        let mut client = daemon.client();
        client.send(&[0x12; 15], &[lingering.make().as_fd()]).unwrap();
        client.send(&[0x12], &[]).unwrap();
        assert!(client.is_closed());
    }
    is_served(&daemon);
    daemon.signal(Signal::HUP);
    stops_soon(daemon);
}

/// The kernel keeps such a byte apart from the others, and drops it in the middle of a read.
#[test]
fn descriptors_that_come_out_of_band_and_do_not_close_hold_up_nobody() {
    let mut lingering = Lingering::new();
    let daemon = Daemon::start(&[]);
    let clients: Vec<Client> = (0..4).map(|_| daemon.client()).collect();
    for client in &clients {
        let descriptor = lingering.make();
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        // A kernel without them refuses.
        let _ = rustix::net::sendmsg(client.stream(), &[IoSlice::new(b"x")], &mut control, SendFlags::OOB);
    }
    std::thread::sleep(Duration::from_millis(200));
    is_served(&daemon);
    stops_soon(daemon);
}

#[test]
fn clients_that_were_not_accepted_do_not_hold_up_the_end() {
    let mut lingering = Lingering::new();
    let daemon = Daemon::start(&["--max-clients=1"]);
    let _accepted = daemon.client();
    for _ in 0..4 {
        let mut waiting = Client::connect_silently(&daemon.socket()).unwrap();
        waiting.send(&[0; 4], &[lingering.make().as_fd()]).unwrap();
    }
    daemon.wait_for_log("new clients wait");
    let socket = daemon.socket();
    daemon.signal(Signal::TERM);
    eventually("nobody can connect any more", || Client::connect_silently(&socket).is_err());
    stops_soon(daemon);
}

/// The daemon that the attacker is to attack, its socket, and how.
const DAEMON: &str = "LINGER_DAEMON";
const ATTACKED: &str = "LINGER_ATTACKED";
const ATTACK: &str = "LINGER_ATTACK";
/// A file that the attacker makes when it has sent everything.
const SENT: &str = "LINGER_SENT";

/// What a client of the attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// Sends a message with all the descriptors that it may have.
    Many,
    /// The same after a command for a disk, so that a thread waits for it, if one may.
    ManyAfterACommand,
    /// Sends one, without waiting for anything.
    One,
}

/// Not a test: the process that another test starts.
#[test]
#[ignore = "is started by another test"]
fn attacker() {
    let Some(socket) = std::env::var_os(ATTACKED) else { return };
    let attacks = [Attack::Many, Attack::ManyAfterACommand, Attack::One];
    let name = std::env::var(ATTACK).unwrap();
    let attack = attacks.into_iter().find(|attack| format!("{attack:?}") == name).unwrap();
    let daemon = std::env::var(DAEMON).unwrap().parse().ok().and_then(Pid::from_raw).unwrap();
    let mut lingering = Lingering::new();
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
    // Our own copies are to go first: who closes last is the one who waits.
    kill_process(daemon, Signal::STOP).unwrap();
    let clients: Vec<Client> = clients
        .into_iter()
        .map(|(mut client, socket)| {
            let others = std::iter::repeat_n(null.as_fd(), 252);
            let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(socket.as_fd()).chain(others).collect();
            client.send(&read_keys(8), &descriptors).unwrap();
            client
        })
        .collect();
    kill_process(daemon, Signal::CONT).unwrap();
    // Until it is killed.
    std::thread::sleep(Duration::from_secs(600));
    drop(clients);
}

/// The attacker while it attacks.
struct Attacker {
    child: Child,
    directory: TempDir,
}

impl Attacker {
    fn start(daemon: &Daemon, attack: Attack) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "linger::attacker", "--ignored"]).stdout(Stdio::null());
        command.env(ATTACKED, daemon.socket()).env(ATTACK, format!("{attack:?}"));
        let directory = tempfile::tempdir().unwrap();
        command.env(DAEMON, daemon.pid().to_string()).env(SENT, directory.path().join("sent"));
        Self { child: command.spawn().unwrap(), directory }
    }

    fn has_sent(&self) -> bool {
        self.directory.path().join("sent").exists()
    }

    /// Returns the highest number of descriptors that the attack brings the daemon, while another client does `command`.
    fn brings(self, daemon: &Daemon, mut command: impl FnMut()) -> usize {
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

/// The kernel closes them in the middle of a read, whose thread is no more to be had.
#[test]
fn descriptors_that_cannot_be_received_and_do_not_close_hold_up_nobody() {
    let daemon = Daemon::with(few_files());
    let mut client = daemon.client();
    // The attackers' own copies are to go first: who closes last is the one who waits.
    daemon.signal(Signal::STOP);
    let attackers = [(); 5].map(|()| Attacker::start(&daemon, Attack::One));
    eventually("all is sent", || attackers.iter().all(Attacker::has_sent));
    // Just for the connections.
    daemon.limit_open_files(daemon.descriptors() + attackers.len() * 8);
    let threads = || daemon.status("Threads").parse::<usize>().unwrap();
    daemon.signal(Signal::CONT);
    eventually("of each there is one that is read", || threads() > attackers.len());
    std::thread::sleep(Duration::from_millis(200));
    assert!(!daemon.log().contains("could not be received"), "they are still being read");
    daemon.limit_open_files(1024);
    let begun = Instant::now();
    assert!(client.read(null(), &read_keys(8)[..10]).is_ok());
    is_served(&daemon);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(attackers);
    stops_soon(daemon);
}

/// As many as a service had that was started by hand.
fn few_files() -> Options {
    Options { arguments: vec!["--unprivileged".into()], open_files: Some((4096, 4096)), ..Options::default() }
}

#[test]
fn descriptors_of_one_process_stay_few() {
    let daemon = Daemon::with(few_files());
    let mut client = daemon.client();
    let attacker = Attacker::start(&daemon, Attack::Many);
    let most = attacker.brings(&daemon, || {
        assert!(client.read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
    });
    // Forty connections, each with the two or three descriptors that a receive buffer has room for.
    assert!(most <= 40 * 4 + 10, "{most}");
    is_served(&daemon);
    stops_soon(daemon);
}

#[test]
#[ignore = "needs root and /dev/loop0, /dev/loop1"]
fn descriptors_to_lingering_threads_stay_few() {
    let daemon = disks::start(few_files());
    let mut client = daemon.client();
    let attacker = Attacker::start(&daemon, Attack::ManyAfterACommand);
    let most = attacker.brings(&daemon, || {
        assert_eq!(client.read(disk(0), &read_keys(8)[..10]).unwrap().payload.len(), 8);
    });
    assert!(most <= 40 * 4 + 10, "{most}");
    is_served(&daemon);
    stops_soon(daemon);
}
