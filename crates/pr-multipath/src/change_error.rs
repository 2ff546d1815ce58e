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
    /// This process or the host lacks a resource; the change was not begun.
    Shortage(Cause),
    /// This process or the host lacks a resource; the change may have been made, or part of it.
    CutShort(Cause),
}

impl ChangeError {
    /// Returns whether the disk may have made the change, or part of it.
    pub(crate) fn is_uncertain(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Shortage(_) | Self::CutShort(_))
    }

    /// Returns the error of a change that the disk may have made.
    pub(crate) fn after_begin(self) -> Self {
        match self {
            Self::Shortage(cause) => Self::CutShort(cause),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortage_after_begin_is_no_shortage() {
        let shortage = || ChangeError::Shortage(Cause::new("shortage", "no descriptors"));
        assert!(matches!(shortage().after_begin(), ChangeError::CutShort(_)));
        assert!(shortage().after_begin().is_uncertain());
        assert!(matches!(ChangeError::Conflict.after_begin(), ChangeError::Conflict));
    }
}
