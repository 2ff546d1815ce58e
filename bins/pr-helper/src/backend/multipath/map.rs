//! What a worker does with a command on a map.
//!
//! A change goes through the library, which makes it on all paths and has multipathd keep it. A question is put to the
//! paths themselves, one after the other until one answers: the library would do the same, but understands only some
//! of the answers, and its READ FULL STATUS writes beyond its buffers where some thirty ports are registered.

use std::{error::Error as _, io, os::fd::BorrowedFd, time::Duration};

use dm_ioctl::{Control, DeviceNumber, Flags};
use mpathpersist::{Error, Failure, Generation, Library};
use pr_proto::{Command, Data};
use scsi_sense::{
    Cdb, Sense, SenseCode, SenseKey, Status,
    opcode::TEST_UNIT_READY,
    pr::{
        BasicParameters, OutParameters, OutServiceAction, PersistentReserveOut, ReservationKey,
        ReservationType, Scope,
    },
};

use super::path::{self, Answered, Path, UNIT_ATTENTIONS};
use crate::{
    backend::{Backend as _, Cause, Outcome, scsi::Scsi},
    device::{Device, DeviceId, Kind, Refusal},
};

/// How long multipathd may take for an answer.
const MULTIPATHD: Duration = Duration::from_secs(10);

/// As many as multipath-tools know of.
const TRANSPORT_IDS_MAX: usize = 32;

/// What is needed to serve maps.
pub(super) struct Maps {
    library: Library,
    control: Control,
}

/// Why no map can be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0}")]
    Library(#[from] mpathpersist::OpenError),
    #[error("{0}")]
    DeviceMapper(#[from] dm_ioctl::Error),
}

impl Maps {
    pub(super) fn open() -> Result<Self, OpenError> {
        Ok(Self { control: Control::open()?, library: Library::open()? })
    }

    /// Which library it is.
    pub(super) fn version(&self) -> String {
        format!("libmpathpersist {}", self.library.version())
    }

    /// Runs `command` on `map`. Each path has `timeout` for it.
    pub(super) fn execute(
        &mut self,
        map: BorrowedFd<'_>,
        timeout: Duration,
        command: &mut Command<'_>,
    ) -> Outcome {
        let (id, number) = match Device::identify(map) {
            Ok(Device { id: id @ DeviceId::Block { major, minor }, kind: Kind::Map }) => {
                (id, DeviceNumber { major, minor })
            }
            Ok(Device { id, .. }) => return Outcome::Refused(Refusal::Unknown(id)),
            Err(refusal) => return Outcome::Refused(refusal),
        };
        // Each time: what was multipath may have been loaded with another table since.
        let name = match self.control.table(number) {
            Ok(table) if table.multipath_target().is_some() => table.name,
            Ok(_) => return Outcome::Refused(Refusal::DeviceMapper(id)),
            Err(error) => return device_mapper(&error),
        };
        match self.library.multipathd_is_running(MULTIPATHD) {
            Ok(true) => {}
            Ok(false) => return Outcome::Refused(Refusal::NoMultipathd(id)),
            Err(error) => {
                eprintln!("multipathd: {error}");
                return Outcome::Refused(Refusal::NoMultipathd(id));
            }
        }
        match command.data {
            Data::In(_) => self.ask(number, timeout, command),
            Data::Out(parameters) => {
                match self.change((map, number), name.to_bytes(), timeout, command.cdb, parameters) {
                    Ok(()) => answer(Status::GOOD),
                    Err(Unmade::Conflict) => answer(Status::RESERVATION_CONFLICT),
                    Err(Unmade::Rejected(code)) => Outcome::Rejected(code),
                    Err(Unmade::Failed(failure)) => self.explain(failure, number, timeout),
                }
            }
        }
    }

    /// If `map` is suspended, has it go on.
    ///
    /// The library suspends a map while it moves a reservation from one key to another. A worker that ends just then
    /// leaves all input and output waiting.
    pub(super) fn resume(&self, map: BorrowedFd<'_>) -> Outcome {
        let Ok(Device { id: DeviceId::Block { major, minor }, kind: Kind::Map }) = Device::identify(map)
        else {
            return NO_PATH;
        };
        let number = DeviceNumber { major, minor };
        let resumed = self.control.table(number).and_then(|table| {
            if table.multipath_target().is_some() && table.flags.contains(Flags::SUSPEND) {
                eprintln!("{}: was left suspended, and goes on now", table.name.to_bytes().escape_ascii());
                self.control.resume(number)?;
            }
            Ok(())
        });
        resumed.map_or_else(|error| device_mapper(&error), |()| answer(Status::GOOD))
    }

    fn change(
        &mut self,
        (map, number): (BorrowedFd<'_>, DeviceNumber),
        name: &[u8],
        timeout: Duration,
        cdb: &[u8],
        parameters: &[u8],
    ) -> Result<(), Unmade> {
        let (command, list) = parse(cdb, parameters)?;
        let Some(ids) = list.transport_ids else { return self.change_paths(map, name, command, &list) };
        if ids.iter().count() > TRANSPORT_IDS_MAX {
            return Err(Unmade::Rejected(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST));
        }
        // Who is registered may not register others, and who says so without being it meets a conflict.
        if list.reservation_key != ReservationKey(0) {
            return Err(if self.key_of(name) == Some(list.reservation_key) {
                Unmade::Rejected(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST)
            } else {
                Unmade::Conflict
            });
        }
        let paths = BasicParameters { transport_ids: None, ..list };
        self.change_paths(map, name, command, &paths)?;
        let answer = self.register_others(number, timeout, parameters, list.service_action_key);
        if answer.is_err() {
            // As it was: this host was not registered.
            let none = BasicParameters {
                reservation_key: list.service_action_key,
                service_action_key: ReservationKey(0),
                ..BasicParameters::default()
            };
            if let Err(error) =
                self.library.reserve_out(map, command.action, command.scope, command.kind, &none)
            {
                eprintln!("{}: remains registered, {error}", name.escape_ascii());
            }
        }
        answer
    }

    /// Makes a change on all paths, by the library.
    fn change_paths(
        &mut self,
        map: BorrowedFd<'_>,
        name: &[u8],
        PersistentReserveOut { action, scope, kind, .. }: PersistentReserveOut,
        list: &BasicParameters<'_>,
    ) -> Result<(), Unmade> {
        let BasicParameters { reservation_key: key, service_action_key, .. } = *list;
        let Err(error) = self.library.reserve_out(map, action, scope, kind, list) else {
            let is_preempt = matches!(action, OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort);
            if is_preempt && (service_action_key == key || service_action_key == ReservationKey(0)) {
                self.register_again(map, key)?;
            }
            return Ok(());
        };
        Err(match error {
            Error::Library(Failure::SyntaxError) if self.is_conflict(name, action, key) => Unmade::Conflict,
            // The library would have released what is not this guest's. A disk changes nothing and says GOOD, to those
            // that are registered.
            Error::NotReservationHolder(_) if self.key_of(name) == Some(key) => return Ok(()),
            Error::NotReservationHolder(_) | Error::Library(Failure::ReservationConflict) => Unmade::Conflict,
            Error::InvalidRelease(_) => {
                Unmade::Rejected(SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION)
            }
            Error::Library(failure) => Unmade::Failed(failure),
            Error::ServiceAction(_) => Unmade::Rejected(SenseCode::INVALID_FIELD_IN_CDB),
            _ => Unmade::Failed(Failure::Other),
        })
    }

    /// After a PREEMPT of the own key, which the disk takes from all paths but the one that it came by.
    ///
    /// Only from 0.13 on the library does this itself.
    fn register_again(&mut self, map: BorrowedFd<'_>, key: ReservationKey) -> Result<(), Unmade> {
        if self.library.version().generation >= Generation::From13 {
            return Ok(());
        }
        let list = BasicParameters { service_action_key: key, ..BasicParameters::default() };
        let action = OutServiceAction::RegisterAndIgnoreExistingKey;
        let (scope, kind) = (Scope::LogicalUnit, ReservationType::Other(0));
        self.library.reserve_out(map, action, scope, kind, &list).map_err(|error| {
            eprintln!("the own key was preempted, and could not be registered again with all paths: {error}");
            Unmade::Failed(error.failure().unwrap_or(Failure::Other))
        })
    }

    /// Has one path register the TransportIDs of a REGISTER that has been made, without them, on all paths.
    ///
    /// The library cannot: its threads share the parameter list, and the first to be started takes SPEC_I_PT out of it
    /// for all. The command then succeeds, and nobody else is registered. A disk takes TransportIDs only from who is
    /// not registered yet, so the path is unregistered first; nothing is lost by that, as a moment ago it was not.
    fn register_others(
        &self,
        map: DeviceNumber,
        timeout: Duration,
        parameters: &[u8],
        key: ReservationKey,
    ) -> Result<(), Unmade> {
        let undone = BasicParameters {
            reservation_key: key,
            service_action_key: ReservationKey(0),
            ..BasicParameters::default()
        };
        let redone = BasicParameters { service_action_key: key, ..BasicParameters::default() };
        let scsi = Scsi::new(timeout);
        let paths = path::of(&self.control, map).unwrap_or_default();
        for path in paths.into_iter().filter_map(Path::open) {
            if path.change(&scsi, OutServiceAction::Register, &undone.to_bytes()) != Answered::Good {
                continue;
            }
            let answered = path.change(&scsi, OutServiceAction::Register, parameters);
            if answered == Answered::Good {
                return Ok(());
            }
            path.change(&scsi, OutServiceAction::Register, &redone.to_bytes());
            return Err(match answered {
                Answered::Status(Status::RESERVATION_CONFLICT) => Unmade::Conflict,
                Answered::Sense(code) => Unmade::Rejected(code),
                _ => Unmade::Failed(Failure::Other),
            });
        }
        Err(Unmade::Failed(Failure::Other))
    }

    /// The key that multipathd has on record for the map; none also if it does not say.
    fn key_of(&self, name: &[u8]) -> Option<ReservationKey> {
        self.library.registered_key(name, MULTIPATHD).unwrap_or_else(|error| {
            eprintln!("{}: multipathd does not tell the key: {error}", name.escape_ascii());
            None
        })
    }

    /// Whether the library, which does not even ask a path about a key that it was not told of, has stopped one that no
    /// path would have taken.
    ///
    /// It takes no key but the one in its configuration or in multipathd's file. A guest that uses a key that is not
    /// its own any more, as one does that has been preempted, must be told of the conflict.
    fn is_conflict(&self, name: &[u8], action: OutServiceAction, key: ReservationKey) -> bool {
        let known = self.key_of(name);
        match action {
            OutServiceAction::RegisterAndIgnoreExistingKey => false,
            OutServiceAction::Register => key != ReservationKey(0) && known.is_some_and(|known| known != key),
            // These take the key that is registered. If there is none, nothing is.
            _ => known != Some(key),
        }
    }

    /// Puts a question to one path after the other.
    fn ask(&self, map: DeviceNumber, timeout: Duration, command: &mut Command<'_>) -> Outcome {
        let paths = match path::of(&self.control, map) {
            Ok(paths) => paths,
            Err(error) => return device_mapper(&error),
        };
        let scsi = Scsi::new(timeout);
        let mut outcome = NO_PATH;
        for path in paths.into_iter().filter_map(Path::open) {
            for _ in 0..=UNIT_ATTENTIONS {
                // Nothing of an answer that did not come through.
                command.sense.fill(0);
                if let Data::In(data) = &mut command.data {
                    data.fill(0);
                }
                outcome = scsi.execute(path.target(), command);
                if !has_unit_attention(outcome, command.sense) {
                    break;
                }
            }
            if let Outcome::Device { .. } = outcome {
                break;
            }
        }
        outcome
    }

    /// What a failure of the library comes to for the guest. Of sense data the library tells only the key; where there
    /// is more to know, the paths are asked.
    fn explain(&self, failure: Failure, map: DeviceNumber, timeout: Duration) -> Outcome {
        let code = match failure {
            Failure::SenseNotReady => self.ready(map, timeout, SenseCode::NOT_READY),
            Failure::SenseMediumError => self.ready(map, timeout, SenseCode::UNRECOVERED_READ_ERROR),
            Failure::SenseHardwareError => self.ready(map, timeout, SenseCode::INTERNAL_TARGET_FAILURE),
            Failure::SenseAbortedCommand => self.ready(map, timeout, SenseCode::IO_PROCESS_TERMINATED),
            Failure::SenseUnitAttention => SenseCode::SCSI_BUS_RESET_OCCURRED,
            Failure::SenseInvalidOperation => SenseCode::INVALID_OPCODE,
            Failure::IllegalRequest => SenseCode::INVALID_FIELD_IN_PARAMETER_LIST,
            Failure::NoSense => SenseCode::NO_SENSE,
            _ => SenseCode::LU_COMMUNICATION_FAILURE,
        };
        Outcome::Failed {
            status: Status::CHECK_CONDITION,
            sense: Some(code),
            cause: Cause::Library(failure.code()),
        }
    }

    /// The sense of the first path that answers TEST UNIT READY with the same sense key as `general`, or else that.
    fn ready(&self, map: DeviceNumber, timeout: Duration, general: SenseCode) -> SenseCode {
        let paths = path::of(&self.control, map).unwrap_or_default();
        let specific = paths.into_iter().filter_map(Path::open).find_map(|path| {
            let code = test_unit_ready(&path, timeout)?;
            (code.key == general.key).then_some(code)
        });
        specific.unwrap_or(general)
    }
}

fn test_unit_ready(path: &Path, timeout: Duration) -> Option<SenseCode> {
    let mut buffer = [0; 96];
    let completion = sg_io::Command::new(&[TEST_UNIT_READY, 0, 0, 0, 0, 0])
        .sense(&mut buffer)
        .timeout(timeout)
        .execute(path.descriptor())
        .ok()?;
    let sense = buffer.get(..completion.sense_len.into())?;
    Sense::parse(sense).ok().filter(|_| completion.status == Status::CHECK_CONDITION.0)?.code()
}

/// An answer without sense data or data.
fn answer(status: Status) -> Outcome {
    Outcome::Device { status, transferred: 0, sense_len: 0 }
}

const NO_PATH: Outcome = Outcome::Failed {
    status: Status::CHECK_CONDITION,
    sense: Some(SenseCode::LU_COMMUNICATION_FAILURE),
    cause: Cause::NoPath,
};

fn device_mapper(error: &dm_ioctl::Error) -> Outcome {
    eprintln!("{error}");
    Outcome::Failed {
        status: Status::CHECK_CONDITION,
        sense: Some(SenseCode::IO_PROCESS_TERMINATED),
        cause: Cause::DeviceMapper(errno(error)),
    }
}

/// The kernel's error number, if it was the kernel that failed.
fn errno(error: &dm_ioctl::Error) -> i32 {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.and_then(io::Error::raw_os_error).unwrap_or_default()
}

fn has_unit_attention(outcome: Outcome, sense: &[u8]) -> bool {
    matches!(outcome, Outcome::Device { status: Status::CHECK_CONDITION, .. })
        && Sense::parse(sense)
            .is_ok_and(|sense| sense.code().is_some_and(|code| code.key == SenseKey::UNIT_ATTENTION))
}

/// Why a change was not made.
enum Unmade {
    /// It cannot be made on a map, or by nobody.
    Rejected(SenseCode),
    /// RESERVATION CONFLICT.
    Conflict,
    Failed(Failure),
}

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

/// What a code of the library means, and what to do about it.
pub(crate) fn advice(code: i32) -> String {
    match Failure::new(code) {
        // The one that everybody meets.
        Some(Failure::SyntaxError) => "libmpathpersist takes no key for this map, or another one: put the line \"reservation_key file\" into the section \"defaults\" of /etc/multipath.conf, then mkdir -p /etc/multipath && multipathd reconfigure".into(),
        Some(failure) => format!("libmpathpersist: {failure}: {}", failure.advice()),
        None => "libmpathpersist said that it succeeded".into(),
    }
}
