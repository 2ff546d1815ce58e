//! PERSISTENT RESERVE OUT: the change of state by each service action (SPC-4 clauses 5.13.7 to 5.13.11).
//!
//! A service action works on a copy, and returns either the whole change or the reason why there is none.

use alloc::vec::Vec;

use scsi_sense::SenseCode;
use scsi_sense::pr::{
    BasicParameters, OutParameters, OutServiceAction, PersistentReserveOut, RegisterAndMoveParameters,
    ReservationKey, ReservationType, Scope, TransportIds,
};

use crate::Nexus;
use crate::answer::{INFORMATION_LOST, Refusal};
use crate::state::{Full, MAX_REGISTRATIONS, RegisteredNexus, State};

/// The effect of a command that ends with GOOD.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) state: State,
    pub(crate) generation: Generation,
    /// The unit attention conditions to establish.
    pub(crate) attentions: Vec<(Nexus, SenseCode)>,
    /// The nexuses whose commands must be aborted.
    pub(crate) abort: Vec<Nexus>,
}

/// The change of PRGENERATION (SPC-4 clauses 6.15.2 and 5.13.11.3 e).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    Kept,
    Incremented,
    Zero,
}

const NO_ROOM: Refusal = Refusal::Check(SenseCode::INSUFFICIENT_REGISTRATION_RESOURCES);

/// A PERSISTENT RESERVE OUT, with the properties of the unit that it depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) sender: Nexus,
    pub(crate) command: PersistentReserveOut,
    /// As many bytes as the command announces.
    pub(crate) parameters: &'a [u8],
    /// All target ports of the unit.
    pub(crate) target_ports: &'a [u16],
    /// Whether APTPL can be set.
    pub(crate) is_persistent: bool,
    /// Whether reservation information was lost (SPC-4 clause 5.13.5.3.2).
    pub(crate) is_lost: bool,
}

/// Performs the request on a copy of `state`.
///
/// If several reasons to refuse apply, the first of these counts: an unknown service action; lost information; a
/// conflict that follows from the sender; a wrong key; a malformed list; everything else. So a conflict takes
/// precedence over errors in the parameter list (SAM-5 clause 5.3.3), and errors in the CDB take precedence over a
/// conflict.
pub(crate) fn perform(state: &State, request: &Request<'_>) -> Result<Change, Refusal> {
    let action = request.command.action;
    if let OutServiceAction::Other(_) = action {
        return Err(Refusal::Check(SenseCode::INVALID_FIELD_IN_CDB));
    }
    if request.is_lost && action != OutServiceAction::ReplaceLostReservation {
        return Err(Refusal::Check(INFORMATION_LOST));
    }
    if !request.is_lost && !is_permitted(state, &request.sender, action) {
        return Err(Refusal::Conflict);
    }
    if !is_key_valid(state, request) {
        return Err(Refusal::Conflict);
    }
    let parameters = OutParameters::parse(action, request.parameters)
        .map_err(|error| Refusal::Check(error.sense_code()))?;
    let mut draft = Draft {
        request,
        change: Change {
            state: state.clone(),
            generation: Generation::Kept,
            attentions: Vec::new(),
            abort: Vec::new(),
        },
    };
    match parameters {
        OutParameters::RegisterAndMove(list) => draft.register_and_move(&list)?,
        OutParameters::Basic(list) => match action {
            OutServiceAction::Register => draft.register(&list, Some(list.reservation_key))?,
            OutServiceAction::RegisterAndIgnoreExistingKey => draft.register(&list, None)?,
            OutServiceAction::Reserve => draft.reserve()?,
            OutServiceAction::Release => draft.release()?,
            OutServiceAction::Clear => draft.clear(),
            OutServiceAction::Preempt => {
                draft.preempt(list.service_action_key)?;
            }
            OutServiceAction::PreemptAndAbort => {
                draft.change.abort = draft.preempt(list.service_action_key)?;
            }
            OutServiceAction::ReplaceLostReservation => draft.replace_lost_reservation(&list)?,
            _ => return Err(Refusal::Check(SenseCode::INVALID_FIELD_IN_CDB)),
        },
    }
    Ok(draft.change)
}

/// Returns whether this nexus may use the service action, regardless of parameters (SPC-4 table 66 and clause 5.13.7).
pub(crate) fn is_permitted(state: &State, sender: &Nexus, action: OutServiceAction) -> bool {
    match action {
        OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey => true,
        OutServiceAction::Reserve => {
            state.is_registered(sender) && (state.reservation().is_none() || state.is_holder(sender))
        }
        // A reservation that all registrants hold cannot be moved (clause 5.13.8).
        OutServiceAction::RegisterAndMove => {
            state.is_registered(sender) && state.reservation().is_none_or(|held| held.holder == Some(*sender))
        }
        _ => state.is_registered(sender),
    }
}

/// Returns false if RESERVATION KEY is wrong and that is a conflict (SPC-4 clause 6.16.3). A list too short for any
/// service action has no wrong key.
fn is_key_valid(state: &State, request: &Request<'_>) -> bool {
    let Some([k0, k1, k2, k3, k4, k5, k6, k7, ..]) = request.parameters.first_chunk::<24>().copied() else {
        return true;
    };
    let key = ReservationKey::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]);
    match request.command.action {
        // The key is ignored, or a wrong one is an error but not a conflict.
        OutServiceAction::RegisterAndIgnoreExistingKey | OutServiceAction::ReplaceLostReservation => true,
        OutServiceAction::Register => key == state.key_of(&request.sender).unwrap_or(ReservationKey::ZERO),
        _ => state.key_of(&request.sender) == Some(key),
    }
}

/// An unfinished change.
struct Draft<'r, 'a> {
    request: &'r Request<'a>,
    change: Change,
}

impl Draft<'_, '_> {
    /// Performs REGISTER, or with `expected: None` REGISTER AND IGNORE EXISTING KEY (SPC-4 clauses 5.13.7 and
    /// 5.13.11.2.3, tables 67 and 68).
    ///
    /// ALL_TG_PT is "as if the same registration request had been received individually through each target port"
    /// (clause 6.16.3): if one of those requests would be refused, this one is.
    fn register(
        &mut self,
        list: &BasicParameters<'_>,
        expected: Option<ReservationKey>,
    ) -> Result<(), Refusal> {
        let key = list.service_action_key;
        let nexuses = self.nexuses_of(&self.request.sender, list.all_target_ports);
        let known: Vec<_> = nexuses.iter().map(|nexus| self.change.state.key_of(nexus)).collect();
        if let Some(expected) = expected {
            if known.iter().any(|known| known.unwrap_or(ReservationKey::ZERO) != expected) {
                return Err(Refusal::Conflict);
            }
        }
        let is_registered = known.iter().any(Option::is_some);
        if key.is_zero() && !is_registered {
            return Ok(());
        }
        if is_registered && list.transport_ids.is_some() {
            return Err(Refusal::Check(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST));
        }
        self.activate_persistence(list.aptpl)?;
        if key.is_zero() {
            self.unregister(|one| nexuses.contains(&one.nexus));
        } else {
            let others = self.others_to_register(list.transport_ids, list.all_target_ports)?;
            for nexus in nexuses.into_iter().chain(others) {
                self.put_registration(&nexus, key)?;
            }
        }
        self.change.generation = Generation::Incremented;
        Ok(())
    }

    /// Returns the I_T nexuses that SPEC_I_PT adds (SPC-4 table 69). None of them may be registered (table 67, note b).
    fn others_to_register(
        &self,
        ids: Option<TransportIds<'_>>,
        all_target_ports: bool,
    ) -> Result<Vec<Nexus>, Refusal> {
        let refusal = Refusal::Check(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST);
        let mut nexuses = Vec::new();
        for id in ids.unwrap_or_default() {
            let nexus = Nexus::new(id, self.request.sender.relative_port()).map_err(|_| refusal)?;
            nexuses.extend(self.nexuses_of(&nexus, all_target_ports));
            // Bounds memory, however long the list is.
            if nexuses.len() > MAX_REGISTRATIONS {
                return Err(NO_ROOM);
            }
        }
        if nexuses.iter().any(|nexus| self.change.state.is_registered(nexus)) {
            return Err(refusal);
        }
        Ok(nexuses)
    }

    /// Returns the nexus, or with ALL_TG_PT the nexuses of its initiator port with all target ports.
    fn nexuses_of(&self, nexus: &Nexus, all_target_ports: bool) -> Vec<Nexus> {
        if all_target_ports {
            self.request.target_ports.iter().map(|port| nexus.at(*port)).collect()
        } else {
            [*nexus].into()
        }
    }

    /// Performs RESERVE (SPC-4 clause 5.13.9). If there is a reservation, the sender is a holder: see [`is_permitted`].
    fn reserve(&mut self) -> Result<(), Refusal> {
        let kind = self.kind()?;
        match self.change.state.reservation() {
            Some(held) if held.kind != kind => Err(Refusal::Conflict),
            Some(_) => Ok(()),
            None => {
                self.change.state.reserve(&self.request.sender, kind);
                Ok(())
            }
        }
    }

    /// Performs RELEASE (SPC-4 clause 5.13.11.2.2).
    fn release(&mut self) -> Result<(), Refusal> {
        let kind = self.kind()?;
        let Some(held) = self.change.state.reservation().copied() else { return Ok(()) };
        if !self.change.state.is_holder(&self.request.sender) {
            return Ok(());
        }
        if held.kind != kind {
            return Err(Refusal::Check(SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION));
        }
        self.change.state.release();
        if kind.is_registrants_only() || kind.is_all_registrants() {
            self.notify_registrants(SenseCode::RESERVATIONS_RELEASED);
        }
        Ok(())
    }

    /// Performs CLEAR (SPC-4 clause 5.13.11.2.7).
    fn clear(&mut self) {
        let removed = self.change.state.unregister(|_| true);
        self.notify(removed.iter().map(|one| one.nexus), SenseCode::RESERVATIONS_PREEMPTED);
        self.change.generation = Generation::Incremented;
    }

    /// Performs PREEMPT (SPC-4 clause 5.13.11.2.4, table 72 and figure 9). Returns the preempted nexuses, including the
    /// sender's, whose registration may stay.
    fn preempt(&mut self, key: ReservationKey) -> Result<Vec<Nexus>, Refusal> {
        let state = &self.change.state;
        let held = state.reservation().copied();
        let is_all_registrants = held.is_some_and(|held| held.kind.is_all_registrants());
        if key.is_zero() && held.is_some() && !is_all_registrants {
            return Err(Refusal::Check(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST));
        }
        let is_preempted = |one: &RegisteredNexus| (key.is_zero() && is_all_registrants) || one.key == key;
        let preempted: Vec<_> =
            state.registrations().iter().filter(|one| is_preempted(one)).map(|one| one.nexus).collect();
        if preempted.is_empty() {
            return Err(Refusal::Conflict);
        }
        // The key of a reservation that all registrants hold is zero, too.
        match held {
            Some(held) if key == state.holders_key() => self.take_reservation(held.kind, is_preempted)?,
            _ => {
                let removed = self.change.state.unregister(is_preempted);
                self.notify(removed.iter().map(|one| one.nexus), SenseCode::REGISTRATIONS_PREEMPTED);
            }
        }
        self.change.generation = Generation::Incremented;
        Ok(preempted)
    }

    /// Gives the reservation to the sender, and removes the registrations of the other preempted nexuses (SPC-4 clause
    /// 5.13.11.2.4.3).
    fn take_reservation(
        &mut self,
        before: ReservationType,
        is_preempted: impl Fn(&RegisteredNexus) -> bool,
    ) -> Result<(), Refusal> {
        let kind = self.kind()?;
        let sender = self.request.sender;
        let removed = self.change.state.unregister(|one| is_preempted(one) && one.nexus != sender);
        self.change.state.reserve(&sender, kind);
        self.notify(removed.iter().map(|one| one.nexus), SenseCode::REGISTRATIONS_PREEMPTED);
        if kind != before {
            self.notify_registrants(SenseCode::RESERVATIONS_RELEASED);
        }
        Ok(())
    }

    /// Performs REGISTER AND MOVE (SPC-4 clause 5.13.8, table 70). If there is a reservation, the sender is its holder:
    /// see [`is_permitted`].
    fn register_and_move(&mut self, list: &RegisterAndMoveParameters<'_>) -> Result<(), Refusal> {
        let in_list = Refusal::Check(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST);
        let Some(held) = self.change.state.reservation().copied() else {
            return Err(Refusal::Check(SenseCode::INVALID_FIELD_IN_CDB));
        };
        let destination = Nexus::new(list.transport_id, list.relative_port).map_err(|_| in_list)?;
        let sender = self.request.sender;
        if list.service_action_key.is_zero()
            || destination.initiator() == sender.initiator()
            || !self.request.target_ports.contains(&list.relative_port)
        {
            return Err(in_list);
        }
        self.activate_persistence(list.aptpl)?;
        self.put_registration(&destination, list.service_action_key)?;
        self.change.state.reserve(&destination, held.kind);
        if list.unregister {
            self.unregister(|one| one.nexus == sender);
        }
        self.change.generation = Generation::Incremented;
        Ok(())
    }

    /// Performs REPLACE LOST RESERVATION (SPC-4 clause 5.13.11.3).
    fn replace_lost_reservation(&mut self, list: &BasicParameters<'_>) -> Result<(), Refusal> {
        if !self.request.is_lost {
            return Err(Refusal::Check(SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION));
        }
        if !list.reservation_key.is_zero() || list.service_action_key.is_zero() {
            return Err(Refusal::Check(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST));
        }
        let kind = self.kind()?;
        self.change.state = State::default();
        self.activate_persistence(list.aptpl)?;
        self.put_registration(&self.request.sender, list.service_action_key)?;
        self.change.state.reserve(&self.request.sender, kind);
        self.change.generation = Generation::Zero;
        Ok(())
    }

    /// Returns the TYPE of the CDB, for service actions that use it, if TYPE and SCOPE are valid.
    fn kind(&self) -> Result<ReservationType, Refusal> {
        let PersistentReserveOut { scope, kind, .. } = self.request.command;
        if scope == Scope::LogicalUnit && kind.name().is_some() {
            Ok(kind)
        } else {
            Err(Refusal::Check(SenseCode::INVALID_FIELD_IN_CDB))
        }
    }

    /// Processes the APTPL bit (SPC-4 clauses 5.13.5.1 and 6.16.3).
    fn activate_persistence(&mut self, aptpl: bool) -> Result<(), Refusal> {
        if aptpl && !self.request.is_persistent {
            return Err(Refusal::Check(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST));
        }
        self.change.state.aptpl = aptpl;
        Ok(())
    }

    fn put_registration(&mut self, nexus: &Nexus, key: ReservationKey) -> Result<(), Refusal> {
        self.change.state.register(nexus, key).map_err(|_: Full| NO_ROOM)
    }

    /// Removes registrations. If that ends a registrants only reservation, establishes a unit attention condition for
    /// the registrants (SPC-4 clause 5.13.11.2.3).
    fn unregister(&mut self, is_removed: impl FnMut(&RegisteredNexus) -> bool) {
        let held = self.change.state.reservation().copied();
        self.change.state.unregister(is_removed);
        let is_released = self.change.state.reservation().is_none();
        if held.is_some_and(|held| held.kind.is_registrants_only()) && is_released {
            self.notify_registrants(SenseCode::RESERVATIONS_RELEASED);
        }
    }

    /// Establishes a unit attention condition for all registered nexuses but the sender.
    fn notify_registrants(&mut self, code: SenseCode) {
        let registered: Vec<_> = self.change.state.registrations().iter().map(|one| one.nexus).collect();
        self.notify(registered, code);
    }

    /// Establishes a unit attention condition for these nexuses, but not for the sender.
    fn notify(&mut self, nexuses: impl IntoIterator<Item = Nexus>, code: SenseCode) {
        let sender = self.request.sender;
        let others = nexuses.into_iter().filter(|nexus| *nexus != sender);
        self.change.attentions.extend(others.map(|nexus| (nexus, code)));
    }
}
