//! Constants and encoding of the protocol: QEMU, docs/interop/pr-helper.rst.

use bitflags::bitflags;
use bytes::{Buf, BufMut};

/// Length of either side's greeting: its feature bits, big-endian.
pub const GREETING_LEN: usize = 4;

/// Length of the CDB in a request. Shorter CDBs are padded with zeros.
pub const CDB_LEN: usize = 16;

/// The most data that a command may transfer, in either direction.
pub const DATA_MAX: usize = 8192;

/// Length of the sense data in a reply, padded with zeros.
pub const SENSE_LEN: usize = 96;

/// Length of a reply before its payload: status, payload size, sense data.
pub const REPLY_LEN: usize = 4 + 4 + SENSE_LEN;

/// Length of the basic PERSISTENT RESERVE OUT parameter list (SPC-4 6.16.3), the shortest parameter list.
pub(crate) const PARAMETERS_MIN: usize = 24;

bitflags! {
    /// Feature bits of the protocol. None is defined yet; unknown bits of a peer are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Features: u32 {
        // Defines no flag, but declares all bits valid: otherwise operators would drop unknown bits.
        const _ = !0;
    }
}

/// A greeting consists of nothing but feature bits.
impl Features {
    pub(crate) fn encode(self) -> [u8; GREETING_LEN] {
        let mut greeting = [0; GREETING_LEN];
        greeting.as_mut_slice().put_u32(self.bits());
        greeting
    }

    pub(crate) fn decode(greeting: [u8; GREETING_LEN]) -> Self {
        Self::from_bits_retain(greeting.as_slice().get_u32())
    }
}

/// The start of a reply, before its sense data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) status: u32,
    /// Length of the payload.
    pub(crate) size: u32,
}

/// Length of an [`Announcement`].
pub(crate) const ANNOUNCEMENT_LEN: usize = REPLY_LEN - SENSE_LEN;

impl Announcement {
    pub(crate) fn encode(self, announcement: &mut [u8; ANNOUNCEMENT_LEN]) {
        let mut fields = announcement.as_mut_slice();
        fields.put_u32(self.status);
        fields.put_u32(self.size);
    }

    /// Returns `None` if `reply` is shorter than an announcement.
    pub(crate) fn decode(mut reply: impl Buf) -> Option<Self> {
        Some(Self { status: reply.try_get_u32().ok()?, size: reply.try_get_u32().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_big_endian() {
        let features = Features::from_bits_retain(0x8000_0002);
        assert_eq!(features.encode(), [0x80, 0, 0, 2]);
        assert_eq!(Features::decode([0x80, 0, 0, 2]), features);
    }

    #[test]
    fn announcements_are_big_endian() {
        let bytes = [0, 0, 0, 0x18, 0, 0, 0x20, 1];
        let announcement = Announcement { status: 0x18, size: 0x2001 };
        let mut encoded = [0xff; ANNOUNCEMENT_LEN];
        announcement.encode(&mut encoded);
        assert_eq!(encoded, bytes);
        assert_eq!(Announcement::decode(&bytes[..]), Some(announcement));
        assert_eq!(Announcement::decode(&[bytes, [0xff; 8]].concat()[..]), Some(announcement));
    }

    #[test]
    fn short_announcements_are_none() {
        for length in 0..ANNOUNCEMENT_LEN {
            assert_eq!(Announcement::decode(&[0; ANNOUNCEMENT_LEN][..length]), None, "{length} bytes");
        }
    }
}
