//! Multipath maps: a host with two paths to a disk, on which it is one, and another host with a path of its own.
//!
//! What the helper did is read from the paths themselves.

mod commands;
mod hang;
mod host;
mod kubevirt;
mod missing;
mod paths;
mod processes;
mod tables;
mod transport_ids;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use scsi_sense::{
    Status,
    pr::{FullStatus, ReservationData, TransportId},
};
use tests::{Client, Daemon, Options, Reply, direct};

use self::host::{Multipath, take_away, wait_for};
use crate::disks::Disk;

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;
const REGISTER_AND_MOVE: u8 = 7;
const REPLACE_LOST_RESERVATION: u8 = 8;

const READ_KEYS: u8 = 0;
const READ_RESERVATION: u8 = 1;
const READ_FULL_STATUS: u8 = 3;

/// Keys of this host, and of the other one.
const KEY: u64 = 0x1ab0_0000_0000_0001;
const NEW_KEY: u64 = 0x1ab0_0000_0000_0002;
const OTHER_KEY: u64 = 0x07e4_0000_0000_0001;

/// A multipath map.
struct Map {
    node: PathBuf,
    paths: [Disk; 2],
}

impl Map {
    fn a() -> Self {
        Self { node: "/dev/mapper/map-a".into(), paths: Disk::map_a() }
    }

    /// The one to make trouble with.
    fn b() -> Self {
        Self { node: "/dev/mapper/map-b".into(), paths: Disk::map_b() }
    }

    fn name(&self) -> &str {
        self.node.file_name().and_then(|name| name.to_str()).unwrap()
    }

    fn open(&self) -> File {
        open(&self.node)
    }

    /// What the disk has registered and reserved. All paths must say the same.
    fn state(&self) -> State {
        let [one, other] = &self.paths;
        let state = State::seen_by(one);
        assert_eq!(state, State::seen_by(other));
        state
    }

    /// What a disk has on which this host alone, by all paths, is registered.
    fn registered(&self, key: u64) -> State {
        State { registered: self.ports().map(|port| (port, key)).to_vec(), reservation: None }
    }

    fn ports(&self) -> [u64; 2] {
        [self.paths[0].initiator_port(), self.paths[1].initiator_port()]
    }
}

/// The registrations and the reservation of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// Initiator ports and their keys, in order.
    registered: Vec<(u64, u64)>,
    /// Key and type.
    reservation: Option<(u64, u8)>,
}

impl State {
    fn seen_by(path: &Disk) -> Self {
        let disk = File::open(&path.block).unwrap();
        let status = ask_disk(&disk, READ_FULL_STATUS).payload;
        let registrations = FullStatus::parse(&status).unwrap();
        let mut registered: Vec<(u64, u64)> = registrations
            .iter()
            .map(|registration| match registration.transport_id() {
                Ok(TransportId::Sas { address, .. }) => (address, registration.key.0),
                other => panic!("{other:?}"),
            })
            .collect();
        registered.sort_unstable();
        let reservation = ask_disk(&disk, READ_RESERVATION).payload;
        let reservation = ReservationData::parse(&reservation).unwrap().reservation().unwrap();
        Self { registered, reservation: reservation.map(|held| (held.key.0, held.kind.code())) }
    }

    /// The same with a reservation of this type. `key` is that of its holder.
    fn with_reservation(mut self, key: u64, kind: u8) -> Self {
        // All registrants hold those of types 7 and 8, and the key is zero.
        self.reservation = Some((if kind >= 7 { 0 } else { key }, kind));
        self
    }

    /// The same with the other host registered.
    fn with_other(mut self, key: u64) -> Self {
        self.registered.push((Disk::map_a_elsewhere().initiator_port(), key));
        self.registered.sort_unstable();
        self
    }
}

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

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

fn basic(key: u64, new_key: u64) -> Vec<u8> {
    [key.to_be_bytes(), new_key.to_be_bytes(), [0; 8]].concat()
}

fn out_cdb(action: u8, kind: u8, parameters: &[u8]) -> [u8; 10] {
    let [.., a, b] = parameters.len().to_be_bytes();
    [0x5f, action, kind, 0, 0, 0, 0, a, b, 0]
}

fn in_cdb(action: u8, allocation_length: u16) -> [u8; 10] {
    let [a, b] = allocation_length.to_be_bytes();
    [0x5e, action, 0, 0, 0, 0, 0, a, b, 0]
}

/// The answer to an IN command, behind all unit attentions.
fn ask_disk(disk: &File, action: u8) -> Reply {
    insist(|| direct(disk, &in_cdb(action, 8192), None))
}

/// The answer to an OUT command, behind all unit attentions.
fn change_disk(disk: &File, action: u8, kind: u8, key: u64, new_key: u64) -> Reply {
    let parameters = basic(key, new_key);
    insist(|| direct(disk, &out_cdb(action, kind, &parameters), Some(&parameters)))
}

fn insist(send: impl FnMut() -> Reply) -> Reply {
    let replies = std::iter::repeat_with(send).take(5);
    replies.into_iter().find(|reply| !matches!(reply.sense_code(), Some((6, ..)))).expect("an answer")
}

/// Leaves nothing registered, and no unit attention.
fn clean(map: &Map) {
    let disks = map.paths.iter().map(|path| open(&path.block));
    let disks: Vec<File> = disks.chain([open(&Disk::map_a_elsewhere().block)]).collect();
    change_disk(&disks[0], REGISTER_AND_IGNORE, 0, 0, KEY);
    change_disk(&disks[0], CLEAR, 0, KEY, 0);
    for disk in &disks {
        ask_disk(disk, READ_KEYS);
    }
    assert_eq!(map.state(), State::default());
}
