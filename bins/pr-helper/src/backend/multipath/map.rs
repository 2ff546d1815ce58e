//! What a worker does with a command on a map.
//!
//! A change goes through the library, which makes it on all paths and has multipathd keep it. A question is put to the
//! paths themselves, one after the other until one answers: the library would do the same, but understands only some
//! of the answers, and its READ FULL STATUS writes beyond its buffers where some thirty ports are registered.

use std::{fmt, os::fd::BorrowedFd, time::Duration};

use dm_ioctl::{Control, DeviceNumber};
use mpathpersist::{Library, PrError};
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
                Ok(()) => GOOD,
                Err(Refused::Rejected(code)) => Outcome::Rejected(code),
                Err(Refused::Failed(error)) => self.explain(error, number, timeout),
            },
        }
    }

    fn change(
        &mut self,
        map: BorrowedFd<'_>,
        name: &[u8],
        cdb: &[u8],
        parameters: &[u8],
    ) -> Result<(), Refused> {
        let (command, list) = parse(cdb, parameters)?;
        let PersistentReserveOut { action, scope, kind, .. } = command;
        match self.library.reserve_out(map, action, scope, kind, &list) {
            Err(PrError::SyntaxError) if self.knows_another_key(name, action, list.reservation_key) => {
                Err(Refused::Failed(PrError::ReservationConflict))
            }
            Err(error) => Err(error.into()),
            Ok(()) => Ok(()),
        }
    }

    /// Whether the library, which would not even ask a path, has stopped a key that no path would have taken.
    ///
    /// It takes no key but the one in its configuration or multipathd's file. A guest that uses a key that is not its
    /// own, as one does that has been preempted, must be told of the conflict.
    fn knows_another_key(&self, name: &[u8], action: OutServiceAction, key: ReservationKey) -> bool {
        match action {
            OutServiceAction::RegisterAndIgnoreExistingKey => false,
            OutServiceAction::Register => {
                key != ReservationKey(0) && self.library.key_of(name).is_some_and(|known| known != key)
            }
            // These must have the key that is registered. If there is none, nothing is.
            _ => self.library.key_of(name) != Some(key),
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
        for path in paths.iter().filter_map(|number| Path::open(*number)) {
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

    /// What a failure of the library comes to for the guest. The library tells of sense data only the key: where there
    /// is more to know, the paths are asked for it.
    fn explain(&self, error: PrError, map: DeviceNumber, timeout: Duration) -> Outcome {
        let (status, sense) = meaning(error);
        let asked = match error {
            PrError::NotReady | PrError::MediumError | PrError::HardwareError | PrError::AbortedCommand => {
                sense.and_then(|code| self.test_unit_ready(map, timeout, code.key))
            }
            _ => None,
        };
        if error == PrError::ReservationConflict {
            return Outcome::Device { status, transferred: 0, sense_len: 0 };
        }
        Outcome::Failed { status, sense: asked.or(sense), cause: Cause::Library(error.code()) }
    }

    /// The sense of the first path that is not ready for a reason of this kind.
    fn test_unit_ready(&self, map: DeviceNumber, timeout: Duration, key: SenseKey) -> Option<SenseCode> {
        path::of(&self.control, map).ok()?.iter().filter_map(|number| Path::open(*number)).find_map(|path| {
            let mut sense = [0; 96];
            let completion = sg_io::Command::new(&[TEST_UNIT_READY, 0, 0, 0, 0, 0])
                .sense(&mut sense)
                .timeout(timeout)
                .execute(path.descriptor())
                .ok()?;
            let sense = sense.get(..completion.sense_len.into())?;
            let code = Sense::parse(sense).ok()?.code()?;
            (completion.status == Status::CHECK_CONDITION.0 && code.key == key).then_some(code)
        })
    }
}

const GOOD: Outcome = Outcome::Device { status: Status::GOOD, transferred: 0, sense_len: 0 };

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
enum Refused {
    /// It cannot be made on a map, or by nobody.
    Rejected(SenseCode),
    Failed(PrError),
}

impl From<PrError> for Refused {
    fn from(error: PrError) -> Self {
        Self::Failed(error)
    }
}

/// Reads a change, as far as it can be made on a map.
fn parse<'a>(
    cdb: &[u8],
    parameters: &'a [u8],
) -> Result<(PersistentReserveOut, BasicParameters<'a>), Refused> {
    let in_cdb = || Refused::Rejected(SenseCode::INVALID_FIELD_IN_CDB);
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
        Err(error) => Err(Refused::Rejected(error.sense_code())),
    }
}
