//! Command descriptor blocks.

use core::fmt;

use crate::opcode;

/// A command descriptor block, cut to the length that its operation code implies (SPC-4 clause 4.2).
///
/// ```
/// use scsi_sense::{Cdb, Transfer};
///
/// // PERSISTENT RESERVE OUT has ten bytes; a protocol with a fixed frame pads it to sixteen.
/// let frame = [0x5f, 0x04, 0x05, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
/// let cdb = Cdb::new(&frame)?;
/// assert_eq!(cdb.as_bytes().len(), 10);
/// assert_eq!(cdb.transfer(), Some(Transfer::Out { parameter_list_length: 24 }));
/// assert_eq!(
///     cdb.to_string(),
///     "PERSISTENT RESERVE OUT, PREEMPT, type WRITE EXCLUSIVE, REGISTRANTS ONLY (5h), 24 bytes",
/// );
/// # Ok::<(), scsi_sense::CdbError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cdb<'a> {
    bytes: &'a [u8],
    opcode: u8,
}

/// The data transfer that the CDB of a PERSISTENT RESERVE command announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// From the device: it returns at most this many bytes.
    In {
        /// ALLOCATION LENGTH in bytes, CDB bytes 7-8.
        allocation_length: u16,
    },
    /// To the device: the parameter list has exactly this many bytes.
    Out {
        /// PARAMETER LIST LENGTH in bytes, CDB bytes 5-8.
        parameter_list_length: u32,
    },
}

/// The reason why bytes are not the expected CDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CdbError {
    /// There are fewer bytes than the operation code requires.
    TooShort {
        /// Minimum length in bytes.
        needed: usize,
        /// Number of bytes given.
        got: usize,
    },
    /// The operation code belongs to another command.
    WrongOpcode {
        /// The operation code of the expected command.
        expected: u8,
        /// The operation code in byte 0.
        got: u8,
    },
}

impl<'a> Cdb<'a> {
    /// The length of the longest CDB: 7Fh with an ADDITIONAL CDB LENGTH of 255.
    pub const MAX_LENGTH: usize = 8 + 255;

    /// Reads the command at the start of `bytes`; bytes after its end (padding) are ignored.
    ///
    /// The group code (operation code bits 7-5) determines the length: 6, 10, 10, 12, 16, 12, 10 or 10 bytes.
    /// A variable-length CDB (7Fh) states its own length: byte 7, plus 8.
    ///
    /// # Errors
    ///
    /// [`CdbError::TooShort`] if there are fewer bytes than that.
    pub fn new(bytes: &'a [u8]) -> Result<Self, CdbError> {
        let got = bytes.len();
        let &opcode = bytes.first().ok_or(CdbError::TooShort { needed: 1, got })?;
        let needed = if opcode == opcode::VARIABLE_LENGTH_CDB {
            let &additional = bytes.get(7).ok_or(CdbError::TooShort { needed: 8, got })?;
            8 + usize::from(additional)
        } else {
            group_length(opcode)
        };
        let bytes = bytes.get(..needed).ok_or(CdbError::TooShort { needed, got })?;
        Ok(Self { bytes, opcode })
    }

    /// Returns OPERATION CODE, byte 0. The module [`opcode`](crate::opcode) has the known codes.
    pub const fn opcode(&self) -> u8 {
        self.opcode
    }

    /// Returns the command's bytes without padding: 10 for PERSISTENT RESERVE IN and OUT.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns SERVICE ACTION, byte 1 bits 4-0, for the operation codes that have this field
    /// ([`opcode::has_service_action`]).
    pub fn service_action(&self) -> Option<u8> {
        if opcode::has_service_action(self.opcode) { self.bytes.get(1).map(|byte| byte & 0x1f) } else { None }
    }

    /// Returns SERVICE ACTION of a variable-length CDB (7Fh), bytes 8-9.
    pub fn variable_length_service_action(&self) -> Option<u16> {
        if self.opcode != opcode::VARIABLE_LENGTH_CDB {
            return None;
        }
        self.bytes.get(8..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Returns the data transfer of a PERSISTENT RESERVE IN or OUT; `None` for every other command.
    pub fn transfer(&self) -> Option<Transfer> {
        match *self.bytes {
            [opcode::PERSISTENT_RESERVE_IN, _, _, _, _, _, _, high, low, ..] => {
                Some(Transfer::In { allocation_length: u16::from_be_bytes([high, low]) })
            }
            [opcode::PERSISTENT_RESERVE_OUT, _, _, _, _, b5, b6, b7, b8, ..] => {
                Some(Transfer::Out { parameter_list_length: u32::from_be_bytes([b5, b6, b7, b8]) })
            }
            _ => None,
        }
    }
}

/// Returns the length of a CDB by its group code (SPC-4 clause 4.2.5.1). The standard gives none for groups 3, 6 and 7
/// (reserved and vendor specific): these are the customary values.
const fn group_length(opcode: u8) -> usize {
    match opcode >> 5 {
        0 => 6,
        3 | 5 => 12,
        4 => 16,
        _ => 10,
    }
}

impl fmt::Display for CdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooShort { needed, got } => write!(f, "a CDB of {got} bytes where {needed} are needed"),
            Self::WrongOpcode { expected, got } => {
                write!(f, "operation code {got:02X}h where {expected:02X}h is needed")
            }
        }
    }
}

impl core::error::Error for CdbError {}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn group_code_gives_cdb_length() {
        for (opcode, length) in [
            (0x00, 6),
            (0x12, 6),
            (0x1f, 6),
            (0x28, 10),
            (0x5e, 10),
            (0x5f, 10),
            (0x60, 12),
            (0x88, 16),
            (0x9e, 16),
            (0xa0, 12),
            (0xc0, 10),
            (0xff, 10),
        ] {
            let mut bytes = [0xaa; 16];
            bytes[0] = opcode;
            assert_eq!(Cdb::new(&bytes).unwrap().as_bytes(), &bytes[..length], "{opcode:02X}h");
            assert_eq!(
                Cdb::new(&bytes[..length - 1]),
                Err(CdbError::TooShort { needed: length, got: length - 1 })
            );
        }
        assert_eq!(Cdb::new(&[]), Err(CdbError::TooShort { needed: 1, got: 0 }));
    }

    #[test]
    fn variable_length_cdb_states_its_length() {
        let mut bytes = [0; Cdb::MAX_LENGTH];
        bytes[0] = opcode::VARIABLE_LENGTH_CDB;
        assert_eq!(Cdb::new(&bytes[..7]), Err(CdbError::TooShort { needed: 8, got: 7 }));
        assert_eq!(Cdb::new(&bytes[..8]).unwrap().variable_length_service_action(), None);
        bytes[7] = 24;
        bytes[9] = 0x09;
        assert_eq!(Cdb::new(&bytes[..31]), Err(CdbError::TooShort { needed: 32, got: 31 }));
        let cdb = Cdb::new(&bytes).unwrap();
        assert_eq!(cdb.as_bytes().len(), 32);
        assert_eq!(cdb.service_action(), None);
        assert_eq!(cdb.variable_length_service_action(), Some(9));
        assert_eq!(cdb.to_string(), "variable-length CDB, service action 0009h");
        bytes[7] = 255;
        assert_eq!(Cdb::new(&bytes).unwrap().as_bytes().len(), Cdb::MAX_LENGTH);
    }

    #[test]
    fn only_persistent_reserve_has_a_transfer() {
        for opcode in 0..=u8::MAX {
            let mut bytes = [0xff; Cdb::MAX_LENGTH];
            bytes[0] = opcode;
            let expected = match opcode {
                0x5e => Some(Transfer::In { allocation_length: 0xffff }),
                0x5f => Some(Transfer::Out { parameter_list_length: 0xffff_ffff }),
                _ => None,
            };
            assert_eq!(Cdb::new(&bytes).unwrap().transfer(), expected);
        }
    }
}
