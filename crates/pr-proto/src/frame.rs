//! The only buffer of a session. It holds a reply, header and data contiguous, so that one send transmits it. Its data
//! field also holds the parameter list of a request.

use alloc::{boxed::Box, vec};

use crate::wire::{ANNOUNCEMENT_LEN, DATA_MAX, REPLY_LEN, SENSE_LEN};

pub(crate) struct Frame(Box<[u8]>);

/// Offset of the header, which puts the data at an odd address. If address and length are multiples of four, Linux lets
/// a device write directly into the memory of a process. At least one device (LIO, READ FULL STATUS) then writes more
/// than was requested, and overwrites the memory after the buffer. Into a buffer at an odd address Linux copies, never
/// beyond its end; for a few kilobytes that is no slower.
const ODD: usize = 1;

/// The fields of a reply. Announcement and sense data form its header.
pub(crate) struct Fields<'a> {
    pub(crate) announcement: &'a mut [u8; ANNOUNCEMENT_LEN],
    pub(crate) sense: &'a mut [u8; SENSE_LEN],
    /// [`DATA_MAX`] bytes, of which a reply sends only its payload.
    pub(crate) data: &'a mut [u8],
}

impl Frame {
    pub(crate) fn new() -> Self {
        Self(vec![0; ODD + REPLY_LEN + DATA_MAX].into_boxed_slice())
    }

    /// Returns the fields of a reply. The frame has room for all of them, so it is never `None`.
    pub(crate) fn fields(&mut self) -> Option<Fields<'_>> {
        let (announcement, rest) = self.0.get_mut(ODD..)?.split_first_chunk_mut()?;
        let (sense, data) = rest.split_first_chunk_mut()?;
        Some(Fields { announcement, sense, data })
    }

    /// Returns bytes `from` to `to` (exclusive) of header and data together, or nothing if the frame is shorter.
    pub(crate) fn range(&mut self, from: usize, to: usize) -> &mut [u8] {
        self.0.get_mut(ODD..).and_then(|frame| frame.get_mut(from..to)).unwrap_or_default()
    }

    /// Returns the first `length` bytes of header and data together, or nothing if the frame is shorter.
    pub(crate) fn head(&self, length: usize) -> &[u8] {
        self.0.get(ODD..).and_then(|frame| frame.get(..length)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_contiguous_and_data_odd() {
        let mut frame = Frame::new();
        let Fields { announcement, sense, data } = frame.fields().unwrap();
        assert_eq!(data.len(), DATA_MAX);
        assert_eq!(data.as_ptr().addr() % 2, 1);
        announcement.fill(1);
        sense.fill(2);
        data.fill(3);
        let expected = [&[1; ANNOUNCEMENT_LEN][..], &[2; SENSE_LEN], &[3; DATA_MAX]].concat();
        assert_eq!(frame.head(REPLY_LEN + DATA_MAX), expected);
        assert!(frame.head(REPLY_LEN + DATA_MAX + 1).is_empty());
    }
}
