//! Errors of reading TransportIDs.

use core::fmt;

/// The reason why bytes are not a TransportID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportIdError {
    /// The TransportID is truncated.
    TooShort {
        /// Needed length in bytes.
        needed: usize,
        /// Number of bytes given.
        got: usize,
    },
    /// This many bytes follow a TransportID that should be the only one.
    TrailingBytes(usize),
    /// ADDITIONAL LENGTH of an iSCSI TransportID is below 20, above 252, or not a multiple of four.
    AdditionalLength(u16),
    /// The text of an iSCSI TransportID has no terminating zero.
    NotTerminated,
    /// Bytes other than zero follow the text of an iSCSI TransportID, or the iSCSI name has a zero byte.
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
            Self::TrailingBytes(count) => write!(f, "{count} bytes after a TransportID"),
            Self::AdditionalLength(length) => {
                write!(f, "additional length {length} of an iSCSI TransportID is not 20, 24, ... 252")
            }
            Self::NotTerminated => f.write_str("iSCSI TransportID without a zero at the end of its text"),
            Self::Padding => f.write_str("iSCSI TransportID with a zero inside its text"),
            Self::EmptyName => f.write_str("iSCSI TransportID with an empty name"),
            Self::NoSeparator => f.write_str("iSCSI TransportID without \",i,0x\" after the name"),
            Self::SessionId => {
                f.write_str("iSCSI TransportID whose session identifier is not 1 to 12 hexadecimal digits")
            }
        }
    }
}

impl core::error::Error for TransportIdError {}
