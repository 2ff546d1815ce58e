//! What is wrong with a TransportID.

use core::fmt;

/// Why bytes are not a TransportID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportIdError {
    /// The TransportID is cut.
    TooShort {
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are there.
        got: usize,
    },
    /// There are this many bytes behind it, where it should be the only one.
    TrailingBytes(usize),
    /// ADDITIONAL LENGTH of an iSCSI TransportID is below 20, above 252, or not a multiple of four.
    AdditionalLength(u16),
    /// The text of an iSCSI TransportID has no zero at its end.
    NotTerminated,
    /// There is something other than zeros behind the text of an iSCSI TransportID.
    Padding,
    /// The iSCSI name is empty.
    EmptyName,
    /// The separator `,i,0x` between iSCSI name and session identifier is missing.
    NoSeparator,
    /// The iSCSI session identifier is not one to twelve hexadecimal digits.
    SessionId,
}

impl fmt::Display for TransportIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { needed, got } => {
                write!(f, "a TransportID of {got} bytes where {needed} are needed")
            }
            Self::TrailingBytes(count) => write!(f, "{count} bytes behind a TransportID"),
            Self::AdditionalLength(length) => {
                write!(f, "additional length {length} of an iSCSI TransportID is not 20, 24, ... 252")
            }
            Self::NotTerminated => f.write_str("iSCSI TransportID without a zero at the end of its text"),
            Self::Padding => f.write_str("iSCSI TransportID with a zero inside its text"),
            Self::EmptyName => f.write_str("iSCSI TransportID with an empty name"),
            Self::NoSeparator => f.write_str("iSCSI TransportID without \",i,0x\" behind the name"),
            Self::SessionId => {
                f.write_str("iSCSI TransportID whose session identifier is not 1 to 12 hexadecimal digits")
            }
        }
    }
}

impl core::error::Error for TransportIdError {}
