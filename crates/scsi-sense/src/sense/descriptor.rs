//! Sense data descriptors.

use super::specific::flag;
use crate::build::Cursor;
use crate::{SenseCode, SenseKey, SenseKeySpecific, Status};

/// A descriptor in descriptor format sense data (SPC-4 clause 4.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Descriptor<'a> {
    /// 00h: an address or a residue, as the command defines it.
    Information {
        /// VALID. The standard requires it to be set.
        valid: bool,
        /// INFORMATION.
        information: u64,
    },
    /// 01h: COMMAND-SPECIFIC INFORMATION.
    CommandSpecific(u64),
    /// 02h: SENSE KEY SPECIFIC.
    SenseKeySpecific(SenseKeySpecific),
    /// 03h: FIELD REPLACEABLE UNIT CODE; 0 means no unit.
    FieldReplaceableUnit(u8),
    /// 04h: flags of stream commands.
    StreamCommands {
        /// A filemark or setmark was read.
        filemark: bool,
        /// The end of the medium or partition was reached.
        end_of_medium: bool,
        /// The length of the block differs from that in the command.
        incorrect_length: bool,
    },
    /// 05h: the flag of block commands.
    BlockCommands {
        /// The length of the block differs from that in the command.
        incorrect_length: bool,
    },
    /// 09h: the registers of an ATA device.
    AtaStatusReturn(AtaStatusReturn),
    /// 0Ah: the progress of an operation other than that of the sense key.
    AnotherProgress {
        /// ANOTHER SENSE KEY and ANOTHER ADDITIONAL SENSE CODE (and qualifier).
        code: SenseCode,
        /// ANOTHER PROGRESS INDICATION, in 1/65536.
        progress: u16,
    },
    /// 0Ch: sense data of another logical unit.
    ForwardedSense {
        /// FSDT: the sense data were truncated.
        truncated: bool,
        /// SENSE DATA SOURCE, four bits: the device of the copy; 0 if unknown.
        source: u8,
        /// FORWARDED STATUS.
        status: Status,
        /// The sense data, for [`Sense::parse`](crate::Sense::parse).
        sense: &'a [u8],
    },
    /// 0Dh: a direct-access block device's replacement for 00h, 01h, 02h, 03h and 05h.
    DirectAccessBlockDevice(DirectAccessBlockDevice),
    /// A descriptor of any other type, or one that is shorter than its type requires.
    Other {
        /// DESCRIPTOR TYPE.
        kind: u8,
        /// The bytes after ADDITIONAL LENGTH; at most 255 can be built.
        body: &'a [u8],
    },
}

/// The registers of an ATA device (SAT-3 clause 12.2.6): descriptor 09h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AtaStatusReturn {
    /// EXTEND: the bits of `count` above 8 and of `lba` above 24 are valid.
    pub extend: bool,
    /// ERROR.
    pub error: u8,
    /// COUNT.
    pub count: u16,
    /// LBA, 48 bits. Higher bits are not built.
    pub lba: u64,
    /// DEVICE.
    pub device: u8,
    /// STATUS.
    pub status: u8,
}

/// Descriptor 0Dh (SBC-4): the usual fields in one descriptor of 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DirectAccessBlockDevice {
    /// INFORMATION, if VALID.
    pub information: Option<u64>,
    /// COMMAND-SPECIFIC INFORMATION.
    pub command_specific: u64,
    /// SENSE KEY SPECIFIC, if SKSV.
    pub sense_key_specific: Option<SenseKeySpecific>,
    /// FIELD REPLACEABLE UNIT CODE; 0 means no unit.
    pub field_replaceable_unit: u8,
    /// ILI: the length of the block differs from that in the command.
    pub incorrect_length: bool,
}

const INFORMATION: u8 = 0x00;
const COMMAND_SPECIFIC: u8 = 0x01;
const SENSE_KEY_SPECIFIC: u8 = 0x02;
const FIELD_REPLACEABLE_UNIT: u8 = 0x03;
const STREAM_COMMANDS: u8 = 0x04;
const BLOCK_COMMANDS: u8 = 0x05;
const ATA_STATUS_RETURN: u8 = 0x09;
const ANOTHER_PROGRESS: u8 = 0x0a;
const FORWARDED_SENSE: u8 = 0x0c;
const DIRECT_ACCESS_BLOCK_DEVICE: u8 = 0x0d;

const VALID: u8 = 0x80;
const FILEMARK: u8 = 0x80;
const END_OF_MEDIUM: u8 = 0x40;
const INCORRECT_LENGTH: u8 = 0x20;
const FORWARDED_TRUNCATED: u8 = 0x80;
const EXTEND: u8 = 0x01;

/// Bytes 24-31 of descriptor 0Dh: ADDITIONAL LENGTH is 1Eh.
const DIRECT_ACCESS_RESERVED: [u8; 8] = [0; 8];

impl<'a> Descriptor<'a> {
    /// Returns DESCRIPTOR TYPE.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Information { .. } => INFORMATION,
            Self::CommandSpecific(_) => COMMAND_SPECIFIC,
            Self::SenseKeySpecific(_) => SENSE_KEY_SPECIFIC,
            Self::FieldReplaceableUnit(_) => FIELD_REPLACEABLE_UNIT,
            Self::StreamCommands { .. } => STREAM_COMMANDS,
            Self::BlockCommands { .. } => BLOCK_COMMANDS,
            Self::AtaStatusReturn(_) => ATA_STATUS_RETURN,
            Self::AnotherProgress { .. } => ANOTHER_PROGRESS,
            Self::ForwardedSense { .. } => FORWARDED_SENSE,
            Self::DirectAccessBlockDevice(_) => DIRECT_ACCESS_BLOCK_DEVICE,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// Decodes a descriptor from its DESCRIPTOR TYPE (`kind`) and the bytes after its ADDITIONAL LENGTH (`body`), in
    /// sense data with this sense key.
    pub fn decode(key: SenseKey, kind: u8, body: &'a [u8]) -> Self {
        let known = match kind {
            INFORMATION => decode_information(body),
            COMMAND_SPECIFIC => decode_command_specific(body),
            SENSE_KEY_SPECIFIC => decode_sense_key_specific(key, body),
            FIELD_REPLACEABLE_UNIT => body.get(1).map(|code| Self::FieldReplaceableUnit(*code)),
            STREAM_COMMANDS => body.get(1).map(|flags| Self::StreamCommands {
                filemark: flags & FILEMARK != 0,
                end_of_medium: flags & END_OF_MEDIUM != 0,
                incorrect_length: flags & INCORRECT_LENGTH != 0,
            }),
            BLOCK_COMMANDS => body
                .get(1)
                .map(|flags| Self::BlockCommands { incorrect_length: flags & INCORRECT_LENGTH != 0 }),
            ATA_STATUS_RETURN => AtaStatusReturn::decode(body).map(Self::AtaStatusReturn),
            ANOTHER_PROGRESS => decode_another_progress(body),
            FORWARDED_SENSE => decode_forwarded_sense(body),
            DIRECT_ACCESS_BLOCK_DEVICE => {
                DirectAccessBlockDevice::decode(key, body).map(Self::DirectAccessBlockDevice)
            }
            _ => None,
        };
        known.unwrap_or(Self::Other { kind, body })
    }

    /// Appends the descriptor with its header. A body over 255 bytes does not fit the length field: the caller refuses
    /// it.
    pub(super) fn put(&self, cursor: &mut Cursor<'_>) {
        let start = cursor.position();
        cursor.put(&[self.kind(), 0]);
        match *self {
            Self::Information { valid, information } => {
                cursor.put(&[flag(valid, VALID), 0]);
                cursor.put(&information.to_be_bytes());
            }
            Self::CommandSpecific(information) => {
                cursor.put(&[0, 0]);
                cursor.put(&information.to_be_bytes());
            }
            Self::SenseKeySpecific(specific) => {
                let [b0, b1, b2] = specific.to_bytes();
                cursor.put(&[0, 0, b0, b1, b2, 0]);
            }
            Self::FieldReplaceableUnit(code) => cursor.put(&[0, code]),
            Self::StreamCommands { filemark, end_of_medium, incorrect_length } => {
                let flags = flag(filemark, FILEMARK)
                    | flag(end_of_medium, END_OF_MEDIUM)
                    | flag(incorrect_length, INCORRECT_LENGTH);
                cursor.put(&[0, flags]);
            }
            Self::BlockCommands { incorrect_length } => {
                cursor.put(&[0, flag(incorrect_length, INCORRECT_LENGTH)]);
            }
            Self::AtaStatusReturn(ata) => cursor.put(&ata.body()),
            Self::AnotherProgress { code, progress } => {
                cursor.put(&[code.key.code(), code.additional.asc, code.additional.ascq, 0]);
                cursor.put(&progress.to_be_bytes());
            }
            Self::ForwardedSense { truncated, source, status, sense } => {
                cursor.put(&[flag(truncated, FORWARDED_TRUNCATED) | source & 0x0f, status.0]);
                cursor.put(sense);
            }
            Self::DirectAccessBlockDevice(device) => device.put(cursor),
            Self::Other { body, .. } => cursor.put(body),
        }
        let body = cursor.position().saturating_sub(start).saturating_sub(2);
        cursor.set(start.saturating_add(1), &[u8::try_from(body).unwrap_or(u8::MAX)]);
    }
}

fn decode_information(body: &[u8]) -> Option<Descriptor<'_>> {
    let valid = body.first()? & VALID != 0;
    let information = u64::from_be_bytes(*body.get(2..)?.first_chunk()?);
    Some(Descriptor::Information { valid, information })
}

fn decode_command_specific(body: &[u8]) -> Option<Descriptor<'_>> {
    Some(Descriptor::CommandSpecific(u64::from_be_bytes(*body.get(2..)?.first_chunk()?)))
}

fn decode_sense_key_specific(key: SenseKey, body: &[u8]) -> Option<Descriptor<'_>> {
    SenseKeySpecific::decode(key, *body.get(2..)?.first_chunk()?).map(Descriptor::SenseKeySpecific)
}

fn decode_another_progress(body: &[u8]) -> Option<Descriptor<'_>> {
    let &[key, asc, ascq, _, high, low] = body.first_chunk()?;
    Some(Descriptor::AnotherProgress {
        code: SenseCode::new(SenseKey::new(key), asc, ascq),
        progress: u16::from_be_bytes([high, low]),
    })
}

fn decode_forwarded_sense(body: &[u8]) -> Option<Descriptor<'_>> {
    let (&[flags, status], sense) = body.split_first_chunk()?;
    Some(Descriptor::ForwardedSense {
        truncated: flags & FORWARDED_TRUNCATED != 0,
        source: flags & 0x0f,
        status: Status(status),
        sense,
    })
}

impl AtaStatusReturn {
    fn decode(body: &[u8]) -> Option<Self> {
        let &[flags, error, count_high, count_low, l31, l7, l39, l15, l47, l23, device, status] =
            body.first_chunk()?;
        Some(Self {
            extend: flags & EXTEND != 0,
            error,
            count: u16::from_be_bytes([count_high, count_low]),
            lba: u64::from_be_bytes([0, 0, l47, l39, l31, l23, l15, l7]),
            device,
            status,
        })
    }

    const fn body(self) -> [u8; 12] {
        let [count_high, count_low] = self.count.to_be_bytes();
        let [_, _, l47, l39, l31, l23, l15, l7] = self.lba.to_be_bytes();
        let extend = flag(self.extend, EXTEND);
        [extend, self.error, count_high, count_low, l31, l7, l39, l15, l47, l23, self.device, self.status]
    }
}

impl DirectAccessBlockDevice {
    /// Requires bytes 2-23 of the 32; bytes 24-31 are reserved.
    fn decode(key: SenseKey, body: &[u8]) -> Option<Self> {
        let (&[flags, _, s0, s1, s2, unit], rest) = body.split_first_chunk()?;
        let (information, rest) = rest.split_first_chunk()?;
        let information = u64::from_be_bytes(*information);
        Some(Self {
            information: if flags & VALID == 0 { None } else { Some(information) },
            command_specific: u64::from_be_bytes(*rest.first_chunk()?),
            sense_key_specific: SenseKeySpecific::decode(key, [s0, s1, s2]),
            field_replaceable_unit: unit,
            incorrect_length: flags & INCORRECT_LENGTH != 0,
        })
    }

    fn put(self, cursor: &mut Cursor<'_>) {
        let flags = flag(self.information.is_some(), VALID) | flag(self.incorrect_length, INCORRECT_LENGTH);
        let [s0, s1, s2] = self.sense_key_specific.map_or([0; 3], SenseKeySpecific::to_bytes);
        cursor.put(&[flags, 0, s0, s1, s2, self.field_replaceable_unit]);
        cursor.put(&self.information.unwrap_or(0).to_be_bytes());
        cursor.put(&self.command_specific.to_be_bytes());
        cursor.put(&DIRECT_ACCESS_RESERVED);
    }
}

/// An iterator over the descriptors of sense data: see [`Sense::descriptors`](crate::Sense::descriptors).
///
/// It ends before a truncated descriptor.
#[derive(Clone, Debug)]
pub struct Descriptors<'a> {
    key: SenseKey,
    rest: &'a [u8],
}

impl<'a> Descriptors<'a> {
    pub(super) const fn new(key: SenseKey, rest: &'a [u8]) -> Self {
        Self { key, rest }
    }
}

impl<'a> Iterator for Descriptors<'a> {
    type Item = Descriptor<'a>;

    fn next(&mut self) -> Option<Descriptor<'a>> {
        // A truncated descriptor ends the list: `rest` stays empty.
        let (&[kind, length], rest) = core::mem::take(&mut self.rest).split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(usize::from(length))?;
        self.rest = rest;
        Some(Descriptor::decode(self.key, kind, body))
    }
}

impl core::iter::FusedIterator for Descriptors<'_> {}
