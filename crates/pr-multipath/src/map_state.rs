//! The state of a map before and after a change: the registrations and the reservation on the disk, and the key that
//! multipathd has on record.

use std::{os::fd::BorrowedFd, time::Duration};

use dm_ioctl::{Control, DeviceNumber};
use mpathpersist::{Failure, Generation, Library, RegisteredKey};
use pr_backend::{Scsi, with_sources};
use pr_proto::DATA_MAX;
use scsi_sense::pr::{
    BasicParameters, InServiceAction, Keys, PersistentReserveOut, Reservation, ReservationData,
    ReservationKey,
};

use crate::{
    cause,
    change_error::ChangeError,
    nexus::{self, NO_KEY, Nexus as _},
    path::{self, Route},
    worker_log::worker_log,
};

/// Time limit for each answer of multipathd.
pub(crate) const MULTIPATHD: Duration = Duration::from_secs(10);

/// Number of keys that fit into [`DATA_MAX`] bytes of READ KEYS. A list of this length may be cut.
const KEYS_MAX: usize = (DATA_MAX - 8) / 8;

/// A map, with everything that is needed to change it and to read its state.
pub(crate) struct MapState<'a> {
    pub(crate) library: &'a mut Library,
    pub(crate) control: &'a Control,
    pub(crate) map: BorrowedFd<'a>,
    pub(crate) number: DeviceNumber,
    /// The map's name in device-mapper, which is also its name in multipathd.
    pub(crate) name: &'a [u8],
    /// Sends commands to single paths.
    pub(crate) scsi: &'a Scsi,
}

impl MapState<'_> {
    /// Returns the generation of the library.
    pub(crate) fn generation(&self) -> Generation {
        self.library.version().generation
    }

    /// Returns whether a path is registered with `key`, or, if that is [`NO_KEY`], is not registered.
    pub(crate) fn has_key(&self, key: ReservationKey) -> Result<bool, ChangeError> {
        nexus::has_key(&self.nexuses()?, key).ok_or(ChangeError::Failed(Failure::Other))
    }

    /// Returns whether this host is certainly not registered with `key`.
    pub(crate) fn lacks_key(&self, key: ReservationKey) -> bool {
        let is_unknown = self.keys().is_ok_and(|keys| !keys.may_contain(key));
        is_unknown || self.nexuses().is_ok_and(|nexuses| nexus::all_lack_key(&nexuses, key))
    }

    /// Returns whether all paths would answer a command with `key` by RESERVATION CONFLICT. `false` for the recorded key
    /// without asking a path: the library sends that key to the paths, and they judge it.
    pub(crate) fn is_conflict(&self, key: ReservationKey) -> Result<bool, ChangeError> {
        if self.recorded_key()?.is_some_and(|recorded| recorded.key == key) {
            return Ok(false);
        }
        Ok(key == NO_KEY || !self.has_key(key)?)
    }

    /// Returns the key that multipathd has on record for the map, if it has one.
    pub(crate) fn recorded_key(&self) -> Result<Option<RegisteredKey>, ChangeError> {
        self.library.registered_key(self.name, MULTIPATHD).map_err(|error| self.multipathd_failed(&error))
    }

    /// Sets or clears the key that multipathd has on record.
    pub(crate) fn set_recorded_key(&self, key: Option<RegisteredKey>) -> Result<(), ChangeError> {
        self.library
            .set_registered_key(self.name, key, MULTIPATHD)
            .map_err(|error| self.multipathd_failed(&error))
    }

    /// Records, in multipathd, a key with which this host is registered.
    pub(crate) fn record(&self, key: ReservationKey) -> Result<(), ChangeError> {
        let aptpl = self.nexuses()?.iter().find_map(nexus::is_aptpl_active);
        let aptpl = aptpl.ok_or(ChangeError::Failed(Failure::Other))?;
        self.set_recorded_key(Some(RegisteredKey { key, aptpl })).map_err(|error| match error {
            ChangeError::Failed(_) => ChangeError::Failed(Failure::SyntaxError),
            error => error,
        })
    }

    /// Restores multipathd's record to `recorded`. Until 0.12 the library leaves a key on record whose registration failed,
    /// and then accepts no other.
    pub(crate) fn restore_record(&self, recorded: Option<RegisteredKey>) {
        // An error is logged where it occurs, and the command has failed already.
        if self.recorded_key().is_ok_and(|now| now != recorded) {
            let _ = self.set_recorded_key(recorded);
        }
    }

    /// Logs that no path of this host is registered with the key on record, if that is so. multipathd keeps a key after its
    /// guest has migrated to another host, and registers it again when a path returns: the key is in READ KEYS still.
    pub(crate) fn report_stale_record(&self, recorded: Option<RegisteredKey>) {
        let Some(RegisteredKey { key, .. }) = recorded else { return };
        if self.nexuses().is_ok_and(|nexuses| nexus::all_lack_key(&nexuses, key)) {
            let map = self.name.escape_ascii();
            worker_log!(
                "{map}: multipathd has key {key} on record, but no path of this host is registered with it, and \
                 registers it when a path returns. If its guest has left this host: multipathd unsetprkey map {map} && \
                 multipathd unsetprstatus map {map}"
            );
        }
    }

    fn multipathd_failed(&self, error: &std::io::Error) -> ChangeError {
        worker_log!("{}: multipathd: {error}", self.name.escape_ascii());
        cause::of_shortage_with_multipathd(error)
            .map_or(ChangeError::Failed(Failure::Other), ChangeError::Shortage)
    }

    /// Returns the paths that can be opened.
    pub(crate) fn nexuses(&self) -> Result<Vec<Route<'_>>, ChangeError> {
        self.open_each()?.collect()
    }

    /// Opens one path after the other. A path that cannot be opened because this host lacks a resource is an error: it must
    /// not count as away.
    fn open_each(&self) -> Result<impl Iterator<Item = Result<Route<'_>, ChangeError>>, ChangeError> {
        let paths = path::of(self.control, self.number).map_err(|error| {
            worker_log!("{}: {}", self.name.escape_ascii(), with_sources(&error));
            cause::of_shortage(&error).map_or(ChangeError::Failed(Failure::MapError), ChangeError::Shortage)
        })?;
        let opened = paths.into_iter().filter_map(|path| Route::open(path, self.scsi).transpose());
        Ok(opened.map(|path| path.map_err(ChangeError::Shortage)))
    }

    /// Returns as many paths as can be opened, also if this process or the host lacks a resource.
    pub(crate) fn nexuses_despite_shortage(&self) -> impl Iterator<Item = Route<'_>> {
        let paths = path::of(self.control, self.number).unwrap_or_default();
        paths.into_iter().filter_map(|path| Route::open(path, self.scsi).ok().flatten())
    }

    /// Returns the keys that are registered with the disk, by any host.
    pub(crate) fn keys(&self) -> Result<RegisteredKeys, ChangeError> {
        let data = self.read(InServiceAction::ReadKeys)?;
        let keys = Keys::parse(&data).map_err(|_| ChangeError::Failed(Failure::Other))?;
        Ok(RegisteredKeys(keys.iter().collect()))
    }

    /// Returns the disk's reservation.
    pub(crate) fn reservation(&self) -> Result<Option<Reservation>, ChangeError> {
        let data = self.read(InServiceAction::ReadReservation)?;
        let data = ReservationData::parse(&data).map_err(|_| ChangeError::Failed(Failure::Other))?;
        data.reservation().map_err(|_| ChangeError::Failed(Failure::Other))
    }

    /// Returns whether the holder of the reservation has `key`, and the reservation scope and type of `command`.
    pub(crate) fn holds(
        &self,
        key: ReservationKey,
        command: PersistentReserveOut,
    ) -> Result<bool, ChangeError> {
        Ok(self.reservation()?.is_some_and(|held| {
            (held.key == key || held.kind.is_all_registrants())
                && (held.scope, held.kind) == (command.scope, command.kind)
        }))
    }

    /// Returns whether all paths that answer are registered as a REGISTER with these parameters leaves them.
    pub(crate) fn are_registered(&self, list: &BasicParameters<'_>) -> Result<bool, ChangeError> {
        nexus::are_registered(&self.nexuses()?, list).ok_or(ChangeError::Failed(Failure::Other))
    }

    /// Returns whether all paths that answer are not registered.
    pub(crate) fn are_unregistered(&self) -> Result<bool, ChangeError> {
        nexus::are_unregistered(&self.nexuses()?).ok_or(ChangeError::Failed(Failure::Other))
    }

    /// Sends PERSISTENT RESERVE IN to one path after the other; returns the data of the first that answers.
    fn read(&self, action: InServiceAction) -> Result<Vec<u8>, ChangeError> {
        for nexus in self.open_each()? {
            if let Some(data) = nexus?.read(action) {
                return Ok(data);
            }
        }
        Err(ChangeError::Failed(Failure::Other))
    }
}

/// The keys of a READ KEYS.
pub(crate) struct RegisteredKeys(Vec<ReservationKey>);

impl RegisteredKeys {
    /// Returns whether the list contains `key`.
    pub(crate) fn contains(&self, key: ReservationKey) -> bool {
        self.0.contains(&key)
    }

    /// Returns the number of registrations with `key`.
    pub(crate) fn count(&self, key: ReservationKey) -> usize {
        self.0.iter().filter(|other| **other == key).count()
    }

    /// Returns whether the list contains `key`, or is so long that it may be cut.
    pub(crate) fn may_contain(&self, key: ReservationKey) -> bool {
        self.contains(key) || self.0.len() >= KEYS_MAX
    }
}
