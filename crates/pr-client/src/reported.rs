//! What a device says of its reservations.

use scsi_sense::pr::{Reservation, ReservationKey};

/// What READ KEYS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredKeys {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// The key of each registration. One that several I_T nexuses registered is there several times.
    pub keys: Vec<ReservationKey>,
    /// Whether these certainly are all. If not, the device has more than the protocol carries, or may have: from 1023 on
    /// (see [`Keys::is_complete`](scsi_sense::pr::Keys::is_complete)).
    pub is_complete: bool,
}

/// What READ RESERVATION says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentReservation {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// The reservation, if there is one.
    pub reservation: Option<Reservation>,
}

/// What READ FULL STATUS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrations {
    /// PRGENERATION: how often registrations were changed since power on. It wraps.
    pub generation: u32,
    /// Each registration.
    pub registrations: Vec<Registration>,
    /// Whether these certainly are all. If not, the device has more than the protocol carries (8192 bytes, some hundred
    /// registrations), or may have (see [`FullStatus::is_complete`](scsi_sense::pr::FullStatus::is_complete)).
    pub is_complete: bool,
}

/// One registration, with its I_T nexus.
pub type Registration = scsi_sense::pr::Registration<Vec<u8>>;
