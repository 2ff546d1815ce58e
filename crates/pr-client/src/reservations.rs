//! The typed calls: one for each service action.

use std::os::fd::AsFd;

use pr_proto::DATA_MAX;
use scsi_sense::{
    Status,
    pr::{
        BasicParameters, Capabilities, FullStatus, InServiceAction, Keys, OutParameters, OutServiceAction,
        PersistentReserveIn, PersistentReserveOut, RegisterAndMoveParameters, Registration, Reservation,
        ReservationData, ReservationKey, ReservationType, Scope, TransportId, TransportIdError,
    },
};

use crate::{Client, CommandError, Completion, Data};

/// Room for the data of most disks: 63 keys, ten registrations in full.
const FIRST_LENGTH: u16 = 512;

/// The most that the protocol carries.
const WHOLE_LENGTH: u16 = 8192;
const _: () = assert!(WHOLE_LENGTH as usize == DATA_MAX, "as in the protocol");

/// What READ KEYS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredKeys {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// The key of each registration. One that several I_T nexuses registered is there several times.
    pub keys: Vec<ReservationKey>,
    /// Whether these are all. If not, the device has more than the protocol carries (1023).
    pub is_complete: bool,
}

/// What READ RESERVATION says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentReservation {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// The reservation, if there is one.
    pub reservation: Option<Reservation>,
}

/// What READ FULL STATUS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrations {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// Each registration.
    pub registrations: Vec<Registration>,
    /// Whether these are all. If not, the device has more than the protocol carries (8192 bytes, some hundred
    /// registrations).
    pub is_complete: bool,
}

/// One registration, with its I_T nexus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The key.
    pub key: ReservationKey,
    /// The relative target port; `None` if the registration is with all target ports.
    pub relative_port: Option<u16>,
    /// The reservation, if this one holds it.
    pub reservation: Option<Reservation>,
    /// The initiator port, as the device named it: [`transport_id`](Self::transport_id) tells what it is.
    pub transport_id_bytes: Vec<u8>,
}

impl Registration {
    /// The initiator port.
    ///
    /// # Errors
    ///
    /// [`TransportIdError`], if the device named it in no way that the standard knows.
    pub fn transport_id(&self) -> Result<TransportId<'_>, TransportIdError> {
        TransportId::split_first(&self.transport_id_bytes).map(|(id, _)| id)
    }
}

impl From<Registration<&'_ [u8]>> for Registration {
    fn from(descriptor: Registration<&'_ [u8]>) -> Self {
        let Registration { key, scope, kind, relative_port, transport_id_bytes, .. } = descriptor;
        Self {
            key,
            relative_port: (!descriptor.all_target_ports).then_some(relative_port),
            reservation: descriptor.reservation_holder.then_some(Reservation { key, scope, kind }),
            transport_id_bytes: transport_id_bytes.to_vec(),
        }
    }
}

/// The typed calls. `device` needs to be open for reading for those that read, for writing for the others.
///
/// Each is one command (those that list are two if the list is long). None is repeated after a unit attention: whether
/// a command still makes sense when registrations were preempted meanwhile, only the caller knows.
impl Client {
    /// READ KEYS: the keys of all registrations.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn read_keys(&self, device: impl AsFd) -> Result<RegisteredKeys, CommandError> {
        self.list(device, InServiceAction::ReadKeys, |data| {
            let list = Keys::parse(data).map_err(CommandError::Data)?;
            let (generation, is_complete) = (list.generation(), !list.is_truncated());
            Ok((RegisteredKeys { generation, keys: list.iter().collect(), is_complete }, is_complete))
        })
    }

    /// READ RESERVATION: the reservation, if there is one.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn read_reservation(&self, device: impl AsFd) -> Result<CurrentReservation, CommandError> {
        let data = self.read(device, InServiceAction::ReadReservation, FIRST_LENGTH)?;
        let data = ReservationData::parse(&data).map_err(CommandError::Data)?;
        let reservation = data.reservation().map_err(CommandError::Data)?;
        Ok(CurrentReservation { generation: data.generation(), reservation })
    }

    /// REPORT CAPABILITIES: what the device can do.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn report_capabilities(&self, device: impl AsFd) -> Result<Capabilities, CommandError> {
        let data = self.read(device, InServiceAction::ReportCapabilities, FIRST_LENGTH)?;
        Capabilities::parse(&data).map_err(CommandError::Data)
    }

    /// READ FULL STATUS: each registration with its I_T nexus.
    ///
    /// # Errors
    ///
    /// [`CommandError`]. Many devices do not know the command: CHECK CONDITION, INVALID FIELD IN CDB.
    pub fn read_full_status(&self, device: impl AsFd) -> Result<Registrations, CommandError> {
        self.list(device, InServiceAction::ReadFullStatus, |data| {
            let list = FullStatus::parse(data).map_err(CommandError::Data)?;
            let (generation, is_complete) = (list.generation(), !list.is_truncated());
            let registrations = list.iter().map(Registration::from).collect();
            Ok((Registrations { generation, registrations, is_complete }, is_complete))
        })
    }

    /// REGISTER: registers this I_T nexus (`reservation_key` zero), changes its key, or unregisters it
    /// (`service_action_key` zero).
    ///
    /// # Errors
    ///
    /// [`CommandError::Conflict`], if `reservation_key` is not the one that is registered.
    pub fn register(&self, device: impl AsFd, parameters: &BasicParameters<'_>) -> Result<(), CommandError> {
        self.change(device, OutServiceAction::Register, NO_TYPE, &OutParameters::Basic(*parameters))
    }

    /// REGISTER AND IGNORE EXISTING KEY: like [`register`](Self::register), whatever key this I_T nexus has.
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

    /// RESERVE: creates a reservation. `key` is the one that this I_T nexus has registered.
    ///
    /// # Errors
    ///
    /// [`CommandError::Conflict`], if `key` is not the one that is registered, or there is another reservation.
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
    /// [`CommandError::Conflict`], if `key` is not the one that is registered.
    pub fn release(
        &self,
        device: impl AsFd,
        key: ReservationKey,
        kind: ReservationType,
    ) -> Result<(), CommandError> {
        self.change(device, OutServiceAction::Release, kind, &keys(key, ReservationKey::ZERO))
    }

    /// CLEAR: removes the reservation and all registrations, of whomever they are.
    ///
    /// # Errors
    ///
    /// [`CommandError::Conflict`], if `key` is not the one that is registered.
    pub fn clear(&self, device: impl AsFd, key: ReservationKey) -> Result<(), CommandError> {
        self.change(device, OutServiceAction::Clear, NO_TYPE, &keys(key, ReservationKey::ZERO))
    }

    /// PREEMPT: removes the registrations that have the key `victim`, and if the reservation is theirs, takes it over
    /// with this type.
    ///
    /// # Errors
    ///
    /// [`CommandError::Conflict`], if `key` is not the one that is registered, or nobody has the key `victim`.
    pub fn preempt(
        &self,
        device: impl AsFd,
        key: ReservationKey,
        victim: ReservationKey,
        kind: ReservationType,
    ) -> Result<(), CommandError> {
        self.change(device, OutServiceAction::Preempt, kind, &keys(key, victim))
    }

    /// PREEMPT AND ABORT: [`preempt`](Self::preempt), and aborts the commands of those who are preempted.
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
    /// [`CommandError::Conflict`], if the key is not the one that is registered, or the reservation is another's.
    pub fn register_and_move(
        &self,
        device: impl AsFd,
        parameters: &RegisterAndMoveParameters<'_>,
    ) -> Result<(), CommandError> {
        let parameters = OutParameters::RegisterAndMove(*parameters);
        self.change(device, OutServiceAction::RegisterAndMove, NO_TYPE, &parameters)
    }

    /// Reads a list, and if it is cut, once more with all the room there is.
    fn list<T>(
        &self,
        device: impl AsFd,
        action: InServiceAction,
        parse: impl Fn(&[u8]) -> Result<(T, bool), CommandError>,
    ) -> Result<T, CommandError> {
        let (list, is_complete) = parse(&self.read(&device, action, FIRST_LENGTH)?)?;
        if is_complete {
            return Ok(list);
        }
        parse(&self.read(&device, action, WHOLE_LENGTH)?).map(|(list, _)| list)
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

/// TYPE of a service action that has none.
const NO_TYPE: ReservationType = ReservationType::Other(0);

fn keys(reservation_key: ReservationKey, service_action_key: ReservationKey) -> OutParameters<'static> {
    OutParameters::Basic(BasicParameters { reservation_key, service_action_key, ..Default::default() })
}

impl Completion {
    /// Whether the command succeeded, and if not, why.
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
