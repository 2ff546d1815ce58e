//! The data of READ RESERVATION.

use core::fmt;

use super::data::{InDataError, Listing, listing_accessors};
use super::kind::{join_scope_type, split_scope_type};
use super::{ReservationKey, ReservationType, Scope};
use crate::build::Cursor;

/// A persistent reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    /// The holder's key; zero if all registrants hold the reservation.
    pub key: ReservationKey,
    /// The scope: the reserved part of the device.
    pub scope: Scope,
    /// The type: the access that the reservation forbids.
    pub kind: ReservationType,
}

/// Shows, for example, `WRITE EXCLUSIVE (1h), key 0x123abc`.
impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scope.code() != 0 {
            write!(f, "scope {}, ", self.scope)?;
        }
        write!(f, "{}, key {}", self.kind, self.key)
    }
}

/// The data of READ RESERVATION: the reservation, if there is one (SPC-4 clause 6.15.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReservationData<'a> {
    listing: Listing<'a>,
}

/// ADDITIONAL LENGTH in bytes, if there is a reservation.
const LENGTH: u32 = 16;

impl<'a> ReservationData<'a> {
    /// Reads the data of a READ RESERVATION.
    ///
    /// # Errors
    ///
    /// [`InDataError::TooShort`] if the header (8 bytes) is incomplete.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InDataError> {
        Listing::parse(bytes).map(|listing| Self { listing })
    }

    listing_accessors!();

    /// Returns the reservation; `None` if ADDITIONAL LENGTH is zero, which means that there is none.
    ///
    /// # Errors
    ///
    /// There is a reservation that cannot be read: [`InDataError::TooShort`] if its bytes are missing,
    /// [`InDataError::Length`] if ADDITIONAL LENGTH is neither zero nor at least 16.
    pub fn reservation(&self) -> Result<Option<Reservation>, InDataError> {
        match self.listing.additional_length {
            0 => return Ok(None),
            short @ 1..LENGTH => return Err(InDataError::Length(short)),
            LENGTH.. => {}
        }
        let body = self.listing.body;
        let &[k0, k1, k2, k3, k4, k5, k6, k7, _, _, _, _, _, scope_type, _, _] = body
            .first_chunk()
            .ok_or(InDataError::TooShort { needed: 24, got: body.len().saturating_add(Listing::HEADER) })?;
        let (scope, kind) = split_scope_type(scope_type);
        let key = ReservationKey::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]);
        Ok(Some(Reservation { key, scope, kind }))
    }

    /// Writes the data to the start of `buffer`, cut at its end as a device cuts them at the allocation length,
    /// and returns their length in bytes: at most 24.
    pub fn build(generation: u32, reservation: Option<Reservation>, buffer: &mut [u8]) -> usize {
        let mut cursor = Cursor::new(buffer);
        match reservation {
            None => cursor.put(&Listing::header(generation, 0)),
            Some(Reservation { key, scope, kind }) => {
                cursor.put(&Listing::header(generation, LENGTH));
                cursor.put(&key.to_be_bytes());
                cursor.put(&[0, 0, 0, 0, 0, join_scope_type(scope, kind), 0, 0]);
            }
        }
        cursor.finish_cut()
    }
}
