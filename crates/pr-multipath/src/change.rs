//! Changes: PERSISTENT RESERVE OUT on a map.
//!
//! The library makes a change on all paths and has multipathd keep it. But it was written for a command line and for one key
//! in a configuration file: it refuses commands that a disk would answer, takes back changes that the caller did not make,
//! and in some cases reports success without it. This file works around each of these cases; [`mpathpersist::behaviour`]
//! lists them.

use mpathpersist::{Error, Failure, Generation, RegisteredKey};
use pr_backend::with_sources;
use scsi_sense::{
    Cdb, SenseCode, SenseKey, Status,
    pr::{BasicParameters, OutParameters, OutServiceAction, PersistentReserveOut, ReservationKey},
};

use crate::{
    change_error::ChangeError,
    map_state::MapState,
    nexus::{self, Answer, NO_KEY, Nexus as _},
    worker_log::worker_log,
};

/// Number of TransportIDs that multipath-tools accepts in one command (`MPATH_MX_TIDS`).
const TRANSPORT_IDS_MAX: usize = 32;

/// Changes one map.
pub(crate) struct Change<'a> {
    state: MapState<'a>,
    /// The library was called, or the change was sent to a path: the disk may have made it.
    has_begun: bool,
}

impl<'a> Change<'a> {
    pub(crate) fn new(state: MapState<'a>) -> Self {
        Self { state, has_begun: false }
    }

    /// Makes the change that a guest asked for.
    pub(crate) fn make(mut self, cdb: &[u8], parameters: &[u8]) -> Result<(), ChangeError> {
        let made = self.start(cdb, parameters);
        made.map_err(|error| if self.has_begun { error.after_begin() } else { error })
    }

    fn start(&mut self, cdb: &[u8], parameters: &[u8]) -> Result<(), ChangeError> {
        let (command, list) = parse(cdb, parameters)?;
        let made = self.dispatch(command, &list, parameters);
        if matches!(made, Err(ChangeError::Conflict)) && list.reservation_key != NO_KEY {
            let recorded = self.state.recorded_key().unwrap_or_default();
            self.state.report_stale_record(recorded.filter(|recorded| recorded.key == list.reservation_key));
        }
        made
    }

    /// Makes a change by the function for its service action. `list` is the parsed form of `parameters`.
    fn dispatch(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        parameters: &[u8],
    ) -> Result<(), ChangeError> {
        match command.action {
            OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey => {
                self.register(command, list, parameters)
            }
            OutServiceAction::Release => self.release(command, list),
            OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => self.preempt(command, list),
            _ => self.make_by_library(command, list),
        }
    }

    /// Makes a REGISTER or REGISTER AND IGNORE EXISTING KEY. `list` is the parsed form of `parameters`.
    fn register(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        parameters: &[u8],
    ) -> Result<(), ChangeError> {
        if command.action == OutServiceAction::Register && list.reservation_key == NO_KEY {
            // A registered host must send its current key. If multipathd has registered a path again from its record, the
            // other paths show that the guest is not registered; from 0.13 on the library takes the same view. Asked before
            // the library is called: what its failure leaves behind would be undone by unregistering this host.
            if !self.state.has_key(NO_KEY)? {
                return Err(ChangeError::Conflict);
            }
            // A disk answers GOOD and changes nothing; until 0.12 the library fails with a syntax error.
            if list.service_action_key == NO_KEY && list.transport_ids.is_none() {
                return Ok(());
            }
        }
        let recorded = self.state.recorded_key()?;
        if command.action == OutServiceAction::Register && list.reservation_key == NO_KEY {
            self.state.report_stale_record(recorded);
        }
        if let Some(ids) = list.transport_ids {
            if ids.iter().count() > TRANSPORT_IDS_MAX {
                return Err(ChangeError::Rejected(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST));
            }
            // SPEC_I_PT requires an unregistered nexus (key zero). With the registered key it is INVALID FIELD IN PARAMETER
            // LIST, with any other RESERVATION CONFLICT.
            if list.reservation_key != NO_KEY {
                return Err(if self.state.has_key(list.reservation_key)? {
                    ChangeError::Rejected(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST)
                } else {
                    ChangeError::Conflict
                });
            }
        }
        if list.service_action_key == NO_KEY {
            self.release_before_unregistering(command, list, recorded)?;
        }
        let before = self.replaced_key(command, list, recorded)?;
        let on_paths = BasicParameters { transport_ids: None, ..*list };
        let made = match self.make_by_library(command, &on_paths) {
            Err(ChangeError::Failed(Failure::SyntaxError)) if recorded.is_some() => {
                self.register_first_key(command, &on_paths, ChangeError::Failed(Failure::SyntaxError))
            }
            // The library met a conflict on some path and has unregistered the others.
            Err(ChangeError::Conflict) if self.state.generation() < Generation::From13 => {
                self.register_first_key(command, &on_paths, ChangeError::Conflict)
            }
            other => other,
        };
        let made = made.and_then(|()| self.confirm_record(&on_paths, recorded));
        let made = match list.transport_ids {
            Some(_) => {
                made.and_then(|()| nexus::register_transport_ids(&self.state.nexuses()?, list, parameters))
            }
            None => made,
        };
        if let Err(error) = &made {
            if error.is_uncertain() || list.transport_ids.is_some() {
                self.roll_back_paths(list, before);
            }
            self.state.restore_record(recorded);
        }
        made
    }

    /// Releases this host's reservation before `command` unregisters the path that may hold it. Until 0.12, if that path is
    /// away, the library leaves reservation and registration as they are and reports success. REGISTER AND IGNORE EXISTING
    /// KEY does not state the key of this host, which is the `recorded` one if a path is registered with it.
    fn release_before_unregistering(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        recorded: Option<RegisteredKey>,
    ) -> Result<(), ChangeError> {
        if self.state.generation() >= Generation::From13 {
            return Ok(());
        }
        let is_key_stated = command.action == OutServiceAction::Register;
        let key =
            if is_key_stated { Some(list.reservation_key) } else { recorded.map(|recorded| recorded.key) };
        match (key, self.state.reservation()?) {
            (Some(key), Some(held))
                if held.key == key
                    && !held.kind.is_all_registrants()
                    && (is_key_stated || self.state.has_key(key)?) =>
            {
                let action = OutServiceAction::Release;
                let release = PersistentReserveOut { action, scope: held.scope, kind: held.kind, ..command };
                self.release_by_paths(
                    release,
                    &BasicParameters { reservation_key: key, ..BasicParameters::default() },
                )
            }
            _ => Ok(()),
        }
    }

    /// Returns the key that a registration replaces, which is restored if the registration fails.
    fn replaced_key(
        &self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        recorded: Option<RegisteredKey>,
    ) -> Result<ReservationKey, ChangeError> {
        match (command.action, recorded) {
            (OutServiceAction::Register, _) => Ok(list.reservation_key),
            // Only if it is still registered: a fenced host must not get its key back by a command that failed.
            (_, Some(RegisteredKey { key, .. }))
                if list.service_action_key != NO_KEY && self.state.has_key(key)? =>
            {
                Ok(key)
            }
            _ => Ok(NO_KEY),
        }
    }

    /// Registers the first key of this host after the library refused to. The library accepts the key of its configuration,
    /// or a key that replaces the one on multipathd's record, which may still be there after another host has preempted it.
    ///
    /// A REGISTER that replaces a key fails with `error`.
    fn register_first_key(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        error: ChangeError,
    ) -> Result<(), ChangeError> {
        if command.action != OutServiceAction::Register || list.reservation_key != NO_KEY {
            return Err(error);
        }
        let action = OutServiceAction::RegisterAndIgnoreExistingKey;
        self.make_by_library(PersistentReserveOut { action, ..command }, list)
    }

    /// Makes sure, after a REGISTER that succeeded, that multipathd has the key on record and will register it with paths
    /// that come back. Some versions do not see to that. `before` is the record before the REGISTER.
    fn confirm_record(
        &mut self,
        list: &BasicParameters<'_>,
        before: Option<RegisteredKey>,
    ) -> Result<(), ChangeError> {
        if list.service_action_key == NO_KEY {
            return Ok(());
        }
        let expected = RegisteredKey { key: list.service_action_key, aptpl: list.aptpl };
        match self.state.recorded_key()? {
            // Until 0.12 the library does not update the record of a key that is on record already.
            Some(recorded)
                if recorded.key == expected.key
                    && recorded != expected
                    && before == Some(recorded)
                    && self.state.generation() < Generation::From13 =>
            {
                self.state.set_recorded_key(Some(expected))
            }
            Some(recorded) if recorded.key == expected.key => Ok(()),
            _ => Err(ChangeError::Failed(Failure::SyntaxError)),
        }
    }

    /// Registers `before` again on all paths after a REGISTER that failed. Paths that the REGISTER did not reach refuse this,
    /// because their key is another.
    fn roll_back_paths(&self, list: &BasicParameters<'_>, before: ReservationKey) {
        let key = list.service_action_key;
        if key == NO_KEY || key == before {
            return;
        }
        let back = BasicParameters {
            reservation_key: key,
            service_action_key: before,
            transport_ids: None,
            ..*list
        };
        for nexus in self.state.nexuses_despite_shortage() {
            nexus.change(nexus::REGISTER, &back.to_bytes());
        }
    }

    /// Makes a RELEASE. Until 0.12 by the paths: the library clears all registrations when it finds that the reservation is
    /// still there, even if another host holds it.
    fn release(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        if self.state.generation() < Generation::From13 {
            return self.release_by_paths(command, list);
        }
        match self.call(command, list)? {
            // A disk answers GOOD to a registered nexus that does not hold the reservation, and INVALID RELEASE to the holder
            // if scope or type differ; it changes nothing in both cases. LIO has another answer for the latter.
            Err(Error::NotReservationHolder(_) | Error::InvalidRelease(_)) => {
                self.release_by_paths(command, list)
            }
            Err(error) => Err(self.change_error(command, list, error)),
            Ok(()) => self.confirm_release(command, list),
        }
    }

    /// Sends a RELEASE by all paths: the path that holds the reservation releases it, on the others nothing changes.
    fn release_by_paths(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        if self.state.is_conflict(list.reservation_key)? {
            return Err(ChangeError::Conflict);
        }
        let parameters = list.to_bytes();
        let (mut is_good, mut is_conflict) = (false, false);
        for nexus in self.state.nexuses()? {
            self.has_begun = true;
            match nexus.change(command, &parameters) {
                Answer::Good => is_good = true,
                Answer::Status(Status::RESERVATION_CONFLICT) => is_conflict = true,
                Answer::Sense(code) if code.key == SenseKey::ILLEGAL_REQUEST => {
                    return Err(ChangeError::Rejected(code));
                }
                // The path is away, or standing by.
                Answer::Sense(_) | Answer::Status(_) | Answer::Missing => {}
            }
        }
        if is_good {
            self.confirm_release(command, list)?;
            // LIO answers RESERVATION CONFLICT to the holder if scope or type differ from the reservation's.
            if is_conflict && self.state.reservation()?.is_some_and(|held| held.key == list.reservation_key) {
                return Err(ChangeError::Conflict);
            }
            Ok(())
        } else if is_conflict || self.state.lacks_key(list.reservation_key) {
            Err(ChangeError::Conflict)
        } else {
            Err(ChangeError::Failed(Failure::Other))
        }
    }

    /// Checks, after a RELEASE that succeeded, that the reservation is gone: a path that is away, or was taken out of the
    /// map, may still hold it.
    fn confirm_release(
        &self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        let released = (list.reservation_key, command.scope, command.kind);
        match self.state.reservation()? {
            Some(held) if (held.key, held.scope, held.kind) == released => {
                worker_log!(
                    "{}: not released: a path that is away holds the reservation, or another host with the same key",
                    self.state.name.escape_ascii()
                );
                Err(ChangeError::Failed(Failure::Other))
            }
            _ => Ok(()),
        }
    }

    /// Makes a PREEMPT or PREEMPT AND ABORT. A PREEMPT of the own key unregisters all paths but one; the others are registered
    /// again. From 0.13 on the library does that, but not for a reservation of all registrants.
    fn preempt(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        let made = self.make_by_library(command, list);
        let key = list.reservation_key;
        let is_own = list.service_action_key == key || list.service_action_key == NO_KEY;
        match made {
            Ok(()) if !is_own => Ok(()),
            // The disk may have executed a command that failed.
            Ok(()) | Err(ChangeError::Failed(_) | ChangeError::Shortage(_)) if is_own => {
                let completed = nexus::complete_registration(&self.state.nexuses()?, key);
                made.and(completed)
            }
            other => other,
        }
    }

    /// Makes a change by the library, and checks that the disk has it.
    fn make_by_library(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        // After a command that unregisters its sender, it could not be told whether the disk has executed it.
        if removes_own_key(command.action, list) && self.state.lacks_key(list.reservation_key) {
            return Err(ChangeError::Conflict);
        }
        let made = self.call(command, list)?;
        match made {
            Ok(()) => self.verify(command, list),
            Err(Error::Library(Failure::IllegalRequest)) if !is_registration(command.action) => {
                self.send_by_one_path(command, list)
            }
            Err(error) => Err(self.change_error(command, list, error)),
        }
    }

    /// Calls the library.
    ///
    /// The library accepts only the recorded key, and refuses any other without asking a path. A guest with another key, for
    /// example after it was preempted, must get RESERVATION CONFLICT. But if this host is registered with that key, the
    /// record was left by a change that was cut short: the key is recorded, and the call repeated.
    fn call(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<Result<(), Error>, ChangeError> {
        let PersistentReserveOut { action, scope, kind, .. } = command;
        self.has_begun = true;
        let made = self.state.library.reserve_out(self.state.map, action, scope, kind, list);
        // These may register a nexus that has no key yet.
        let may_be_first = action == OutServiceAction::RegisterAndIgnoreExistingKey
            || action == OutServiceAction::Register && list.reservation_key == NO_KEY;
        if may_be_first || !matches!(made, Err(Error::Library(Failure::SyntaxError))) {
            return Ok(made);
        }
        let recorded = self.state.recorded_key()?;
        if recorded.is_some_and(|recorded| recorded.key == list.reservation_key) {
            return Ok(made);
        }
        if list.reservation_key == NO_KEY || !self.state.has_key(list.reservation_key)? {
            return Err(ChangeError::Conflict);
        }
        self.state.record(list.reservation_key)?;
        let made = self.state.library.reserve_out(self.state.map, action, scope, kind, list);
        if matches!(made, Err(Error::Library(Failure::SyntaxError))) {
            self.state.restore_record(recorded);
        }
        Ok(made)
    }

    /// Sends a change by one path after the library reported ILLEGAL REQUEST: the library returns the sense key alone, the
    /// path the whole sense code.
    fn send_by_one_path(
        &self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        let parameters = list.to_bytes();
        for nexus in self.state.nexuses()? {
            match nexus.change(command, &parameters) {
                Answer::Good => return Ok(()),
                Answer::Status(Status::RESERVATION_CONFLICT) => return Err(ChangeError::Conflict),
                Answer::Sense(code) if code.key == SenseKey::ILLEGAL_REQUEST => {
                    return Err(ChangeError::Rejected(code));
                }
                // The path is away, or standing by.
                Answer::Sense(_) | Answer::Status(_) | Answer::Missing => {}
            }
        }
        Err(ChangeError::Failed(Failure::IllegalRequest))
    }

    /// Checks that the disk has a change that the library reported as made. In descriptor-format sense data the library reads
    /// the additional sense code as the sense key, and so takes 01h there for success.
    fn verify(&self, command: PersistentReserveOut, list: &BasicParameters<'_>) -> Result<(), ChangeError> {
        let (key, other) = (list.reservation_key, list.service_action_key);
        let is_made = match command.action {
            OutServiceAction::Reserve => self.state.holds(key, command)?,
            OutServiceAction::Clear => !self.state.keys()?.contains(key),
            OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort if other == NO_KEY => {
                self.state.holds(key, command)?
            }
            OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort if other == key => {
                self.has_preempted_own_key(command, key)?
            }
            OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => {
                !self.state.keys()?.contains(other)
            }
            OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey
                if other != NO_KEY =>
            {
                self.state.are_registered(list)?
            }
            OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey => {
                self.state.are_unregistered()?
            }
            // `release` checks it, and `parse` rejects all others.
            _ => true,
        };
        if is_made {
            return Ok(());
        }
        worker_log!(
            "{}: {}: the library reported success, but the disk does not have the change",
            self.state.name.escape_ascii(),
            command.action
        );
        Err(ChangeError::Failed(Failure::Other))
    }

    /// Returns whether the disk may have executed a PREEMPT of this host's own key: it leaves no registration of another host
    /// with this key, and a reservation of this key has the scope and type of the command.
    fn has_preempted_own_key(
        &self,
        command: PersistentReserveOut,
        key: ReservationKey,
    ) -> Result<bool, ChangeError> {
        let is_of_other_type = self
            .state
            .reservation()?
            .is_some_and(|held| held.key == key && (held.scope, held.kind) != (command.scope, command.kind));
        let registered = self.state.keys()?.count(key);
        Ok(!is_of_other_type && registered <= nexus::count_with_key(&self.state.nexuses()?, key))
    }

    /// Converts an error of the library.
    fn change_error(
        &self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        error: Error,
    ) -> ChangeError {
        let failure = match error {
            Error::Library(Failure::ReservationConflict) => return ChangeError::Conflict,
            Error::Library(failure) => failure,
            error => {
                worker_log!("{}: {}", self.state.name.escape_ascii(), with_sources(&error));
                Failure::Other
            }
        };
        // LIO does not answer RESERVATION CONFLICT to an unregistered nexus if there is no reservation.
        if !is_registration(command.action)
            && !removes_own_key(command.action, list)
            && failure != Failure::SyntaxError
            && self.state.lacks_key(list.reservation_key)
        {
            return ChangeError::Conflict;
        }
        ChangeError::Failed(failure)
    }
}

/// Returns whether the disk may unregister the sender of this change. If the answer is lost, it does not matter for the
/// cause that the sender is no longer registered.
fn removes_own_key(action: OutServiceAction, list: &BasicParameters<'_>) -> bool {
    match action {
        OutServiceAction::Clear => true,
        OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => {
            list.service_action_key == list.reservation_key
        }
        _ => false,
    }
}

fn is_registration(action: OutServiceAction) -> bool {
    matches!(action, OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey)
}

/// Parses a change, and rejects the service actions that cannot be made on a map.
fn parse<'a>(
    cdb: &[u8],
    parameters: &'a [u8],
) -> Result<(PersistentReserveOut, BasicParameters<'a>), ChangeError> {
    let in_cdb = || ChangeError::Rejected(SenseCode::INVALID_FIELD_IN_CDB);
    let command = Cdb::new(cdb).and_then(PersistentReserveOut::try_from).map_err(|_| in_cdb())?;
    if matches!(
        command.action,
        OutServiceAction::RegisterAndMove
            | OutServiceAction::ReplaceLostReservation
            | OutServiceAction::Other(_)
    ) {
        return Err(in_cdb());
    }
    match OutParameters::parse(command.action, parameters) {
        Ok(OutParameters::Basic(list)) => Ok((command, list)),
        Ok(OutParameters::RegisterAndMove(_)) => Err(in_cdb()),
        Err(error) => Err(ChangeError::Rejected(error.sense_code())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(cdb: [u8; 10], parameters: &[u8]) -> Option<SenseCode> {
        match parse(&cdb, parameters) {
            Err(ChangeError::Rejected(code)) => Some(code),
            Ok(_) => None,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn changes_impossible_on_maps_are_rejected() {
        let out = |action, scope_type, length: u8| [0x5f, action, scope_type, 0, 0, 0, 0, 0, length, 0];
        let ids = |flags: u8, rest: &[u8]| {
            let mut list = [0; 24].to_vec();
            list[20] = flags;
            [&list[..], rest].concat()
        };
        let (field, list) = (SenseCode::INVALID_FIELD_IN_CDB, SenseCode::INVALID_FIELD_IN_PARAMETER_LIST);
        for (cdb, parameters, expected) in [
            (out(0, 0, 24), ids(0, &[]), None),
            (out(6, 0xff, 24), ids(0, &[]), None),
            (out(1, 5, 24), ids(0, &[]), None),
            (out(7, 0, 24), ids(0, &[]), Some(field)),
            (out(8, 5, 24), ids(0, &[]), Some(field)),
            (out(0x1f, 0, 24), ids(0, &[]), Some(field)),
            // The disk judges scope and type.
            (out(1, 0, 24), ids(0, &[]), None),
            (out(1, 0x15, 24), ids(0, &[]), None),
            (out(4, 0, 24), ids(0, &[]), None),
            (out(5, 0xff, 24), ids(0, &[]), None),
            (out(0, 0, 25), ids(0, &[0]), Some(SenseCode::PARAMETER_LIST_LENGTH_ERROR)),
            (out(6, 0, 28), ids(8, &[0; 4]), Some(list)),
            (out(0, 0, 30), ids(8, &[0, 0, 0, 4, 6, 0]), Some(list)),
        ] {
            assert_eq!(rejected(cdb, &parameters), expected, "{cdb:02x?} {parameters:02x?}");
        }
    }
}
