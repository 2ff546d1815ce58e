//! Reservation keys.

use core::fmt;

/// A reservation key: eight bytes that an application chose, big-endian on the wire (SPC-4 clause 5.12.3).
///
/// Zero is not a key of a registration: it means "none" wherever a key may be missing.
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
    /// No key.
    pub const ZERO: Self = Self(0);

    /// Whether this is zero: no key.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The key as it is in a parameter list.
    pub const fn from_be_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// The key as it is in a parameter list.
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

/// Hexadecimal with `0x`, without leading zeros, as operators write keys.
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
