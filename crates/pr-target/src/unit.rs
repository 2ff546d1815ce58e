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
/// It is a state machine: [`execute`](Self::execute) runs one PERSISTENT RESERVE command from start to end, and
/// [`admit`](Self::admit) must be called before any other command and returns whether it may be performed. To share a
/// unit between threads, put it into a lock, and hold the lock for one call at a time.
///
/// Dropping the unit is a power loss: only the state in the store is left.
#[derive(Clone, Debug)]
pub struct LogicalUnit<S: Store = Volatile> {
    target_ports: Vec<u16>,
    state: State,
    generation: u32,
    attentions: UnitAttentions,
    /// Reservation information was lost (SPC-4 clause 5.13.5.3.2).
    is_lost: bool,
    /// The stored bytes may be out of date.
    is_stale: bool,
    store: S,
    save_error: Option<S::Error>,
}

impl LogicalUnit {
    /// Returns a logical unit without registrations that keeps nothing through a power loss.
    ///
    /// `target_ports` are the RELATIVE TARGET PORT IDENTIFIERs of all its target ports: ALL_TG_PT registers with all of
    /// them, and REGISTER AND MOVE moves to one of them. (SPC-4 does not allow zero, but targets with it exist, so it
    /// is accepted.)
    ///
    /// # Errors
    ///
    /// [`Error::TargetPorts`], if there are none or more than [`MAX_TARGET_PORTS`].
    pub fn new(target_ports: &[u16]) -> Result<Self, Error<Infallible>> {
        Self::open(target_ports, Volatile)
    }
}

impl<S: Store> LogicalUnit<S> {
    /// Returns a logical unit after a power on: with the registrations and the reservation in `store` if they were kept
    /// (APTPL), and with PRGENERATION 0 (SPC-4 clauses 5.13.5.1 and 6.15.2).
    ///
    /// The caller must report the reset (UNIT ATTENTION, 29h/..) to all initiators.
    ///
    /// # Errors
    ///
    /// [`Error::TargetPorts`] as from [`new`](LogicalUnit::new), [`Error::Load`] if the store cannot return its bytes,
    /// [`Error::Damaged`] if they are not a saved state. See [`lost`](Self::lost) for how to continue after the last.
    pub fn open(target_ports: &[u16], mut store: S) -> Result<Self, Error<S::Error>> {
        let state = match store.load().map_err(Error::Load)? {
            Some(bytes) => saved::decode(&bytes).map_err(Error::Damaged)?,
            None => State::default(),
        };
        Self::with(target_ports, store, state, false)
    }

    /// Returns a logical unit that has lost its reservations: a recoverable loss of SPC-4 clause 5.13.5.3.2.
    ///
    /// Until an initiator sends REPLACE LOST RESERVATION, the unit refuses PERSISTENT RESERVE and all commands that
    /// read or write. Use it after [`Error::Damaged`] if there is no good copy of the state: a fenced initiator stays
    /// fenced. The store is not read.
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

    /// Runs a PERSISTENT RESERVE IN or OUT from `nexus`.
    ///
    /// `parameters` are the parameter list of an OUT, as many bytes as its PARAMETER LIST LENGTH announces; further
    /// bytes are ignored, and if some are missing, the answer is PARAMETER LIST LENGTH ERROR. The data of an IN are
    /// written to `data`, at most its ALLOCATION LENGTH and at most the length of `data`; bytes after
    /// [`Answer::length`] are left unchanged. ADDITIONAL LENGTH counts truncated data, too.
    ///
    /// **Unit attention conditions are reported here** as by a device: if one is pending for `nexus`, the command is
    /// not performed and ends with it, unless it ends with RESERVATION CONFLICT, which takes precedence (SAM-5 clause
    /// 5.3.3). So call neither [`admit`](Self::admit) nor [`take_unit_attention`](Self::take_unit_attention) before.
    ///
    /// With APTPL active, a change is saved before the answer is GOOD. If that fails, the answer is HARDWARE ERROR,
    /// INTERNAL TARGET FAILURE, nothing has changed, and [`take_save_error`](Self::take_save_error) returns the reason;
    /// only the content of the store is uncertain until the next save succeeds.
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

    /// Returns whether `nexus` may have this command performed now: the tables of SPC-4 clause 5.13.1, and of SBC-4
    /// clause 4.17, which has the commands of SBC-3 and newer ones.
    ///
    /// A command that is in no table, or is cut, counts as a write: allowed to the holder, and to registrants if the
    /// type allows them to write. RESERVE and RELEASE, (6) and (10), conflict while any nexus is registered. PERSISTENT
    /// RESERVE OUT is judged by its service action alone.
    pub fn allows(&self, nexus: &Nexus, cdb: &[u8]) -> Access {
        access(&self.state, self.is_lost, nexus, cdb)
    }

    /// Returns the answer to a command other than PERSISTENT RESERVE that must not be performed, or `None` if it may
    /// be. The answer is that of [`allows`](Self::allows), or else a pending unit attention condition, which is thereby
    /// reported and cleared (SAM-5 clauses 5.3.3 and 5.14).
    ///
    /// A unit attention condition never ends INQUIRY, REPORT LUNS and REQUEST SENSE. A device returns it as the data of
    /// REQUEST SENSE: see [`take_unit_attention`](Self::take_unit_attention).
    pub fn admit(&mut self, nexus: &Nexus, cdb: &[u8]) -> Option<Answer> {
        if let Some(refusal) = self.allows(nexus, cdb).refusal() {
            return Some(refusal);
        }
        if !is_reported_by(cdb) {
            return None;
        }
        self.attentions.take(nexus).map(Answer::check)
    }

    /// Returns the oldest unit attention condition that is pending for this nexus, and clears it.
    ///
    /// It is one of 2Ah/03h RESERVATIONS PREEMPTED (by CLEAR), 2Ah/04h RESERVATIONS RELEASED and 2Ah/05h REGISTRATIONS
    /// PREEMPTED. Each is pending at most once for a nexus.
    pub fn take_unit_attention(&mut self, nexus: &Nexus) -> Option<SenseCode> {
        self.attentions.take(nexus)
    }

    /// Returns whether nothing was ever changed, so that a new unit with the same store would be equal.
    pub fn is_untouched(&self) -> bool {
        self.generation == 0
            && !self.is_lost
            && !self.is_stale
            && !self.state.aptpl
            && self.state.registrations().is_empty()
            && self.attentions.is_empty()
    }

    /// Returns the error of the last save that failed, for the log, and clears it.
    pub fn take_save_error(&mut self) -> Option<S::Error> {
        self.save_error.take()
    }

    /// Decides the result of a command, without changing the unit.
    fn decide(&self, nexus: &Nexus, cdb: &[u8], parameters: &[u8]) -> Result<Decision, Refusal> {
        let check = |code| Err(Refusal::Check(code));
        if !self.target_ports.contains(&nexus.relative_port()) {
            return check(SenseCode::LOGICAL_UNIT_NOT_SUPPORTED);
        }
        let Ok(cdb) = Cdb::new(cdb) else { return check(SenseCode::INVALID_FIELD_IN_CDB) };
        // NACA, bit 2 of CONTROL: there is no auto contingent allegiance here (SAM-5 clause 5.2).
        let requests_aca = cdb.as_bytes().last().is_some_and(|control| control & 0x04 != 0);
        if let Ok(command) = PersistentReserveIn::try_from(cdb) {
            if requests_aca || matches!(command.action, InServiceAction::Other(_)) {
                return check(SenseCode::INVALID_FIELD_IN_CDB);
            }
            return if self.is_lost { check(INFORMATION_LOST) } else { Ok(Decision::Report(command)) };
        }
        let Ok(command) = PersistentReserveOut::try_from(cdb) else {
            return check(SenseCode::INVALID_OPCODE);
        };
        if requests_aca {
            return check(SenseCode::INVALID_FIELD_IN_CDB);
        }
        let length = usize::try_from(command.parameter_list_length).unwrap_or(usize::MAX);
        let request = Request {
            sender: *nexus,
            command,
            // If bytes are missing, the empty list makes the parser report a wrong length.
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

    /// Applies a change completely, or not at all.
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

/// The action to perform for a command.
#[derive(Debug)]
enum Decision {
    Report(PersistentReserveIn),
    Change(Box<Change>),
}
