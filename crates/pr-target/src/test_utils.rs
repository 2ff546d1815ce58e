//! Random commands and a store in memory, for tests of this crate, of crates built on it, and of real disks.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use scsi_sense::pr::{
    BasicParameters, InServiceAction, OutServiceAction, PersistentReserveIn, PersistentReserveOut,
    RegisterAndMoveParameters, ReservationKey, ReservationType, Scope, TransportId, TransportIds,
};

use crate::{Nexus, Store};

/// The keys that [`random_command`] uses, besides zero. Nexus number N mostly uses the N-th key.
pub const KEYS: [ReservationKey; 3] =
    [ReservationKey(0xa11c_e000_0000_0001), ReservationKey(0xb0b0_0000_0000_0002), ReservationKey(0xca11)];

/// A PERSISTENT RESERVE command from one of several nexuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomCommand {
    /// Index of the nexus that sends the command.
    pub sender: usize,
    /// The CDB. Its PARAMETER LIST LENGTH is that of `parameters`.
    pub cdb: [u8; 10],
    /// The parameter list of an OUT.
    pub parameters: Vec<u8>,
}

/// Returns the command for `entropy`: the same number always gives the same command.
///
/// Commands from a sequence of random numbers reach all states of reservations: most are well-formed and have the right
/// key, so that they have an effect; some have a wrong key, another type or length, or an unknown service action. One
/// in seven is an IN. Senders and TransportIDs are taken from `nexuses`, of which there must be at least one.
pub fn random_command(entropy: u64, nexuses: &[Nexus]) -> RandomCommand {
    let mut draw = Draw(entropy);
    let sender = draw.below(nexuses.len());
    if draw.percent(14) {
        let command = PersistentReserveIn {
            action: if draw.percent(3) {
                InServiceAction::new(draw.byte())
            } else {
                draw.pick(InServiceAction::ALL).unwrap_or(InServiceAction::ReadKeys)
            },
            allocation_length: draw.pick(&[0, 4, 8, 9, 16, 24, 32, 72, 255, 8192, 8192]).unwrap_or_default(),
        };
        return RandomCommand { sender, cdb: command.to_cdb(), parameters: Vec::new() };
    }
    let action = draw.action();
    let kind = draw.kind();
    let scope = if draw.percent(1) { Scope::new(draw.byte()) } else { Scope::LogicalUnit };
    let mut parameters = if action == OutServiceAction::RegisterAndMove {
        draw.register_and_move(sender, nexuses)
    } else {
        draw.basic(action, sender, nexuses)
    };
    if draw.percent(2) {
        let length = draw.below(parameters.len() + 4);
        parameters.resize(length, 0);
    }
    let parameter_list_length = u32::try_from(parameters.len()).unwrap_or(u32::MAX);
    let cdb = PersistentReserveOut { action, scope, kind, parameter_list_length }.to_cdb();
    RandomCommand { sender, cdb, parameters }
}

/// A generator of pseudo-random numbers: `SplitMix64`.
struct Draw(u64);

impl Draw {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn byte(&mut self) -> u8 {
        let [byte, ..] = self.number().to_be_bytes();
        byte
    }

    /// Returns a number below `count`, or zero if `count` is zero.
    fn below(&mut self, count: usize) -> usize {
        let number = self.number();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        number.checked_rem(count).and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len());
        from.get(index).copied()
    }

    fn action(&mut self) -> OutServiceAction {
        match self.below(100) {
            0..14 => OutServiceAction::Register,
            14..36 => OutServiceAction::RegisterAndIgnoreExistingKey,
            36..56 => OutServiceAction::Reserve,
            56..67 => OutServiceAction::Release,
            67..70 => OutServiceAction::Clear,
            70..84 => OutServiceAction::Preempt,
            84..87 => OutServiceAction::PreemptAndAbort,
            87..97 => OutServiceAction::RegisterAndMove,
            97..99 => OutServiceAction::ReplaceLostReservation,
            _ => OutServiceAction::new(self.byte()),
        }
    }

    fn kind(&mut self) -> ReservationType {
        let kind = ReservationType::new(self.byte());
        if self.percent(3) { kind } else { self.pick(&ReservationType::ALL).unwrap_or(kind) }
    }

    /// Returns the usual key of a nexus with a probability of `own` percent, any key with `other` percent, else zero.
    fn key(&mut self, nexus: usize, own: usize, other: usize) -> ReservationKey {
        let all = KEYS;
        match self.below(100) {
            lot if lot < own => all.into_iter().cycle().nth(nexus % all.len()).unwrap_or_default(),
            lot if lot < own + other => self.pick(&all).unwrap_or_default(),
            _ => ReservationKey::ZERO,
        }
    }

    fn basic(&mut self, action: OutServiceAction, sender: usize, nexuses: &[Nexus]) -> Vec<u8> {
        let (reservation_key, service_action_key) = match action {
            OutServiceAction::Register => (self.key(sender, 35, 15), self.key(sender, 60, 25)),
            OutServiceAction::RegisterAndIgnoreExistingKey => {
                (self.key(sender, 50, 25), self.key(sender, 70, 20))
            }
            OutServiceAction::ReplaceLostReservation => (self.key(sender, 10, 5), self.key(sender, 85, 10)),
            _ => (self.key(sender, 85, 12), self.key(sender + 1, 40, 40)),
        };
        let mut buffer = [0; 3 * TransportId::MAX_LENGTH];
        let is_specified = self.percent(if action == OutServiceAction::Register { 10 } else { 1 });
        let transport_ids = is_specified.then(|| {
            let count = self.below(3);
            let ids: Vec<_> = (0..count)
                .filter_map(|_| nexuses.get(self.below(nexuses.len())))
                .map(|nexus| nexus.initiator().get())
                .collect();
            TransportIds::build(&ids, &mut buffer).unwrap_or_default()
        });
        let list = BasicParameters {
            reservation_key,
            service_action_key,
            transport_ids,
            all_target_ports: self.percent(5),
            aptpl: self.percent(20),
        };
        written(|buffer| list.write(buffer).ok())
    }

    fn register_and_move(&mut self, sender: usize, nexuses: &[Nexus]) -> Vec<u8> {
        let other = self.below(nexuses.len());
        let Some(destination) = nexuses.get(other) else { return Vec::new() };
        let list = RegisterAndMoveParameters {
            reservation_key: self.key(sender, 90, 8),
            service_action_key: self.key(other, 80, 15),
            unregister: self.percent(30),
            aptpl: self.percent(20),
            relative_port: if self.percent(3) { 0x7777 } else { destination.relative_port() },
            transport_id: destination.initiator().get(),
        };
        written(|buffer| list.write(buffer).ok())
    }
}

fn written(write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Vec<u8> {
    let mut buffer = [0; 4 * TransportId::MAX_LENGTH];
    let length = write(&mut buffer).unwrap_or(0);
    buffer.get(..length).unwrap_or_default().to_vec()
}

/// A store in memory that fails on request. Clones share the content: keep one, and give the other to the unit.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    content: Option<Vec<u8>>,
    fails: bool,
    saves: usize,
}

/// The error of a [`MemoryStore`] that was set to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

impl MemoryStore {
    /// Returns the bytes saved last.
    pub fn content(&self) -> Option<Vec<u8>> {
        self.memory().content.clone()
    }

    /// Replaces the saved bytes.
    pub fn set_content(&self, content: Option<Vec<u8>>) {
        self.memory().content = content;
    }

    /// Sets whether the store fails from now on.
    pub fn set_failing(&self, fails: bool) {
        self.memory().fails = fails;
    }

    /// Returns how often a save succeeded.
    pub fn saves(&self) -> usize {
        self.memory().saves
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    type Error = Fault;

    fn load(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let memory = self.memory();
        if memory.fails { Err(Fault) } else { Ok(memory.content.clone()) }
    }

    fn save(&mut self, state: &[u8]) -> Result<(), Fault> {
        let mut memory = self.memory();
        if memory.fails {
            return Err(Fault);
        }
        memory.content = Some(state.to_vec());
        memory.saves += 1;
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store is set to fail")
    }
}

impl Error for Fault {}
