//! How a command ends.

use alloc::vec::Vec;

use scsi_sense::{AdditionalSense, SenseCode, SenseKey, Status};

use crate::Nexus;

/// What everything but REPLACE LOST RESERVATION gets while reservation information is lost (SPC-4 clause 5.13.5.3.2).
pub(crate) const INFORMATION_LOST: SenseCode = SenseCode {
    key: SenseKey::DATA_PROTECT,
    additional: AdditionalSense::PERSISTENT_RESERVATION_INFORMATION_LOST,
};

/// How a command ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is what the initiator is to be told"]
pub struct Answer {
    /// The SCSI status: GOOD, CHECK CONDITION or RESERVATION CONFLICT.
    pub status: Status,
    /// Sense key, additional sense code and qualifier: there are some if, and only if, the status is CHECK CONDITION.
    /// [`SenseCode::to_fixed`] makes sense data of them.
    pub sense: Option<SenseCode>,
    /// How many bytes of data the command returns; zero unless the status is GOOD.
    pub length: usize,
    /// After PREEMPT AND ABORT: the I_T nexuses whose commands are to be aborted, that of this command (but not the
    /// command) among them if its own registration was meant, too (SPC-4 clause 5.13.11.2.6).
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

/// Why a command changes nothing.
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
