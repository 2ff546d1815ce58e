//! Multipath maps: a host with two paths to a disk, on which it is one, and another host with a path of its own.
//!
//! What the helper did is read from the paths themselves.

mod claims;
mod commands;
mod hang;
mod kubevirt;
mod migration;
mod missing;
mod paths;
mod process_tree;
mod processes;
mod tables;
mod transport_ids;
mod types;

use std::fs::File;

use fixtures::{
    CLEAR, Disk, Map, Multipath, PREEMPT, PREEMPT_AND_ABORT, READ_FULL_STATUS, READ_KEYS, READ_RESERVATION,
    REGISTER, REGISTER_AND_IGNORE, REGISTER_AND_MOVE, RELEASE, REPLACE_LOST_RESERVATION, RESERVE, State,
    ask_disk, basic, change_disk, in_cdb, open, out_cdb, take_away, wait_for,
};
use scsi_sense::Status;
use test_support::{Client, Daemon, Options, Reply};

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

    /// An OUT command with a basic parameter list.
    fn change(&mut self, action: u8, kind: u8, key: u64, new_key: u64) -> Reply {
        self.send(action, kind, &basic(key, new_key))
    }

    /// The same, which succeeds.
    fn does(&mut self, action: u8, kind: u8, key: u64, new_key: u64) {
        let reply = self.change(action, kind, key, new_key);
        assert_eq!(reply.status, Status::GOOD, "service action {action}: {:02x?}", reply.sense_code());
    }

    /// An OUT command with any parameter list.
    fn send(&mut self, action: u8, kind: u8, parameters: &[u8]) -> Reply {
        self.client.write(&self.map, &out_cdb(action, kind, parameters), parameters).unwrap()
    }

    /// An IN command.
    fn ask(&mut self, action: u8, allocation_length: u16) -> Reply {
        self.client.read(&self.map, &in_cdb(action, allocation_length)).unwrap()
    }
}

/// The other host, with one path of its own, and no need of a helper.
struct OtherHost(File);

impl OtherHost {
    fn new() -> Self {
        Self(open(&Disk::map_a_elsewhere().block))
    }

    fn change(&self, action: u8, kind: u8, key: u64, new_key: u64) -> Reply {
        change_disk(&self.0, action, kind, key, new_key)
    }

    fn does(&self, action: u8, kind: u8, key: u64, new_key: u64) {
        assert_eq!(self.change(action, kind, key, new_key).status, Status::GOOD);
    }
}

fn daemon() -> Daemon {
    Daemon::with(Options::default())
}

/// Returns a map that a helper serves to this host. Keep the first value: dropped, it stops multipathd.
fn served_map() -> (Multipath, Daemon, Map, Host) {
    let multipath = Multipath::start();
    let (daemon, map) = (daemon(), Map::a());
    let host = Host::new(&daemon, &map);
    (multipath, daemon, map, host)
}
