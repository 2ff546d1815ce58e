//! The one buffer of a session: a reply, header and data contiguous, so that it leaves in one send. The data's place
//! also holds the parameters of a command that has them.

use alloc::{boxed::Box, vec};

use crate::wire::{DATA_MAX, REPLY_LEN};

pub(crate) struct Frame(Box<[u8]>);

/// Puts the data at an odd address. Linux has a device write straight into a process's memory if address and length
/// are multiples of four, and at least one (LIO, READ FULL STATUS) then writes more than it was asked for, over
/// whatever is behind. A buffer at an odd address is copied to, as far as it reaches; for a few kilobytes that costs
/// no more.
const ODD: usize = 1;

impl Frame {
    pub(crate) fn new() -> Self {
        Self(vec![0; ODD + REPLY_LEN + DATA_MAX].into_boxed_slice())
    }

    /// Header and data.
    pub(crate) fn parts(&mut self) -> (&mut [u8], &mut [u8]) {
        self.0.get_mut(ODD..).unwrap_or_default().split_at_mut(REPLY_LEN)
    }

    /// Bytes `from` to `to` of header and data together, as far as there are any.
    pub(crate) fn range(&mut self, from: usize, to: usize) -> &mut [u8] {
        self.0.get_mut(ODD..).and_then(|frame| frame.get_mut(from..to)).unwrap_or_default()
    }

    /// The first `length` bytes of header and data together.
    pub(crate) fn head(&self, length: usize) -> &[u8] {
        self.0.get(ODD..).and_then(|frame| frame.get(..length)).unwrap_or_default()
    }
}

/// What a reply's first eight bytes say.
pub(crate) struct Announcement {
    pub(crate) status: u32,
    pub(crate) size: u32,
}

impl Announcement {
    pub(crate) fn write(&self, header: &mut [u8]) {
        let bytes = self.status.to_be_bytes().into_iter().chain(self.size.to_be_bytes());
        for (to, from) in header.iter_mut().zip(bytes) {
            *to = from;
        }
    }

    /// `None` if `header` is shorter than eight bytes.
    pub(crate) fn read(header: &[u8]) -> Option<Self> {
        let (status, rest) = header.split_first_chunk()?;
        let size = rest.first_chunk()?;
        Some(Self { status: u32::from_be_bytes(*status), size: u32::from_be_bytes(*size) })
    }
}
