//! Hosts without the library, multipathd or a configuration, and maps that are not multipath.

use std::{fs::File, path::PathBuf, process::Command};

use fixtures::{Disk, hide_library};
use scsi_sense::Status;
use test_support::Daemon;

use super::{
    Host, Hosts, KEY, Map, Multipath, READ_KEYS, REGISTER, REGISTER_AND_IGNORE, RESERVE, State, daemon,
    in_cdb, open, with_hosts, with_hosts_on,
};

const INVALID_OPCODE: Option<(u8, u8, u8)> = Some((5, 0x20, 0));

/// Returns the number of log lines that contain `text`.
fn lines_with(daemon: &Daemon, text: &str) -> usize {
    daemon.log().lines().filter(|line| line.contains(text)).count()
}

/// Maps are refused, and disks are served.
#[test]
fn missing_library_is_logged_once() {
    let _multipath = Multipath::start();
    let hidden = hide_library();
    let daemon = daemon();
    daemon.wait_for_log("multipath maps are not served");
    daemon.wait_for_log("libmpathpersist is not installed");
    let map = Map::a();
    let mut host = Host::new(&daemon, &map);
    let before = lines_with(&daemon, "multipath");
    for _ in 0..3 {
        assert_eq!(host.change(REGISTER, 0, 0, KEY).sense_code(), INVALID_OPCODE);
        assert_eq!(host.ask(READ_KEYS, 8192).sense_code(), INVALID_OPCODE);
    }
    // At most one line for each of the two kinds of commands.
    assert!(lines_with(&daemon, "multipath") <= before + 2, "{}", daemon.log());
    let disk = open(&Disk::nexus_a().block);
    let mut client = daemon.client();
    let mut replies = (0..4).map(|_| client.read(&disk, &in_cdb(READ_KEYS, 8192)).unwrap().status);
    assert!(replies.any(|status| status == Status::GOOD));
    drop(hidden);
    assert_eq!(map.state(), State::default());
    daemon.stop();
}

#[test]
fn maps_need_running_multipathd() {
    with_hosts(|Hosts { multipath, daemon, map, host, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        multipath.stop_multipathd();
        for _ in 0..3 {
            for (action, key, new_key) in
                [(RESERVE, KEY, 0), (REGISTER_AND_IGNORE, 0, KEY + 1), (REGISTER, KEY, 0)]
            {
                let reply = host.change(action, 5, key, new_key);
                assert_eq!(reply.status, Status::CHECK_CONDITION, "service action {action}");
                assert_eq!(
                    map.state(),
                    map.registered(KEY),
                    "service action {action}: {:02x?}",
                    reply.sense_code()
                );
            }
        }
        assert!(lines_with(daemon, "multipathd does not answer") > 0, "{}", daemon.log());
        assert!(lines_with(daemon, "multipathd does not answer") <= 3, "{}", daemon.log());
        multipath.start_multipathd();
        host.expect_good(RESERVE, 5, KEY, 0);
        assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, 5));
    });
}

#[test]
fn multipathd_may_start_after_helper() {
    let mut multipath = Multipath::start();
    multipath.stop_multipathd();
    with_hosts_on(multipath, |Hosts { multipath, map, host, .. }| {
        assert_eq!(host.change(REGISTER, 0, 0, KEY).status, Status::CHECK_CONDITION);
        multipath.start_multipathd();
        host.expect_good(REGISTER, 0, 0, KEY);
        assert_eq!(map.state(), map.registered(KEY));
    });
}

#[test]
fn missing_key_configuration_is_explained() {
    let multipath = Multipath::with("");
    let daemon = daemon();
    let map = Map::a();
    let mut host = Host::new(&daemon, &map);
    for action in [REGISTER, REGISTER_AND_IGNORE] {
        assert_eq!(host.change(action, 0, 0, KEY).status, Status::CHECK_CONDITION);
    }
    daemon.wait_for_log("reservation_key file");
    assert_eq!(host.ask(READ_KEYS, 8192).payload[4..], [0; 4]);
    assert_eq!(map.state(), State::default());
    drop(multipath);
    daemon.stop();
}

#[test]
fn configured_key_is_the_only_key() {
    let multipath = Multipath::with(&format!("reservation_key {KEY:#x}"));
    with_hosts_on(multipath, |Hosts { map, host, .. }| {
        assert_ne!(host.change(REGISTER, 0, 0, KEY + 1).status, Status::GOOD);
        assert_eq!(map.state(), State::default());
        host.expect_good(REGISTER, 0, 0, KEY);
        host.expect_good(RESERVE, 5, KEY, 0);
        assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, 5));
    });
}

/// A map made by `dmsetup`. Removed when dropped.
struct Dmsetup(&'static str);

impl Dmsetup {
    fn create(name: &'static str, table: &str) -> Self {
        let status = Command::new("dmsetup").args(["create", name, "--table", table]).status().unwrap();
        assert!(status.success());
        Self(name)
    }

    fn node(&self) -> PathBuf {
        PathBuf::from("/dev/mapper").join(self.0)
    }
}

impl Drop for Dmsetup {
    fn drop(&mut self) {
        // udevd may have it open.
        let _ = Command::new("dmsetup").args(["remove", "--retry", self.0]).status();
    }
}

#[test]
fn linear_map_on_multipath_is_refused() {
    let _multipath = Multipath::start();
    let daemon = daemon();
    let map = Map::a();
    let linear = Dmsetup::create("on-map", &format!("0 2048 linear {} 0", map.node.display()));
    let mut host = Host { client: daemon.client(), map: open(&linear.node()) };
    assert_eq!(host.change(REGISTER, 0, 0, KEY).sense_code(), INVALID_OPCODE);
    let reply = host.ask(READ_KEYS, 8192);
    assert_eq!((reply.sense_code(), reply.payload.len()), (INVALID_OPCODE, 0));
    daemon.wait_for_log("is a device-mapper map that is not multipath");
    assert_eq!(map.state(), State::default());
    drop(host);
    daemon.stop();
}

#[test]
fn read_only_map_descriptor_cannot_change() {
    with_hosts(|Hosts { daemon, map, host, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        let mut host = Host { client: daemon.client(), map: File::open(&map.node).unwrap() };
        assert_eq!(host.change(RESERVE, 5, KEY, 0).sense_code(), INVALID_OPCODE);
        assert_eq!(map.state(), map.registered(KEY));
        assert_eq!(host.ask(READ_KEYS, 8192).payload[8..16], KEY.to_be_bytes());
    });
}
