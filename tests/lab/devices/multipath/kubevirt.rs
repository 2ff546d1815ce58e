//! The helper in KubeVirt's container, which has another network namespace than multipathd's abstract socket.

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

/// The socket at which multipathd listens in addition to its abstract socket, since multipath-tools 0.12.
const MULTIPATHD_SOCKET: &str = "/run/multipathd.socket";

/// Starts a container on a node with multipathd, and blocks until the helper in it serves maps.
fn start(node: &mut Node, environment: &[(&str, &str)]) -> Container {
    let container = node.start(Isolation::Network, environment);
    node.wait_for(Event::Appeared, 1);
    let socket = node.socket();
    eventually("the helper listens", || !is_dead(&socket));
    eventually("the helper has probed the library", || {
        container.log().contains("multipath maps are served by")
    });
    container
}

/// Returns a guest of the node that uses a map.
fn guest(node: &Node, map: &Map) -> Host {
    let client = as_user(GUESTS, &[], || Client::connect(&node.socket()).unwrap());
    Host { client, map: map.open() }
}

/// Mounts multipathd's socket into the directory that the node shares with the container, as virt-handler does.
fn mount_multipathds_socket(node: &Node) -> Mounted {
    let target = node.shared().join("multipathd.socket");
    File::create(&target).unwrap();
    let mounted = Command::new("mount").args(["--bind", MULTIPATHD_SOCKET]).arg(&target).status().unwrap();
    assert!(mounted.success());
    Mounted(target)
}

/// A mount. Unmounted when dropped.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn container_maps_need_multipathds_socket() {
    let _multipath = Multipath::start();
    let map = Map::a();
    let mut node = Node::new().expect("root may make containers");
    let container = start(&mut node, &[]);
    let refused = guest(&node, &map).change(REGISTER, 0, 0, KEY);
    assert_eq!(refused.sense_code(), Some((5, 0x20, 0)));
    eventually("the log says why", || container.log().contains("multipathd does not answer"));
    assert_eq!(map.state(), State::default());
    drop(container);

    // Before 0.12 multipathd has no such socket.
    if !Path::new(MULTIPATHD_SOCKET).exists() {
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
fn container_socket_path_from_environment() {
    let _multipath = Multipath::start();
    if !Path::new(MULTIPATHD_SOCKET).exists() {
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

/// KubeVirt's watcher detects the helper's exit by the missing socket, in a directory that belongs to the guests' user. The
/// socket must also be removed if the helper is killed.
#[test]
fn container_socket_goes_with_the_helper() {
    for isolation in [Isolation::Network, Isolation::Processes] {
        let mut node = Node::new().expect("root may make containers");
        let mut container = node.start(isolation, &[]);
        node.wait_for(Event::Appeared, 1);
        let ready = |container: &Container| container.log().contains("multipath maps are");
        eventually("the helper has started", || ready(&container));
        container.signal(Signal::TERM);
        assert_eq!(container.wait().code(), Some(0), "{}", container.log());
        assert!(!node.socket().exists(), "{}", container.log());
        node.wait_for(Event::Disappeared, 1);
    }
    let mut node = Node::new().expect("root may make containers");
    let container = node.start(Isolation::Network, &[]);
    node.wait_for(Event::Appeared, 1);
    eventually("the helper has started", || container.log().contains("multipath maps are"));
    container.signal(Signal::KILL);
    node.wait_for(Event::Disappeared, 1);
    assert_eq!(fs::read_dir(node.shared()).unwrap().count(), 0);
}
