//! A multipath map, and what a disk has registered and reserved: read from its paths themselves, without a helper.

use std::fs::File;
use std::path::PathBuf;

use scsi_sense::pr::{FullStatus, ReservationData, TransportId};

use super::Disk;
use super::commands::{
    CLEAR, READ_FULL_STATUS, READ_KEYS, READ_RESERVATION, REGISTER_AND_IGNORE, ask_disk, change_disk, open,
};

/// A multipath map.
pub struct Map {
    /// In /dev/mapper.
    pub node: PathBuf,
    pub paths: [Disk; 2],
}

impl Map {
    pub fn a() -> Self {
        Self { node: "/dev/mapper/map-a".into(), paths: Disk::map_a() }
    }

    /// The one to make trouble with.
    pub fn b() -> Self {
        Self { node: "/dev/mapper/map-b".into(), paths: Disk::map_b() }
    }

    pub fn name(&self) -> &str {
        self.node.file_name().and_then(|name| name.to_str()).unwrap()
    }

    pub fn open(&self) -> File {
        open(&self.node)
    }

    /// What the disk has registered and reserved. All paths must say the same.
    pub fn state(&self) -> State {
        let [one, other] = &self.paths;
        let state = State::seen_by(one);
        assert_eq!(state, State::seen_by(other));
        state
    }

    /// What a disk has on which this host alone, by all paths, is registered.
    pub fn registered(&self, key: u64) -> State {
        State { registered: self.ports().map(|port| (port, key)).to_vec(), reservation: None }
    }

    pub fn ports(&self) -> [u64; 2] {
        [self.paths[0].initiator_port(), self.paths[1].initiator_port()]
    }

    /// Leaves nothing registered, and no unit attention.
    pub fn clean(&self) {
        let disks = self.paths.iter().map(|path| open(&path.block));
        let disks: Vec<File> = disks.chain([open(&Disk::map_a_elsewhere().block)]).collect();
        clean(&disks);
        assert_eq!(self.state(), State::default());
    }
}

/// The registrations and the reservation of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Initiator ports and their keys, in order.
    pub registered: Vec<(u64, u64)>,
    /// Key and type.
    pub reservation: Option<(u64, u8)>,
}

impl State {
    pub fn seen_by(path: &Disk) -> Self {
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
    #[must_use]
    pub fn with_reservation(mut self, key: u64, kind: u8) -> Self {
        // All registrants hold those of types 7 and 8, and the key is zero.
        self.reservation = Some((if kind >= 7 { 0 } else { key }, kind));
        self
    }

    /// The same with the other host registered.
    #[must_use]
    pub fn with_other(mut self, key: u64) -> Self {
        self.registered.push((Disk::map_a_elsewhere().initiator_port(), key));
        self.registered.sort_unstable();
        self
    }
}

/// Leaves nothing registered on the logical unit that these reach, and no unit attention.
pub fn clean(nexuses: &[File]) {
    const KEY: u64 = 1;
    change_disk(&nexuses[0], REGISTER_AND_IGNORE, 0, 0, KEY);
    change_disk(&nexuses[0], CLEAR, 0, KEY, 0);
    for disk in nexuses {
        ask_disk(disk, READ_KEYS);
    }
}
