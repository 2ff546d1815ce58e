//! Writes data into a buffer of the caller.

use core::fmt;

/// The reason why data could not be written.
///
/// The contents of the buffer are unspecified after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BuildError {
    /// The buffer is too small.
    BufferTooSmall {
        /// Needed size in bytes.
        needed: usize,
        /// Size of the buffer in bytes.
        got: usize,
    },
    /// The data are longer than the standard or the format's length field allows.
    TooLong {
        /// The greatest allowed length in bytes.
        limit: u64,
        /// Length of the data in bytes.
        got: u64,
    },
}

impl BuildError {
    pub(crate) fn too_long(limit: usize, got: usize) -> Self {
        let wide = |length| u64::try_from(length).unwrap_or(u64::MAX);
        Self::TooLong { limit: wide(limit), got: wide(got) }
    }

    /// Returns the value of a four-byte length field. Fails for `usize::MAX`, at which [`Cursor::position`] saturates:
    /// on a 32-bit machine that would fit the field, but the true length is unknown.
    pub(crate) fn length_field(length: usize) -> Result<u32, Self> {
        let limit = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        match u32::try_from(length) {
            Ok(field) if length < usize::MAX => Ok(field),
            _ => Err(Self::too_long(limit, length)),
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall { needed, got } => {
                write!(f, "a buffer of {got} bytes where {needed} are needed")
            }
            Self::TooLong { limit, got } => write!(f, "{got} bytes where at most {limit} are allowed"),
        }
    }
}

impl core::error::Error for BuildError {}

/// A write position in a buffer that keeps counting after the end of the buffer.
///
/// One pass therefore writes the bytes that fit and computes the size that all of them need.
pub(crate) struct Cursor<'b> {
    buffer: &'b mut [u8],
    position: usize,
}

impl<'b> Cursor<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, position: 0 }
    }

    /// Returns the number of bytes put so far, including those that did not fit. Saturates at `usize::MAX`.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.set(self.position, bytes);
        self.position = self.position.saturating_add(bytes.len());
    }

    pub(crate) fn put_zeros(&mut self, count: usize) {
        let room = self.buffer.get_mut(self.position..).unwrap_or_default();
        room.iter_mut().take(count).for_each(|byte| *byte = 0);
        self.position = self.position.saturating_add(count);
    }

    /// Overwrites bytes that were put before, such as a length field whose value is known only at the end.
    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) {
        let room = self.buffer.get_mut(at..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    /// Returns the length in bytes, if everything fits in the buffer.
    pub(crate) fn finish(self) -> Result<usize, BuildError> {
        let (needed, got) = (self.position, self.buffer.len());
        if needed > got { Err(BuildError::BufferTooSmall { needed, got }) } else { Ok(needed) }
    }

    /// Returns how many bytes are in the buffer, for data that may be cut at an allocation length.
    pub(crate) fn finish_cut(self) -> usize {
        self.position.min(self.buffer.len())
    }
}
