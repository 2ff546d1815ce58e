//! How a command ended.

use std::{borrow::Cow, fmt, io};

use crate::DeviceId;
use pr_proto::Completion;
use scsi_sense::{SenseCode, Status};

/// How a command ended, and whose answer it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The device's own answer. Its sense data, if any, are in the command's sense buffer.
    Device {
        /// The SCSI status that the device returned.
        status: Status,
        /// Bytes of the data buffer that the device wrote.
        transferred: usize,
        /// Bytes of the sense buffer that the device wrote.
        sense_len: usize,
    },
    /// The device did not answer. Never GOOD.
    Failed(Failure),
    /// Nothing was sent to the device, because the command cannot succeed.
    Rejected(SenseCode),
    /// Nothing was sent to the device, because no backend serves it for this descriptor.
    Refused(Refusal),
}

impl Outcome {
    /// Returns the device's answer without data and sense data.
    pub fn bare(status: Status) -> Self {
        Self::Device { status, transferred: 0, sense_len: 0 }
    }

    /// Returns the SCSI status that the guest gets.
    pub fn status(&self) -> Status {
        match self {
            Self::Device { status, .. } => *status,
            Self::Failed(failure) => failure.status,
            Self::Rejected(_) | Self::Refused(_) => Status::CHECK_CONDITION,
        }
    }

    /// Returns the outcome as it goes into a reply. Sense data that are not the device's own are written to `sense`.
    ///
    /// Invariant (no failure reads as success): only [`Outcome::Device`] can be GOOD, and sense data written here never
    /// have a sense key that initiators take for success.
    pub fn completion(&self, sense: &mut [u8]) -> Completion {
        let code = match self {
            &Self::Device { status, transferred, sense_len } => {
                return Completion { status, transferred, sense_len };
            }
            Self::Failed(failure) => failure.sense,
            Self::Rejected(code) => Some(failing(*code)),
            Self::Refused(_) => Some(SenseCode::INVALID_OPCODE),
        };
        let sense_len = code.map_or(0, |code| {
            let fixed = code.to_fixed();
            for (to, from) in sense.iter_mut().zip(fixed) {
                *to = from;
            }
            fixed.len()
        });
        Completion { status: self.status(), transferred: 0, sense_len }
    }
}

/// A command that a device did not answer: the status and sense to report instead, and the cause for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    status: Status,
    sense: Option<SenseCode>,
    cause: Cause,
}

impl Failure {
    /// Returns a failure that is reported as CHECK CONDITION with this sense.
    ///
    /// A sense key that initiators take for success (NO SENSE, RECOVERED ERROR) is replaced by ABORTED COMMAND, I/O
    /// PROCESS TERMINATED.
    pub fn check_condition(sense: SenseCode, cause: Cause) -> Self {
        Self { status: Status::CHECK_CONDITION, sense: Some(failing(sense)), cause }
    }

    /// Returns a failure that is reported as BUSY: the guest repeats the command.
    pub fn busy(cause: Cause) -> Self {
        Self { status: Status::BUSY, sense: None, cause }
    }

    /// Returns a failure that is reported with this status. A status that initiators take for success, and CHECK CONDITION
    /// without sense, are replaced by CHECK CONDITION with ABORTED COMMAND, I/O PROCESS TERMINATED.
    pub fn new(status: Status, sense: Option<SenseCode>, cause: Cause) -> Self {
        match (status, sense) {
            (Status::CHECK_CONDITION, Some(sense)) => Self::check_condition(sense, cause),
            (status, _) if status != Status::CHECK_CONDITION && status.is_failure() => {
                Self { status, sense: None, cause }
            }
            _ => Self::check_condition(SenseCode::IO_PROCESS_TERMINATED, cause),
        }
    }

    /// Returns the status that is reported. Never GOOD.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Returns the sense that is reported: there is one exactly if the status is CHECK CONDITION.
    pub fn sense(&self) -> Option<SenseCode> {
        self.sense
    }

    /// Returns what kept the device from answering.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }
}

/// Returns `code`, or ABORTED COMMAND, I/O PROCESS TERMINATED if initiators take its sense key for success.
fn failing(code: SenseCode) -> SenseCode {
    if code.key.is_failure() { code } else { SenseCode::IO_PROCESS_TERMINATED }
}

/// What kept a device from answering: a text for the log, with the remedy, and a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    label: &'static str,
    text: Cow<'static, str>,
}

impl Cause {
    /// Returns a cause with a label (lower case, underscores) and a text that says what to do.
    pub fn new(label: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { label, text: text.into() }
    }

    /// Returns the cause if `error` is a lack of resources of this process or host: descriptors, memory, an interrupted
    /// call. Such an error says nothing about a device and must be reported as something that a guest repeats.
    pub fn of_shortage(error: &io::Error) -> Option<Self> {
        let remedy = match error.raw_os_error()? {
            libc::EMFILE => "raise the helper's limit of open files (RLIMIT_NOFILE, LimitNOFILE=)",
            libc::ENFILE => "raise the host's limit of open files (fs.file-max)",
            libc::ENOMEM | libc::ENOBUFS => "the host or the helper's cgroup is short of memory",
            libc::ETOOMANYREFS => "too many descriptors are in flight between processes (RLIMIT_NOFILE)",
            libc::EAGAIN | libc::EINTR => "it is repeated by the guest",
            _ => return None,
        };
        Some(Self::new("shortage", format!("the helper lacks a resource: {error}: {remedy}")))
    }

    /// Returns the label.
    pub fn label(&self) -> &'static str {
        self.label
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a descriptor is not served: a text for the log, with the remedy, and a label for metrics.
///
/// The guest gets ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE: the answer of a device without persistent
/// reservations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    label: &'static str,
    text: Cow<'static, str>,
}

impl Refusal {
    /// Returns a refusal with a label (lower case, underscores) and a text that says what to do.
    pub fn new(label: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { label, text: text.into() }
    }

    /// Returns the refusal of a descriptor that was opened with `O_PATH`.
    pub fn path_only() -> Self {
        Self::new("path_only", "the descriptor was opened with O_PATH: open the disk for reading and writing")
    }

    /// Returns the refusal of a change with a descriptor that was opened for reading only.
    pub fn read_only(id: DeviceId) -> Self {
        Self::new(
            "read_only",
            format!(
                "{id} was opened for reading only, and the command would change it: open it for reading and writing (QEMU \
                 does not while it waits for a guest to migrate, unless the block device has read-only=off and \
                 auto-read-only=off)"
            ),
        )
    }

    /// Returns the label.
    pub fn label(&self) -> &'static str {
        self.label
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a descriptor is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotServed {
    /// No backend serves such a descriptor.
    Refused(Refusal),
    /// It cannot be told now: the guest repeats the command.
    Failed(Failure),
}

impl From<Refusal> for NotServed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for NotServed {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<NotServed> for Outcome {
    fn from(not_served: NotServed) -> Self {
        match not_served {
            NotServed::Refused(refusal) => Self::Refused(refusal),
            NotServed::Failed(failure) => Self::Failed(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use scsi_sense::SenseKey;

    use super::*;

    #[test]
    fn no_failure_reads_as_success() {
        let cause = Cause::new("test", "a test");
        for key in 0..=0xf {
            let code = SenseCode::new(SenseKey::new(key), 0x44, 0);
            for outcome in [
                Outcome::Failed(Failure::check_condition(code, cause.clone())),
                Outcome::Failed(Failure::new(Status::CHECK_CONDITION, Some(code), cause.clone())),
                Outcome::Rejected(code),
            ] {
                let mut sense = [0; 96];
                let completion = outcome.completion(&mut sense);
                assert_eq!((completion.status, completion.sense_len), (Status::CHECK_CONDITION, 18));
                let expected = if [0, 1, 0xf].contains(&key) { 0xb } else { key };
                assert_eq!(sense[2], expected, "sense key {key:x}");
            }
        }
        for status in 0..=0xff {
            for sense in [None, Some(SenseCode::NO_SENSE)] {
                let failure = Failure::new(Status(status), sense, cause.clone());
                let expected = match status {
                    0x08 | 0x18 | 0x28 | 0x30 | 0x40 => status,
                    _ => 0x02,
                };
                assert_eq!(failure.status(), Status(expected), "status {status:02x}");
                assert_eq!(failure.sense().is_some(), expected == 0x02);
                assert_ne!(failure.sense(), Some(SenseCode::NO_SENSE));
            }
        }
    }

    #[test]
    fn only_lack_of_resources_is_shortage() {
        for (errno, is_shortage) in
            [(24, true), (109, true), (23, true), (12, true), (4, true), (2, false), (13, false)]
        {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(Cause::of_shortage(&error).is_some(), is_shortage, "{errno}");
        }
        for unknown in [i32::MIN, -1, 0, 4096, i32::MAX] {
            assert_eq!(Cause::of_shortage(&io::Error::from_raw_os_error(unknown)), None, "{unknown}");
        }
        assert_eq!(Cause::of_shortage(&io::ErrorKind::NotFound.into()), None);
    }
}
