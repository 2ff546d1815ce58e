//! What a worker does with a command on a map.
//!
//! A change goes through the library, which makes it on all paths and has multipathd keep it. A question is put to the
//! paths themselves, one after the other until one answers: the library would do the same, but understands only some
//! of the answers, and its READ FULL STATUS writes beyond its buffers where some thirty ports are registered.

use std::{error::Error as _, io, os::fd::BorrowedFd, time::Duration};

use dm_ioctl::{Control, DeviceNumber, Flags};
use mpathpersist::{Failure, Generation, Library};
use pr_proto::{Command, Data};
use scsi_sense::{Sense, SenseCode, SenseKey, Status, opcode::TEST_UNIT_READY};

use super::{
    change::{Change, MULTIPATHD, Unmade},
    path::{self, Path},
};
use crate::{
    backend::{Cause, Outcome, scsi::Scsi},
    device::{self, Device, DeviceId, Disks, Kind, Refusal},
    logging,
};

/// What is needed to serve maps.
pub(super) struct Maps {
    library: Library,
    control: Control,
}

/// Why no map can be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Library(#[from] mpathpersist::OpenError),
    #[error(transparent)]
    DeviceMapper(#[from] dm_ioctl::Error),
}

impl OpenError {
    /// Whether multipath-tools is not installed. A library that does not load may be repaired at any time, so the next worker
    /// tries again.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Library(mpathpersist::OpenError::NotInstalled(_)))
    }
}

impl Maps {
    pub(super) fn open() -> Result<Self, OpenError> {
        // In this order: where the library is not, it does not matter what else is missing.
        Ok(Self { library: Library::open()?, control: Control::open()? })
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
        let is_change = matches!(command.data, Data::Out(_));
        let (id, number) = match identify(map, is_change) {
            Ok(DeviceId::Block { major, minor }) => {
                (DeviceId::Block { major, minor }, DeviceNumber { major, minor })
            }
            Ok(id) => return Outcome::Refused(Refusal::Unknown(id)),
            Err(refusal) => return Outcome::Refused(refusal),
        };
        // Each time: what was multipath may have been loaded with another table since.
        let table = match self.control.table(number) {
            Ok(table) if table.multipath_target().is_some() => table,
            Ok(_) => return Outcome::Refused(Refusal::DeviceMapper(id)),
            Err(error) => return device_mapper(&error),
        };
        match self.library.multipathd_is_running(MULTIPATHD) {
            Ok(true) => {}
            Ok(false) => return Outcome::Refused(Refusal::NoMultipathd(id)),
            // It is there, and the paths answer questions without it.
            Err(_) if !is_change => {}
            Err(error) => {
                say!("multipathd: {error}");
                return failed(SenseCode::IO_PROCESS_TERMINATED, Cause::Multipathd);
            }
        }
        let scsi = Scsi::new(timeout);
        let Data::Out(parameters) = command.data else { return self.ask(number, &scsi, command) };
        if table.flags.contains(Flags::SUSPEND) {
            // Then it is known who has suspended it: not the library.
            return Outcome::Failed { status: Status::BUSY, sense: None, cause: Cause::Suspended };
        }
        let change = Change {
            library: &mut self.library,
            control: &self.control,
            map,
            number,
            name: table.name.to_bytes(),
            scsi: &scsi,
        };
        match change.make(command.cdb, parameters) {
            Ok(()) => answer(Status::GOOD),
            Err(Unmade::Conflict) => answer(Status::RESERVATION_CONFLICT),
            Err(Unmade::Rejected(code)) => Outcome::Rejected(code),
            Err(Unmade::Failed(failure)) => self.explain(failure, number, timeout),
        }
    }

    /// If `map` is suspended, has it go on.
    ///
    /// From 0.13 on the library suspends a map while it moves a reservation from one key to another. A worker that ends just then
    /// leaves all input and output waiting.
    pub(super) fn resume(&self, map: BorrowedFd<'_>) -> Outcome {
        let Ok(Device { id: DeviceId::Block { major, minor }, kind: Kind::Map }) =
            Device::identify(map, &Disks::default())
        else {
            return failed(SenseCode::LU_COMMUNICATION_FAILURE, Cause::NoPath);
        };
        let number = DeviceNumber { major, minor };
        let resumed = self.control.table(number).and_then(|table| {
            let is_ours = self.library.version().generation >= Generation::From13;
            if is_ours && table.multipath_target().is_some() && table.flags.contains(Flags::SUSPEND) {
                say!("{}: was left suspended, and goes on now", table.name.to_bytes().escape_ascii());
                self.control.resume(number)?;
            }
            Ok(())
        });
        resumed.map_or_else(|error| device_mapper(&error), |()| answer(Status::GOOD))
    }

    /// Puts a question to one path after the other, until one has an answer that the others would have, too.
    fn ask(&self, map: DeviceNumber, scsi: &Scsi, command: &mut Command<'_>) -> Outcome {
        let paths = match path::of(&self.control, map) {
            Ok(paths) => paths,
            Err(error) => return device_mapper(&error),
        };
        let mut outcome = failed(SenseCode::LU_COMMUNICATION_FAILURE, Cause::NoPath);
        for path in paths.into_iter().filter_map(Path::open) {
            outcome = path.ask(scsi, command);
            match outcome {
                Outcome::Device { status: Status::GOOD | Status::RESERVATION_CONFLICT, .. } => break,
                Outcome::Device { status: Status::CHECK_CONDITION, .. } if is_illegal(command.sense) => break,
                // A path that is standing by, or busy, or gone.
                _ => {}
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
        failed(code, Cause::Library(failure.code()))
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

/// Which map a descriptor is of. The daemon has looked, too; but it has less to lose.
fn identify(map: BorrowedFd<'_>, is_change: bool) -> Result<DeviceId, Refusal> {
    let Device { id, kind } = Device::identify(map, &Disks::default())?;
    // Of what was opened as a path only, nothing may be asked either.
    let is_writable = device::is_writable(map)?;
    if kind == Kind::Map && (is_writable || !is_change) { Ok(id) } else { Err(Refusal::Unknown(id)) }
}

/// An answer without sense data or data.
fn answer(status: Status) -> Outcome {
    Outcome::Device { status, transferred: 0, sense_len: 0 }
}

fn failed(code: SenseCode, cause: Cause) -> Outcome {
    Outcome::Failed { status: Status::CHECK_CONDITION, sense: Some(code), cause }
}

fn device_mapper(error: &dm_ioctl::Error) -> Outcome {
    say!("{}", logging::with_sources(error));
    failed(SenseCode::IO_PROCESS_TERMINATED, Cause::DeviceMapper(errno(error)))
}

fn is_illegal(sense: &[u8]) -> bool {
    let code = Sense::parse(sense).ok().and_then(|sense| sense.code());
    code.is_some_and(|code| code.key == SenseKey::ILLEGAL_REQUEST)
}

/// The kernel's error number, if it was the kernel that failed.
fn errno(error: &dm_ioctl::Error) -> i32 {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.and_then(io::Error::raw_os_error).unwrap_or_default()
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
