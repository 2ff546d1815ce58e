//! Changes: PERSISTENT RESERVE OUT on a map.
//!
//! The library makes a change on all paths and has multipathd keep it. But it was made for a command line and for one key
//! in a configuration file: it refuses what a disk would answer, takes back what is not the caller's, and in some cases
//! says that all is well when it is not. What is done about that is here, case by case; the facts are those of
//! [`mpathpersist::behaviour`].

use std::{io, os::fd::BorrowedFd, time::Duration};

use dm_ioctl::{Control, DeviceNumber};
use mpathpersist::{Error, Failure, Generation, Library, RegisteredKey};
use scsi_sense::{
    Cdb, SenseCode, SenseKey, Status,
    pr::{
        BasicParameters, InServiceAction, Keys, OutParameters, OutServiceAction, PersistentReserveOut,
        Reservation, ReservationData, ReservationKey, ReservationType, Scope,
    },
};

use super::path::{self, Answered, Path};
use crate::backend::scsi::Scsi;

/// How long multipathd may take for an answer.
pub(super) const MULTIPATHD: Duration = Duration::from_secs(10);

/// As many as multipath-tools know of.
const TRANSPORT_IDS_MAX: usize = 32;

const NO_KEY: ReservationKey = ReservationKey(0);

/// Why a change was not made.
#[derive(Debug)]
pub(super) enum Unmade {
    /// It cannot be made on a map, or by nobody.
    Rejected(SenseCode),
    /// RESERVATION CONFLICT.
    Conflict,
    Failed(Failure),
}

/// A map that is to be changed.
pub(super) struct Change<'a> {
    pub(super) library: &'a mut Library,
    pub(super) control: &'a Control,
    pub(super) map: BorrowedFd<'a>,
    pub(super) number: DeviceNumber,
    /// As device-mapper and multipathd have it.
    pub(super) name: &'a [u8],
    /// For single paths.
    pub(super) scsi: &'a Scsi,
}

impl Change<'_> {
    /// Makes the change that a guest asks for.
    pub(super) fn make(mut self, cdb: &[u8], parameters: &[u8]) -> Result<(), Unmade> {
        let (command, list) = parse(cdb, parameters)?;
        match command.action {
            OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey => {
                self.register(command, &list, parameters)
            }
            OutServiceAction::Release => self.release(command, &list),
            OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => self.preempt(command, &list),
            _ => self.by_library(command, &list),
        }
    }

    /// REGISTER, REGISTER AND IGNORE EXISTING KEY. `parameters` are those that were sent.
    fn register(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        parameters: &[u8],
    ) -> Result<(), Unmade> {
        let recorded = self.recorded_key()?;
        if let Some(ids) = list.transport_ids {
            if ids.iter().count() > TRANSPORT_IDS_MAX {
                return Err(Unmade::Rejected(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST));
            }
            // Who is registered may not register others, and who says so without being it meets a conflict.
            if list.reservation_key != NO_KEY {
                let is_registered = recorded.is_some_and(|recorded| recorded.key == list.reservation_key);
                return Err(if is_registered {
                    Unmade::Rejected(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST)
                } else {
                    Unmade::Conflict
                });
            }
        }
        if list.service_action_key == NO_KEY {
            self.release_before(command, list)?;
        }
        let on_paths = BasicParameters { transport_ids: None, ..*list };
        let made = match self.by_library(command, &on_paths) {
            Err(Unmade::Failed(Failure::SyntaxError)) => self.register_another(command, &on_paths, recorded),
            other => other,
        };
        let made = made.and_then(|()| self.confirm(&on_paths, recorded));
        let made = match list.transport_ids {
            Some(_) => made.and_then(|()| self.register_others(list, parameters)),
            None => made,
        };
        if let Err(unmade) = &made {
            if matches!(unmade, Unmade::Failed(_)) || list.transport_ids.is_some() {
                let before = match command.action {
                    OutServiceAction::Register => list.reservation_key,
                    _ => recorded.map_or(NO_KEY, |recorded| recorded.key),
                };
                self.take_back(list, before);
            }
            self.restore(recorded);
        }
        made
    }

    /// Before unregistering a path that may hold the reservation: until 0.12 the library leaves both as they are, if that
    /// path is away, and says that all is well.
    fn release_before(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), Unmade> {
        if self.library.version().generation >= Generation::From13
            || command.action != OutServiceAction::Register
        {
            return Ok(());
        }
        match self.reservation()? {
            Some(held) if held.key == list.reservation_key && !held.kind.is_all_registrants() => {
                let action = OutServiceAction::Release;
                let release = PersistentReserveOut { action, scope: held.scope, kind: held.kind, ..command };
                let key =
                    BasicParameters { reservation_key: list.reservation_key, ..BasicParameters::default() };
                self.release_by_paths(release, &key)
            }
            _ => Ok(()),
        }
    }

    /// After a REGISTER that the library refused: it takes no key but the one in its configuration, or one that replaces
    /// the key in multipathd's record.
    fn register_another(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        recorded: Option<RegisteredKey>,
    ) -> Result<(), Unmade> {
        let refused = Err(Unmade::Failed(Failure::SyntaxError));
        if command.action != OutServiceAction::Register {
            return refused;
        }
        if list.reservation_key != NO_KEY {
            return if self.is_conflict(list.reservation_key)? { Err(Unmade::Conflict) } else { refused };
        }
        match recorded {
            None => refused,
            // Who is registered must say with which key.
            Some(recorded) if self.keys()?.contains(&recorded.key) => Err(Unmade::Conflict),
            // Another host has preempted the recorded key, so that nothing is registered that this could replace.
            Some(_) => {
                let action = OutServiceAction::RegisterAndIgnoreExistingKey;
                self.by_library(PersistentReserveOut { action, ..command }, list)
            }
        }
    }

    /// Whether a path would have met a conflict with this key: it is not registered at all, or another one is, by this
    /// host.
    fn is_conflict(&self, key: ReservationKey) -> Result<bool, Unmade> {
        let recorded = self.recorded_key()?.map(|recorded| recorded.key);
        if recorded == Some(key) {
            return Ok(false);
        }
        let keys = self.keys()?;
        // The record may be that of a change which was cut short. Then the guest's key may be the right one.
        Ok(!keys.contains(&key) || recorded.is_some_and(|recorded| keys.contains(&recorded)))
    }

    /// After a REGISTER that succeeded: makes sure that multipathd will register the key with paths that come back. Some
    /// versions do not see to that.
    fn confirm(&mut self, list: &BasicParameters<'_>, before: Option<RegisteredKey>) -> Result<(), Unmade> {
        if list.service_action_key == NO_KEY {
            return Ok(());
        }
        let wanted = RegisteredKey { key: list.service_action_key, aptpl: list.aptpl };
        match self.recorded_key()? {
            // Until 0.12 a key that is on record already is not written anew.
            Some(recorded)
                if recorded.key == wanted.key
                    && recorded != wanted
                    && before == Some(recorded)
                    && self.library.version().generation < Generation::From13 =>
            {
                self.library
                    .set_registered_key(self.name, Some(wanted), MULTIPATHD)
                    .map_err(|error| self.multipathd_failed(&error))
            }
            Some(recorded) if recorded.key == wanted.key => Ok(()),
            _ => Err(Unmade::Failed(Failure::SyntaxError)),
        }
    }

    /// Has all paths register what they had before a REGISTER that failed: those that it did not reach do not take this.
    fn take_back(&self, list: &BasicParameters<'_>, before: ReservationKey) {
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
        for path in self.paths().unwrap_or_default().into_iter().filter_map(Path::open) {
            path.change(self.scsi, REGISTER, &back.to_bytes());
        }
    }

    /// Has one path register the TransportIDs of a REGISTER that has been made, without them, on all paths.
    ///
    /// The library cannot: its threads share the parameter list, and the first to be started takes SPEC_I_PT out of it
    /// for all. The command then succeeds, and nobody else is registered. A disk takes TransportIDs only from who is
    /// not registered yet, so the path is unregistered first; nothing is lost by that, as a moment ago it was not.
    fn register_others(&self, list: &BasicParameters<'_>, parameters: &[u8]) -> Result<(), Unmade> {
        let key = list.service_action_key;
        let plain = BasicParameters { transport_ids: None, ..*list };
        let undo = BasicParameters { reservation_key: key, service_action_key: NO_KEY, ..plain }.to_bytes();
        let redo = plain.to_bytes();
        for path in self.paths()?.into_iter().filter_map(Path::open) {
            match path.change(self.scsi, REGISTER, &undo) {
                Answered::Good => {}
                // It may have been done all the same.
                Answered::Nothing if path.change(self.scsi, REGISTER, &redo) == Answered::Nothing => {
                    return Err(Unmade::Failed(Failure::Other));
                }
                _ => continue,
            }
            let answered = path.change(self.scsi, REGISTER, parameters);
            if answered == Answered::Good {
                return Ok(());
            }
            let again = path.change(self.scsi, REGISTER, &redo);
            return Err(match answered {
                // The path is registered, so the command without an answer was executed.
                Answered::Nothing if again == Answered::Status(Status::RESERVATION_CONFLICT) => return Ok(()),
                Answered::Status(Status::RESERVATION_CONFLICT) => Unmade::Conflict,
                Answered::Sense(code) => Unmade::Rejected(code),
                _ => Unmade::Failed(Failure::Other),
            });
        }
        Err(Unmade::Failed(Failure::Other))
    }

    /// RELEASE. Until 0.12 the library clears all registrations when it finds that the reservation is still there, also if
    /// it is another's.
    fn release(&mut self, command: PersistentReserveOut, list: &BasicParameters<'_>) -> Result<(), Unmade> {
        if self.library.version().generation < Generation::From13 {
            return self.release_by_paths(command, list);
        }
        match self.library.reserve_out(self.map, command.action, command.scope, command.kind, list) {
            // A disk says GOOD to who is registered, and changes nothing.
            Err(Error::NotReservationHolder(_)) => self.release_by_paths(command, list),
            Err(error) => Err(self.unmade(command, list, error)),
            Ok(()) => self.confirm_release(command, list),
        }
    }

    /// Sends a RELEASE by all paths: whichever holds the reservation releases it, and to the others it means nothing.
    fn release_by_paths(
        &self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), Unmade> {
        if self.is_conflict(list.reservation_key)? {
            return Err(Unmade::Conflict);
        }
        let parameters = list.to_bytes();
        let (mut is_good, mut is_conflict) = (false, false);
        for path in self.paths()?.into_iter().filter_map(Path::open) {
            match path.change(self.scsi, command, &parameters) {
                Answered::Good => is_good = true,
                Answered::Status(Status::RESERVATION_CONFLICT) => is_conflict = true,
                Answered::Sense(code) if code.key == SenseKey::ILLEGAL_REQUEST => {
                    return Err(Unmade::Rejected(code));
                }
                // It is away, or standing by.
                Answered::Sense(_) | Answered::Status(_) | Answered::Nothing => {}
            }
        }
        if is_good {
            self.confirm_release(command, list)
        } else if is_conflict || !self.keys()?.contains(&list.reservation_key) {
            Err(Unmade::Conflict)
        } else {
            Err(Unmade::Failed(Failure::Other))
        }
    }

    /// After a RELEASE that succeeded: a path that is away, or was taken out of the map, may hold the reservation still.
    fn confirm_release(
        &self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), Unmade> {
        let released = (list.reservation_key, command.scope, command.kind);
        match self.reservation()? {
            Some(held) if (held.key, held.scope, held.kind) == released => {
                say!(
                    "{}: not released: a path that is away holds the reservation, or another host with the same key",
                    self.name.escape_ascii()
                );
                Err(Unmade::Failed(Failure::Other))
            }
            _ => Ok(()),
        }
    }

    /// PREEMPT, PREEMPT AND ABORT.
    fn preempt(&mut self, command: PersistentReserveOut, list: &BasicParameters<'_>) -> Result<(), Unmade> {
        let recorded = self.recorded_key()?;
        self.by_library(command, list)?;
        let key = list.reservation_key;
        let is_own = list.service_action_key == key || list.service_action_key == NO_KEY;
        // From 0.13 on the library does the rest itself.
        if !is_own || self.library.version().generation >= Generation::From13 {
            return Ok(());
        }
        self.complete_registration(key, recorded.is_some_and(|recorded| recorded.aptpl))
    }

    /// After a PREEMPT of the own key, by which the disk has unregistered all paths but the one that it came by: registers
    /// them again, as long as that one still is. Another host may have preempted it meanwhile.
    fn complete_registration(&self, key: ReservationKey, aptpl: bool) -> Result<(), Unmade> {
        let again = BasicParameters { service_action_key: key, aptpl, ..BasicParameters::default() };
        let same = BasicParameters { reservation_key: key, ..again }.to_bytes();
        let ignoring =
            PersistentReserveOut { action: OutServiceAction::RegisterAndIgnoreExistingKey, ..REGISTER };
        let paths: Vec<Path> = self.paths()?.into_iter().filter_map(Path::open).collect();
        let is_registered = |path: &&Path| path.change(self.scsi, REGISTER, &same) == Answered::Good;
        let (registered, others): (Vec<&Path>, Vec<&Path>) = paths.iter().partition(is_registered);
        let Some(first) = registered.first() else { return Ok(()) };
        for path in &others {
            path.change(self.scsi, ignoring, &again.to_bytes());
        }
        if path_is_fenced(first.change(self.scsi, REGISTER, &same)) {
            let none = BasicParameters { reservation_key: key, service_action_key: NO_KEY, ..again };
            for path in &others {
                path.change(self.scsi, REGISTER, &none.to_bytes());
            }
            return Err(Unmade::Conflict);
        }
        Ok(())
    }

    fn by_library(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), Unmade> {
        let PersistentReserveOut { action, scope, kind, .. } = command;
        let made = self.library.reserve_out(self.map, action, scope, kind, list);
        made.map_err(|error| self.unmade(command, list, error))
    }

    /// What an error of the library comes to.
    fn unmade(&self, command: PersistentReserveOut, list: &BasicParameters<'_>, error: Error) -> Unmade {
        let is_registration = matches!(
            command.action,
            OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey
        );
        match error {
            // It does not even ask a path about a key that is not the recorded one. A guest that uses such a key, as one
            // does that has been preempted, must be told of the conflict.
            Error::Library(Failure::SyntaxError) if !is_registration => {
                match self.is_conflict(list.reservation_key) {
                    Ok(true) => Unmade::Conflict,
                    Ok(false) => Unmade::Failed(Failure::SyntaxError),
                    Err(failed) => failed,
                }
            }
            Error::Library(Failure::ReservationConflict) => Unmade::Conflict,
            Error::Library(failure) => Unmade::Failed(failure),
            Error::InvalidRelease(_) => match self.is_conflict(list.reservation_key) {
                Ok(false) => Unmade::Rejected(SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION),
                Ok(true) => Unmade::Conflict,
                Err(failed) => failed,
            },
            error => {
                say!("{}: {error}", self.name.escape_ascii());
                Unmade::Failed(Failure::Other)
            }
        }
    }

    /// The key that multipathd has on record for the map, if it has one.
    fn recorded_key(&self) -> Result<Option<RegisteredKey>, Unmade> {
        self.library.registered_key(self.name, MULTIPATHD).map_err(|error| self.multipathd_failed(&error))
    }

    /// Has multipathd record again what it did before. Until 0.12 the library leaves a key there that was not registered,
    /// and then takes no other.
    fn restore(&self, recorded: Option<RegisteredKey>) {
        let restored = match self.library.registered_key(self.name, MULTIPATHD) {
            Ok(now) if now == recorded => return,
            Ok(_) => self.library.set_registered_key(self.name, recorded, MULTIPATHD),
            Err(error) => Err(error),
        };
        if let Err(error) = restored {
            self.multipathd_failed(&error);
        }
    }

    fn multipathd_failed(&self, error: &io::Error) -> Unmade {
        say!("{}: multipathd: {error}", self.name.escape_ascii());
        Unmade::Failed(Failure::Other)
    }

    fn paths(&self) -> Result<Vec<DeviceNumber>, Unmade> {
        path::of(self.control, self.number).map_err(|error| {
            say!("{}: {error}", self.name.escape_ascii());
            Unmade::Failed(Failure::MapError)
        })
    }

    /// The keys that are registered with the disk.
    fn keys(&self) -> Result<Vec<ReservationKey>, Unmade> {
        let data = self.read(InServiceAction::ReadKeys)?;
        let keys = Keys::parse(&data).map_err(|_| Unmade::Failed(Failure::Other))?;
        Ok(keys.iter().collect())
    }

    /// The reservation of the disk.
    fn reservation(&self) -> Result<Option<Reservation>, Unmade> {
        let data = self.read(InServiceAction::ReadReservation)?;
        let data = ReservationData::parse(&data).map_err(|_| Unmade::Failed(Failure::Other))?;
        data.reservation().map_err(|_| Unmade::Failed(Failure::Other))
    }

    fn read(&self, action: InServiceAction) -> Result<Vec<u8>, Unmade> {
        let mut paths = self.paths()?.into_iter().filter_map(Path::open);
        paths.find_map(|path| path.read(self.scsi, action)).ok_or(Unmade::Failed(Failure::Other))
    }
}

/// Whether a path that was registered is no more.
fn path_is_fenced(answered: Answered) -> bool {
    // LIO says NOT READY to who is not registered.
    matches!(answered, Answered::Status(Status::RESERVATION_CONFLICT))
        || matches!(answered, Answered::Sense(code) if code.key == SenseKey::NOT_READY)
}

/// REGISTER to a single path; the length is that of the parameters.
const REGISTER: PersistentReserveOut = PersistentReserveOut {
    action: OutServiceAction::Register,
    scope: Scope::LogicalUnit,
    kind: ReservationType::Other(0),
    parameter_list_length: 0,
};

/// Reads a change, as far as it can be made on a map.
fn parse<'a>(
    cdb: &[u8],
    parameters: &'a [u8],
) -> Result<(PersistentReserveOut, BasicParameters<'a>), Unmade> {
    let in_cdb = || Unmade::Rejected(SenseCode::INVALID_FIELD_IN_CDB);
    let command = Cdb::new(cdb).and_then(PersistentReserveOut::try_from).map_err(|_| in_cdb())?;
    if matches!(
        command.action,
        OutServiceAction::RegisterAndMove
            | OutServiceAction::ReplaceLostReservation
            | OutServiceAction::Other(_)
    ) {
        return Err(in_cdb());
    }
    if command.action.has_type()
        && (command.scope != Scope::LogicalUnit || matches!(command.kind, ReservationType::Other(_)))
    {
        return Err(in_cdb());
    }
    match OutParameters::parse(command.action, parameters) {
        Ok(OutParameters::Basic(list)) => Ok((command, list)),
        Ok(OutParameters::RegisterAndMove(_)) => Err(in_cdb()),
        Err(error) => Err(Unmade::Rejected(error.sense_code())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(cdb: [u8; 10], parameters: &[u8]) -> Option<SenseCode> {
        match parse(&cdb, parameters) {
            Err(Unmade::Rejected(code)) => Some(code),
            Ok(_) => None,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_done_over_several_paths_is_rejected_before_anything_is_done() {
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
            (out(1, 0, 24), ids(0, &[]), Some(field)),
            (out(1, 0x15, 24), ids(0, &[]), Some(field)),
            (out(4, 2, 24), ids(0, &[]), Some(field)),
            (out(0, 0, 25), ids(0, &[0]), Some(SenseCode::PARAMETER_LIST_LENGTH_ERROR)),
            (out(6, 0, 28), ids(8, &[0; 4]), Some(list)),
            (out(0, 0, 30), ids(8, &[0, 0, 0, 4, 6, 0]), Some(list)),
        ] {
            assert_eq!(rejected(cdb, &parameters), expected, "{cdb:02x?} {parameters:02x?}");
        }
    }
}
