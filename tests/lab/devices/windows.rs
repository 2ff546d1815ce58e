//! The commands of Windows failover clustering, sent by two nodes through the helper. The disk must answer each as the tables
//! below say, and the helper must answer what the disk answers.
//!
//! Sources, all by Microsoft unless noted:
//!
//! - \[MS-CSVP\], "Failover Cluster: Setup and Validation Protocol", version of November 21, 2025, has the service action of
//!   each step of cluster validation: register ([3.2.4.16][register], 3.4.4.9: REGISTER AND IGNORE EXISTING KEY, or REGISTER
//!   if there is an old key), unregister ([3.2.4.17][unregister]: the same with key 0), reserve (3.2.4.18), release (3.2.4.19),
//!   read the reservation ([3.2.4.22][present]), preempt ([3.4.4.11][preempt]: which key is in which field), clear
//!   ([3.2.4.24][clear]), find a key (3.4.4.10), write and read a sector (3.2.4.1, 3.2.4.2), and "clear, register, reserve"
//!   ([3.3.4.6][sequence]). Before a disk joins a cluster, it is registered and cleared (3.8.4.2).
//! - The log of a validation, in [an issue of ESOS][log]: "Registering PR key", "Putting PR reserve", "Attempting to read
//!   PR".
//! - [`DiskArbInterval`][interval]: nodes arbitrate for a disk at intervals of three seconds.
//!
//! These sources do not contain the reservation type (write exclusive, registrants only, is assumed here), the failures that
//! validation expects, and the commands of arbitration, which \[MS-CSVP\] calls implementation-specific: [`DEFENDED`] and
//! [`TAKEN_OVER`] use its service actions as SPC-4 5.13 lets a challenger and a defender use them.
//!
//! [register]: https://learn.microsoft.com/openspecs/windows_protocols/ms-csvp/f87a5a9f-a417-445b-bca3-c19cbaa26440
//! [unregister]: https://learn.microsoft.com/openspecs/windows_protocols/ms-csvp/c31db66c-c974-48dd-97a8-1e9aa6603d05
//! [present]: https://learn.microsoft.com/openspecs/windows_protocols/ms-csvp/6a029711-ff40-401b-a4e7-e5298fa0801d
//! [preempt]: https://learn.microsoft.com/openspecs/windows_protocols/ms-csvp/1f5d398f-a200-44df-99f6-37ec1c836e04
//! [clear]: https://learn.microsoft.com/openspecs/windows_protocols/ms-csvp/92c1ca43-3bff-42cb-849f-0d3eb265da60
//! [sequence]: https://learn.microsoft.com/openspecs/windows_protocols/ms-csvp/adf8b623-2b6c-4358-aa06-e77b251bdd98
//! [log]: https://github.com/quantum/esos/issues/62
//! [interval]: https://learn.microsoft.com/previous-versions/windows/desktop/mscs/diskarbinterval

use std::fs::File;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use fixtures::{
    CLEAR, Disk, Map, Multipath, PREEMPT, READ_KEYS, READ_RESERVATION, REGISTER, REGISTER_AND_IGNORE,
    RELEASE, RESERVE, basic, clean, direct, in_cdb, open, out_cdb,
};
use pr_proto::SENSE_LEN;
use scsi_sense::Status;
use scsi_sense::pr::{Keys, ReservationData};
use test_support::{Client, Reply};

use crate::reservations::daemon;

use self::Answer::{Conflict, Free, Good, HeldBy, NotRegistered, Registered, Sense};
use self::Command::{
    ChangeKey, Clear, Preempt, ReadKeys, ReadReservation, ReadSector, Register, Release, Reserve, Unregister,
    Wait, WriteSector,
};

/// Write exclusive, registrants only.
const KIND: u8 = 5;

/// `DiskArbInterval`.
const INTERVAL: Duration = Duration::from_secs(3);

/// The nodes, as indices, and their keys.
const A: usize = 0;
const B: usize = 1;
const KEY_A: u64 = 0x0001_734d_466d_7361;
const KEY_B: u64 = 0x0002_734d_466d_7361;
const KEYS: [u64; 2] = [KEY_A, KEY_B];

/// A node, its command, and the disk's answer after all unit attentions.
type Step = (usize, Command, Answer);

/// What a node does. Sectors are written and read without the helper, as a virtual machine monitor does.
#[derive(Debug, Clone, Copy)]
enum Command {
    Register,
    /// REGISTER with this old key.
    ChangeKey(u64),
    Unregister,
    Reserve,
    Release,
    Clear,
    /// PREEMPT of this key.
    Preempt(u64),
    ReadKeys,
    ReadReservation,
    WriteSector,
    ReadSector,
    /// Until the next turn of arbitration.
    Wait,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Good,
    Conflict,
    /// RESERVATION CONFLICT. Without a reservation LIO answers NOT READY, LOGICAL UNIT COMMUNICATION FAILURE.
    NotRegistered,
    /// CHECK CONDITION with sense key, ASC and ASCQ.
    Sense(u8, u8, u8),
    /// GOOD, with these keys.
    Registered(&'static [u64]),
    /// GOOD, with a reservation of this key.
    HeldBy(u64),
    /// GOOD, with no reservation.
    Free,
}

/// A disk joins a cluster: \[MS-CSVP\] 3.8.4.2, then 3.3.4.6.
const PREPARED: &[Step] = &[
    (A, Register, Good),
    (A, Clear, Good),
    (A, ReadKeys, Registered(&[])),
    (A, Clear, NotRegistered),
    (A, Register, Good),
    (A, Reserve, Good),
    (A, ReadReservation, HeldBy(KEY_A)),
    (A, Release, Good),
    (A, Unregister, Good),
];

/// "Validate SCSI-3 Persistent Reservation".
const VALIDATED: &[Step] = &[
    (A, Reserve, NotRegistered),
    (A, Register, Good),
    (A, Reserve, Good),
    (A, ReadReservation, HeldBy(KEY_A)),
    (B, ReadReservation, HeldBy(KEY_A)),
    // A node that is not registered reads, and changes nothing.
    (B, Reserve, Conflict),
    (B, Preempt(KEY_A), Conflict),
    (B, Clear, Conflict),
    (B, ChangeKey(KEY_A), Conflict),
    (B, WriteSector, Conflict),
    (B, ReadSector, Good),
    (A, WriteSector, Good),
    // A node that is registered writes, but cannot reserve.
    (B, Register, Good),
    (B, ReadKeys, Registered(&[KEY_A, KEY_B])),
    (B, WriteSector, Good),
    (B, Reserve, Conflict),
    (B, Release, Good),
    (B, ReadReservation, HeldBy(KEY_A)),
    (B, ChangeKey(KEY_A), Conflict),
    (B, ChangeKey(KEY_B), Good),
    (B, Unregister, Good),
    (B, WriteSector, Conflict),
    // Preempt.
    (B, Register, Good),
    (B, Preempt(KEY_A), Good),
    (B, ReadReservation, HeldBy(KEY_B)),
    (A, ReadKeys, Registered(&[KEY_B])),
    (A, WriteSector, Conflict),
    (A, Reserve, Conflict),
    (A, Preempt(KEY_B), Conflict),
    (B, WriteSector, Good),
    // Preempt fails after the owner has released the disk and unregistered.
    (A, Register, Good),
    (B, Release, Good),
    (A, ReadReservation, Free),
    (B, Unregister, Good),
    (A, Preempt(KEY_B), Conflict),
    // LIO's answer; SPC-4 5.13.11.2.5 has RESERVATION CONFLICT.
    (A, Preempt(0), Sense(5, 0x26, 0)),
    (B, Preempt(KEY_A), NotRegistered),
    (A, ReadReservation, Free),
    (A, Reserve, Good),
    (A, WriteSector, Good),
    (B, WriteSector, Conflict),
    (A, Release, Good),
    (B, WriteSector, Good),
    (A, Unregister, Good),
];

/// A challenges for the disk, and B, which holds it, answers in its turn.
const DEFENDED: &[Step] = &[
    (B, Register, Good),
    (B, Reserve, Good),
    (A, Register, Good),
    (A, ReadKeys, Registered(&[KEY_A, KEY_B])),
    (A, ReadReservation, HeldBy(KEY_B)),
    (A, Wait, Good),
    (B, ReadReservation, HeldBy(KEY_B)),
    (B, ReadKeys, Registered(&[KEY_A, KEY_B])),
    (B, Preempt(KEY_A), Good),
    (A, Wait, Good),
    (A, Preempt(KEY_B), Conflict),
    (A, WriteSector, Conflict),
    (B, WriteSector, Good),
    (B, ReadReservation, HeldBy(KEY_B)),
    (B, ReadKeys, Registered(&[KEY_B])),
];

/// A challenges again, and B does not answer.
const TAKEN_OVER: &[Step] = &[
    (A, Register, Good),
    (A, ReadReservation, HeldBy(KEY_B)),
    (A, Wait, Good),
    (A, Wait, Good),
    (A, ReadReservation, HeldBy(KEY_B)),
    (A, Preempt(KEY_B), Good),
    (A, ReadReservation, HeldBy(KEY_A)),
    (A, WriteSector, Good),
    (B, WriteSector, Conflict),
    (B, ReadReservation, HeldBy(KEY_A)),
    (B, Reserve, Conflict),
    (A, Release, Good),
    (A, Unregister, Good),
];

const ALL: [&[Step]; 4] = [PREPARED, VALIDATED, DEFENDED, TAKEN_OVER];

#[test]
fn windows_commands_on_a_disk() {
    let disks = [Disk::nexus_a(), Disk::nexus_b()];
    let blocks = || disks.each_ref().map(|disk| open(&disk.block));
    let generics = || disks.each_ref().map(|disk| open(&disk.generic));
    let daemon = daemon();
    let run = |nodes: [File; 2], is_helped: bool, interval| {
        clean(&blocks());
        let mut nodes = nodes.map(|disk| Node { disk, client: is_helped.then(|| daemon.client()) });
        run_all(&mut nodes, interval)
    };
    let expected = run(blocks(), false, Duration::ZERO);
    for (kind, nodes, interval) in [("block", blocks(), INTERVAL), ("generic", generics(), Duration::ZERO)] {
        let exchanges = run(nodes, true, interval);
        for (exchange, expected) in exchanges.iter().zip(&expected) {
            assert_eq!(exchange, expected, "{kind} device");
        }
        assert_eq!(exchanges.len(), expected.len());
    }
    daemon.stop();
}

/// One node is a guest whose disk is a map, the other has one path of its own.
#[test]
fn windows_commands_on_a_map() {
    let _multipath = Multipath::start();
    let daemon = daemon();
    let disks = [Map::a().open(), open(&Disk::map_a_other_host().block)];
    let mut nodes = disks.map(|disk| Node { disk, client: Some(daemon.client()) });
    run_all(&mut nodes, INTERVAL);
    Map::a().clean();
    daemon.stop();
}

/// A step as text, and the disk's answers: unit attentions, then another one.
type Exchange = (String, Vec<Reply>);

/// Runs all steps. Generations are counted from the first one.
fn run_all(nodes: &mut [Node; 2], interval: Duration) -> Vec<Exchange> {
    let mut first_generation = None;
    let mut exchanges = Vec::new();
    for step @ (node, command, answer) in ALL.iter().flat_map(|steps| *steps) {
        let name = format!("{step:x?}");
        if matches!(command, Wait) {
            thread::sleep(interval);
            continue;
        }
        let mut replies: Vec<Reply> = Vec::new();
        while replies.len() < 5
            && replies.last().is_none_or(|reply| matches!(reply.sense_code(), Some((6, ..))))
        {
            replies.push(nodes[*node].run(*command, KEYS[*node]));
        }
        let last = replies.last_mut().unwrap();
        assert!(answer.is(last), "{name}: {} {:x?} {:x?}", last.status, last.sense_code(), last.payload);
        if matches!(command, ReadKeys | ReadReservation) {
            let (generation, _) = last.payload.split_first_chunk_mut().unwrap();
            let counted = u32::from_be_bytes(*generation);
            *generation = (counted - *first_generation.get_or_insert(counted)).to_be_bytes();
        }
        exchanges.push((name, replies));
    }
    exchanges
}

impl Answer {
    fn is(self, reply: &Reply) -> bool {
        let is_good = reply.status == Status::GOOD;
        match self {
            Good => is_good,
            Conflict => reply.status == Status::RESERVATION_CONFLICT,
            NotRegistered => Conflict.is(reply) || Sense(2, 8, 0).is(reply),
            Sense(key, asc, ascq) => reply.sense_code() == Some((key, asc, ascq)),
            Registered(keys) => {
                let mut found: Vec<u64> =
                    Keys::parse(&reply.payload).unwrap().iter().map(|key| key.0).collect();
                found.sort_unstable();
                // A node has a registration for each path.
                found.dedup();
                is_good && found == keys
            }
            HeldBy(key) => is_good && reservation(reply) == Some((key, KIND)),
            Free => is_good && reservation(reply).is_none(),
        }
    }
}

fn reservation(reply: &Reply) -> Option<(u64, u8)> {
    let reservation = ReservationData::parse(&reply.payload).unwrap().reservation().unwrap();
    reservation.map(|held| (held.key.0, held.kind.code()))
}

/// A node of the cluster. Its commands go through the helper if there is a client.
struct Node {
    disk: File,
    client: Option<Client>,
}

impl Node {
    /// Sends a command of the node with this key; returns the answer, which may be a unit attention.
    fn run(&mut self, command: Command, key: u64) -> Reply {
        let (action, key, new_key) = match command {
            Register => (REGISTER_AND_IGNORE, 0, key),
            ChangeKey(old) => (REGISTER, old, key),
            Unregister => (REGISTER_AND_IGNORE, 0, 0),
            Reserve => (RESERVE, key, 0),
            Release => (RELEASE, key, 0),
            Clear => (CLEAR, key, 0),
            Preempt(victim) => (PREEMPT, key, victim),
            ReadKeys => return self.read(READ_KEYS),
            ReadReservation => return self.read(READ_RESERVATION),
            WriteSector => return self.transfer(Some(&[0x5a; SECTOR])),
            ReadSector => return self.transfer(None),
            Wait => unreachable!("no command"),
        };
        let parameters = basic(key, new_key);
        let kind = if matches!(command, Reserve | Release | Preempt(_)) { KIND } else { 0 };
        let cdb = out_cdb(action, kind, &parameters);
        match &mut self.client {
            Some(client) => client.write(&self.disk, &cdb, &parameters).unwrap(),
            None => direct(&self.disk, &cdb, Some(&parameters)),
        }
    }

    fn read(&mut self, action: u8) -> Reply {
        let cdb = in_cdb(action, 8192);
        match &mut self.client {
            Some(client) => client.read(&self.disk, &cdb).unwrap(),
            None => direct(&self.disk, &cdb, None),
        }
    }

    /// Writes the first sector, or reads it, by WRITE (10) and READ (10), which the helper refuses.
    fn transfer(&self, content: Option<&[u8; SECTOR]>) -> Reply {
        let (mut sense, mut payload) = ([0; SENSE_LEN], [0; SECTOR]);
        let opcode = if content.is_some() { 0x2a } else { 0x28 };
        let cdb = [opcode, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        let command = sg_io::Command::new(&cdb).sense(&mut sense).timeout(Duration::from_secs(30));
        let command = match content {
            Some(content) => command.write(content),
            None => command.read(&mut payload),
        };
        let status = Status(command.execute(self.disk.as_fd()).unwrap().status);
        Reply { status, sense, payload: Vec::new() }
    }
}

const SECTOR: usize = 512;
