//! The daemon in KubeVirt, without a disk. The lab tests it there with one.

use std::{fs, os::unix::fs::MetadataExt as _, time::Instant};

use rustix::process::Signal;
use test_support::{
    Client, as_user, eventually,
    kubevirt::{Container, Event, GUESTS, Isolation, Node, is_dead},
};

use crate::{null, read_keys};

/// Kubernetes kills a container this long after SIGTERM, by default.
const GRACE_SECONDS: u64 = 30;

/// Checks that a guest of the node gets a reply: a refusal, because its descriptor is not a disk.
fn assert_serves_guests(node: &Node) {
    let socket = node.socket();
    let owner = fs::metadata(&socket).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (GUESTS, GUESTS));
    // The socket file exists a moment before the daemon listens on it.
    eventually("the daemon listens", || !is_dead(&socket));
    let reply = as_user(GUESTS, &[], || {
        let mut client = Client::connect(&socket).unwrap();
        client.read(null(), &read_keys(8)[..10]).unwrap()
    });
    assert_eq!(reply.sense_code(), Some((5, 0x20, 0)));
}

/// Sends the container a signal and checks that it exits with status 0 within the grace period.
fn assert_stops_by(signal: Signal, mut container: Container, node: &Node) {
    let begun = Instant::now();
    container.signal(signal);
    let status = container.wait();
    assert_eq!(status.code(), Some(0), "{signal:?}: {status}\n{}", container.log());
    assert!(begun.elapsed().as_secs() < GRACE_SECONDS);
    assert!(is_dead(&node.socket()));
}

#[test]
fn kubevirt_watcher_sees_each_start() {
    for isolation in [Isolation::Network, Isolation::Processes] {
        let Some(mut node) = Node::new() else { return };
        let first = node.start(isolation, &[]);
        node.wait_for(Event::Appeared, 1);
        assert_serves_guests(&node);
        assert_stops_by(Signal::TERM, first, &node);

        let second = node.start(isolation, &[]);
        node.wait_for(Event::Appeared, 2);
        assert_serves_guests(&node);
        // Killed, so that it cannot remove its socket.
        drop(second);
        assert!(is_dead(&node.socket()));

        let third = node.start(isolation, &[]);
        node.wait_for(Event::Appeared, 3);
        assert_serves_guests(&node);
        drop(third);
    }
}

/// The kernel discards signals to the first process of a PID namespace unless that process has installed a
/// handler.
#[test]
fn signals_stop_pid_1_of_container() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let Some(mut node) = Node::new() else { return };
        let container = node.start(Isolation::Processes, &[]);
        node.wait_for(Event::Appeared, 1);
        assert_serves_guests(&node);
        let pid = container.helper().unwrap().as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        assert_eq!(inside.split_whitespace().last(), Some("1"), "{inside}");
        assert_stops_by(signal, container, &node);
    }
}
