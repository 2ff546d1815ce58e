//! Writing into a buffer that the caller owns.

use core::fmt;

/// Why something could not be written.
///
/// What the buffer holds after an error is not specified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BuildError {
    /// The buffer has not enough room.
    BufferTooSmall {
        /// Bytes that are needed.
        needed: usize,
        /// Bytes that the buffer has.
        got: usize,
    },
    /// What is to be written is longer than the length field of the format, or the standard, allows.
    TooLong {
        /// The longest that is allowed, in bytes.
        limit: u64,
        /// Its length in bytes.
        got: u64,
    },
}

impl BuildError {
    pub(crate) fn too_long(limit: usize, got: usize) -> Self {
        let wide = |length| u64::try_from(length).unwrap_or(u64::MAX);
        Self::TooLong { limit: wide(limit), got: wide(got) }
    }

    /// The length as a field of four bytes has it. What a [`Cursor`] lost count of has none, on 32 bits neither.
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

/// A position in a buffer that goes on counting behind the buffer's end.
///
/// So one pass writes what there is room for and learns how much room the whole needs.
pub(crate) struct Cursor<'b> {
    buffer: &'b mut [u8],
    position: usize,
}

impl<'b> Cursor<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, position: 0 }
    }

    /// Bytes put so far, whether there was room for them or not; `usize::MAX` if they are more than that.
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

    /// Overwrites what was put before, for lengths that are known at the end only.
    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) {
        let room = self.buffer.get_mut(at..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    /// The whole length, if all of it is in the buffer.
    pub(crate) fn finish(self) -> Result<usize, BuildError> {
        let (needed, got) = (self.position, self.buffer.len());
        if needed > got { Err(BuildError::BufferTooSmall { needed, got }) } else { Ok(needed) }
    }

    /// How much of it is in the buffer, for data that may be cut at an allocation length.
    pub(crate) fn finish_cut(self) -> usize {
        self.position.min(self.buffer.len())
    }
}
