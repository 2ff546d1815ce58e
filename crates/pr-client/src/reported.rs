//! The reservations as a device reports them.

use scsi_sense::pr::{Reservation, ReservationKey};

/// The data of READ KEYS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredKeys {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// The key of each registration. A key that several I_T nexuses registered occurs once for each.
    pub keys: Vec<ReservationKey>,
    /// Whether these are certainly all keys. If not, there are 1023 or more, and the device has or may have more than
    /// the protocol carries (see [`Keys::is_complete`](scsi_sense::pr::Keys::is_complete)).
    pub is_complete: bool,
}

/// The data of READ RESERVATION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentReservation {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// The reservation, if there is one.
    pub reservation: Option<Reservation>,
}

/// The data of READ FULL STATUS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrations {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// The registrations.
    pub registrations: Vec<Registration>,
    /// Whether these are certainly all registrations. If not, the device has or may have more than the protocol carries
    /// (8192 bytes, some hundred registrations; see
    /// [`FullStatus::is_complete`](scsi_sense::pr::FullStatus::is_complete)).
    pub is_complete: bool,
}

/// One registration, with its I_T nexus.
pub type Registration = scsi_sense::pr::Registration<Vec<u8>>;
