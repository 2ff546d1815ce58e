//! The typed calls: one for each service action.

use std::os::fd::AsFd;

use pr_proto::DATA_MAX;
use scsi_sense::{
    Status,
    pr::{
        BasicParameters, Capabilities, FullStatus, InServiceAction, Keys, OutParameters, OutServiceAction,
        PersistentReserveIn, PersistentReserveOut, RegisterAndMoveParameters, ReservationData,
        ReservationKey, ReservationType, Scope,
    },
};

use crate::{Client, CommandError, Completion, CurrentReservation, Data, RegisteredKeys, Registrations};

/// The allocation length for data of fixed length, longer than any of them.
const FIXED_LENGTH: u16 = 512;

/// The allocation length for lists: the maximum of the protocol, already in the first command. Some devices count in
/// ADDITIONAL LENGTH only the entries that fit, so a shorter answer would not tell that there are more.
const LIST_LENGTH: u16 = 8192;
const _: () = assert!(LIST_LENGTH as usize == DATA_MAX, "as in the protocol");

/// The typed calls. `device` must be open for reading for calls that read, and for writing for all others.
///
/// Each call sends one command. None is repeated after a unit attention: only the caller knows whether the command is
/// still right after, for example, its registration was preempted.
impl Client {
    /// READ KEYS: reads the keys of all registrations.
    ///
    /// # Errors
    ///
    /// [`CommandError`], with [`CommandError::Keys`] if the list ends early.
    pub fn read_keys(&self, device: impl AsFd) -> Result<RegisteredKeys, CommandError> {
        let data = self.read(device, InServiceAction::ReadKeys, LIST_LENGTH)?;
        let list = Keys::parse(&data).map_err(CommandError::Data)?;
        let (generation, keys) = (list.generation(), list.iter().collect());
        match list.is_complete(LIST_LENGTH.into()) {
            Ok(is_complete) => Ok(RegisteredKeys { generation, keys, is_complete }),
            Err(source) => {
                let read = RegisteredKeys { generation, keys, is_complete: false };
                Err(CommandError::Keys { read, source })
            }
        }
    }

    /// READ RESERVATION: reads the reservation, if there is one.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn read_reservation(&self, device: impl AsFd) -> Result<CurrentReservation, CommandError> {
        let data = self.read(device, InServiceAction::ReadReservation, FIXED_LENGTH)?;
        let data = ReservationData::parse(&data).map_err(CommandError::Data)?;
        let reservation = data.reservation().map_err(CommandError::Data)?;
        Ok(CurrentReservation { generation: data.generation(), reservation })
    }

    /// REPORT CAPABILITIES: reads what the device supports.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn report_capabilities(&self, device: impl AsFd) -> Result<Capabilities, CommandError> {
        let data = self.read(device, InServiceAction::ReportCapabilities, FIXED_LENGTH)?;
        Capabilities::parse(&data).map_err(CommandError::Data)
    }

    /// READ FULL STATUS: reads each registration with its I_T nexus.
    ///
    /// # Errors
    ///
    /// [`CommandError`], with [`CommandError::Registrations`] if the list ends early. Many devices do not support the
    /// command: CHECK CONDITION, INVALID FIELD IN CDB.
    pub fn read_full_status(&self, device: impl AsFd) -> Result<Registrations, CommandError> {
        let data = self.read(device, InServiceAction::ReadFullStatus, LIST_LENGTH)?;
        let list = FullStatus::parse(&data).map_err(CommandError::Data)?;
        let generation = list.generation();
        let registrations = list.iter().map(|one| one.map_bytes(<[u8]>::to_vec)).collect();
        match list.is_complete(LIST_LENGTH.into()) {
            Ok(is_complete) => Ok(Registrations { generation, registrations, is_complete }),
            Err(source) => {
                let read = Registrations { generation, registrations, is_complete: false };
                Err(CommandError::Registrations { read, source })
            }
        }
    }

    /// REGISTER: registers this I_T nexus (`reservation_key` zero), changes its key, or unregisters it
    /// (`service_action_key` zero).
    ///
    /// # Errors
    ///
    /// [`CommandError::Conflict`], if `reservation_key` is not the registered key.
    pub fn register(&self, device: impl AsFd, parameters: &BasicParameters<'_>) -> Result<(), CommandError> {
        self.change(device, OutServiceAction::Register, NO_TYPE, &OutParameters::Basic(*parameters))
    }

    /// REGISTER AND IGNORE EXISTING KEY: like [`register`](Self::register), without a check of the existing key.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn register_and_ignore(
        &self,
        device: impl AsFd,
        parameters: &BasicParameters<'_>,
    ) -> Result<(), CommandError> {
        let action = OutServiceAction::RegisterAndIgnoreExistingKey;
        self.change(device, action, NO_TYPE, &OutParameters::Basic(*parameters))
    }

    /// RESERVE: creates a reservation. `key` is the registered key of this I_T nexus.
    ///
    /// # Errors
    ///
    /// [`CommandError::Conflict`], if `key` is not the registered key, or there is another reservation.
    pub fn reserve(
        &self,
        device: impl AsFd,
        key: ReservationKey,
        kind: ReservationType,
    ) -> Result<(), CommandError> {
        self.change(device, OutServiceAction::Reserve, kind, &keys(key, ReservationKey::ZERO))
    }

    /// RELEASE: ends the reservation that this I_T nexus holds, which must be of this type.
    ///
    /// # Errors
    ///
    /// [`CommandError::Conflict`], if `key` is not the registered key.
    pub fn release(
        &self,
        device: impl AsFd,
        key: ReservationKey,
        kind: ReservationType,
    ) -> Result<(), CommandError> {
        self.change(device, OutServiceAction::Release, kind, &keys(key, ReservationKey::ZERO))
    }

    /// CLEAR: removes the reservation and the registrations of all I_T nexuses.
    ///
    /// # Errors
    ///
    /// [`CommandError::Conflict`], if `key` is not the registered key.
    pub fn clear(&self, device: impl AsFd, key: ReservationKey) -> Result<(), CommandError> {
        self.change(device, OutServiceAction::Clear, NO_TYPE, &keys(key, ReservationKey::ZERO))
    }

    /// PREEMPT: removes the registrations with the key `victim`, and if one of them holds the reservation, takes it
    /// over with this type.
    ///
    /// # Errors
    ///
    /// [`CommandError::Conflict`], if `key` is not the registered key, or no registration has the key `victim`.
    pub fn preempt(
        &self,
        device: impl AsFd,
        key: ReservationKey,
        victim: ReservationKey,
        kind: ReservationType,
    ) -> Result<(), CommandError> {
        self.change(device, OutServiceAction::Preempt, kind, &keys(key, victim))
    }

    /// PREEMPT AND ABORT: like [`preempt`](Self::preempt), and aborts the commands of the preempted I_T nexuses.
    ///
    /// # Errors
    ///
    /// As from [`preempt`](Self::preempt).
    pub fn preempt_and_abort(
        &self,
        device: impl AsFd,
        key: ReservationKey,
        victim: ReservationKey,
        kind: ReservationType,
    ) -> Result<(), CommandError> {
        self.change(device, OutServiceAction::PreemptAndAbort, kind, &keys(key, victim))
    }

    /// REGISTER AND MOVE: registers another I_T nexus and moves the reservation to it.
    ///
    /// # Errors
    ///
    /// [`CommandError::Conflict`], if the key is not the registered key, or another I_T nexus holds the reservation.
    pub fn register_and_move(
        &self,
        device: impl AsFd,
        parameters: &RegisterAndMoveParameters<'_>,
    ) -> Result<(), CommandError> {
        let parameters = OutParameters::RegisterAndMove(*parameters);
        self.change(device, OutServiceAction::RegisterAndMove, NO_TYPE, &parameters)
    }

    fn read(
        &self,
        device: impl AsFd,
        action: InServiceAction,
        allocation_length: u16,
    ) -> Result<Vec<u8>, CommandError> {
        let cdb = PersistentReserveIn { action, allocation_length }.to_cdb();
        let mut data = vec![0; allocation_length.into()];
        let completion = self.execute(device, &cdb, Data::In(&mut data))?;
        data.truncate(completion.transferred);
        completion.into_result().map(|()| data)
    }

    fn change(
        &self,
        device: impl AsFd,
        action: OutServiceAction,
        kind: ReservationType,
        parameters: &OutParameters<'_>,
    ) -> Result<(), CommandError> {
        let mut list = vec![0; DATA_MAX];
        let length = parameters.write(&mut list).map_err(CommandError::Parameters)?;
        list.truncate(length);
        // At most DATA_MAX.
        let parameter_list_length = u32::try_from(length).unwrap_or(u32::MAX);
        let command = PersistentReserveOut { action, scope: Scope::LogicalUnit, kind, parameter_list_length };
        self.execute(device, &command.to_cdb(), Data::Out(&list))?.into_result()
    }
}

/// TYPE for service actions that ignore it.
const NO_TYPE: ReservationType = ReservationType::Other(0);

fn keys(reservation_key: ReservationKey, service_action_key: ReservationKey) -> OutParameters<'static> {
    OutParameters::Basic(BasicParameters { reservation_key, service_action_key, ..Default::default() })
}

impl Completion {
    /// Converts the status: `Ok` for GOOD, otherwise the error.
    ///
    /// # Errors
    ///
    /// [`CommandError`], for every status but GOOD.
    pub fn into_result(self) -> Result<(), CommandError> {
        match self.status {
            Status::GOOD => Ok(()),
            Status::RESERVATION_CONFLICT => Err(CommandError::Conflict),
            Status::CHECK_CONDITION => Err(CommandError::CheckCondition(self.sense)),
            other => Err(CommandError::Status(other)),
        }
    }
}
