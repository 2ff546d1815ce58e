//! Builds sense data.

use super::specific::flag;
use super::{Descriptor, bits};
use crate::build::Cursor;
use crate::{AdditionalSense, BuildError, SenseCode, SenseKeySpecific};

/// The fields of sense data in fixed format (70h, 71h) to build (SPC-4 clause 4.5.3).
///
/// ```
/// use scsi_sense::{FixedSense, Sense, SenseCode, SenseKeySpecific};
///
/// let field = SenseKeySpecific::FieldPointer { in_cdb: true, byte: 1, bit: Some(4) };
/// let bytes = FixedSense {
///     sense_key_specific: Some(field),
///     ..FixedSense::new(SenseCode::INVALID_FIELD_IN_CDB)
/// }
/// .to_bytes();
/// assert_eq!(
///     Sense::parse(&bytes)?.to_string(),
///     "ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00), CDB byte 1, bit 4",
/// );
/// # Ok::<(), scsi_sense::SenseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FixedSense {
    /// Sense key, additional sense code and qualifier.
    pub code: SenseCode,
    /// The error belongs to an earlier command: response code 71h instead of 70h.
    pub deferred: bool,
    /// INFORMATION, bytes 3-6; VALID is set if there is a value.
    pub information: Option<u32>,
    /// COMMAND-SPECIFIC INFORMATION, bytes 8-11.
    pub command_specific: u32,
    /// FIELD REPLACEABLE UNIT CODE, byte 14; 0 means no unit.
    pub field_replaceable_unit: u8,
    /// SENSE KEY SPECIFIC, bytes 15-17; SKSV is set if there is a value.
    pub sense_key_specific: Option<SenseKeySpecific>,
    /// FILEMARK, byte 2 bit 7.
    pub filemark: bool,
    /// EOM, byte 2 bit 6.
    pub end_of_medium: bool,
    /// ILI, byte 2 bit 5.
    pub incorrect_length: bool,
    /// `SDAT_OVFL`, byte 2 bit 4: the device had more sense data than it could deliver.
    pub overflow: bool,
}

impl FixedSense {
    /// Returns a current error with this code and no other field.
    pub const fn new(code: SenseCode) -> Self {
        Self {
            code,
            deferred: false,
            information: None,
            command_specific: 0,
            field_replaceable_unit: 0,
            sense_key_specific: None,
            filemark: false,
            end_of_medium: false,
            incorrect_length: false,
            overflow: false,
        }
    }

    /// Returns the eighteen bytes; ADDITIONAL SENSE LENGTH (byte 7) is 10.
    pub const fn to_bytes(&self) -> [u8; 18] {
        let response = flag(self.information.is_some(), bits::VALID)
            | if self.deferred { bits::FIXED_DEFERRED } else { bits::FIXED_CURRENT };
        let flags = flag(self.filemark, bits::FILEMARK)
            | flag(self.end_of_medium, bits::END_OF_MEDIUM)
            | flag(self.incorrect_length, bits::INCORRECT_LENGTH)
            | flag(self.overflow, bits::FIXED_OVERFLOW);
        let [i3, i4, i5, i6] = match self.information {
            Some(information) => information.to_be_bytes(),
            None => [0; 4],
        };
        let [c8, c9, c10, c11] = self.command_specific.to_be_bytes();
        let [s15, s16, s17] = match self.sense_key_specific {
            Some(specific) => specific.to_bytes(),
            None => [0; 3],
        };
        let AdditionalSense { asc, ascq } = self.code.additional;
        let key = flags | self.code.key.code();
        let unit = self.field_replaceable_unit;
        [response, 0, key, i3, i4, i5, i6, 10, c8, c9, c10, c11, asc, ascq, unit, s15, s16, s17]
    }
}

/// The fields of sense data in descriptor format (72h, 73h) to build (SPC-4 clause 4.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DescriptorSense<'a> {
    /// Sense key, additional sense code and qualifier.
    pub code: SenseCode,
    /// The error belongs to an earlier command: response code 73h instead of 72h.
    pub deferred: bool,
    /// `SDAT_OVFL`, byte 4 bit 7: the device had more sense data than it could deliver.
    pub overflow: bool,
    /// The descriptors, in the order in which they are written.
    pub descriptors: &'a [Descriptor<'a>],
}

impl DescriptorSense<'_> {
    /// The greatest length of sense data in bytes: ADDITIONAL SENSE LENGTH is at most 244 (SPC-4 clause 4.5.2.1).
    pub const MAX_LENGTH: usize = 252;

    /// Returns a current error with this code, without descriptors.
    pub const fn new(code: SenseCode) -> Self {
        Self { code, deferred: false, overflow: false, descriptors: &[] }
    }

    /// Writes the sense data to the start of `buffer` and returns their length in bytes.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLong`] if the sense data exceed [`MAX_LENGTH`](Self::MAX_LENGTH),
    /// [`BuildError::BufferTooSmall`] if they exceed the buffer.
    pub fn write(&self, buffer: &mut [u8]) -> Result<usize, BuildError> {
        let response = if self.deferred { bits::DESCRIPTOR_DEFERRED } else { bits::DESCRIPTOR_CURRENT };
        let AdditionalSense { asc, ascq } = self.code.additional;
        let overflow = flag(self.overflow, bits::DESCRIPTOR_OVERFLOW);
        let mut cursor = Cursor::new(buffer);
        cursor.put(&[response, self.code.key.code(), asc, ascq, overflow, 0, 0, 0]);
        for descriptor in self.descriptors {
            descriptor.put(&mut cursor);
        }
        let length = cursor.position();
        match u8::try_from(length.saturating_sub(8)) {
            Ok(additional) if length <= Self::MAX_LENGTH => cursor.set(7, &[additional]),
            _ => {
                return Err(BuildError::too_long(Self::MAX_LENGTH, length));
            }
        }
        cursor.finish()
    }
}
