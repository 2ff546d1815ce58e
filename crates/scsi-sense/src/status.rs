//! SCSI status codes.

use core::fmt;

/// The status byte with which a command ends (SAM-5 clause 5.3).
///
/// Every byte is a valid `Status`: codes without a name are kept.
///
/// ```
/// use scsi_sense::Status;
///
/// assert_eq!(Status(0x18), Status::RESERVATION_CONFLICT);
/// assert_eq!(Status(0x18).to_string(), "RESERVATION CONFLICT (18h)");
/// assert_eq!(Status(0xee).to_string(), "unknown status (EEh)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub u8);

impl Status {
    /// The command completed.
    pub const GOOD: Self = Self(0x00);
    /// Sense data state the cause.
    pub const CHECK_CONDITION: Self = Self(0x02);
    /// The condition of a PRE-FETCH or a search is met.
    pub const CONDITION_MET: Self = Self(0x04);
    /// The device cannot accept the command now; it may be sent again.
    pub const BUSY: Self = Self(0x08);
    /// A reservation of another I_T nexus forbids the command, or this I_T nexus lacks the registration that it needs.
    pub const RESERVATION_CONFLICT: Self = Self(0x18);
    /// The device's task set is full.
    pub const TASK_SET_FULL: Self = Self(0x28);
    /// An auto contingent allegiance condition exists.
    pub const ACA_ACTIVE: Self = Self(0x30);
    /// Another I_T nexus aborted the command.
    pub const TASK_ABORTED: Self = Self(0x40);

    /// Returns whether every known client treats this status as a failure of the command.
    ///
    /// A command that failed must not be reported with any other status. Beside GOOD, Linux treats CONDITION MET and
    /// the obsolete 10h, 14h and 22h as success. `sg3_utils` ignores reserved bits, so that it reads 80h as GOOD, and
    /// its `sg_persist` exits 0 for every status that it has no name for.
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::CHECK_CONDITION
                | Self::BUSY
                | Self::RESERVATION_CONFLICT
                | Self::TASK_SET_FULL
                | Self::ACA_ACTIVE
                | Self::TASK_ABORTED
        )
    }

    /// Returns the standard's name, if the code has one.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::GOOD => "GOOD",
            Self::CHECK_CONDITION => "CHECK CONDITION",
            Self::CONDITION_MET => "CONDITION MET",
            Self::BUSY => "BUSY",
            Self::RESERVATION_CONFLICT => "RESERVATION CONFLICT",
            Self::TASK_SET_FULL => "TASK SET FULL",
            Self::ACA_ACTIVE => "ACA ACTIVE",
            Self::TASK_ABORTED => "TASK ABORTED",
            _ => return None,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:02X}h)", self.name().unwrap_or("unknown status"), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_shown_with_its_number() {
        use std::string::ToString;
        for code in 0..=u8::MAX {
            assert!(Status(code).to_string().ends_with(&std::format!("({code:02X}h)")));
        }
        assert_eq!(Status::TASK_SET_FULL.to_string(), "TASK SET FULL (28h)");
    }

    #[test]
    fn unknown_statuses_are_not_failures() {
        let failures: std::vec::Vec<u8> = (0..=u8::MAX).filter(|code| Status(*code).is_failure()).collect();
        assert_eq!(failures, [0x02, 0x08, 0x18, 0x28, 0x30, 0x40]);
    }
}
