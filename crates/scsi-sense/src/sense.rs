//! Sense data.

mod build;
mod descriptor;
mod specific;

use core::fmt;

pub use build::{DescriptorSense, FixedSense};
pub use descriptor::{AtaStatusReturn, Descriptor, Descriptors, DirectAccessBlockDevice};
pub use specific::SenseKeySpecific;

use crate::{AdditionalSense, SenseCode, SenseKey};

/// Sense data as a device returned them, in either format, complete or truncated (SPC-4 clause 4.5).
///
/// Every accessor returns `None` if the bytes that it needs are missing: the buffer was too small, the device
/// returned less, or the format has no such field.
///
/// ```
/// use scsi_sense::{Sense, SenseCode};
///
/// // A protocol with a fixed frame delivers sense data followed by zeros.
/// let mut frame = [0; 96];
/// frame[..18].copy_from_slice(&[0xf0, 0, 3, 0, 0, 0x12, 0x34, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0]);
///
/// let sense = Sense::parse(&frame)?;
/// assert_eq!(sense.as_bytes().len(), 18);
/// assert_eq!(sense.code(), Some(SenseCode::UNRECOVERED_READ_ERROR));
/// assert_eq!(sense.information(), Some(0x1234));
/// assert_eq!(
///     sense.to_string(),
///     "MEDIUM ERROR, UNRECOVERED READ ERROR (03/11/00), information 0x1234",
/// );
/// # Ok::<(), scsi_sense::SenseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sense<'a> {
    bytes: &'a [u8],
    format: SenseFormat,
    deferred: bool,
}

/// The two layouts of sense data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SenseFormat {
    /// Every field has a fixed offset: response codes 70h and 71h (SPC-4 clause 4.5.3).
    Fixed,
    /// A header, then descriptors: response codes 72h and 73h (SPC-4 clause 4.5.2).
    Descriptor,
}

/// The reason why bytes are not sense data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SenseError {
    /// There are no bytes.
    Empty,
    /// The response code (byte 0 bits 6-0) is not 70h to 73h: zeros, or a vendor specific format.
    ResponseCode(u8),
}

/// Response codes and flags that both reading and building use.
mod bits {
    pub(super) const FIXED_CURRENT: u8 = 0x70;
    pub(super) const FIXED_DEFERRED: u8 = 0x71;
    pub(super) const DESCRIPTOR_CURRENT: u8 = 0x72;
    pub(super) const DESCRIPTOR_DEFERRED: u8 = 0x73;
    /// Byte 0.
    pub(super) const VALID: u8 = 0x80;
    /// Byte 2 of fixed format.
    pub(super) const FILEMARK: u8 = 0x80;
    pub(super) const END_OF_MEDIUM: u8 = 0x40;
    pub(super) const INCORRECT_LENGTH: u8 = 0x20;
    pub(super) const FIXED_OVERFLOW: u8 = 0x10;
    /// Byte 4 of descriptor format.
    pub(super) const DESCRIPTOR_OVERFLOW: u8 = 0x80;
}

impl<'a> Sense<'a> {
    /// Reads the sense data at the start of `bytes`.
    ///
    /// Bytes after the end that ADDITIONAL SENSE LENGTH (byte 7) states are ignored. Missing bytes, byte 7 included,
    /// are no error (see [`is_truncated`](Self::is_truncated)).
    ///
    /// # Errors
    ///
    /// [`SenseError`] if `bytes` are not sense data of a known format.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SenseError> {
        let (format, deferred) = match bytes.first().ok_or(SenseError::Empty)? & 0x7f {
            bits::FIXED_CURRENT => (SenseFormat::Fixed, false),
            bits::FIXED_DEFERRED => (SenseFormat::Fixed, true),
            bits::DESCRIPTOR_CURRENT => (SenseFormat::Descriptor, false),
            bits::DESCRIPTOR_DEFERRED => (SenseFormat::Descriptor, true),
            other => return Err(SenseError::ResponseCode(other)),
        };
        let whole = whole_length(bytes).unwrap_or(usize::MAX);
        Ok(Self { bytes: bytes.get(..whole).unwrap_or(bytes), format, deferred })
    }

    /// Returns the bytes up to the end that ADDITIONAL SENSE LENGTH states.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the layout.
    pub const fn format(&self) -> SenseFormat {
        self.format
    }

    /// Returns RESPONSE CODE, byte 0 bits 6-0: 70h to 73h.
    pub const fn response_code(&self) -> u8 {
        match (self.format, self.deferred) {
            (SenseFormat::Fixed, false) => bits::FIXED_CURRENT,
            (SenseFormat::Fixed, true) => bits::FIXED_DEFERRED,
            (SenseFormat::Descriptor, false) => bits::DESCRIPTOR_CURRENT,
            (SenseFormat::Descriptor, true) => bits::DESCRIPTOR_DEFERRED,
        }
    }

    /// Returns whether the error belongs to an earlier command than the one that returned it (71h, 73h).
    pub const fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Returns whether bytes are missing: there are fewer than ADDITIONAL SENSE LENGTH states, or it is missing itself.
    pub fn is_truncated(&self) -> bool {
        whole_length(self.bytes).is_none_or(|whole| self.bytes.len() < whole)
    }

    /// Returns `SDAT_OVFL`: whether the device had more sense data than it could deliver.
    pub fn has_overflow(&self) -> Option<bool> {
        match self.format {
            SenseFormat::Fixed => self.fixed_flag(bits::FIXED_OVERFLOW),
            SenseFormat::Descriptor => self.bytes.get(4).map(|byte| byte & bits::DESCRIPTOR_OVERFLOW != 0),
        }
    }

    /// Returns SENSE KEY.
    pub fn key(&self) -> Option<SenseKey> {
        let at = match self.format {
            SenseFormat::Fixed => 2,
            SenseFormat::Descriptor => 1,
        };
        self.bytes.get(at).map(|byte| SenseKey::new(*byte))
    }

    /// Returns ADDITIONAL SENSE CODE and its qualifier.
    pub fn additional(&self) -> Option<AdditionalSense> {
        let at = match self.format {
            SenseFormat::Fixed => 12,
            SenseFormat::Descriptor => 2,
        };
        self.array(at).map(|[asc, ascq]| AdditionalSense { asc, ascq })
    }

    /// Returns sense key, additional sense code and qualifier together.
    pub fn code(&self) -> Option<SenseCode> {
        Some(SenseCode { key: self.key()?, additional: self.additional()? })
    }

    /// Returns INFORMATION, if VALID is set: an address or a residue, as the command defines it.
    pub fn information(&self) -> Option<u64> {
        match self.format {
            SenseFormat::Fixed if self.bytes.first()? & bits::VALID == 0 => None,
            SenseFormat::Fixed => self.array(3).map(|bytes| u64::from(u32::from_be_bytes(bytes))),
            SenseFormat::Descriptor => self.descriptors().find_map(|descriptor| match descriptor {
                Descriptor::Information { valid: true, information } => Some(information),
                Descriptor::DirectAccessBlockDevice(device) => device.information,
                _ => None,
            }),
        }
    }

    /// Returns COMMAND-SPECIFIC INFORMATION. Fixed format always has this field; zero there may mean no information.
    pub fn command_specific(&self) -> Option<u64> {
        match self.format {
            SenseFormat::Fixed => self.array(8).map(|bytes| u64::from(u32::from_be_bytes(bytes))),
            SenseFormat::Descriptor => self.descriptors().find_map(|descriptor| match descriptor {
                Descriptor::CommandSpecific(information) => Some(information),
                Descriptor::DirectAccessBlockDevice(device) => Some(device.command_specific),
                _ => None,
            }),
        }
    }

    /// Returns FIELD REPLACEABLE UNIT CODE, unless it is zero (no unit).
    pub fn field_replaceable_unit(&self) -> Option<u8> {
        let code = match self.format {
            SenseFormat::Fixed => self.bytes.get(14).copied(),
            SenseFormat::Descriptor => self.descriptors().find_map(|descriptor| match descriptor {
                Descriptor::FieldReplaceableUnit(code) => Some(code),
                Descriptor::DirectAccessBlockDevice(device) => Some(device.field_replaceable_unit),
                _ => None,
            }),
        };
        code.filter(|code| *code != 0)
    }

    /// Returns SENSE KEY SPECIFIC, if SKSV is set.
    pub fn sense_key_specific(&self) -> Option<SenseKeySpecific> {
        match self.format {
            SenseFormat::Fixed => SenseKeySpecific::decode(self.key()?, self.array(15)?),
            SenseFormat::Descriptor => self.descriptors().find_map(|descriptor| match descriptor {
                Descriptor::SenseKeySpecific(specific) => Some(specific),
                Descriptor::DirectAccessBlockDevice(device) => device.sense_key_specific,
                _ => None,
            }),
        }
    }

    /// Returns FILEMARK: whether a filemark or setmark was read.
    pub fn is_filemark(&self) -> Option<bool> {
        match self.format {
            SenseFormat::Fixed => self.fixed_flag(bits::FILEMARK),
            SenseFormat::Descriptor => self.descriptors().find_map(|descriptor| match descriptor {
                Descriptor::StreamCommands { filemark, .. } => Some(filemark),
                _ => None,
            }),
        }
    }

    /// Returns EOM: whether the end of the medium or partition was reached.
    pub fn is_end_of_medium(&self) -> Option<bool> {
        match self.format {
            SenseFormat::Fixed => self.fixed_flag(bits::END_OF_MEDIUM),
            SenseFormat::Descriptor => self.descriptors().find_map(|descriptor| match descriptor {
                Descriptor::StreamCommands { end_of_medium, .. } => Some(end_of_medium),
                _ => None,
            }),
        }
    }

    /// Returns ILI: whether the length of the block differs from that in the command.
    pub fn is_incorrect_length(&self) -> Option<bool> {
        match self.format {
            SenseFormat::Fixed => self.fixed_flag(bits::INCORRECT_LENGTH),
            SenseFormat::Descriptor => self.descriptors().find_map(|descriptor| match descriptor {
                Descriptor::StreamCommands { incorrect_length, .. }
                | Descriptor::BlockCommands { incorrect_length } => Some(incorrect_length),
                Descriptor::DirectAccessBlockDevice(device) => Some(device.incorrect_length),
                _ => None,
            }),
        }
    }

    /// Returns the complete descriptors, in their order. Fixed format has none.
    pub fn descriptors(&self) -> Descriptors<'a> {
        match (self.format, self.key(), self.bytes.get(8..)) {
            (SenseFormat::Descriptor, Some(key), Some(bytes)) => Descriptors::new(key, bytes),
            _ => Descriptors::new(SenseKey::NO_SENSE, &[]),
        }
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    /// Returns a flag in byte 2 of fixed format.
    fn fixed_flag(&self, mask: u8) -> Option<bool> {
        self.bytes.get(2).map(|byte| byte & mask != 0)
    }
}

/// Returns the length in bytes that ADDITIONAL SENSE LENGTH states; `None` if it is missing.
fn whole_length(bytes: &[u8]) -> Option<usize> {
    bytes.get(7).map(|additional| 8 + usize::from(*additional))
}

/// Shows, for example, `ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00), CDB byte 1, bit 4`.
///
/// The other fields follow the code if they are present and not zero: deferred, the flags, information,
/// command-specific information, the field pointer or progress, the unit.
impl fmt::Display for Sense<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.key()) {
            (Some(code), _) => write!(f, "{code}")?,
            (None, Some(key)) => write!(f, "{key}, sense data cut after {} bytes", self.bytes.len())?,
            (None, None) => write!(f, "sense data cut after {} bytes", self.bytes.len())?,
        }
        for (flag, text) in [
            (Some(self.deferred), "deferred"),
            (self.is_filemark(), "filemark"),
            (self.is_end_of_medium(), "end of medium"),
            (self.is_incorrect_length(), "incorrect length"),
            (self.has_overflow(), "more sense data lost"),
        ] {
            if flag == Some(true) {
                write!(f, ", {text}")?;
            }
        }
        if let Some(information) = self.information() {
            write!(f, ", information {information:#x}")?;
        }
        if let Some(information) = self.command_specific().filter(|information| *information != 0) {
            write!(f, ", command-specific information {information:#x}")?;
        }
        if let Some(specific) = self.sense_key_specific() {
            write!(f, ", {specific}")?;
        }
        if let Some(unit) = self.field_replaceable_unit() {
            write!(f, ", field replaceable unit {unit:02X}h")?;
        }
        Ok(())
    }
}

impl fmt::Display for SenseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no sense data"),
            Self::ResponseCode(code) => write!(f, "response code {code:02X}h is not of sense data"),
        }
    }
}

impl core::error::Error for SenseError {}
