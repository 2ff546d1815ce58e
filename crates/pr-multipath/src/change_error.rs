//! Errors of changes.

use mpathpersist::Failure;
use pr_backend::Cause;
use scsi_sense::SenseCode;

/// The reason why a change was not made.
#[derive(Debug)]
pub(crate) enum ChangeError {
    /// The change cannot be made on a map, or on no device.
    Rejected(SenseCode),
    /// The disk's answer is RESERVATION CONFLICT.
    Conflict,
    /// The library or a path failed; the change may have been made in part.
    Failed(Failure),
    /// This process or the host lacks a resource; the change may have been made in part.
    Shortage(Cause),
}

impl ChangeError {
    /// Returns whether the disk may have made the change, or part of it.
    pub(crate) fn is_uncertain(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Shortage(_))
    }
}
