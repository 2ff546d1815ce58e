//! Numbers of the protocol: QEMU, docs/interop/pr-helper.rst.

use bitflags::bitflags;

/// Length of either side's greeting: its feature bits, big-endian.
pub const GREETING_LEN: usize = 4;

/// Length of the CDB in a request. A CDB that is shorter is followed by zeros.
pub const CDB_LEN: usize = 16;

/// The most data that a command may transfer, in either direction.
pub const DATA_MAX: usize = 8192;

/// Length of the sense data in a reply, padded with zeros.
pub const SENSE_LEN: usize = 96;

/// Length of a reply before its payload: status, payload size, sense data.
pub const REPLY_LEN: usize = 4 + 4 + SENSE_LEN;

/// Length of a basic PERSISTENT RESERVE OUT parameter list (SPC-4 6.16.3), the shortest that there is.
pub(crate) const PARAMETERS_MIN: usize = 24;

bitflags! {
    /// Optional parts of the protocol. None is defined yet; the unknown bits of a peer are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Features: u32 {
        // No known flag; without this line `from_bits_retain` and the operators would drop the unknown ones.
        const _ = !0;
    }
}
