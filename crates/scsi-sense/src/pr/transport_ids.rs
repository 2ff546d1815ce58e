//! Lists of TransportIDs, and TransportIDs that own their bytes.

use core::fmt;
use core::hash::{Hash, Hasher};

use super::{TransportId, TransportIdError};
use crate::BuildError;
use crate::build::Cursor;

/// A list of TransportIDs without gaps. Invariant: each is well-formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TransportIds<'a> {
    bytes: &'a [u8],
}

impl<'a> TransportIds<'a> {
    /// Reads a list of TransportIDs. `bytes` must be exactly the list.
    ///
    /// # Errors
    ///
    /// [`TransportIdError`] of the first TransportID that is malformed or truncated.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TransportIdError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = TransportId::split_first(rest)?;
        }
        Ok(Self { bytes })
    }

    /// Writes `ids` to the start of `buffer` and returns a view of them.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if a TransportID is too long or the buffer is too small.
    pub fn build(ids: &[TransportId<'_>], buffer: &'a mut [u8]) -> Result<Self, BuildError> {
        let mut cursor = Cursor::new(buffer);
        for id in ids {
            id.put(&mut cursor)?;
        }
        let length = cursor.finish()?;
        Ok(Self { bytes: buffer.get(..length).unwrap_or_default() })
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns whether the list is empty.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the TransportIDs in their order.
    pub const fn iter(&self) -> TransportIdIter<'a> {
        TransportIdIter { rest: self.bytes }
    }
}

impl<'a> IntoIterator for TransportIds<'a> {
    type Item = TransportId<'a>;
    type IntoIter = TransportIdIter<'a>;

    fn into_iter(self) -> TransportIdIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &TransportIds<'a> {
    type Item = TransportId<'a>;
    type IntoIter = TransportIdIter<'a>;

    fn into_iter(self) -> TransportIdIter<'a> {
        self.iter()
    }
}

/// An iterator over the TransportIDs of a list: see [`TransportIds::iter`].
#[derive(Clone, Debug)]
pub struct TransportIdIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for TransportIdIter<'a> {
    type Item = TransportId<'a>;

    fn next(&mut self) -> Option<TransportId<'a>> {
        let (id, rest) = TransportId::split_first(core::mem::take(&mut self.rest)).ok()?;
        self.rest = rest;
        Some(id)
    }
}

impl core::iter::FusedIterator for TransportIdIter<'_> {}

/// A TransportID that owns its bytes and needs no allocator.
///
/// ```
/// use scsi_sense::pr::{TransportId, TransportIdBuf};
///
/// let kept = TransportIdBuf::new(TransportId::Sas { address: 0x5000_c500_05b3_2001 })?;
/// assert_eq!(kept.as_bytes().len(), 24);
/// assert_eq!(kept.to_string(), "sas,5000c50005b32001");
/// # Ok::<(), scsi_sense::BuildError>(())
/// ```
#[derive(Clone, Copy)]
pub struct TransportIdBuf {
    bytes: [u8; TransportId::MAX_LENGTH],
    length: usize,
}

impl TransportIdBuf {
    /// Returns a copy of `id`.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLong`] under the conditions of [`TransportId::write`].
    pub fn new(id: TransportId<'_>) -> Result<Self, BuildError> {
        let mut bytes = [0; TransportId::MAX_LENGTH];
        let length = id.write(&mut bytes)?;
        Ok(Self { bytes, length })
    }

    /// Returns the TransportID's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }

    /// Returns the TransportID.
    pub fn get(&self) -> TransportId<'_> {
        // Unreachable fallback: the bytes were written from a TransportID.
        TransportId::parse(self.as_bytes()).unwrap_or(TransportId::raw(self.as_bytes()))
    }
}

impl PartialEq for TransportIdBuf {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for TransportIdBuf {}

impl Hash for TransportIdBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for TransportIdBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TransportIdBuf").field(&self.as_bytes()).finish()
    }
}

impl fmt::Display for TransportIdBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
