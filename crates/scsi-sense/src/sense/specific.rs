//! The SENSE KEY SPECIFIC field.

use core::fmt;

use crate::SenseKey;

/// SENSE KEY SPECIFIC: three bytes whose meaning depends on the sense key (SPC-4 clause 4.5.2.4).
///
/// They are bytes 15-17 of fixed format, or a separate descriptor, and valid only if SKSV (bit 7 of the first byte) is
/// set. [`to_bytes`](Self::to_bytes) always sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SenseKeySpecific {
    /// ILLEGAL REQUEST: the invalid field.
    FieldPointer {
        /// C/D: the field is in the CDB (true) or in the parameter list (false).
        in_cdb: bool,
        /// FIELD POINTER: offset of the field's first byte.
        byte: u16,
        /// BIT POINTER, 0 to 7: the field's most significant bit, if BPV is set.
        bit: Option<u8>,
    },
    /// RECOVERED ERROR, MEDIUM ERROR, HARDWARE ERROR: how often the device retried.
    ActualRetryCount(u16),
    /// NO SENSE, NOT READY: the progress of an operation, in 1/65536.
    Progress(u16),
    /// COPY ABORTED: the invalid field of the copy's parameters.
    SegmentPointer {
        /// SD: offset from the start of the segment descriptor (true) or of the parameter list (false).
        in_segment_descriptor: bool,
        /// FIELD POINTER: offset of the field's first byte.
        byte: u16,
        /// BIT POINTER, 0 to 7: the field's most significant bit, if BPV is set.
        bit: Option<u8>,
    },
    /// UNIT ATTENTION: whether the device's queue of unit attention conditions overflowed and some were lost.
    UnitAttentionOverflow(bool),
    /// The three bytes with a sense key for which the standard defines no meaning.
    Other([u8; 3]),
}

const SKSV: u8 = 0x80;
const COMMAND_DATA: u8 = 0x40;
const SEGMENT_DESCRIPTOR: u8 = 0x20;
const BIT_POINTER_VALID: u8 = 0x08;
const BIT_POINTER: u8 = 0x07;
const OVERFLOW: u8 = 0x01;

impl SenseKeySpecific {
    /// Decodes the three bytes beside this sense key; returns `None` if SKSV is not set.
    pub const fn decode(key: SenseKey, bytes: [u8; 3]) -> Option<Self> {
        let [first, high, low] = bytes;
        if first & SKSV == 0 {
            return None;
        }
        let number = u16::from_be_bytes([high, low]);
        let bit = if first & BIT_POINTER_VALID == 0 { None } else { Some(first & BIT_POINTER) };
        Some(match key {
            SenseKey::ILLEGAL_REQUEST => {
                Self::FieldPointer { in_cdb: first & COMMAND_DATA != 0, byte: number, bit }
            }
            SenseKey::RECOVERED_ERROR | SenseKey::MEDIUM_ERROR | SenseKey::HARDWARE_ERROR => {
                Self::ActualRetryCount(number)
            }
            SenseKey::NO_SENSE | SenseKey::NOT_READY => Self::Progress(number),
            SenseKey::COPY_ABORTED => Self::SegmentPointer {
                in_segment_descriptor: first & SEGMENT_DESCRIPTOR != 0,
                byte: number,
                bit,
            },
            SenseKey::UNIT_ATTENTION => Self::UnitAttentionOverflow(first & OVERFLOW != 0),
            _ => Self::Other(bytes),
        })
    }

    /// Returns the three bytes with SKSV set.
    pub const fn to_bytes(self) -> [u8; 3] {
        let (flags, number) = match self {
            Self::FieldPointer { in_cdb, byte, bit } => (flag(in_cdb, COMMAND_DATA) | bit_pointer(bit), byte),
            Self::ActualRetryCount(number) | Self::Progress(number) => (0, number),
            Self::SegmentPointer { in_segment_descriptor, byte, bit } => {
                (flag(in_segment_descriptor, SEGMENT_DESCRIPTOR) | bit_pointer(bit), byte)
            }
            Self::UnitAttentionOverflow(overflow) => (flag(overflow, OVERFLOW), 0),
            Self::Other([flags, high, low]) => (flags, u16::from_be_bytes([high, low])),
        };
        let [high, low] = number.to_be_bytes();
        [SKSV | flags, high, low]
    }
}

pub(super) const fn flag(set: bool, mask: u8) -> u8 {
    if set { mask } else { 0 }
}

const fn bit_pointer(bit: Option<u8>) -> u8 {
    match bit {
        Some(bit) => BIT_POINTER_VALID | bit & BIT_POINTER,
        None => 0,
    }
}

/// Shows, for example, `CDB byte 2, bit 7` or `progress 49 %`.
impl fmt::Display for SenseKeySpecific {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, byte, bit) = match *self {
            Self::FieldPointer { in_cdb: true, byte, bit } => ("CDB", byte, bit),
            Self::FieldPointer { in_cdb: false, byte, bit }
            | Self::SegmentPointer { in_segment_descriptor: false, byte, bit } => {
                ("parameter list", byte, bit)
            }
            Self::SegmentPointer { in_segment_descriptor: true, byte, bit } => {
                ("segment descriptor", byte, bit)
            }
            Self::ActualRetryCount(count) => return write!(f, "{count} retries"),
            Self::Progress(progress) => return write!(f, "progress {} %", percent(progress)),
            Self::UnitAttentionOverflow(true) => return f.write_str("unit attention conditions lost"),
            Self::UnitAttentionOverflow(false) => return f.write_str("no unit attention condition lost"),
            Self::Other([b0, b1, b2]) => {
                return write!(f, "sense key specific {b0:02X}h {b1:02X}h {b2:02X}h");
            }
        };
        write!(f, "{place} byte {byte}")?;
        match bit {
            Some(bit) => write!(f, ", bit {bit}"),
            None => Ok(()),
        }
    }
}

/// Returns a progress indication (in 1/65536) in percent, rounded down.
fn percent(progress: u16) -> u32 {
    (u32::from(progress) * 100) >> 16
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn specific_field_depends_on_sense_key() {
        for (key, bytes, expected, text) in [
            (
                SenseKey::ILLEGAL_REQUEST,
                [0xcf, 0x00, 0x02],
                SenseKeySpecific::FieldPointer { in_cdb: true, byte: 2, bit: Some(7) },
                "CDB byte 2, bit 7",
            ),
            (
                SenseKey::ILLEGAL_REQUEST,
                [0x80, 0x00, 0x14],
                SenseKeySpecific::FieldPointer { in_cdb: false, byte: 20, bit: None },
                "parameter list byte 20",
            ),
            (
                SenseKey::MEDIUM_ERROR,
                [0x80, 0x00, 0x20],
                SenseKeySpecific::ActualRetryCount(32),
                "32 retries",
            ),
            (SenseKey::NOT_READY, [0x80, 0x7f, 0xff], SenseKeySpecific::Progress(0x7fff), "progress 49 %"),
            (SenseKey::NO_SENSE, [0x80, 0xff, 0xff], SenseKeySpecific::Progress(0xffff), "progress 99 %"),
            (
                SenseKey::COPY_ABORTED,
                [0xa8, 0x00, 0x08],
                SenseKeySpecific::SegmentPointer { in_segment_descriptor: true, byte: 8, bit: Some(0) },
                "segment descriptor byte 8, bit 0",
            ),
            (
                SenseKey::UNIT_ATTENTION,
                [0x81, 0x00, 0x00],
                SenseKeySpecific::UnitAttentionOverflow(true),
                "unit attention conditions lost",
            ),
            (
                SenseKey::MISCOMPARE,
                [0x91, 0x02, 0x03],
                SenseKeySpecific::Other([0x91, 2, 3]),
                "sense key specific 91h 02h 03h",
            ),
        ] {
            assert_eq!(SenseKeySpecific::decode(key, bytes), Some(expected));
            assert_eq!(expected.to_bytes(), bytes);
            assert_eq!(expected.to_string(), text);
        }
    }

    #[test]
    fn sense_key_specific_needs_sksv() {
        for key in 0..16 {
            assert_eq!(SenseKeySpecific::decode(SenseKey::new(key), [0x7f, 0xff, 0xff]), None);
        }
    }
}
