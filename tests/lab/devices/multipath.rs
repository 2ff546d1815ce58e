//! Multipath maps: a host with a map of two paths to a disk, and another host with a path of its own.
//!
//! The effect of each command is read from the paths directly, without the helper.

mod claims;
mod commands;
mod doctor;
mod hang;
mod kill_points;
mod kubevirt;
mod migration;
mod missing;
mod paths;
mod process_tree;
mod processes;
mod stale_record;
mod tables;
mod taken_over;
mod transport_ids;
mod types;

use std::fs::File;

use fixtures::{
    CLEAR, Disk, Map, Multipath, PREEMPT, PREEMPT_AND_ABORT, READ_FULL_STATUS, READ_KEYS, READ_RESERVATION,
    REGISTER, REGISTER_AND_IGNORE, REGISTER_AND_MOVE, RELEASE, REPLACE_LOST_RESERVATION, RESERVE, State,
    ask_disk, basic, change_disk, in_cdb, open, out_cdb, take_away, wait_for,
};
use scsi_sense::Status;
use test_support::{Client, Daemon, Reply};

use crate::reservations::daemon;

/// Keys of this host, and of the other one.
const KEY: u64 = 0x1ab0_0000_0000_0001;
const NEW_KEY: u64 = 0x1ab0_0000_0000_0002;
const OTHER_KEY: u64 = 0x07e4_0000_0000_0001;

/// This host, which changes reservations of a map through the helper.
struct Host {
    client: Client,
    map: File,
}

impl Host {
    fn new(daemon: &Daemon, map: &Map) -> Self {
        Self { client: daemon.client(), map: map.open() }
    }

    /// Sends an OUT command with a basic parameter list.
    fn change(&mut self, action: u8, kind: u8, key: u64, new_key: u64) -> Reply {
        self.send(action, kind, &basic(key, new_key))
    }

    /// Sends an OUT command with a basic parameter list, which must succeed.
    fn expect_good(&mut self, action: u8, kind: u8, key: u64, new_key: u64) {
        let reply = self.change(action, kind, key, new_key);
        assert_eq!(reply.status, Status::GOOD, "service action {action}: {:02x?}", reply.sense_code());
    }

    /// Sends an OUT command with any parameter list.
    fn send(&mut self, action: u8, kind: u8, parameters: &[u8]) -> Reply {
        self.client.write(&self.map, &out_cdb(action, kind, parameters), parameters).unwrap()
    }

    /// Sends an IN command.
    fn ask(&mut self, action: u8, allocation_length: u16) -> Reply {
        self.client.read(&self.map, &in_cdb(action, allocation_length)).unwrap()
    }
}

/// The other host, which sends commands by a path of its own without a helper.
struct OtherHost(File);

impl OtherHost {
    fn new() -> Self {
        Self(open(&Disk::map_a_other_host().block))
    }

    fn change(&self, action: u8, kind: u8, key: u64, new_key: u64) -> Reply {
        change_disk(&self.0, action, kind, key, new_key)
    }

    fn expect_good(&self, action: u8, kind: u8, key: u64, new_key: u64) {
        assert_eq!(self.change(action, kind, key, new_key).status, Status::GOOD);
    }
}

/// This host, to which a helper serves a map, and the other host. The fields are dropped in this order, so that
/// multipathd runs until the helper has ended.
struct Hosts {
    host: Host,
    other: OtherHost,
    map: Map,
    daemon: Daemon,
    multipath: Multipath,
}

/// Runs a test with both hosts, and then stops the helper, whose exit status must be 0. If the test panics, the
/// helper is killed.
fn with_hosts(test: impl FnOnce(&mut Hosts)) {
    with_hosts_on(Multipath::start(), test);
}

/// Like [`with_hosts`], with another configuration or state of multipathd.
fn with_hosts_on(multipath: Multipath, test: impl FnOnce(&mut Hosts)) {
    let (daemon, map) = (daemon(), Map::a());
    let host = Host::new(&daemon, &map);
    let mut hosts = Hosts { host, other: OtherHost::new(), map, daemon, multipath };
    test(&mut hosts);
    hosts.daemon.stop();
}
