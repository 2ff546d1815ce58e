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
    Cdb, SenseCode, Status,
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
        let on_paths = BasicParameters { transport_ids: None, ..*list };
        let made = match self.by_library(command, &on_paths) {
            Err(Unmade::Failed(Failure::SyntaxError)) => self.register_another(command, &on_paths, recorded),
            other => other,
        };
        let made =
            made.and_then(|()| self.confirm(command, &on_paths, parameters, list.transport_ids.is_some()));
        if made.is_err() {
            self.restore(recorded);
        }
        made
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
        let (OutServiceAction::Register, Some(recorded)) = (command.action, recorded) else { return refused };
        if list.reservation_key != NO_KEY {
            // The key that is replaced is not the one that is registered.
            let is_another = recorded.key != list.reservation_key;
            return if is_another { Err(Unmade::Conflict) } else { refused };
        }
        if self.keys()?.contains(&recorded.key) {
            return refused;
        }
        // Another host has preempted the recorded key, so that nothing is registered that this could replace.
        let action = OutServiceAction::RegisterAndIgnoreExistingKey;
        self.by_library(PersistentReserveOut { action, ..command }, list)
    }

    /// After a REGISTER that succeeded: makes sure of what its success does not mean, or takes it back.
    fn confirm(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        parameters: &[u8],
        has_ids: bool,
    ) -> Result<(), Unmade> {
        let key = list.service_action_key;
        if key == NO_KEY {
            return Ok(());
        }
        // Some versions register a key that multipathd will not register with paths that come back.
        let confirmed = match self.recorded_key() {
            Ok(Some(recorded)) if recorded.key == key => Ok(()),
            Ok(_) => Err(Unmade::Failed(Failure::SyntaxError)),
            Err(failed) => Err(failed),
        };
        let confirmed =
            confirmed.and_then(|()| if has_ids { self.register_others(list, parameters) } else { Ok(()) });
        if confirmed.is_err() {
            let none = BasicParameters { reservation_key: key, service_action_key: NO_KEY, ..*list };
            let action = OutServiceAction::Register;
            if let Err(left) = self.by_library(PersistentReserveOut { action, ..command }, &none) {
                say!("{}: remains registered: {left:?}", self.name.escape_ascii());
            }
        }
        confirmed
    }

    /// Has one path register the TransportIDs of a REGISTER that has been made, without them, on all paths.
    ///
    /// The library cannot: its threads share the parameter list, and the first to be started takes SPEC_I_PT out of it
    /// for all. The command then succeeds, and nobody else is registered. A disk takes TransportIDs only from who is
    /// not registered yet, so the path is unregistered first; nothing is lost by that, as a moment ago it was not.
    fn register_others(&self, list: &BasicParameters<'_>, parameters: &[u8]) -> Result<(), Unmade> {
        let key = list.service_action_key;
        let undo = BasicParameters { reservation_key: key, service_action_key: NO_KEY, ..*list }.to_bytes();
        let redo = BasicParameters { reservation_key: NO_KEY, ..*list }.to_bytes();
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
            // With the others it is unregistered, too; but that goes by its key.
            path.change(self.scsi, REGISTER, &redo);
            return Err(match answered {
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
            Ok(()) => Ok(()),
        }
    }

    /// Sends a RELEASE by all paths: whichever holds the reservation releases it, and to the others it means nothing.
    fn release_by_paths(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), Unmade> {
        let key = list.reservation_key;
        if self.recorded_key()?.is_none_or(|recorded| recorded.key != key) {
            // It is not this host's: no path would have it registered.
            return Err(Unmade::Conflict);
        }
        let parameters = list.to_bytes();
        let (mut is_good, mut is_conflict, mut is_away) = (false, false, false);
        let paths = self.paths()?;
        let mut there = Vec::new();
        for number in &paths {
            let Some(path) = Path::open(*number) else {
                is_away = true;
                continue;
            };
            match path.change(self.scsi, command, &parameters) {
                Answered::Good => is_good = true,
                Answered::Status(Status::RESERVATION_CONFLICT) => is_conflict = true,
                Answered::Sense(code) => return Err(Unmade::Rejected(code)),
                Answered::Status(_) | Answered::Nothing => {
                    is_away = true;
                    continue;
                }
            }
            there.push(path);
        }
        match (is_good, is_conflict) {
            (false, true) => return Err(Unmade::Conflict),
            (false, false) => return Err(Unmade::Failed(Failure::Other)),
            (true, _) => {}
        }
        let is_left = is_away
            && self
                .reservation()?
                .is_some_and(|held| (held.key, held.scope, held.kind) == (key, command.scope, command.kind));
        if is_left { self.release_for_another(command, key, paths.len(), &there) } else { Ok(()) }
    }

    /// Releases a reservation that is held by a path that is away: a path that is there takes it, and lets it go.
    ///
    /// To take it costs the other paths their registrations, as PREEMPT has it, until they are made again.
    fn release_for_another(
        &mut self,
        command: PersistentReserveOut,
        key: ReservationKey,
        paths: usize,
        there: &[Path],
    ) -> Result<(), Unmade> {
        let not_released = |why| {
            say!(
                "{}: not released: a path that is away holds the reservation{why}",
                self.name.escape_ascii()
            );
            Err(Unmade::Failed(Failure::Other))
        };
        let Some(path) = there.first() else { return not_released("") };
        if self.keys()?.iter().filter(|registered| **registered == key).count() > paths {
            return not_released(", or another host that has the same key");
        }
        let aptpl = self.recorded_key()?.is_some_and(|recorded| recorded.aptpl);
        let own =
            BasicParameters { reservation_key: key, service_action_key: key, ..BasicParameters::default() };
        let preempt = PersistentReserveOut { action: OutServiceAction::Preempt, ..command };
        if path.change(self.scsi, preempt, &own.to_bytes()) != Answered::Good {
            return not_released(", and none could take it");
        }
        let released = path.change(self.scsi, command, &own.to_bytes());
        self.register_again(key, aptpl)?;
        if released == Answered::Good { Ok(()) } else { Err(Unmade::Failed(Failure::Other)) }
    }

    /// Registers with all paths a key that one of them still has.
    fn register_again(&mut self, key: ReservationKey, aptpl: bool) -> Result<(), Unmade> {
        let action = OutServiceAction::RegisterAndIgnoreExistingKey;
        let list = BasicParameters { service_action_key: key, aptpl, ..BasicParameters::default() };
        self.by_library(PersistentReserveOut { action, ..REGISTER }, &list)
    }

    /// PREEMPT, PREEMPT AND ABORT.
    fn preempt(&mut self, command: PersistentReserveOut, list: &BasicParameters<'_>) -> Result<(), Unmade> {
        let recorded = self.recorded_key()?;
        self.by_library(command, list)?;
        let key = list.reservation_key;
        let is_own = list.service_action_key == key || list.service_action_key == NO_KEY;
        // From 0.13 on the library does the rest itself.
        if !is_own || self.library.version().generation >= Generation::From13 || !self.keys()?.contains(&key)
        {
            return Ok(());
        }
        // The disk has unregistered the own key by all paths but the one that the command came by.
        self.register_again(key, recorded.is_some_and(|recorded| recorded.aptpl))
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
            Error::Library(Failure::SyntaxError) if !is_registration => match self.recorded_key() {
                Ok(Some(recorded)) if recorded.key == list.reservation_key => {
                    Unmade::Failed(Failure::SyntaxError)
                }
                Ok(_) => Unmade::Conflict,
                Err(failed) => failed,
            },
            Error::Library(Failure::ReservationConflict) => Unmade::Conflict,
            Error::Library(failure) => Unmade::Failed(failure),
            Error::InvalidRelease(_) => {
                Unmade::Rejected(SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION)
            }
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
