//! The data of READ KEYS.

use core::slice::ChunksExact;

use super::ReservationKey;
use super::data::{InDataError, Listing, listing_accessors};
use crate::BuildError;
use crate::build::Cursor;

/// The data of READ KEYS: the key of each registration (SPC-4 clause 6.15.2).
///
/// A key that several I_T nexuses registered occurs several times.
///
/// ```
/// use scsi_sense::pr::{Keys, ReservationKey};
///
/// // The device has three keys; two fit an allocation length of 24.
/// let data = [0, 0, 0, 5, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
/// let keys = Keys::parse(&data)?;
/// assert_eq!(keys.generation(), 5);
/// assert!(keys.iter().eq([ReservationKey(1), ReservationKey(2)]));
/// assert!(keys.is_truncated());
/// assert_eq!(keys.full_length(), 32);
/// # Ok::<(), scsi_sense::pr::InDataError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keys<'a> {
    listing: Listing<'a>,
}

/// Length of a key in bytes.
const KEY: usize = 8;

impl<'a> Keys<'a> {
    /// Reads the data of a READ KEYS.
    ///
    /// # Errors
    ///
    /// [`InDataError::TooShort`] if the header (8 bytes) is incomplete.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InDataError> {
        Listing::parse(bytes).map(|listing| Self { listing })
    }

    listing_accessors!();

    /// Returns whether the list certainly has all keys of the device. `allocation_length` is the command's, in bytes.
    ///
    /// ADDITIONAL LENGTH alone does not prove this: by the standard it counts all keys, but some devices count only the
    /// keys that fit the allocation length (Linux's LIO until 5.10). A list is therefore complete only if it leaves
    /// room for another key.
    ///
    /// # Errors
    ///
    /// The list ends early, although the allocation length had room: [`InDataError::TooShort`] if the device sent less
    /// than ADDITIONAL LENGTH states, [`InDataError::Entry`] if the last key is truncated. The keys before that are
    /// still available.
    pub fn is_complete(&self, allocation_length: usize) -> Result<bool, InDataError> {
        let unread = self.iter().0.remainder().len();
        self.listing.is_complete(allocation_length, unread, KEY)
    }

    /// Returns the keys that are complete.
    pub fn iter(&self) -> KeyIter<'a> {
        KeyIter(self.listing.body.chunks_exact(KEY))
    }

    /// Writes the data to the start of `buffer`, cut at its end as a device cuts them at the allocation length,
    /// and returns their length in bytes.
    ///
    /// ADDITIONAL LENGTH counts all keys, including those that do not fit.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLong`] if the data exceed 2^32-1 bytes.
    pub fn build(
        generation: u32,
        keys: impl IntoIterator<Item = ReservationKey>,
        buffer: &mut [u8],
    ) -> Result<usize, BuildError> {
        let mut cursor = Cursor::new(buffer);
        cursor.put_zeros(Listing::HEADER);
        for key in keys {
            cursor.put(&key.to_be_bytes());
        }
        Listing::finish(cursor, generation)
    }
}

impl<'a> IntoIterator for Keys<'a> {
    type Item = ReservationKey;
    type IntoIter = KeyIter<'a>;

    fn into_iter(self) -> KeyIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Keys<'a> {
    type Item = ReservationKey;
    type IntoIter = KeyIter<'a>;

    fn into_iter(self) -> KeyIter<'a> {
        self.iter()
    }
}

/// An iterator over the keys of a READ KEYS: see [`Keys::iter`].
#[derive(Clone, Debug)]
pub struct KeyIter<'a>(ChunksExact<'a, u8>);

impl Iterator for KeyIter<'_> {
    type Item = ReservationKey;

    fn next(&mut self) -> Option<ReservationKey> {
        self.0.next()?.first_chunk().map(|key| ReservationKey::from_be_bytes(*key))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for KeyIter<'_> {}

impl core::iter::FusedIterator for KeyIter<'_> {}
