//! Clients whose descriptors do not let themselves be closed: a TCP socket with unsent data and `SO_LINGER` makes close(2)
//! wait for as long as the other end likes. Any process can make one.

use std::{
    io::{IoSlice, Write as _},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
    process::Signal,
};
use tests::{Client, Daemon, Options, eventually};

use crate::{null, read_keys};

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

const ATTACKED: &str = "LINGER_ATTACKED";

/// Not a test: the process that another test starts.
#[test]
#[ignore = "is started by another test"]
fn attacker() {
    let Some(socket) = std::env::var_os(ATTACKED) else { return };
    let mut lingering = Lingering::new();
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(Path::new(&socket)).unwrap()).collect();
    for client in &mut clients {
        let socket = lingering.make();
        let null = null();
        let descriptors: Vec<BorrowedFd<'_>> =
            std::iter::once(socket.as_fd()).chain(std::iter::repeat_n(null.as_fd(), 252)).collect();
        client.send(&read_keys(8), &descriptors).unwrap();
    }
    // Until it is killed.
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_process_that_sends_all_the_descriptors_it_can_takes_them_from_nobody() {
    let options = Options {
        arguments: vec!["--unprivileged".into()],
        open_files: Some((4096, 4096)),
        ..Options::default()
    };
    let daemon = Daemon::with(options);
    let mut client = daemon.client();
    let before = daemon.descriptors();
    let mut attacker = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "linger::attacker", "--ignored"])
        .env(ATTACKED, daemon.socket())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("there are many", || daemon.descriptors() > before + 500);
    std::thread::sleep(Duration::from_millis(500));
    let many = daemon.descriptors();
    for _ in 0..10 {
        assert!(client.read(null(), &read_keys(8)[..10]).unwrap().sense_code().is_some());
    }
    attacker.kill().unwrap();
    attacker.wait().unwrap();
    // Those of the few messages that are read at the same time, of forty, and the connections.
    assert!(many < before + 8 * 253 + 50, "{many}");
    is_served(&daemon);
    stops_soon(daemon);
}
