//! What a namespace and its controller say of reservations, and the names of hosts.

use std::{fmt, str::FromStr};

use crate::kind::ReservationType;

/// RESCAP: the reservation features of a namespace (Identify Namespace, byte 31).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReservationCapabilities(pub u8);

impl ReservationCapabilities {
    /// Returns whether the namespace has reservations at all.
    pub const fn is_supported(self) -> bool {
        self.0 != 0
    }

    /// Returns whether registrations and reservation can persist through a loss of power (bit 0).
    pub const fn persists_through_power_loss(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// Returns whether a reservation can have this type (bits 1 to 6).
    pub const fn has_type(self, kind: ReservationType) -> bool {
        self.0 & 1 << kind.code() != 0
    }

    /// Returns whether Register with "ignore existing key" is that of NVM Express 1.3 and later (bit 7).
    pub const fn ignores_existing_key(self) -> bool {
        self.0 & 0x80 != 0
    }
}

/// The identifier of a host, by which a namespace tells registrants apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostIdentifier {
    /// 128 bits, as all hosts of NVMe over fabrics have: the bytes of the UUID in the order in which it is written.
    Extended([u8; 16]),
    /// 64 bits, in the order in which the controller sends them.
    Short([u8; 8]),
}

impl HostIdentifier {
    /// Returns whether no identifier was set: all bytes are zero. Then the namespace has no reservations for this host.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Extended(bytes) => bytes.iter().all(|byte| *byte == 0),
            Self::Short(bytes) => bytes.iter().all(|byte| *byte == 0),
        }
    }
}

/// Shows a 128-bit identifier as a UUID and a 64-bit one as 16 digits.
impl fmt::Display for HostIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extended(bytes) => {
                for (index, byte) in bytes.iter().enumerate() {
                    if [4, 6, 8, 10].contains(&index) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
            Self::Short(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// A text that is no UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a host identifier: it must be a UUID of 32 hexadecimal digits")]
#[non_exhaustive]
pub struct NoUuid;

/// Reads a UUID, as the file `hostid` of a controller in /sys has it.
impl FromStr for HostIdentifier {
    type Err = NoUuid;

    fn from_str(text: &str) -> Result<Self, NoUuid> {
        let digits: String = text.trim().chars().filter(|character| *character != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NoUuid);
        }
        u128::from_str_radix(&digits, 16)
            .map(|number| Self::Extended(number.to_be_bytes()))
            .map_err(|_| NoUuid)
    }
}

/// The I/O commands that a controller lists as supported: the Commands Supported and Effects log page (05h).
///
/// From kernel 6.2 on, Linux lets processes without privilege send these commands, through a descriptor that was opened
/// for writing if the command changes anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandEffects(pub(crate) Vec<u32>);

impl CommandEffects {
    /// Returns whether the controller lists the I/O command with this opcode as supported (CSUPP, bit 0 of its entry).
    pub fn supports(&self, opcode: u8) -> bool {
        self.0.get(usize::from(opcode)).is_some_and(|entry| entry & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_name_the_types() {
        let nvmet = ReservationCapabilities(0xfe);
        assert!(nvmet.is_supported() && !nvmet.persists_through_power_loss() && nvmet.ignores_existing_key());
        assert!(ReservationType::ALL.into_iter().all(|kind| nvmet.has_type(kind)));
        for kind in ReservationType::ALL {
            let one = ReservationCapabilities(1 << kind.code());
            assert!(ReservationType::ALL.into_iter().all(|other| one.has_type(other) == (other == kind)));
            assert!(!one.persists_through_power_loss() && !one.ignores_existing_key());
        }
        assert!(!ReservationCapabilities(0).is_supported());
    }

    #[test]
    fn host_identifier_is_read_as_shown() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let host: HostIdentifier = format!("{text}\n").parse().unwrap();
        assert_eq!(host.to_string(), text);
        let HostIdentifier::Extended(bytes) = host else { panic!("{host:?}") };
        assert_eq!(bytes[..4], [0, 0x11, 0x22, 0x33]);
        for wrong in
            ["", "0011", "00112233-4455-6677-8899-aabbccddeefg", "+0112233-4455-6677-8899-aabbccddeeff"]
        {
            assert_eq!(wrong.parse::<HostIdentifier>(), Err(NoUuid), "{wrong}");
        }
        assert_eq!(HostIdentifier::Short([1; 8]).to_string(), "0101010101010101");
        assert!(HostIdentifier::Extended([0; 16]).is_zero() && !host.is_zero());
    }
}
