//! Scope and type of a persistent reservation.

use core::fmt;

/// The type of a persistent reservation: the access that it forbids (SPC-4 clause 6.15.3.4).
///
/// It is a four-bit code. [`new`](Self::new) maps every code to a single representation and keeps codes without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ReservationType {
    /// 1h: only the holder may write.
    WriteExclusive,
    /// 3h: only the holder may read and write.
    ExclusiveAccess,
    /// 5h: only registered I_T nexuses may write; one of them holds the reservation.
    WriteExclusiveRegistrantsOnly,
    /// 6h: only registered I_T nexuses may read and write; one of them holds the reservation.
    ExclusiveAccessRegistrantsOnly,
    /// 7h: only registered I_T nexuses may write; all of them hold the reservation.
    WriteExclusiveAllRegistrants,
    /// 8h: only registered I_T nexuses may read and write; all of them hold the reservation.
    ExclusiveAccessAllRegistrants,
    /// A code that is obsolete or reserved. Only bits 3-0 count.
    Other(u8),
}

impl ReservationType {
    /// The six types that the standard names, in the order of their codes.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// Returns the type with the code in bits 3-0 of `code`.
    pub const fn new(code: u8) -> Self {
        match code & 0x0f {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrantsOnly,
            6 => Self::ExclusiveAccessRegistrantsOnly,
            7 => Self::WriteExclusiveAllRegistrants,
            8 => Self::ExclusiveAccessAllRegistrants,
            other => Self::Other(other),
        }
    }

    /// Returns the four-bit TYPE code.
    pub const fn code(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 3,
            Self::WriteExclusiveRegistrantsOnly => 5,
            Self::ExclusiveAccessRegistrantsOnly => 6,
            Self::WriteExclusiveAllRegistrants => 7,
            Self::ExclusiveAccessAllRegistrants => 8,
            Self::Other(code) => code & 0x0f,
        }
    }

    /// Returns the standard's name, if the code has one.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::WriteExclusive => "WRITE EXCLUSIVE",
            Self::ExclusiveAccess => "EXCLUSIVE ACCESS",
            Self::WriteExclusiveRegistrantsOnly => "WRITE EXCLUSIVE, REGISTRANTS ONLY",
            Self::ExclusiveAccessRegistrantsOnly => "EXCLUSIVE ACCESS, REGISTRANTS ONLY",
            Self::WriteExclusiveAllRegistrants => "WRITE EXCLUSIVE, ALL REGISTRANTS",
            Self::ExclusiveAccessAllRegistrants => "EXCLUSIVE ACCESS, ALL REGISTRANTS",
            Self::Other(_) => return None,
        })
    }

    /// Returns whether every registered I_T nexus is a holder (7h, 8h).
    pub const fn is_all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }

    /// Returns whether one I_T nexus is the holder and all registered ones have access (5h, 6h).
    pub const fn is_registrants_only(self) -> bool {
        matches!(self, Self::WriteExclusiveRegistrantsOnly | Self::ExclusiveAccessRegistrantsOnly)
    }

    /// Returns whether the type forbids reading as well as writing (3h, 6h, 8h).
    pub const fn is_exclusive_access(self) -> bool {
        matches!(
            self,
            Self::ExclusiveAccess
                | Self::ExclusiveAccessRegistrantsOnly
                | Self::ExclusiveAccessAllRegistrants
        )
    }
}

/// Shows the name and the code: `WRITE EXCLUSIVE (1h)`, `unknown (2h)`.
impl fmt::Display for ReservationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:X}h)", self.name().unwrap_or("unknown"), self.code())
    }
}

/// The scope of a persistent reservation (SPC-4 clause 6.15.3.3): a four-bit code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// 0h: the whole logical unit.
    #[default]
    LogicalUnit,
    /// A code that is obsolete or reserved. Only bits 3-0 count.
    Other(u8),
}

impl Scope {
    /// Returns the scope with the code in bits 3-0 of `code`.
    pub const fn new(code: u8) -> Self {
        match code & 0x0f {
            0 => Self::LogicalUnit,
            other => Self::Other(other),
        }
    }

    /// Returns the four-bit SCOPE code.
    pub const fn code(self) -> u8 {
        match self {
            Self::LogicalUnit => 0,
            Self::Other(code) => code & 0x0f,
        }
    }

    /// Returns the standard's name, if the code has one.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::LogicalUnit => Some("LOGICAL UNIT"),
            Self::Other(_) => None,
        }
    }
}

/// Shows the name and the code: `LOGICAL UNIT (0h)`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:X}h)", self.name().unwrap_or("unknown"), self.code())
    }
}

/// Splits the byte that scope and type share: SCOPE is bits 7-4, TYPE bits 3-0.
pub(crate) const fn split_scope_type(byte: u8) -> (Scope, ReservationType) {
    (Scope::new(byte >> 4), ReservationType::new(byte))
}

/// Returns the byte that scope and type share.
pub(crate) const fn join_scope_type(scope: Scope, kind: ReservationType) -> u8 {
    scope.code() << 4 | kind.code()
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_scope_and_type_is_kept() {
        for byte in 0..=u8::MAX {
            let (scope, kind) = split_scope_type(byte);
            assert_eq!(join_scope_type(scope, kind), byte);
            assert_eq!(kind.name().is_some(), ReservationType::ALL.contains(&kind));
        }
    }

    #[test]
    fn types_are_shown_by_name_and_code() {
        assert_eq!(ReservationType::new(8).to_string(), "EXCLUSIVE ACCESS, ALL REGISTRANTS (8h)");
        assert_eq!(ReservationType::new(0xf).to_string(), "unknown (Fh)");
        assert_eq!(Scope::new(0).to_string(), "LOGICAL UNIT (0h)");
        assert_eq!(Scope::new(2).to_string(), "unknown (2h)");
    }

    #[test]
    fn reservation_type_families_are_distinguished() {
        for kind in ReservationType::ALL {
            let code = kind.code();
            assert_eq!(kind.is_all_registrants(), code == 7 || code == 8);
            assert_eq!(kind.is_registrants_only(), code == 5 || code == 6);
            assert_eq!(kind.is_exclusive_access(), [3, 6, 8].contains(&code));
        }
    }
}
