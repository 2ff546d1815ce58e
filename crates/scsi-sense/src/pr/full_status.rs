//! The data of READ FULL STATUS.

use super::data::{InDataError, Listing, listing_accessors};
use super::kind::{join_scope_type, split_scope_type};
use super::{Reservation, ReservationKey, ReservationType, Scope, TransportId, TransportIdError};
use crate::BuildError;
use crate::build::Cursor;

/// The data of READ FULL STATUS: each registration with its I_T nexus (SPC-4 clause 6.15.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FullStatus<'a> {
    listing: Listing<'a>,
}

/// A registration with its I_T nexus.
///
/// `T` holds the bytes of the TransportID: `&[u8]` if they are borrowed from a [`FullStatus`], `Vec<u8>` in an owned
/// copy ([`map_bytes`](Self::map_bytes)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Registration<T> {
    /// RESERVATION KEY, bytes 0-7.
    pub key: ReservationKey,
    /// `ALL_TG_PT`, byte 12 bit 1: the registration applies to all target ports.
    pub all_target_ports: bool,
    /// `R_HOLDER`, byte 12 bit 0: the registration holds the reservation.
    pub reservation_holder: bool,
    /// SCOPE, byte 13 bits 7-4. Valid only if the registration holds the reservation.
    pub scope: Scope,
    /// TYPE, byte 13 bits 3-0. Valid only if the registration holds the reservation.
    pub kind: ReservationType,
    /// RELATIVE TARGET PORT IDENTIFIER, bytes 18-19. Invalid if the registration applies to all target ports.
    pub relative_port: u16,
    /// The TransportID's bytes; ADDITIONAL DESCRIPTOR LENGTH (bytes 20-23) is their number.
    pub transport_id_bytes: T,
}

/// Length in bytes of a descriptor up to its TransportID.
const HEAD: usize = 24;

/// Byte 12.
const ALL_TG_PT: u8 = 0x02;
const R_HOLDER: u8 = 0x01;

impl<'a> FullStatus<'a> {
    /// Reads the data of a READ FULL STATUS.
    ///
    /// # Errors
    ///
    /// [`InDataError::TooShort`] if the header (8 bytes) is incomplete.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InDataError> {
        Listing::parse(bytes).map(|listing| Self { listing })
    }

    listing_accessors!();

    /// Returns whether the list certainly has all registrations of the device. `allocation_length` is the command's, in
    /// bytes.
    ///
    /// ADDITIONAL LENGTH alone does not prove this: by the standard it counts all descriptors, but some devices count
    /// only the descriptors that fit the allocation length (Linux's LIO, all versions). A list is therefore complete
    /// only if it leaves room for another descriptor of the greatest length.
    ///
    /// # Errors
    ///
    /// The list ends early, although the allocation length had room: [`InDataError::TooShort`] if the device sent less
    /// than ADDITIONAL LENGTH states, [`InDataError::Entry`] if a descriptor extends beyond the end. The registrations
    /// before that are still available.
    pub fn is_complete(&self, allocation_length: usize) -> Result<bool, InDataError> {
        let read: usize = self.iter().map(|entry| HEAD.saturating_add(entry.transport_id_bytes.len())).sum();
        let unread = self.listing.body.len().saturating_sub(read);
        self.listing.is_complete(allocation_length, unread, HEAD.saturating_add(TransportId::MAX_LENGTH))
    }

    /// Returns the registrations whose descriptors are complete.
    pub const fn iter(&self) -> FullStatusIter<'a> {
        FullStatusIter { rest: self.listing.body }
    }

    /// Writes the data to the start of `buffer`, cut at its end as a device cuts them at the allocation length,
    /// and returns their length in bytes.
    ///
    /// ADDITIONAL LENGTH counts all registrations, including those that do not fit. TransportIDs are written unchecked.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLong`] if the data exceed 2^32-1 bytes.
    pub fn build<'d>(
        generation: u32,
        registrations: impl IntoIterator<Item = Registration<&'d [u8]>>,
        buffer: &mut [u8],
    ) -> Result<usize, BuildError> {
        let mut cursor = Cursor::new(buffer);
        cursor.put_zeros(Listing::HEADER);
        for registration in registrations {
            registration.put(&mut cursor)?;
        }
        Listing::finish(cursor, generation)
    }
}

impl<T> Registration<T> {
    /// Returns the reservation, if this registration holds it.
    pub fn reservation(&self) -> Option<Reservation> {
        let Self { key, scope, kind, .. } = *self;
        self.reservation_holder.then_some(Reservation { key, scope, kind })
    }

    /// Returns the target port of the I_T nexus; `None` if the registration applies to all target ports.
    pub fn target_port(&self) -> Option<u16> {
        (!self.all_target_ports).then_some(self.relative_port)
    }

    /// Converts the TransportID's bytes, for example to owned ones: `map_bytes(<[u8]>::to_vec)`.
    pub fn map_bytes<U>(self, convert: impl FnOnce(T) -> U) -> Registration<U> {
        Registration {
            key: self.key,
            all_target_ports: self.all_target_ports,
            reservation_holder: self.reservation_holder,
            scope: self.scope,
            kind: self.kind,
            relative_port: self.relative_port,
            transport_id_bytes: convert(self.transport_id_bytes),
        }
    }
}

impl<T: AsRef<[u8]>> Registration<T> {
    /// Returns the initiator port.
    ///
    /// # Errors
    ///
    /// [`TransportIdError`] if the device's TransportID is malformed; its bytes are still available.
    pub fn transport_id(&self) -> Result<TransportId<'_>, TransportIdError> {
        TransportId::split_first(self.transport_id_bytes.as_ref()).map(|(id, _)| id)
    }
}

impl<'a> Registration<&'a [u8]> {
    fn decode(head: &[u8; HEAD], transport_id_bytes: &'a [u8]) -> Self {
        let &[k0, k1, k2, k3, k4, k5, k6, k7, _, _, _, _, flags, scope_type, _, _, _, _, p0, p1, ..] = head;
        let (scope, kind) = split_scope_type(scope_type);
        Self {
            key: ReservationKey::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]),
            all_target_ports: flags & ALL_TG_PT != 0,
            reservation_holder: flags & R_HOLDER != 0,
            scope,
            kind,
            relative_port: u16::from_be_bytes([p0, p1]),
            transport_id_bytes,
        }
    }

    fn put(&self, cursor: &mut Cursor<'_>) -> Result<(), BuildError> {
        let length = BuildError::length_field(self.transport_id_bytes.len())?;
        let mut flags = 0;
        if self.all_target_ports {
            flags |= ALL_TG_PT;
        }
        if self.reservation_holder {
            flags |= R_HOLDER;
        }
        cursor.put(&self.key.to_be_bytes());
        cursor.put(&[0, 0, 0, 0, flags, join_scope_type(self.scope, self.kind), 0, 0, 0, 0]);
        cursor.put(&self.relative_port.to_be_bytes());
        cursor.put(&length.to_be_bytes());
        cursor.put(self.transport_id_bytes);
        Ok(())
    }
}

impl<'a> IntoIterator for FullStatus<'a> {
    type Item = Registration<&'a [u8]>;
    type IntoIter = FullStatusIter<'a>;

    fn into_iter(self) -> FullStatusIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &FullStatus<'a> {
    type Item = Registration<&'a [u8]>;
    type IntoIter = FullStatusIter<'a>;

    fn into_iter(self) -> FullStatusIter<'a> {
        self.iter()
    }
}

/// An iterator over the registrations of a READ FULL STATUS: see [`FullStatus::iter`].
///
/// It ends before a truncated descriptor.
#[derive(Clone, Debug)]
pub struct FullStatusIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for FullStatusIter<'a> {
    type Item = Registration<&'a [u8]>;

    fn next(&mut self) -> Option<Registration<&'a [u8]>> {
        // A truncated descriptor ends the list: `rest` stays empty.
        let (head, rest) = core::mem::take(&mut self.rest).split_first_chunk::<HEAD>()?;
        let [.., l0, l1, l2, l3] = *head;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).ok()?;
        let (transport_id, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Registration::decode(head, transport_id))
    }
}

impl core::iter::FusedIterator for FullStatusIter<'_> {}
