//! The CDBs of PERSISTENT RESERVE IN and OUT.

use core::fmt;

use super::kind::{join_scope_type, split_scope_type};
use super::{InServiceAction, OutServiceAction, ReservationType, Scope};
use crate::{Cdb, CdbError, opcode};

/// A PERSISTENT RESERVE IN command (SPC-4 clause 6.15).
///
/// CONTROL (byte 9) and reserved bits are not kept: they are built as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersistentReserveIn {
    /// SERVICE ACTION, byte 1 bits 4-0: the data to return.
    pub action: InServiceAction,
    /// ALLOCATION LENGTH, bytes 7-8: the maximum number of bytes to return.
    pub allocation_length: u16,
}

/// A PERSISTENT RESERVE OUT command (SPC-4 clause 6.16).
///
/// CONTROL (byte 9) and reserved bits are not kept: they are built as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersistentReserveOut {
    /// SERVICE ACTION, byte 1 bits 4-0: the change to make.
    pub action: OutServiceAction,
    /// SCOPE, byte 2 bits 7-4. Ignored unless [`OutServiceAction::has_type`].
    pub scope: Scope,
    /// TYPE, byte 2 bits 3-0. Ignored unless [`OutServiceAction::has_type`].
    pub kind: ReservationType,
    /// PARAMETER LIST LENGTH in bytes, bytes 5-8.
    pub parameter_list_length: u32,
}

impl PersistentReserveIn {
    /// Returns the ten bytes of the CDB.
    pub const fn to_cdb(self) -> [u8; 10] {
        let [high, low] = self.allocation_length.to_be_bytes();
        [opcode::PERSISTENT_RESERVE_IN, self.action.code(), 0, 0, 0, 0, 0, high, low, 0]
    }
}

impl PersistentReserveOut {
    /// Returns the ten bytes of the CDB.
    pub const fn to_cdb(self) -> [u8; 10] {
        let [b5, b6, b7, b8] = self.parameter_list_length.to_be_bytes();
        let scope_type = join_scope_type(self.scope, self.kind);
        [opcode::PERSISTENT_RESERVE_OUT, self.action.code(), scope_type, 0, 0, b5, b6, b7, b8, 0]
    }
}

impl TryFrom<Cdb<'_>> for PersistentReserveIn {
    type Error = CdbError;

    /// # Errors
    ///
    /// [`CdbError::WrongOpcode`] if the command is not 5Eh.
    fn try_from(cdb: Cdb<'_>) -> Result<Self, CdbError> {
        let [_, action, _, _, _, _, _, high, low, _] = *ten_bytes(cdb, opcode::PERSISTENT_RESERVE_IN)?;
        Ok(Self { action: InServiceAction::new(action), allocation_length: u16::from_be_bytes([high, low]) })
    }
}

impl TryFrom<Cdb<'_>> for PersistentReserveOut {
    type Error = CdbError;

    /// # Errors
    ///
    /// [`CdbError::WrongOpcode`] if the command is not 5Fh.
    fn try_from(cdb: Cdb<'_>) -> Result<Self, CdbError> {
        let [_, action, scope_type, _, _, b5, b6, b7, b8, _] =
            *ten_bytes(cdb, opcode::PERSISTENT_RESERVE_OUT)?;
        let (scope, kind) = split_scope_type(scope_type);
        Ok(Self {
            action: OutServiceAction::new(action),
            scope,
            kind,
            parameter_list_length: u32::from_be_bytes([b5, b6, b7, b8]),
        })
    }
}

fn ten_bytes(cdb: Cdb<'_>, expected: u8) -> Result<&[u8; 10], CdbError> {
    if cdb.opcode() != expected {
        return Err(CdbError::WrongOpcode { expected, got: cdb.opcode() });
    }
    let bytes = cdb.as_bytes();
    bytes.first_chunk().ok_or(CdbError::TooShort { needed: 10, got: bytes.len() })
}

/// Shows, for example, `PERSISTENT RESERVE IN, READ KEYS, 8192 bytes`.
impl fmt::Display for PersistentReserveIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PERSISTENT RESERVE IN, {}, {} bytes", self.action, self.allocation_length)
    }
}

/// Shows, for example, `PERSISTENT RESERVE OUT, RESERVE, type WRITE EXCLUSIVE (1h), 24 bytes`.
///
/// The scope is shown unless it is the logical unit. A type that the service action ignores is shown only if it is not
/// zero.
impl fmt::Display for PersistentReserveOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PERSISTENT RESERVE OUT, {}", self.action)?;
        if self.scope.code() != 0 {
            write!(f, ", scope {}", self.scope)?;
        }
        if self.action.has_type() || self.kind.code() != 0 {
            write!(f, ", type {}", self.kind)?;
        }
        write!(f, ", {} bytes", self.parameter_list_length)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_command_is_parsed_as_built() {
        for action in 0..0x20 {
            for length in [0, 8, 24, 8192, 0xffff] {
                let command =
                    PersistentReserveIn { action: InServiceAction::new(action), allocation_length: length };
                assert_eq!(Cdb::new(&command.to_cdb()).unwrap().try_into(), Ok(command));
            }
            for scope_type in 0..=u8::MAX {
                let (scope, kind) = split_scope_type(scope_type);
                let command = PersistentReserveOut {
                    action: OutServiceAction::new(action),
                    scope,
                    kind,
                    parameter_list_length: 0x0102_0304,
                };
                assert_eq!(Cdb::new(&command.to_cdb()).unwrap().try_into(), Ok(command));
            }
        }
    }

    #[test]
    fn reserve_in_is_refused_as_out() {
        let cdb = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
        assert_eq!(
            PersistentReserveOut::try_from(Cdb::new(&cdb).unwrap()),
            Err(CdbError::WrongOpcode { expected: 0x5f, got: 0x5e })
        );
    }

    #[test]
    fn scope_and_type_are_shown_if_used() {
        for (byte_1, byte_2, text) in [
            (0x00, 0x00, "PERSISTENT RESERVE OUT, REGISTER, 24 bytes"),
            (
                0x00,
                0x05,
                "PERSISTENT RESERVE OUT, REGISTER, type WRITE EXCLUSIVE, REGISTRANTS ONLY (5h), 24 bytes",
            ),
            (0x01, 0x00, "PERSISTENT RESERVE OUT, RESERVE, type unknown (0h), 24 bytes"),
            (
                0x01,
                0x13,
                "PERSISTENT RESERVE OUT, RESERVE, scope unknown (1h), type EXCLUSIVE ACCESS (3h), 24 bytes",
            ),
            (0xff, 0x00, "PERSISTENT RESERVE OUT, service action 1Fh, 24 bytes"),
        ] {
            let cdb = [0x5f, byte_1, byte_2, 0, 0, 0, 0, 0, 24, 0];
            assert_eq!(Cdb::new(&cdb).unwrap().to_string(), text);
        }
    }
}
