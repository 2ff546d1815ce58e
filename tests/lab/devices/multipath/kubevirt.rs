//! The helper in KubeVirt's container: without the network namespace in which multipathd's abstract socket is.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use rustix::process::Signal;
use scsi_sense::Status;
use test_support::{
    Client, as_user, eventually,
    kubevirt::{Container, Event, GUESTS, Isolation, Node, is_dead},
};

use super::{Host, KEY, Map, Multipath, READ_KEYS, REGISTER, RESERVE, State};

/// Where multipathd listens beside its abstract socket, since multipath-tools 0.12.
const MULTIPATHD: &str = "/run/multipathd.socket";

/// A node with multipathd and a container on it.
fn start(node: &mut Node, environment: &[(&str, &str)]) -> Container {
    let container = node.start(Isolation::Network, environment);
    node.wait_for(Event::Appeared, 1);
    let socket = node.socket();
    eventually("it listens", || !is_dead(&socket));
    eventually("it knows of multipath", || container.log().contains("multipath maps are served by"));
    container
}

/// A guest of the node that uses a map.
fn guest(node: &Node, map: &Map) -> Host {
    let client = as_user(GUESTS, &[], || Client::connect(&node.socket()).unwrap());
    Host { client, map: map.open() }
}

/// As virt-handler has multipathd's socket in the directory that it shares with the container.
fn mount_multipathds_socket(node: &Node) -> Mounted {
    let target = node.shared().join("multipathd.socket");
    File::create(&target).unwrap();
    let mounted = Command::new("mount").args(["--bind", MULTIPATHD]).arg(&target).status().unwrap();
    assert!(mounted.success());
    Mounted(target)
}

/// A mount until this is dropped.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn in_a_container_maps_are_served_where_multipathd_can_be_reached_by_path() {
    let _multipath = Multipath::start();
    let map = Map::a();
    let mut node = Node::new().expect("root may make containers");
    let container = start(&mut node, &[]);
    let refused = guest(&node, &map).change(REGISTER, 0, 0, KEY);
    assert_eq!(refused.sense_code(), Some((5, 0x20, 0)));
    eventually("the log says why", || container.log().contains("multipathd does not answer"));
    assert_eq!(map.state(), State::default());
    drop(container);

    // Before 0.12 there is no other way to it.
    if !Path::new(MULTIPATHD).exists() {
        return;
    }
    let mut node = Node::new().expect("root may make containers");
    let _mounted = mount_multipathds_socket(&node);
    let _container = start(&mut node, &[]);
    let mut guest = guest(&node, &map);
    guest.expect_good(REGISTER, 0, 0, KEY);
    guest.expect_good(RESERVE, 5, KEY, 0);
    assert_eq!(guest.ask(READ_KEYS, 8192).status, Status::GOOD);
    assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, 5));
}

#[test]
fn in_a_container_the_path_of_multipathds_socket_may_be_in_the_environment() {
    let _multipath = Multipath::start();
    if !Path::new(MULTIPATHD).exists() {
        return;
    }
    let mut node = Node::new().expect("root may make containers");
    let _mounted = mount_multipathds_socket(&node);
    let _container = start(&mut node, &[("MULTIPATH_SOCKET_NAME", "/run/another.socket")]);
    let map = Map::a();
    let mut guest = guest(&node, &map);
    guest.expect_good(REGISTER, 0, 0, KEY);
    assert_eq!(map.state(), map.registered(KEY));
}

/// The watcher takes the socket for the helper's health, in a directory that is its guests'.
#[test]
fn in_a_container_the_socket_goes_with_the_helper_also_when_that_is_killed() {
    for isolation in [Isolation::Network, Isolation::Processes] {
        let mut node = Node::new().expect("root may make containers");
        let mut container = node.start(isolation, &[]);
        node.wait_for(Event::Appeared, 1);
        let ready = |container: &Container| container.log().contains("multipath maps are");
        eventually("it has started", || ready(&container));
        container.signal(Signal::TERM);
        assert_eq!(container.wait().code(), Some(0), "{}", container.log());
        assert!(!node.socket().exists(), "{}", container.log());
        node.wait_for(Event::Disappeared, 1);
    }
    let mut node = Node::new().expect("root may make containers");
    let container = node.start(Isolation::Network, &[]);
    node.wait_for(Event::Appeared, 1);
    eventually("it has started", || container.log().contains("multipath maps are"));
    container.signal(Signal::KILL);
    node.wait_for(Event::Disappeared, 1);
    assert_eq!(fs::read_dir(node.shared()).unwrap().count(), 0);
}
