//! The logical unit.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::convert::Infallible;

use scsi_sense::pr::{InServiceAction, PersistentReserveIn, PersistentReserveOut};
use scsi_sense::{Cdb, SenseCode};

use crate::access::access;
use crate::answer::{INFORMATION_LOST, Refusal};
use crate::attention::{UnitAttentions, is_reported_by};
use crate::out::{Change, Generation, Request, perform};
use crate::report::report;
use crate::saved;
use crate::state::State;
use crate::{Access, Answer, Error, MAX_TARGET_PORTS, Nexus, Store, Volatile};

/// The persistent reservations of one logical unit.
///
/// It is a state machine: [`execute`](Self::execute) runs one PERSISTENT RESERVE command from its beginning to its
/// end, and [`admit`](Self::admit) says before any other command whether it may be performed. It has the time and the
/// memory of one command only; who shares it between threads puts a lock around it, and holds the lock for the one
/// call.
///
/// To drop it is the loss of power: what is left is what the store has.
#[derive(Clone, Debug)]
pub struct LogicalUnit<S: Store = Volatile> {
    target_ports: Vec<u16>,
    state: State,
    generation: u32,
    attentions: UnitAttentions,
    /// Reservation information was lost (SPC-4 clause 5.13.5.3.2).
    is_lost: bool,
    /// The store may have something else than what would be saved now.
    is_stale: bool,
    store: S,
    save_error: Option<S::Error>,
}

impl LogicalUnit {
    /// A logical unit without registrations, that keeps nothing over a loss of power.
    ///
    /// `target_ports` are the RELATIVE TARGET PORT IDENTIFIERs of all its target ports, which ALL_TG_PT registers
    /// with and REGISTER AND MOVE moves to. (Zero is not one by SPC-4, but is taken: targets with it exist.)
    ///
    /// # Errors
    ///
    /// [`Error::TargetPorts`], if there are none or more than [`MAX_TARGET_PORTS`].
    pub fn new(target_ports: &[u16]) -> Result<Self, Error<Infallible>> {
        Self::open(target_ports, Volatile)
    }
}

impl<S: Store> LogicalUnit<S> {
    /// A logical unit whose power comes back: with the registrations and the reservation that `store` has, if they
    /// were to be kept (APTPL), and with PRGENERATION 0 (SPC-4 clauses 5.13.5.1 and 6.15.2).
    ///
    /// That there was a reset (UNIT ATTENTION, 29h/..) is for the caller to tell all initiators.
    ///
    /// # Errors
    ///
    /// [`Error::TargetPorts`] as from [`new`](LogicalUnit::new), [`Error::Load`] if the store cannot say what it has,
    /// [`Error::Damaged`] if that is not a saved state. See [`lost`](Self::lost) for what to do about the last.
    pub fn open(target_ports: &[u16], mut store: S) -> Result<Self, Error<S::Error>> {
        let state = match store.load().map_err(Error::Load)? {
            Some(bytes) => saved::decode(&bytes).map_err(Error::Damaged)?,
            None => State::default(),
        };
        Self::with(target_ports, store, state, false)
    }

    /// A logical unit that has lost its reservations: a recoverable loss of SPC-4 clause 5.13.5.3.2.
    ///
    /// Until an initiator takes it over by REPLACE LOST RESERVATION it performs, of PERSISTENT RESERVE and of commands
    /// that read and write, none. This is how to go on after [`Error::Damaged`] when nobody has a good copy: whoever
    /// was fenced stays fenced. The store is not read.
    ///
    /// # Errors
    ///
    /// [`Error::TargetPorts`] as from [`new`](LogicalUnit::new).
    pub fn lost(target_ports: &[u16], store: S) -> Result<Self, Error<S::Error>> {
        Self::with(target_ports, store, State::default(), true)
    }

    fn with(target_ports: &[u16], store: S, state: State, is_lost: bool) -> Result<Self, Error<S::Error>> {
        let mut ports = target_ports.to_vec();
        ports.sort_unstable();
        ports.dedup();
        if ports.is_empty() || ports.len() > MAX_TARGET_PORTS {
            return Err(Error::TargetPorts(ports.len()));
        }
        Ok(Self {
            target_ports: ports,
            state,
            generation: 0,
            attentions: UnitAttentions::default(),
            is_lost,
            is_stale: is_lost,
            store,
            save_error: None,
        })
    }

    /// Runs a PERSISTENT RESERVE IN or OUT that comes from `nexus`.
    ///
    /// `parameters` are the bytes that came with an OUT: as many as its PARAMETER LIST LENGTH says; what is behind them
    /// is not looked at, and if some are missing, the list has a wrong length. The data of an IN are written to `data`,
    /// not more than its ALLOCATION LENGTH and not more than there is room for; bytes behind
    /// [`Answer::length`] are not touched. ADDITIONAL LENGTH counts what is cut, too.
    ///
    /// **Unit attention conditions are reported here** as by a device: if one is pending for `nexus`, the command is
    /// not performed and ends with it, unless it ends with RESERVATION CONFLICT, which comes first (SAM-5 clause
    /// 5.3.3). So call neither [`admit`](Self::admit) nor [`take_unit_attention`](Self::take_unit_attention) before.
    ///
    /// With APTPL active, a change is saved before the answer is GOOD. If that fails, the answer is HARDWARE ERROR,
    /// INTERNAL TARGET FAILURE, nothing has changed, and [`take_save_error`](Self::take_save_error) says why; only what
    /// the store keeps is uncertain until the next save succeeds.
    ///
    /// A command that is not PERSISTENT RESERVE ends with 20h/00h, and one through a target port that the unit does not
    /// have with 25h/00h.
    pub fn execute(&mut self, nexus: &Nexus, cdb: &[u8], parameters: &[u8], data: &mut [u8]) -> Answer {
        let decision = self.decide(nexus, cdb, parameters);
        if let Err(Refusal::Conflict) = decision {
            return Answer::conflict();
        }
        if let Some(code) = self.attentions.take(nexus) {
            return Answer::check(code);
        }
        let ended = decision.and_then(|decision| match decision {
            Decision::Report(command) => self.report(command, data).map(Answer::good),
            Decision::Change(change) => self.commit(*change),
        });
        ended.unwrap_or_else(Answer::from)
    }

    /// Whether `nexus` may have this command performed now: the tables of SPC-4 clause 5.13.1, and of SBC-4 clause
    /// 4.17, which has the commands of SBC-3 and newer ones.
    ///
    /// A command that they do not have, and one that is cut, is taken for one that writes: allowed to the holder, and
    /// to who is registered where that is enough. RESERVE and RELEASE, (6) and (10), conflict while anybody is
    /// registered. PERSISTENT RESERVE OUT is judged by its service action alone.
    pub fn allows(&self, nexus: &Nexus, cdb: &[u8]) -> Access {
        access(&self.state, self.is_lost, nexus, cdb)
    }

    /// What a command other than PERSISTENT RESERVE ends with instead of being performed, if it is not to be: first
    /// what [`allows`](Self::allows) says, then a pending unit attention condition, which is thereby reported and
    /// cleared (SAM-5 clauses 5.3.3 and 5.14). `None`: perform it.
    ///
    /// INQUIRY, REPORT LUNS and REQUEST SENSE are never ended by a unit attention condition. A device returns it as the
    /// data of REQUEST SENSE: [`take_unit_attention`](Self::take_unit_attention).
    pub fn admit(&mut self, nexus: &Nexus, cdb: &[u8]) -> Option<Answer> {
        if let Some(refusal) = self.allows(nexus, cdb).refusal() {
            return Some(refusal);
        }
        if !is_reported_by(cdb) {
            return None;
        }
        self.attentions.take(nexus).map(Answer::check)
    }

    /// Takes the oldest unit attention condition that is pending for this nexus.
    ///
    /// It is one of 2Ah/03h RESERVATIONS PREEMPTED (by CLEAR), 2Ah/04h RESERVATIONS RELEASED and 2Ah/05h REGISTRATIONS
    /// PREEMPTED. Each is pending at most once for a nexus.
    pub fn take_unit_attention(&mut self, nexus: &Nexus) -> Option<SenseCode> {
        self.attentions.take(nexus)
    }

    /// Whether nothing has ever been changed, so that a new unit with the same store is the same.
    pub fn is_untouched(&self) -> bool {
        self.generation == 0
            && !self.is_lost
            && !self.is_stale
            && !self.state.aptpl
            && self.state.registrations().is_empty()
            && self.attentions.is_empty()
    }

    /// Why the last save failed that did; for the log.
    pub fn take_save_error(&mut self) -> Option<S::Error> {
        self.save_error.take()
    }

    /// What the command comes to, without a change.
    fn decide(&self, nexus: &Nexus, cdb: &[u8], parameters: &[u8]) -> Result<Decision, Refusal> {
        let check = |code| Err(Refusal::Check(code));
        if !self.target_ports.contains(&nexus.relative_port()) {
            return check(SenseCode::LOGICAL_UNIT_NOT_SUPPORTED);
        }
        let Ok(cdb) = Cdb::new(cdb) else { return check(SenseCode::INVALID_FIELD_IN_CDB) };
        // NACA, bit 2 of CONTROL: there is no auto contingent allegiance here (SAM-5 clause 5.2).
        let is_aca_asked_for = cdb.as_bytes().last().is_some_and(|control| control & 0x04 != 0);
        if let Ok(command) = PersistentReserveIn::try_from(cdb) {
            if is_aca_asked_for || matches!(command.action, InServiceAction::Other(_)) {
                return check(SenseCode::INVALID_FIELD_IN_CDB);
            }
            return if self.is_lost { check(INFORMATION_LOST) } else { Ok(Decision::Report(command)) };
        }
        let Ok(command) = PersistentReserveOut::try_from(cdb) else {
            return check(SenseCode::INVALID_OPCODE);
        };
        if is_aca_asked_for {
            return check(SenseCode::INVALID_FIELD_IN_CDB);
        }
        let length = usize::try_from(command.parameter_list_length).unwrap_or(usize::MAX);
        let request = Request {
            sender: *nexus,
            command,
            // What is missing is for the list to find out: no list is right without its last byte.
            parameters: parameters.get(..length).unwrap_or(&[]),
            target_ports: &self.target_ports,
            is_persistent: self.store.is_persistent(),
            is_lost: self.is_lost,
        };
        perform(&self.state, &request).map(|change| Decision::Change(Box::new(change)))
    }

    fn report(&self, command: PersistentReserveIn, data: &mut [u8]) -> Result<usize, Refusal> {
        let allocation_length = usize::from(command.allocation_length).min(data.len());
        let buffer = data.get_mut(..allocation_length).unwrap_or_default();
        report(command.action, &self.state, self.generation, self.store.is_persistent(), buffer)
    }

    /// Makes a change, all of it or nothing.
    fn commit(&mut self, change: Change) -> Result<Answer, Refusal> {
        let Change { state, generation, attentions, abort } = change;
        let is_kept = self.state.aptpl || state.aptpl;
        if self.is_stale || (is_kept && state != self.state) {
            self.is_stale = true;
            if let Err(error) = self.store.save(&saved::encode(&state)) {
                self.save_error = Some(error);
                return Err(Refusal::Check(SenseCode::INTERNAL_TARGET_FAILURE));
            }
            self.is_stale = false;
        }
        self.state = state;
        self.is_lost = false;
        self.generation = match generation {
            Generation::Kept => self.generation,
            Generation::Incremented => self.generation.wrapping_add(1),
            Generation::Zero => 0,
        };
        for (nexus, code) in attentions {
            self.attentions.establish(&nexus, code);
        }
        Ok(Answer { abort, ..Answer::good(0) })
    }
}

/// What a command comes to.
#[derive(Debug)]
enum Decision {
    Report(PersistentReserveIn),
    Change(Box<Change>),
}
