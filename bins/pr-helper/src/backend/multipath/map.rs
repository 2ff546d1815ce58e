//! What a worker does with a command on a map.
//!
//! A change goes through the library, which makes it on all paths and has multipathd keep it. A question is put to the
//! paths themselves, one after the other until one answers: the library would do the same, but understands only some
//! of the answers, and its READ FULL STATUS writes beyond its buffers where some thirty ports are registered.

use std::{os::fd::BorrowedFd, time::Duration};

use dm_ioctl::{Control, DeviceNumber, State};
use mpathpersist::{Error, Failure, Library};
use pr_proto::{Command, Data};
use scsi_sense::{
    Cdb, Sense, SenseCode, SenseKey, Status,
    opcode::TEST_UNIT_READY,
    pr::{
        BasicParameters, OutParameters, OutServiceAction, PersistentReserveOut, ReservationKey,
        ReservationType, Scope,
    },
};

use super::path::{self, Path};
use crate::{
    backend::{Backend as _, Cause, Outcome, scsi::Scsi},
    device::{Device, DeviceId, Kind, Refusal},
};

/// How often a path is asked again that has a unit attention to report. It is about that path, and most often about
/// what was done by another: the library does not tell it either.
const UNIT_ATTENTIONS: usize = 5;

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
        self.library.version().to_string()
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
            Ok(table) if table.is_multipath() => table.name,
            Ok(_) => return Outcome::Refused(Refusal::DeviceMapper(id)),
            Err(error) => return device_mapper(&error),
        };
        if !self.library.multipathd_is_running() {
            return Outcome::Refused(Refusal::NoMultipathd(id));
        }
        match command.data {
            Data::In(_) => self.ask(number, timeout, command),
            Data::Out(parameters) => match self.change(map, &name, command.cdb, parameters) {
                Ok(()) => answer(Status::GOOD),
                Err(Unmade::Conflict) => answer(Status::RESERVATION_CONFLICT),
                Err(Unmade::Rejected(code)) => Outcome::Rejected(code),
                Err(Unmade::Failed(failure)) => self.explain(failure, number, timeout),
            },
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
            if table.is_multipath() && table.state.contains(State::SUSPENDED) {
                eprintln!("{}: was left suspended, and goes on now", table.name.escape_ascii());
                self.control.resume(number)?;
            }
            Ok(())
        });
        resumed.map_or_else(|error| device_mapper(&error), |()| answer(Status::GOOD))
    }

    fn change(
        &mut self,
        map: BorrowedFd<'_>,
        name: &[u8],
        cdb: &[u8],
        parameters: &[u8],
    ) -> Result<(), Unmade> {
        let (command, list) = parse(cdb, parameters)?;
        let PersistentReserveOut { action, scope, kind, .. } = command;
        let Err(error) = self.library.reserve_out(map, action, scope, kind, &list) else { return Ok(()) };
        Err(match error {
            Error::Library(Failure::SyntaxError) if self.is_conflict(name, action, list.reservation_key) => {
                Unmade::Conflict
            }
            // The library would have released what is not this guest's. A disk changes nothing and says GOOD, to those
            // that are registered.
            Error::NotReservationHolder(_) if self.library.key_of(name) == Some(list.reservation_key) => {
                return Ok(());
            }
            Error::NotReservationHolder(_) => Unmade::Conflict,
            Error::InvalidRelease(_) => {
                Unmade::Rejected(SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION)
            }
            Error::Library(Failure::ReservationConflict) => Unmade::Conflict,
            Error::Library(failure) => Unmade::Failed(failure),
            Error::ServiceAction(_) => Unmade::Rejected(SenseCode::INVALID_FIELD_IN_CDB),
            Error::SpecifyInitiatorPorts(_)
            | Error::TransportIdCount(_)
            | Error::TransportId { .. }
            | Error::ParameterListLength(_) => Unmade::Rejected(SenseCode::INVALID_FIELD_IN_PARAMETER_LIST),
            _ => Unmade::Failed(Failure::Other),
        })
    }

    /// Whether the library, which does not even ask a path about a key that it was not told of, has stopped one that no
    /// path would have taken.
    ///
    /// It takes no key but the one in its configuration or in multipathd's file. A guest that uses a key that is not
    /// its own any more, as one does that has been preempted, must be told of the conflict.
    fn is_conflict(&self, name: &[u8], action: OutServiceAction, key: ReservationKey) -> bool {
        let known = self.library.key_of(name);
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
                outcome = scsi.execute(path.descriptor(), path.device(), command);
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
    Outcome::Failed {
        status: Status::CHECK_CONDITION,
        sense: Some(SenseCode::IO_PROCESS_TERMINATED),
        cause: Cause::DeviceMapper(error.errno().unwrap_or_default()),
    }
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
