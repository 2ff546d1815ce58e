//! Reservation keys.

use core::fmt;

/// A reservation key: eight bytes that an application chooses, big-endian on the wire (SPC-4 clause 5.12.3).
///
/// No registration has key zero: in a field where a key is optional, zero means that there is none.
///
/// ```
/// use scsi_sense::pr::ReservationKey;
///
/// assert_eq!(ReservationKey(0x123abc).to_string(), "0x123abc");
/// assert_eq!(format!("{:016x}", ReservationKey(0x123abc)), "0000000000123abc");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationKey(pub u64);

impl ReservationKey {
    /// Zero, which means no key.
    pub const ZERO: Self = Self(0);

    /// Returns whether this is zero, which means no key.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Reads the key from its bytes on the wire.
    pub const fn from_be_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// Returns the key's bytes on the wire.
    pub const fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl From<u64> for ReservationKey {
    fn from(key: u64) -> Self {
        Self(key)
    }
}

impl From<ReservationKey> for u64 {
    fn from(key: ReservationKey) -> Self {
        key.0
    }
}

/// Shows the key in hexadecimal with `0x`, without leading zeros, as operators write keys.
impl fmt::Display for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::UpperHex for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::UpperHex::fmt(&self.0, f)
    }
}
