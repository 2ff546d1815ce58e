//! Hosts that lack something, and maps that only look like multipath.

use std::{fs::File, path::PathBuf, process::Command};

use fixtures::{Disk, hide_library};
use scsi_sense::Status;
use test_support::Daemon;

use super::{
    Host, KEY, Map, Multipath, READ_KEYS, REGISTER, REGISTER_AND_IGNORE, RESERVE, State, daemon, in_cdb,
    open, served_map,
};

const INVALID_OPCODE: Option<(u8, u8, u8)> = Some((5, 0x20, 0));

/// How many lines of the log hold `text`.
fn lines_with(daemon: &Daemon, text: &str) -> usize {
    daemon.log().lines().filter(|line| line.contains(text)).count()
}

#[test]
fn without_the_library_maps_are_refused_with_one_warning_and_disks_are_served() {
    let _multipath = Multipath::start();
    let hidden = hide_library();
    let daemon = daemon();
    daemon.wait_for_log("multipath maps are not served");
    daemon.wait_for_log("libmpathpersist is not installed");
    let map = Map::a();
    let mut host = Host::new(&daemon, &map);
    let said = lines_with(&daemon, "multipath");
    for _ in 0..3 {
        assert_eq!(host.change(REGISTER, 0, 0, KEY).sense_code(), INVALID_OPCODE);
        assert_eq!(host.ask(READ_KEYS, 8192).sense_code(), INVALID_OPCODE);
    }
    // One for each of the two kinds of commands.
    assert!(lines_with(&daemon, "multipath") <= said + 2, "{}", daemon.log());
    let disk = open(&Disk::nexus_a().block);
    let mut client = daemon.client();
    let mut replies = (0..4).map(|_| client.read(&disk, &in_cdb(READ_KEYS, 8192)).unwrap().status);
    assert!(replies.any(|status| status == Status::GOOD));
    drop(hidden);
    assert_eq!(map.state(), State::default());
    daemon.stop();
}

#[test]
fn without_multipathd_maps_are_refused_and_with_it_they_are_served_again() {
    let (mut multipath, daemon, map, mut host) = served_map();
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
    assert!(lines_with(&daemon, "multipathd does not answer") > 0, "{}", daemon.log());
    assert!(lines_with(&daemon, "multipathd does not answer") <= 3, "{}", daemon.log());
    multipath.start_multipathd();
    host.expect_good(RESERVE, 5, KEY, 0);
    assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, 5));
    daemon.stop();
}

#[test]
fn a_helper_that_was_started_before_multipathd_serves_maps_when_that_runs() {
    let mut multipath = Multipath::start();
    multipath.stop_multipathd();
    let daemon = daemon();
    let map = Map::a();
    let mut host = Host::new(&daemon, &map);
    assert_eq!(host.change(REGISTER, 0, 0, KEY).status, Status::CHECK_CONDITION);
    multipath.start_multipathd();
    host.expect_good(REGISTER, 0, 0, KEY);
    assert_eq!(map.state(), map.registered(KEY));
    daemon.stop();
}

#[test]
fn without_a_key_in_the_configuration_the_log_says_what_to_put_there() {
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
fn a_map_with_a_key_of_its_own_in_the_configuration_takes_that_key() {
    let _multipath = Multipath::with(&format!("reservation_key {KEY:#x}"));
    let daemon = daemon();
    let map = Map::a();
    let mut host = Host::new(&daemon, &map);
    assert_ne!(host.change(REGISTER, 0, 0, KEY + 1).status, Status::GOOD);
    assert_eq!(map.state(), State::default());
    host.expect_good(REGISTER, 0, 0, KEY);
    host.expect_good(RESERVE, 5, KEY, 0);
    assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, 5));
    daemon.stop();
}

/// A map that `dmsetup` makes, until this is dropped.
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
        // udevd may be looking at it.
        let _ = Command::new("dmsetup").args(["remove", "--retry", self.0]).status();
    }
}

#[test]
fn a_linear_map_on_a_multipath_map_is_refused() {
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
fn a_read_only_descriptor_of_a_map_cannot_change_reservations_and_can_read_them() {
    let _multipath = Multipath::start();
    let daemon = daemon();
    let map = Map::a();
    Host::new(&daemon, &map).expect_good(REGISTER, 0, 0, KEY);
    let mut host = Host { client: daemon.client(), map: File::open(&map.node).unwrap() };
    assert_eq!(host.change(RESERVE, 5, KEY, 0).sense_code(), INVALID_OPCODE);
    assert_eq!(map.state(), map.registered(KEY));
    assert_eq!(host.ask(READ_KEYS, 8192).payload[8..16], KEY.to_be_bytes());
    daemon.stop();
}
