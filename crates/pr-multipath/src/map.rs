//! Runs a command on a map, in a worker.
//!
//! A change goes through the library, which makes it on all paths and has multipathd keep it. A command that reads is sent to
//! the paths directly, one after the other until one answers: the library would do the same, but understands only some
//! of the answers, and its READ FULL STATUS writes beyond its buffers if some thirty ports are registered.

use std::{os::fd::BorrowedFd, time::Duration};

use dm_ioctl::{Control, DeviceNumber, Flags};
use mpathpersist::{Failure, Generation, Library};
use pr_backend::{
    Cause, Descriptor, DescriptorKind, DeviceId, Disks, Failure as Unanswered, NotServed, Outcome, Refusal,
    Scsi,
};
use pr_proto::{Command, Data, SENSE_LEN};
use scsi_sense::{Sense, SenseCode, SenseKey, Status, opcode::TEST_UNIT_READY};

use crate::{
    cause,
    change::Change,
    change_error::ChangeError,
    map_state::{MULTIPATHD, MapState},
    path::{self, Path},
    refusal,
    worker_log::worker_log,
};

/// Serves maps: the library and the device-mapper, opened.
pub(crate) struct Maps {
    library: Library,
    control: Control,
}

/// The reason why no map can be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Library(#[from] mpathpersist::OpenError),
    #[error(transparent)]
    DeviceMapper(#[from] dm_ioctl::Error),
}

impl OpenError {
    /// Returns whether multipath-tools is not installed. A library that is installed and does not work may be repaired at
    /// any time, so the next worker tries again.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Library(mpathpersist::OpenError::NotInstalled(_)))
    }
}

impl Maps {
    /// Opens the library and the device-mapper.
    pub(crate) fn open() -> Result<Self, OpenError> {
        // The library first: without it, a missing device-mapper does not matter.
        Ok(Self { library: Library::open()?, control: Control::open()? })
    }

    /// Returns name and version of the library.
    pub(crate) fn version(&self) -> String {
        format!("libmpathpersist {}", self.library.version())
    }

    /// Runs `command` on `map`. Each path has `timeout` for it.
    pub(crate) fn execute(
        &mut self,
        map: BorrowedFd<'_>,
        timeout: Duration,
        command: &mut Command<'_>,
    ) -> Outcome {
        let is_change = matches!(command.data, Data::Out(_));
        let number = match number(map) {
            Ok(number) => number,
            Err(not_served) => return not_served.into(),
        };
        let id = DeviceId::Block { major: number.major, minor: number.minor };
        // The daemon has checked the mode already. A worker has more privileges, so it checks again.
        match pr_backend::is_writable(map) {
            Ok(is_writable) if is_writable || !is_change => {}
            Ok(_) => return Outcome::Refused(Refusal::read_only(id)),
            Err(not_served) => return not_served.into(),
        }
        // For each command: another table may have been loaded into the map since the last.
        let table = match self.control.table(number) {
            Ok(table) if table.multipath_target().is_some() => table,
            Ok(_) => return Outcome::Refused(refusal::other_map(id)),
            Err(error) => return device_mapper(&error),
        };
        let scsi = Scsi::new(timeout);
        // The paths answer commands that read without multipathd.
        let Data::Out(parameters) = command.data else { return self.ask(number, &scsi, command) };
        match self.library.multipathd_is_running(MULTIPATHD) {
            Ok(true) => {}
            Ok(false) => return Outcome::Refused(refusal::no_multipathd(id)),
            Err(error) => {
                return match cause::of_shortage_with_multipathd(&error) {
                    Some(cause) => busy(cause),
                    None => failed(SenseCode::IO_PROCESS_TERMINATED, cause::multipathd(&error)),
                };
            }
        }
        if table.flags.contains(Flags::SUSPEND) {
            // Not suspended by the library: one worker at a time calls it for a map.
            return busy(cause::suspended());
        }
        let state = MapState {
            library: &mut self.library,
            control: &self.control,
            map,
            number,
            name: table.name.to_bytes(),
            scsi: &scsi,
        };
        match Change::new(state).make(command.cdb, parameters) {
            Ok(()) => Outcome::bare(Status::GOOD),
            Err(error) => outcome_of(error, |failure| self.explain(failure, number, timeout)),
        }
    }

    /// Resumes `map` if it is suspended.
    ///
    /// From 0.13 on the library suspends a map while it moves a reservation from one key to another. A worker that exits
    /// meanwhile leaves all I/O of the map waiting.
    pub(crate) fn resume(&self, map: BorrowedFd<'_>) -> Outcome {
        let number = match number(map) {
            Ok(number) => number,
            Err(not_served) => return not_served.into(),
        };
        let resumed = self.control.table(number).and_then(|table| {
            let library_suspends_maps = self.library.version().generation >= Generation::From13;
            if library_suspends_maps
                && table.multipath_target().is_some()
                && table.flags.contains(Flags::SUSPEND)
            {
                worker_log!("{}: was left suspended and is resumed", table.name.to_bytes().escape_ascii());
                self.control.resume(number)?;
            }
            Ok(())
        });
        resumed.map_or_else(|error| device_mapper(&error), |()| Outcome::bare(Status::GOOD))
    }

    /// Sends a command that reads to one path after the other, until a path gives an answer that the others would give too.
    /// If none does, the first answer of a path is returned, or that a path could not be asked for a shortage.
    fn ask(&self, map: DeviceNumber, scsi: &Scsi, command: &mut Command<'_>) -> Outcome {
        let paths = match path::of(&self.control, map) {
            Ok(paths) => paths,
            Err(error) => return device_mapper(&error),
        };
        let mut first = None;
        let mut sense_of_first = [0; SENSE_LEN];
        for path in paths {
            let outcome = match Path::open(path) {
                Ok(Some(path)) => path.ask(scsi, command),
                Ok(None) => continue,
                Err(cause) => busy(cause),
            };
            match outcome {
                Outcome::Device { status: Status::GOOD | Status::RESERVATION_CONFLICT, .. } => {
                    return outcome;
                }
                Outcome::Device { status: Status::CHECK_CONDITION, .. } if is_illegal(command.sense) => {
                    return outcome;
                }
                // The path is standing by, busy, or gone.
                _ if tells_more(&outcome, first.as_ref()) => {
                    first = Some(outcome);
                    sense_of_first.iter_mut().zip(command.sense.iter()).for_each(|(to, from)| *to = *from);
                }
                _ => {}
            }
        }
        command.sense.iter_mut().zip(sense_of_first).for_each(|(to, from)| *to = from);
        first.unwrap_or_else(|| failed(SenseCode::LU_COMMUNICATION_FAILURE, cause::no_path()))
    }

    /// Returns the outcome of a failure of the library. The library returns only the sense key of sense data; if a path may
    /// tell more, the paths are asked.
    fn explain(&self, failure: Failure, map: DeviceNumber, timeout: Duration) -> Outcome {
        let code = match sense_of(failure) {
            (general, Precision::OfKey) => self.refine_sense(map, timeout, general),
            (code, Precision::Full) => code,
        };
        failed(code, cause::library(failure))
    }

    /// Sends TEST UNIT READY to the paths; returns the first sense code with the same sense key as `general`, or `general`.
    fn refine_sense(&self, map: DeviceNumber, timeout: Duration, general: SenseCode) -> SenseCode {
        let paths = path::of(&self.control, map).unwrap_or_default();
        let specific = paths.into_iter().find_map(|path| {
            let code = test_unit_ready(&Path::open(path).ok()??, timeout)?;
            (code.key == general.key).then_some(code)
        });
        specific.unwrap_or(general)
    }
}

/// Precision of the sense code that a failure of the library stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precision {
    /// The sense key alone. A path may return the whole code.
    OfKey,
    /// The whole sense code.
    Full,
}

/// Returns the sense code of a failure of the library. Invariant: its sense key never reads as success.
fn sense_of(failure: Failure) -> (SenseCode, Precision) {
    match failure {
        Failure::SenseNotReady => (SenseCode::NOT_READY, Precision::OfKey),
        Failure::SenseMediumError => (SenseCode::UNRECOVERED_READ_ERROR, Precision::OfKey),
        Failure::SenseHardwareError => (SenseCode::INTERNAL_TARGET_FAILURE, Precision::OfKey),
        Failure::SenseAbortedCommand => (SenseCode::IO_PROCESS_TERMINATED, Precision::OfKey),
        Failure::SenseUnitAttention => (SenseCode::SCSI_BUS_RESET_OCCURRED, Precision::Full),
        Failure::SenseInvalidOperation => (SenseCode::INVALID_OPCODE, Precision::Full),
        Failure::IllegalRequest => (SenseCode::INVALID_FIELD_IN_PARAMETER_LIST, Precision::Full),
        // CHECK CONDITION without sense.
        Failure::NoSense => (SenseCode::IO_PROCESS_TERMINATED, Precision::Full),
        _ => (SenseCode::LU_COMMUNICATION_FAILURE, Precision::Full),
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

/// Returns the number of the map that a descriptor refers to. The daemon has examined it already; a worker has more
/// privileges, so it examines it again.
fn number(map: BorrowedFd<'_>) -> Result<DeviceNumber, NotServed> {
    match Descriptor::examine(map, &Disks::default())?.kind() {
        DescriptorKind::Map(DeviceId::Block { major, minor }) => Ok(DeviceNumber { major, minor }),
        _ => Err(refusal::no_map().into()),
    }
}

/// Returns the outcome of a change that was not made. BUSY means that nothing was sent, so that the guest repeats the command.
fn outcome_of(error: ChangeError, explain: impl FnOnce(Failure) -> Outcome) -> Outcome {
    match error {
        ChangeError::Conflict => Outcome::bare(Status::RESERVATION_CONFLICT),
        ChangeError::Rejected(code) => Outcome::Rejected(code),
        ChangeError::Failed(failure) => explain(failure),
        ChangeError::Shortage(cause) => busy(cause),
        ChangeError::CutShort(cause) => failed(SenseCode::IO_PROCESS_TERMINATED, cause),
    }
}

/// Returns whether the outcome on one path tells more than that on an earlier one: a path's own answer and a shortage of this
/// host do, other failures do not.
fn tells_more(outcome: &Outcome, earlier: Option<&Outcome>) -> bool {
    let tells = |outcome: &Outcome| match outcome {
        Outcome::Device { .. } => true,
        Outcome::Failed(failure) => failure.status() == Status::BUSY,
        _ => false,
    };
    earlier.is_none_or(|earlier| tells(outcome) && !tells(earlier))
}

fn failed(code: SenseCode, cause: Cause) -> Outcome {
    Outcome::Failed(Unanswered::check_condition(code, cause))
}

fn busy(cause: Cause) -> Outcome {
    Outcome::Failed(Unanswered::busy(cause))
}

fn device_mapper(error: &dm_ioctl::Error) -> Outcome {
    match cause::of_shortage(error) {
        Some(cause) => busy(cause),
        None => failed(SenseCode::IO_PROCESS_TERMINATED, cause::device_mapper(error)),
    }
}

fn is_illegal(sense: &[u8]) -> bool {
    let code = Sense::parse(sense).ok().and_then(|sense| sense.code());
    code.is_some_and(|code| code.key == SenseKey::ILLEGAL_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_not_begun_are_busy() {
        let shortage = || Cause::new("shortage", "no descriptors");
        let answer = |error| match outcome_of(error, |_| panic!("no failure of the library")) {
            Outcome::Failed(failure) => (failure.status(), failure.sense()),
            other => panic!("{other:?}"),
        };
        assert_eq!(answer(ChangeError::Shortage(shortage())), (Status::BUSY, None));
        let aborted = (Status::CHECK_CONDITION, Some(SenseCode::IO_PROCESS_TERMINATED));
        assert_eq!(answer(ChangeError::Shortage(shortage()).after_begin()), aborted);
    }

    #[test]
    fn first_answer_of_a_path_is_kept() {
        let lost = failed(SenseCode::LU_COMMUNICATION_FAILURE, Cause::new("transport", "the path is gone"));
        let shortage = busy(Cause::new("shortage", "no descriptors"));
        let answer = Outcome::Device { status: Status::CHECK_CONDITION, transferred: 0, sense_len: 8 };
        for telling in [&shortage, &answer] {
            assert!(tells_more(telling, Some(&lost)));
            assert!(!tells_more(&lost, Some(telling)));
            assert!(!tells_more(&answer, Some(telling)) && !tells_more(&shortage, Some(telling)));
        }
        assert!(tells_more(&lost, None) && !tells_more(&lost, Some(&lost)));
    }

    #[test]
    fn no_library_code_reads_as_success() {
        for failure in (-300..300).filter_map(Failure::new) {
            let (code, _) = sense_of(failure);
            assert!(code.key.is_failure(), "{failure:?}: {code}");
            let outcome = failed(code, cause::library(failure));
            assert_eq!(outcome.completion(&mut [0; 96]).status, Status::CHECK_CONDITION);
        }
        let (code, _) = sense_of(Failure::NoSense);
        assert_eq!(code, SenseCode::IO_PROCESS_TERMINATED);
    }
}
