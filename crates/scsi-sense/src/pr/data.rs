//! The common part of PERSISTENT RESERVE IN data: the header of three of the four kinds.

use core::fmt;

use crate::BuildError;
use crate::build::Cursor;

/// The reason why bytes are not the data of a PERSISTENT RESERVE IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InDataError {
    /// Bytes are missing: the allocation length was too small, or the device returned less.
    TooShort {
        /// Needed length in bytes.
        needed: usize,
        /// Number of bytes given.
        got: usize,
    },
    /// A length field is smaller than the fixed part of the data.
    Length(u32),
    /// The last entry of a list extends beyond the end of the list.
    Entry {
        /// Offset of the entry in bytes from the start of the data.
        at: usize,
    },
}

impl fmt::Display for InDataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { needed, got } => write!(f, "{got} bytes of data where {needed} are needed"),
            Self::Length(length) => write!(f, "a length of {length} bytes is too small for these data"),
            Self::Entry { at } => write!(f, "the entry at byte {at} goes beyond the end of the list"),
        }
    }
}

impl core::error::Error for InDataError {}

/// PRGENERATION, ADDITIONAL LENGTH and the bytes after them (SPC-4 clauses 6.15.2, 6.15.3, 6.15.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Listing<'a> {
    pub(super) generation: u32,
    pub(super) additional_length: u32,
    /// The bytes after the header, up to the end that ADDITIONAL LENGTH states.
    pub(super) body: &'a [u8],
}

impl<'a> Listing<'a> {
    /// Length of the header in bytes.
    pub(super) const HEADER: usize = 8;

    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, InDataError> {
        let (&[g0, g1, g2, g3, l0, l1, l2, l3], rest) = bytes
            .split_first_chunk()
            .ok_or(InDataError::TooShort { needed: Self::HEADER, got: bytes.len() })?;
        let additional_length = u32::from_be_bytes([l0, l1, l2, l3]);
        let end = usize::try_from(additional_length).unwrap_or(usize::MAX);
        Ok(Self {
            generation: u32::from_be_bytes([g0, g1, g2, g3]),
            additional_length,
            body: rest.get(..end).unwrap_or(rest),
        })
    }

    pub(super) fn is_truncated(&self) -> bool {
        usize::try_from(self.additional_length).map_or(true, |length| self.body.len() < length)
    }

    /// Returns whether a list is complete. `unread` is the number of bytes at its end that form no complete entry,
    /// `longest` the greatest length of an entry in bytes.
    ///
    /// # Errors
    ///
    /// See `is_complete` of the public types.
    pub(super) fn is_complete(
        &self,
        allocation_length: usize,
        unread: usize,
        longest: usize,
    ) -> Result<bool, InDataError> {
        let got = self.body.len().saturating_add(Self::HEADER);
        if got >= allocation_length {
            return Ok(false);
        }
        if self.is_truncated() {
            let stated = usize::try_from(self.additional_length).unwrap_or(usize::MAX);
            let needed = stated.saturating_add(Self::HEADER).min(allocation_length);
            return Err(InDataError::TooShort { needed, got });
        }
        if unread > 0 {
            return Err(InDataError::Entry { at: got.saturating_sub(unread) });
        }
        Ok(got.saturating_add(longest) <= allocation_length)
    }

    /// Returns the bytes of the header.
    pub(super) const fn header(generation: u32, additional_length: u32) -> [u8; 8] {
        let [g0, g1, g2, g3] = generation.to_be_bytes();
        let [l0, l1, l2, l3] = additional_length.to_be_bytes();
        [g0, g1, g2, g3, l0, l1, l2, l3]
    }

    /// Sets the header, for which the caller left [`HEADER`](Self::HEADER) bytes, and returns the length in the buffer,
    /// at whose end the data are cut.
    pub(super) fn finish(mut cursor: Cursor<'_>, generation: u32) -> Result<usize, BuildError> {
        let whole = BuildError::length_field(cursor.position())?;
        cursor.set(0, &Self::header(generation, whole.saturating_sub(8)));
        Ok(cursor.finish_cut())
    }
}

/// Defines the accessors of a type that wraps a [`Listing`].
macro_rules! listing_accessors {
    () => {
        /// Returns PRGENERATION, bytes 0-3: the number of changes to registrations since power on. It wraps.
        pub const fn generation(&self) -> u32 {
            self.listing.generation
        }

        /// Returns ADDITIONAL LENGTH, bytes 4-7: the length in bytes that the device states for the data after the
        /// header, including bytes that are not here.
        pub const fn additional_length(&self) -> u32 {
            self.listing.additional_length
        }

        /// Returns the allocation length in bytes that holds all data, including the header. It may exceed the
        /// greatest allocation length of the command (65535).
        pub fn full_length(&self) -> u64 {
            u64::from(self.listing.additional_length) + 8
        }

        /// Returns whether there are fewer bytes here than ADDITIONAL LENGTH states.
        ///
        /// A list that is not truncated can still be incomplete: see
        /// [`Keys::is_complete`](crate::pr::Keys::is_complete).
        pub fn is_truncated(&self) -> bool {
            self.listing.is_truncated()
        }
    };
}
pub(super) use listing_accessors;
