//! The result of a command.

use alloc::vec::Vec;

use scsi_sense::{AdditionalSense, SenseCode, SenseKey, Status};

use crate::Nexus;

/// The sense code of all commands but REPLACE LOST RESERVATION while reservation information is lost (SPC-4 clause
/// 5.13.5.3.2).
pub(crate) const INFORMATION_LOST: SenseCode = SenseCode {
    key: SenseKey::DATA_PROTECT,
    additional: AdditionalSense::PERSISTENT_RESERVATION_INFORMATION_LOST,
};

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the initiator waits for the result"]
pub struct Answer {
    /// The SCSI status: GOOD, CHECK CONDITION or RESERVATION CONFLICT.
    pub status: Status,
    /// Sense key, additional sense code and qualifier; `Some` if, and only if, the status is CHECK CONDITION.
    /// [`SenseCode::to_fixed`] makes sense data of them.
    pub sense: Option<SenseCode>,
    /// Length of the data that the command returns, in bytes; zero unless the status is GOOD.
    pub length: usize,
    /// After PREEMPT AND ABORT: the I_T nexuses whose commands must be aborted. They include the sender's nexus if its
    /// own registration was preempted, too; this command itself is not aborted (SPC-4 clause 5.13.11.2.6).
    pub abort: Vec<Nexus>,
}

impl Answer {
    pub(crate) const fn good(length: usize) -> Self {
        Self { status: Status::GOOD, sense: None, length, abort: Vec::new() }
    }

    pub(crate) const fn conflict() -> Self {
        Self { status: Status::RESERVATION_CONFLICT, sense: None, length: 0, abort: Vec::new() }
    }

    pub(crate) const fn check(code: SenseCode) -> Self {
        Self { status: Status::CHECK_CONDITION, sense: Some(code), length: 0, abort: Vec::new() }
    }
}

/// The reason why a command changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION.
    Check(SenseCode),
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict => Self::conflict(),
            Refusal::Check(code) => Self::check(code),
        }
    }
}
