//! The helper's life in KubeVirt, without a disk. The lab has the part with one.

use std::{fs, os::unix::fs::MetadataExt as _, time::Instant};

use rustix::process::Signal;
use test_support::{
    Client, as_user, eventually,
    kubevirt::{Container, Event, GUESTS, Isolation, Node, is_dead},
};

use crate::{null, read_keys};

/// Kubernetes kills what has not ended by then, unless told otherwise.
const GRACE_SECONDS: u64 = 30;

/// A guest of the node is served: refused, for the lack of a disk.
fn assert_serves_guests(node: &Node) {
    let socket = node.socket();
    let owner = fs::metadata(&socket).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (GUESTS, GUESTS));
    // The socket has its name a moment before anybody listens on it.
    eventually("it listens", || !is_dead(&socket));
    let reply = as_user(GUESTS, &[], || {
        let mut client = Client::connect(&socket).unwrap();
        client.read(null(), &read_keys(8)[..10]).unwrap()
    });
    assert_eq!(reply.sense_code(), Some((5, 0x20, 0)));
}

/// The container is sent a signal, and ends well and in time.
fn assert_ends_well_by(signal: Signal, mut container: Container, node: &Node) {
    let begun = Instant::now();
    container.signal(signal);
    let status = container.wait();
    assert_eq!(status.code(), Some(0), "{signal:?}: {status}\n{}", container.log());
    assert!(begun.elapsed().as_secs() < GRACE_SECONDS);
    assert!(is_dead(&node.socket()));
}

#[test]
fn the_nodes_watcher_sees_each_start_and_its_guests_are_served() {
    for isolation in [Isolation::Network, Isolation::Processes] {
        let Some(mut node) = Node::new() else { return };
        let first = node.start(isolation, &[]);
        node.wait_for(Event::Appeared, 1);
        assert_serves_guests(&node);
        assert_ends_well_by(Signal::TERM, first, &node);

        let second = node.start(isolation, &[]);
        node.wait_for(Event::Appeared, 2);
        assert_serves_guests(&node);
        // Without a chance to remove anything.
        drop(second);
        assert!(is_dead(&node.socket()));

        let third = node.start(isolation, &[]);
        node.wait_for(Event::Appeared, 3);
        assert_serves_guests(&node);
        drop(third);
    }
}

/// The kernel keeps from the first process of a namespace all signals that it has not asked for.
#[test]
fn as_the_first_process_of_its_container_it_ends_by_each_of_the_three_signals() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let Some(mut node) = Node::new() else { return };
        let container = node.start(Isolation::Processes, &[]);
        node.wait_for(Event::Appeared, 1);
        assert_serves_guests(&node);
        let pid = container.helper().unwrap().as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        assert_eq!(inside.split_whitespace().last(), Some("1"), "{inside}");
        assert_ends_well_by(signal, container, &node);
    }
}
