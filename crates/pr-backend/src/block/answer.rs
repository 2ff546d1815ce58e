//! What a SCSI device answers where an NVMe command did not succeed.

use block_pr::{Error, Status as NvmeStatus};
use scsi_sense::{SenseCode, Status};

use crate::{
    outcome::{Cause, Failure, Outcome, Refusal},
    with_sources::with_sources,
};

/// The reason why a command does not end with GOOD.
#[derive(Debug)]
pub(super) enum Stop {
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION, by the device's status.
    Check(SenseCode),
    /// BUSY, by the device's status.
    Busy,
    /// CHECK CONDITION, and nothing was sent.
    Rejected(SenseCode),
    /// The device did not answer, or not as it should.
    Failed(Failure),
    /// The kernel did not permit the command, and sent nothing.
    Denied(Failure),
    /// The namespace has no reservations, or they cannot be reached.
    Refused(Refusal),
}

/// What the command was for that had no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Reading, or finding out something before a change.
    Read,
    /// A reservation, whose type is in the CDB.
    Reserve,
    /// Any other change, which has its fields in the parameter list.
    Change,
    /// Finding out whether a change that succeeded took effect.
    Verify,
}

impl Stop {
    /// Returns what a command that had no success means.
    ///
    /// Invariant (no failure reads as success): every variant of [`Error`], every status and every error number becomes a
    /// `Stop`, and no `Stop` is GOOD.
    pub(super) fn of(error: &Error, used: Use) -> Self {
        let text = with_sources(error);
        match Self::of_any(error, used) {
            Self::Failed(failure) if used != Use::Verify || failure.status() == Status::CHECK_CONDITION => {
                Self::Failed(failure)
            }
            // The change was made: a conflict, or BUSY, would tell the guest that it was not.
            _ if used == Use::Verify => Self::unverified(&format!("the change cannot be looked for: {text}")),
            stop => stop,
        }
    }

    /// Returns the failure of a change that the device took for a success, and that cannot be found.
    pub(super) fn unverified(text: &str) -> Self {
        let text = format!("the namespace reported success, but {text}");
        Self::terminated(Cause::new("unverified", text))
    }

    /// Returns ABORTED COMMAND, I/O PROCESS TERMINATED.
    pub(super) fn terminated(cause: Cause) -> Self {
        Self::Failed(Failure::check_condition(SenseCode::IO_PROCESS_TERMINATED, cause))
    }

    fn of_any(error: &Error, used: Use) -> Self {
        let failed = |sense, label| {
            Self::Failed(Failure::check_condition(sense, Cause::new(label, with_sources(error))))
        };
        match error {
            Error::Status(status) => Self::of_status(*status, used),
            // The command may have taken effect, and must not be repeated.
            Error::Cancelled => failed(SenseCode::LU_COMMUNICATION_FAILURE, "cancelled"),
            Error::Permission(_) => Self::Denied(Failure::check_condition(
                SenseCode::IO_PROCESS_TERMINATED,
                Cause::new("denied", with_sources(error)),
            )),
            Error::NoPath => failed(SenseCode::LU_COMMUNICATION_FAILURE, "no_path"),
            Error::Gone(_) => failed(SenseCode::INTERNAL_TARGET_FAILURE, "gone"),
            Error::NotSupported(_) => Self::Refused(no_reservations(&with_sources(error))),
            Error::Os(source) if source.raw_os_error() == Some(libc::EBADF) => {
                Self::Refused(Refusal::path_only())
            }
            Error::Os(source) if source.raw_os_error() == Some(libc::ENOMEM) => {
                match Cause::of_shortage(source) {
                    Some(cause) => Self::Failed(Failure::busy(cause)),
                    None => failed(SenseCode::IO_PROCESS_TERMINATED, "errno"),
                }
            }
            // All other error numbers, malformed data, and what a later version of the crate adds.
            _ => failed(SenseCode::IO_PROCESS_TERMINATED, "errno"),
        }
    }

    fn of_status(status: NvmeStatus, used: Use) -> Self {
        let cause = |label| Cause::new(label, format!("the NVMe command ended with {status}"));
        match status {
            NvmeStatus::RESERVATION_CONFLICT => Self::Conflict,
            NvmeStatus::INVALID_OPCODE => Self::Refused(no_reservations(&status.to_string())),
            NvmeStatus::INVALID_FIELD => Self::Check(match used {
                Use::Read | Use::Reserve => SenseCode::INVALID_FIELD_IN_CDB,
                Use::Change | Use::Verify => SenseCode::INVALID_FIELD_IN_PARAMETER_LIST,
            }),
            NvmeStatus::INVALID_NAMESPACE => Self::Check(SenseCode::LOGICAL_UNIT_NOT_SUPPORTED),
            NvmeStatus::INTERNAL_ERROR => Self::Check(SenseCode::INTERNAL_TARGET_FAILURE),
            NvmeStatus::INTERRUPTED => Self::Busy,
            NvmeStatus::NAMESPACE_NOT_READY => Self::Check(SenseCode::NOT_READY),
            NvmeStatus::INTERNAL_PATH_ERROR
            | NvmeStatus::ANA_PERSISTENT_LOSS
            | NvmeStatus::ANA_INACCESSIBLE
            | NvmeStatus::ANA_TRANSITION
            | NvmeStatus::CONTROLLER_PATHING_ERROR
            | NvmeStatus::HOST_PATHING_ERROR
            | NvmeStatus::HOST_ABORTED => Self::Failed(Failure::check_condition(
                SenseCode::LU_COMMUNICATION_FAILURE,
                cause("transport"),
            )),
            _ => Self::terminated(cause("status")),
        }
    }

    /// Returns the outcome, and writes the sense data of a device's answer to `sense`.
    pub(super) fn outcome(self, sense: &mut [u8]) -> Outcome {
        match self {
            Self::Conflict => Outcome::bare(Status::RESERVATION_CONFLICT),
            Self::Busy => Outcome::bare(Status::BUSY),
            Self::Check(code) => {
                let fixed = code.to_fixed();
                for (to, from) in sense.iter_mut().zip(fixed) {
                    *to = from;
                }
                let sense_len = fixed.len().min(sense.len());
                Outcome::Device { status: Status::CHECK_CONDITION, transferred: 0, sense_len }
            }
            Self::Rejected(code) => Outcome::Rejected(code),
            Self::Failed(failure) | Self::Denied(failure) => Outcome::Failed(failure),
            Self::Refused(refusal) => Outcome::Refused(refusal),
        }
    }
}

/// Returns the refusal of a namespace without reservation commands.
pub(super) fn no_reservations(why: &str) -> Refusal {
    Refusal::new(
        "no_reservations",
        format!(
            "the NVMe namespace has no reservations ({why}): see its RESCAP (nvme id-ns); nvmet has them from kernel 6.13 on, with resv_enable"
        ),
    )
}
