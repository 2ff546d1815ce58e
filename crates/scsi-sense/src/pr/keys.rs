//! What READ KEYS returns.

use core::slice::ChunksExact;

use super::ReservationKey;
use super::data::{InDataError, Listing, listing_accessors};
use crate::BuildError;
use crate::build::Cursor;

/// The data of READ KEYS: the key of each registration (SPC-4 clause 6.15.2).
///
/// A key that several I_T nexuses registered is there several times.
///
/// ```
/// use scsi_sense::pr::{Keys, ReservationKey};
///
/// // Three keys, of which an allocation length of 24 lets two pass.
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

/// Bytes of a key.
const KEY: usize = 8;

impl<'a> Keys<'a> {
    /// Takes the data that a READ KEYS returned.
    ///
    /// # Errors
    ///
    /// [`InDataError::TooShort`], if not even the header (8 bytes) is there.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InDataError> {
        Listing::parse(bytes).map(|listing| Self { listing })
    }

    listing_accessors!();

    /// Returns whether these certainly are all keys that the device has, where `allocation_length` bytes were asked for.
    ///
    /// ADDITIONAL LENGTH alone does not tell: by the standard it counts all keys, but some devices count only those
    /// that fit the allocation length (Linux's LIO until 5.10). So a list is complete if it leaves room for another key.
    ///
    /// # Errors
    ///
    /// The list ends early, though the allocation length had room: [`InDataError::TooShort`] if the device sent less
    /// than ADDITIONAL LENGTH says, [`InDataError::Entry`] if the last key is cut. The keys before that can be had all
    /// the same.
    pub fn is_complete(&self, allocation_length: usize) -> Result<bool, InDataError> {
        let unread = self.iter().0.remainder().len();
        self.listing.is_complete(allocation_length, unread, KEY)
    }

    /// The keys that are here in whole.
    pub fn iter(&self) -> KeyIter<'a> {
        KeyIter(self.listing.body.chunks_exact(KEY))
    }

    /// Writes the data to the start of `buffer`, cut at its end as a device cuts them at the allocation length,
    /// and returns how many bytes that are.
    ///
    /// ADDITIONAL LENGTH counts all keys, also those for which there is no room.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLong`], if the data have more than 2^32-1 bytes.
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

/// The keys of a READ KEYS: [`Keys::iter`].
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
