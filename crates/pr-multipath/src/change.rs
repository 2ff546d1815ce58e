//! Changes: PERSISTENT RESERVE OUT on a map.
//!
//! The library makes a change on all paths and has multipathd keep it. But it was made for a command line and for one key
//! in a configuration file: it refuses what a disk would answer, takes back what is not the caller's, and in some cases
//! says that all is well when it is not. What is done about that is here, case by case; the facts are those of
//! [`mpathpersist::behaviour`].

use std::{io, os::fd::BorrowedFd, time::Duration};

use dm_ioctl::{Control, DeviceNumber};
use mpathpersist::{Error, Failure, Generation, Library, RegisteredKey};
use pr_backend::{Scsi, with_sources};
use pr_proto::DATA_MAX;
use scsi_sense::{
    Cdb, SenseCode, SenseKey, Status,
    pr::{
        BasicParameters, InServiceAction, Keys, OutParameters, OutServiceAction, PersistentReserveOut,
        Reservation, ReservationData, ReservationKey,
    },
};

use crate::{
    cause,
    change_error::ChangeError,
    nexus::{self, Answered, NO_KEY, Nexus as _},
    path::{self, Route},
    worker_log::worker_log,
};

/// How long multipathd may take for an answer.
pub(crate) const MULTIPATHD: Duration = Duration::from_secs(10);

/// As many as multipath-tools know of.
const TRANSPORT_IDS_MAX: usize = 32;

/// A map that is to be changed.
pub(crate) struct Change<'a> {
    pub(crate) library: &'a mut Library,
    pub(crate) control: &'a Control,
    pub(crate) map: BorrowedFd<'a>,
    pub(crate) number: DeviceNumber,
    /// As device-mapper and multipathd have it.
    pub(crate) name: &'a [u8],
    /// For single paths.
    pub(crate) scsi: &'a Scsi,
}

impl Change<'_> {
    /// Makes the change that a guest asks for.
    pub(crate) fn make(mut self, cdb: &[u8], parameters: &[u8]) -> Result<(), ChangeError> {
        let (command, list) = parse(cdb, parameters)?;
        match command.action {
            OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey => {
                self.register(command, &list, parameters)
            }
            OutServiceAction::Release => self.release(command, &list),
            OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort => self.preempt(command, &list),
            _ => self.by_library(command, &list).map(drop),
        }
    }

    /// REGISTER, REGISTER AND IGNORE EXISTING KEY. `parameters` are those that were sent.
    fn register(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        parameters: &[u8],
    ) -> Result<(), ChangeError> {
        let is_nothing = list.reservation_key == NO_KEY && list.service_action_key == NO_KEY;
        if command.action == OutServiceAction::Register && is_nothing && list.transport_ids.is_none() {
            // A nexus that is not registered does nothing and says GOOD; to the library it is a syntax error until 0.12.
            return if self.has_key(NO_KEY)? { Ok(()) } else { Err(ChangeError::Conflict) };
        }
        let recorded = self.recorded_key()?;
        if let Some(ids) = list.transport_ids {
            if ids.iter().count() > TRANSPORT_IDS_MAX {
                return Err(ChangeError::Rejected(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST));
            }
            // SPEC_I_PT is for a nexus that is not registered (key zero). With the key that it has, it is INVALID FIELD IN
            // PARAMETER LIST, with any other RESERVATION CONFLICT.
            if list.reservation_key != NO_KEY {
                return Err(if self.has_key(list.reservation_key)? {
                    ChangeError::Rejected(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST)
                } else {
                    ChangeError::Conflict
                });
            }
        }
        if list.service_action_key == NO_KEY {
            self.release_before(command, list)?;
        }
        let before = self.registered_before(command, list, recorded);
        let on_paths = BasicParameters { transport_ids: None, ..*list };
        let made = match self.by_library(command, &on_paths) {
            Err(ChangeError::Failed(Failure::SyntaxError)) if recorded.is_some() => {
                self.register_new(command, &on_paths, ChangeError::Failed(Failure::SyntaxError))
            }
            // It met a conflict on some path, and has unregistered the others.
            Err(ChangeError::Conflict) if self.library.version().generation < Generation::From13 => {
                self.register_new(command, &on_paths, ChangeError::Conflict)
            }
            other => other.map(drop),
        };
        let made = made.and_then(|()| self.confirm(&on_paths, recorded));
        let made = match list.transport_ids {
            Some(_) => made.and_then(|()| nexus::register_others(&self.nexuses()?, list, parameters)),
            None => made,
        };
        if let Err(error) = &made {
            if error.is_uncertain() || list.transport_ids.is_some() {
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
    ) -> Result<(), ChangeError> {
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

    /// Returns the key that a registration replaces, to go back to should it fail.
    fn registered_before(
        &self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        recorded: Option<RegisteredKey>,
    ) -> ReservationKey {
        match (command.action, recorded) {
            (OutServiceAction::Register, _) => list.reservation_key,
            // Only if it is still registered: a host that was fenced must not get its key back by a command that failed.
            (_, Some(RegisteredKey { key, .. }))
                if list.service_action_key != NO_KEY && self.has_key(key).unwrap_or(false) =>
            {
                key
            }
            _ => NO_KEY,
        }
    }

    /// Registers a first key which the library did not register: it takes no key but the one in its configuration, or one
    /// that replaces the key in multipathd's record, which may be there still after another host has preempted it. A
    /// REGISTER that replaces a key comes to `error`.
    fn register_new(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
        error: ChangeError,
    ) -> Result<(), ChangeError> {
        if command.action != OutServiceAction::Register || list.reservation_key != NO_KEY {
            return Err(error);
        }
        // A host that is registered must say with which key. Where multipathd has registered a path anew by its record, the
        // others tell that the guest is not; from 0.13 on that is the library's view, too.
        if !self.has_key(NO_KEY)? {
            return Err(ChangeError::Conflict);
        }
        let action = OutServiceAction::RegisterAndIgnoreExistingKey;
        self.by_library(PersistentReserveOut { action, ..command }, list).map(drop)
    }

    /// Returns whether a path is registered with this key, or, if it is zero, is not registered.
    fn has_key(&self, key: ReservationKey) -> Result<bool, ChangeError> {
        nexus::has_key(&self.nexuses()?, key).ok_or(ChangeError::Failed(Failure::Other))
    }

    /// Returns whether this host is certainly not registered with this key.
    fn lacks_key(&self, key: ReservationKey) -> bool {
        let is_unknown = self.keys().is_ok_and(|keys| keys.len() < KEYS_MAX && !keys.contains(&key));
        is_unknown || self.nexuses().is_ok_and(|nexuses| nexus::lack_key(&nexuses, key))
    }

    /// Returns whether all paths would meet a conflict with this key: not yet, if it is the recorded one, which the library
    /// puts to them.
    fn is_conflict(&self, key: ReservationKey) -> Result<bool, ChangeError> {
        if self.recorded_key()?.is_some_and(|recorded| recorded.key == key) {
            return Ok(false);
        }
        Ok(key == NO_KEY || !self.has_key(key)?)
    }

    /// After a REGISTER that succeeded: makes sure that multipathd will register the key with paths that come back. Some
    /// versions do not see to that.
    fn confirm(
        &mut self,
        list: &BasicParameters<'_>,
        before: Option<RegisteredKey>,
    ) -> Result<(), ChangeError> {
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
            _ => Err(ChangeError::Failed(Failure::SyntaxError)),
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
        // As many paths as can be opened: also after a lack of resources.
        let paths = path::of(self.control, self.number).unwrap_or_default();
        for nexus in paths.into_iter().filter_map(|path| Route::open(path, self.scsi).ok().flatten()) {
            nexus.change(nexus::REGISTER, &back.to_bytes());
        }
    }

    /// RELEASE. Until 0.12 the library clears all registrations when it finds that the reservation is still there, also if
    /// it is another's.
    fn release(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        if self.library.version().generation < Generation::From13 {
            return self.release_by_paths(command, list);
        }
        match self.call(command, list)? {
            // A disk says GOOD to a registered nexus that does not hold the reservation, and INVALID RELEASE to its holder if
            // scope or type are others; and changes nothing. LIO has another answer for the latter.
            Err(Error::NotReservationHolder(_) | Error::InvalidRelease(_)) => {
                self.release_by_paths(command, list)
            }
            Err(error) => Err(self.change_error(command, list, error)),
            Ok(()) => self.confirm_release(command, list),
        }
    }

    /// Sends a RELEASE by all paths: whichever holds the reservation releases it, and to the others it means nothing.
    fn release_by_paths(
        &self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        if self.is_conflict(list.reservation_key)? {
            return Err(ChangeError::Conflict);
        }
        let parameters = list.to_bytes();
        let (mut is_good, mut is_conflict) = (false, false);
        for nexus in self.nexuses()? {
            match nexus.change(command, &parameters) {
                Answered::Good => is_good = true,
                Answered::Status(Status::RESERVATION_CONFLICT) => is_conflict = true,
                Answered::Sense(code) if code.key == SenseKey::ILLEGAL_REQUEST => {
                    return Err(ChangeError::Rejected(code));
                }
                // It is away, or standing by.
                Answered::Sense(_) | Answered::Status(_) | Answered::Nothing => {}
            }
        }
        if is_good {
            self.confirm_release(command, list)?;
            // LIO says so to the holder, if scope or type are others than the reservation's.
            if is_conflict && self.reservation()?.is_some_and(|held| held.key == list.reservation_key) {
                return Err(ChangeError::Conflict);
            }
            Ok(())
        } else if is_conflict || self.lacks_key(list.reservation_key) {
            Err(ChangeError::Conflict)
        } else {
            Err(ChangeError::Failed(Failure::Other))
        }
    }

    /// After a RELEASE that succeeded: a path that is away, or was taken out of the map, may hold the reservation still.
    fn confirm_release(
        &self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        let released = (list.reservation_key, command.scope, command.kind);
        match self.reservation()? {
            Some(held) if (held.key, held.scope, held.kind) == released => {
                worker_log!(
                    "{}: not released: a path that is away holds the reservation, or another host with the same key",
                    self.name.escape_ascii()
                );
                Err(ChangeError::Failed(Failure::Other))
            }
            _ => Ok(()),
        }
    }

    /// PREEMPT, PREEMPT AND ABORT.
    fn preempt(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        let made = self.by_library(command, list);
        let key = list.reservation_key;
        let is_own = list.service_action_key == key || list.service_action_key == NO_KEY;
        // From 0.13 on the library does the rest itself.
        let is_whole =
            matches!(made, Ok(By::Library)) && self.library.version().generation >= Generation::From13;
        match made {
            Ok(_) if !is_own || is_whole => Ok(()),
            // Of a command that failed nobody knows whether the disk has done it.
            Ok(_) | Err(ChangeError::Failed(_) | ChangeError::Shortage(_)) if is_own => {
                let completed = nexus::complete_registration(&self.nexuses()?, key);
                made.and(completed)
            }
            other => other.map(drop),
        }
    }

    /// Makes a change by the library, and makes sure that the disk has it.
    fn by_library(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<By, ChangeError> {
        let made = self.call(command, list)?;
        match made {
            Ok(()) => self.verify(command, list).map(|()| By::Library),
            Err(Error::Library(Failure::IllegalRequest)) if !is_registration(command.action) => {
                self.by_a_path(command, list).map(|()| By::Path)
            }
            Err(error) => Err(self.change_error(command, list, error)),
        }
    }

    /// Calls the library.
    ///
    /// It takes no key but the recorded one, and does not even ask a path about another. A guest that uses another key, for
    /// example after it was preempted, must be told of the conflict. But if this host is registered with the key, then the
    /// record is that of a change which was cut short: the key is recorded, and the call repeated.
    fn call(
        &mut self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<Result<(), Error>, ChangeError> {
        let PersistentReserveOut { action, scope, kind, .. } = command;
        let made = self.library.reserve_out(self.map, action, scope, kind, list);
        // What a registration replaces may be nothing.
        let is_new = action == OutServiceAction::RegisterAndIgnoreExistingKey
            || action == OutServiceAction::Register && list.reservation_key == NO_KEY;
        if is_new || !matches!(made, Err(Error::Library(Failure::SyntaxError))) {
            return Ok(made);
        }
        let recorded = self.recorded_key()?;
        if recorded.is_some_and(|recorded| recorded.key == list.reservation_key) {
            return Ok(made);
        }
        if list.reservation_key == NO_KEY || !self.has_key(list.reservation_key)? {
            return Err(ChangeError::Conflict);
        }
        self.record(list.reservation_key)?;
        let made = self.library.reserve_out(self.map, action, scope, kind, list);
        if matches!(made, Err(Error::Library(Failure::SyntaxError))) {
            self.restore(recorded);
        }
        Ok(made)
    }

    /// Records, in multipathd, a key with which this host is registered.
    fn record(&self, key: ReservationKey) -> Result<(), ChangeError> {
        let aptpl = self.nexuses()?.iter().any(nexus::is_aptpl_active);
        let recorded =
            self.library.set_registered_key(self.name, Some(RegisteredKey { key, aptpl }), MULTIPATHD);
        recorded.map_err(|error| match self.multipathd_failed(&error) {
            ChangeError::Failed(_) => ChangeError::Failed(Failure::SyntaxError),
            error => error,
        })
    }

    /// Sends a change, which the library says is an ILLEGAL REQUEST, by one path: of the sense data the library tells only
    /// the key.
    fn by_a_path(
        &self,
        command: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), ChangeError> {
        let parameters = list.to_bytes();
        for nexus in self.nexuses()? {
            match nexus.change(command, &parameters) {
                Answered::Good => return Ok(()),
                Answered::Status(Status::RESERVATION_CONFLICT) => return Err(ChangeError::Conflict),
                Answered::Sense(code) if code.key == SenseKey::ILLEGAL_REQUEST => {
                    return Err(ChangeError::Rejected(code));
                }
                // It is away, or standing by.
                Answered::Sense(_) | Answered::Status(_) | Answered::Nothing => {}
            }
        }
        Err(ChangeError::Failed(Failure::IllegalRequest))
    }

    /// Checks that the disk has a change which the library says has succeeded. Of sense data in descriptor format the
    /// library takes the additional sense code for the key, so that 01h is success to it.
    fn verify(&self, command: PersistentReserveOut, list: &BasicParameters<'_>) -> Result<(), ChangeError> {
        let (key, other) = (list.reservation_key, list.service_action_key);
        let is_there = match command.action {
            OutServiceAction::Reserve => self.reservation()?.is_some_and(|held| {
                (held.key == key || held.kind.is_all_registrants())
                    && (held.scope, held.kind) == (command.scope, command.kind)
            }),
            OutServiceAction::Clear => !self.keys()?.contains(&key),
            OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort
                if other != key && other != NO_KEY =>
            {
                !self.keys()?.contains(&other)
            }
            OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey
                if other != NO_KEY =>
            {
                let keys = self.keys()?;
                keys.contains(&other) || keys.len() >= KEYS_MAX
            }
            // Another host may have registered the same key.
            OutServiceAction::Register if key != NO_KEY => {
                !self.keys()?.contains(&key) || !self.has_key(key)?
            }
            _ => true,
        };
        if is_there {
            return Ok(());
        }
        worker_log!(
            "{}: {}: the library says that it succeeded, and the disk does not have it",
            self.name.escape_ascii(),
            command.action
        );
        Err(ChangeError::Failed(Failure::Other))
    }

    /// Returns the error that an error of the library comes to.
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
                worker_log!("{}: {error}", self.name.escape_ascii());
                Failure::Other
            }
        };
        // Where there is no reservation, LIO does not call it a conflict.
        if !is_registration(command.action)
            && failure != Failure::SyntaxError
            && self.lacks_key(list.reservation_key)
        {
            return ChangeError::Conflict;
        }
        ChangeError::Failed(failure)
    }

    /// The key that multipathd has on record for the map, if it has one.
    fn recorded_key(&self) -> Result<Option<RegisteredKey>, ChangeError> {
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

    fn multipathd_failed(&self, error: &io::Error) -> ChangeError {
        worker_log!("{}: multipathd: {error}", self.name.escape_ascii());
        cause::of_shortage_with_multipathd(error)
            .map_or(ChangeError::Failed(Failure::Other), ChangeError::Shortage)
    }

    /// The paths that can be opened.
    fn nexuses(&self) -> Result<Vec<Route<'_>>, ChangeError> {
        let paths: Vec<DeviceNumber> = path::of(self.control, self.number).map_err(|error| {
            worker_log!("{}: {}", self.name.escape_ascii(), with_sources(&error));
            cause::of_shortage(&error).map_or(ChangeError::Failed(Failure::MapError), ChangeError::Shortage)
        })?;
        let opened = paths.into_iter().filter_map(|path| Route::open(path, self.scsi).transpose());
        // A path that could not be opened for a lack of resources here must not count as away.
        opened.collect::<Result<_, _>>().map_err(ChangeError::Shortage)
    }

    /// The keys that are registered with the disk.
    fn keys(&self) -> Result<Vec<ReservationKey>, ChangeError> {
        let data = self.read(InServiceAction::ReadKeys)?;
        let keys = Keys::parse(&data).map_err(|_| ChangeError::Failed(Failure::Other))?;
        Ok(keys.iter().collect())
    }

    /// The reservation of the disk.
    fn reservation(&self) -> Result<Option<Reservation>, ChangeError> {
        let data = self.read(InServiceAction::ReadReservation)?;
        let data = ReservationData::parse(&data).map_err(|_| ChangeError::Failed(Failure::Other))?;
        data.reservation().map_err(|_| ChangeError::Failed(Failure::Other))
    }

    fn read(&self, action: InServiceAction) -> Result<Vec<u8>, ChangeError> {
        let nexuses = self.nexuses()?;
        nexuses.iter().find_map(|nexus| nexus.read(action)).ok_or(ChangeError::Failed(Failure::Other))
    }
}

/// How a change was made.
enum By {
    /// On all paths that it concerns.
    Library,
    /// By one path.
    Path,
}

/// More do not fit into what is read.
const KEYS_MAX: usize = (DATA_MAX - 8) / 8;

fn is_registration(action: OutServiceAction) -> bool {
    matches!(action, OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey)
}

/// Reads a change, as far as it can be made on a map.
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
            // Scope and type are the disk's to judge.
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
