//! The types of a reservation.

use std::fmt;

/// The type of a reservation: the access that it forbids to other hosts.
///
/// NVMe's RTYPE (NVM Express Base 2.1, figure for Reservation Acquire) and `enum pr_type` of `<linux/pr.h>` have the same
/// six codes. SCSI's codes for the same types are 1, 3, 5, 6, 7 and 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReservationType {
    /// 1: only the holder may write.
    WriteExclusive = 1,
    /// 2: only the holder may read and write.
    ExclusiveAccess = 2,
    /// 3: only registered hosts may write; one of them holds the reservation.
    WriteExclusiveRegistrantsOnly = 3,
    /// 4: only registered hosts may read and write; one of them holds the reservation.
    ExclusiveAccessRegistrantsOnly = 4,
    /// 5: only registered hosts may write; all of them hold the reservation.
    WriteExclusiveAllRegistrants = 5,
    /// 6: only registered hosts may read and write; all of them hold the reservation.
    ExclusiveAccessAllRegistrants = 6,
}

impl ReservationType {
    /// The six types in the order of their codes.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// Returns the type with this code, if there is one.
    pub fn new(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Returns the code, 1 to 6.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns whether every registered host is a holder.
    pub const fn is_all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }
}

impl fmt::Display for ReservationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteExclusive => "write exclusive",
            Self::ExclusiveAccess => "exclusive access",
            Self::WriteExclusiveRegistrantsOnly => "write exclusive, registrants only",
            Self::ExclusiveAccessRegistrantsOnly => "exclusive access, registrants only",
            Self::WriteExclusiveAllRegistrants => "write exclusive, all registrants",
            Self::ExclusiveAccessAllRegistrants => "exclusive access, all registrants",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_code_is_kept() {
        for code in 0..=u8::MAX {
            let kind = ReservationType::new(code);
            assert_eq!(kind.is_some(), (1..=6).contains(&code), "{code}");
            if let Some(kind) = kind {
                assert_eq!(kind.code(), code);
                assert_eq!(kind.is_all_registrants(), code >= 5);
            }
        }
    }
}
