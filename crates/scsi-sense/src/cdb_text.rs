//! Formats commands as text.

use core::fmt;

use crate::pr::{PersistentReserveIn, PersistentReserveOut};
use crate::{Cdb, opcode};

/// Shows the command's name; for PERSISTENT RESERVE also service action, scope, type and length.
impl fmt::Display for Cdb<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(command) = PersistentReserveIn::try_from(*self) {
            return command.fmt(f);
        }
        if let Ok(command) = PersistentReserveOut::try_from(*self) {
            return command.fmt(f);
        }
        match opcode::name(self.opcode()) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "operation code {:02X}h", self.opcode())?,
        }
        if let Some(action) = self.service_action() {
            write!(f, ", service action {action:02X}h")?;
        }
        if let Some(action) = self.variable_length_service_action() {
            write!(f, ", service action {action:04X}h")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn cdb_is_shown_by_name() {
        for (bytes, text) in [
            (&[0u8; 6][..], "TEST UNIT READY"),
            (&[0x12, 0, 0, 0, 36, 0], "INQUIRY"),
            (&[0xc1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "operation code C1h"),
            (&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "MAINTENANCE IN, service action 0Ah"),
            (&[0x5e, 0x00, 0, 0, 0, 0, 0, 0x20, 0x00, 0], "PERSISTENT RESERVE IN, READ KEYS, 8192 bytes"),
            (&[0x5f, 0x00, 0, 0, 0, 0, 0, 0, 0x18, 0], "PERSISTENT RESERVE OUT, REGISTER, 24 bytes"),
        ] {
            assert_eq!(Cdb::new(bytes).unwrap().to_string(), text);
        }
    }
}
