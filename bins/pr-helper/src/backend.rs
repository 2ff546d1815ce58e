//! What runs a command. A new kind of device is a new file here, and a line where devices are told apart
//! ([`Device::identify`](crate::device::Device::identify)).

pub(crate) mod emulated;
pub(crate) mod multipath;
mod scsi;

use std::{fmt, os::fd::BorrowedFd, sync::Arc, time::Duration};

use pr_proto::{Command, Completion};
use scsi_sense::{SenseCode, Status};

use crate::device::{Device, Disks, Kind, Refusal, Unavailable};

/// Runs commands on devices of one kind.
pub(crate) trait Backend: Send + Sync {
    /// Runs `command` on `target`, which is of this backend's kind, and waits for its end.
    fn execute(&self, target: Target<'_>, command: &mut Command<'_>) -> Outcome;
}

/// What a command is for, and from where it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) descriptor: BorrowedFd<'a>,
    pub(crate) device: Device,
    /// By which of the listening sockets it came: the first is 0.
    pub(crate) listener: usize,
}

/// How a command ended, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The device's own answer. Its sense data, if any, is in the command's buffer.
    Device { status: Status, transferred: usize, sense_len: usize },
    /// The device did not answer: this stands for what happened instead. Never GOOD.
    Failed { status: Status, sense: Option<SenseCode>, cause: Cause },
    /// Nothing was sent to the device, since the command cannot succeed.
    Rejected(SenseCode),
    /// Nothing was sent to the device, since this helper does not serve it.
    Refused(Refusal),
}

/// What kept a device from answering, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The kernel did not take the command.
    Errno(i32),
    /// The kernel took the command, and something failed on the way.
    Transport { status: u8, host_status: u16, driver_status: u16 },
    /// libmpathpersist returned this (`MPATH_PR_*`).
    Library(i32),
    /// The device-mapper did not tell what a map is.
    DeviceMapper(i32),
    /// No path of a map could be asked.
    NoPath,
    /// multipathd is there, and does not answer.
    Multipathd,
    /// The map is suspended, and not by us.
    Suspended,
    /// The process that the command was given to.
    Worker(WorkerFault),
    /// The state of a file's reservations cannot be read or kept. The log says why.
    State,
}

/// What happened to a worker process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerFault {
    /// The supervisor process has gone, so there can be no more workers.
    NoSupervisor,
    /// It could not be started, or ended before it was ready.
    NotStarted,
    /// It ended during the command.
    Ended,
    /// It took too long and was killed.
    Late,
    /// The worker of an earlier command was lost, and has not ended yet.
    Unfinished,
    /// What it said made no sense. It was killed.
    Nonsense,
    /// The system refused a socket or a pipe.
    System(i32),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "SG_IO: {}", std::io::Error::from_raw_os_error(*errno)),
            Self::Transport { status, host_status, driver_status } => write!(
                f,
                "host_status {host_status:02X}h, driver_status {driver_status:02X}h, status {status:02X}h"
            ),
            Self::Library(code) => multipath::advice(*code).fmt(f),
            Self::DeviceMapper(errno) => {
                write!(f, "device-mapper: {}", std::io::Error::from_raw_os_error(*errno))
            }
            Self::NoPath => f.write_str(
                "no path of the map could be opened: see what \"multipath -ll\" and \"dmesg\" say of its paths",
            ),
            Self::Multipathd => f.write_str(
                "multipathd is there and does not answer: see \"systemctl status multipathd\", and the lines before",
            ),
            Self::Suspended => f.write_str("the map is suspended (\"dmsetup info\"): \"dmsetup resume\" it when whoever did that is done"),
            Self::Worker(fault) => fault.fmt(f),
            Self::State => f.write_str("its reservations cannot be read or kept: see the line before"),
        }
    }
}

impl fmt::Display for WorkerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSupervisor => f.write_str("the multipath supervisor process has gone: restart pr-helper"),
            Self::NotStarted => f.write_str("no multipath worker process could be started: see the lines before"),
            Self::Ended => f.write_str("the multipath worker process ended during the command"),
            Self::Late => f.write_str(
                "the command took too long and its multipath worker process was killed: see what \"multipath -ll\" says of the map's paths",
            ),
            Self::Unfinished => f.write_str(
                "the worker process of an earlier command still waits for a path of the map: see what \"multipath -ll\" and \"dmesg\" say",
            ),
            Self::Nonsense => f.write_str("the multipath worker process gave no sensible answer and was killed"),
            Self::System(errno) => {
                write!(f, "a multipath worker process: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl Outcome {
    /// As it goes into the reply. Sense data that is not the device's own is written to `sense`.
    pub(crate) fn completion(self, sense: &mut [u8]) -> Completion {
        let (status, code) = match self {
            Self::Device { status, transferred, sense_len } => {
                return Completion { status, transferred, sense_len };
            }
            Self::Failed { status, sense, .. } => failure(status, sense),
            Self::Rejected(code) => failure(Status::CHECK_CONDITION, Some(code)),
            Self::Refused(_) => failure(Status::CHECK_CONDITION, Some(SenseCode::INVALID_OPCODE)),
        };
        let sense_len = code.map_or(0, |code| {
            let fixed = code.to_fixed();
            for (to, from) in sense.iter_mut().zip(fixed) {
                *to = from;
            }
            fixed.len()
        });
        Completion { status, transferred: 0, sense_len }
    }
}

/// Status and sense data that every client takes for a failure: those given, if they are.
///
/// Some clients take some sense keys and statuses for success ([`SenseKey::is_failure`](scsi_sense::SenseKey::is_failure)),
/// and a change that failed would look done to them. So this is the one place where an answer of ours gets its status.
fn failure(status: Status, sense: Option<SenseCode>) -> (Status, Option<SenseCode>) {
    match (status, sense) {
        (Status::CHECK_CONDITION, Some(code)) if code.key.is_failure() => (status, sense),
        (status, _) if status != Status::CHECK_CONDITION && status.is_failure() => (status, None),
        _ => (Status::CHECK_CONDITION, Some(SenseCode::IO_PROCESS_TERMINATED)),
    }
}

/// All the backends there are.
pub(crate) struct Backends {
    scsi: scsi::Scsi,
    multipath: Arc<multipath::Multipath>,
    emulated: Option<emulated::Emulated>,
    disks: Disks,
}

impl Backends {
    /// `timeout` is for each command.
    pub(crate) fn new(
        timeout: Duration,
        multipath: Arc<multipath::Multipath>,
        emulated: Option<emulated::Emulated>,
    ) -> Self {
        Self { scsi: scsi::Scsi::new(timeout), multipath, emulated, disks: Disks::default() }
    }

    /// Tells what `descriptor` is, and refuses what no backend serves, whatever the command.
    pub(crate) fn identify(&self, descriptor: BorrowedFd<'_>) -> Result<Device, Refusal> {
        match Device::identify(descriptor, &self.disks)? {
            Device { kind: Kind::File, .. } if self.emulated.is_none() => Err(Refusal::NotADevice("file")),
            device => Ok(device),
        }
    }

    /// Whether multipath maps are served.
    pub(crate) fn multipath(&self) -> Result<(), Unavailable> {
        self.multipath.availability()
    }

    /// Runs `command` on the backend for the target's kind of device.
    pub(crate) fn execute(&self, target: Target<'_>, command: &mut Command<'_>) -> Outcome {
        match (target.device.kind, &self.emulated) {
            (Kind::Scsi, _) => self.scsi.execute(target, command),
            (Kind::Map, _) => self.multipath.execute(target, command),
            (Kind::File, Some(emulated)) => emulated.execute(target, command),
            (Kind::File, None) => Outcome::Refused(Refusal::NotADevice("file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use scsi_sense::{Sense, SenseKey};

    use super::*;

    /// A backend that is wrong about this would have a PREEMPT that failed look done.
    #[test]
    fn no_answer_of_ours_reads_as_success() {
        let causes = [Cause::NoPath, Cause::Library(9), Cause::State, Cause::Worker(WorkerFault::Ended)];
        let codes = (0..=0xf).flat_map(|key| {
            [(0x00, 0x00), (0x00, 0x06), (0x26, 0x00)]
                .map(|(asc, ascq)| SenseCode::new(SenseKey::new(key), asc, ascq))
        });
        let codes: Vec<SenseCode> = codes.collect();
        let mut outcomes: Vec<Outcome> = codes.iter().copied().map(Outcome::Rejected).collect();
        outcomes.push(Outcome::Refused(Refusal::PathOnly));
        for status in (0..=u8::MAX).map(Status) {
            for cause in causes {
                let senses = codes.iter().copied().map(Some).chain([None]);
                outcomes.extend(senses.map(|sense| Outcome::Failed { status, sense, cause }));
            }
        }
        for outcome in outcomes {
            let mut sense = [0; 96];
            let Completion { status, transferred, sense_len } = outcome.completion(&mut sense);
            assert!(status.is_failure() && transferred == 0, "{outcome:?}");
            let key = Sense::parse(&sense[..sense_len]).ok().and_then(|sense| sense.key());
            assert_eq!(key.is_some(), status == Status::CHECK_CONDITION, "{outcome:?}");
            assert!(key.is_none_or(SenseKey::is_failure), "{outcome:?}");
        }
    }

    #[test]
    fn answers_of_ours_stay_what_they_are() {
        let busy = Outcome::Failed { status: Status::BUSY, sense: None, cause: Cause::Suspended };
        assert_eq!(
            busy.completion(&mut [0; 96]),
            Completion { status: Status::BUSY, transferred: 0, sense_len: 0 }
        );
        let mut sense = [0; 96];
        let rejected = Outcome::Rejected(SenseCode::INVALID_FIELD_IN_CDB).completion(&mut sense);
        assert_eq!((rejected.status, sense[2], sense[12]), (Status::CHECK_CONDITION, 5, 0x24));
    }
}
