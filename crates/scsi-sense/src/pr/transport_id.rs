//! TransportIDs: the names of initiator ports.

use core::fmt;

use super::{IscsiName, IscsiSessionId, ProtocolIdentifier, TransportIdError};
use crate::BuildError;
use crate::build::Cursor;

/// The name of an initiator port, in the format of its transport protocol (SPC-4 clause 7.6.4).
///
/// Reserved bytes are not kept: they are built as zero.
///
/// ```
/// use scsi_sense::pr::TransportId;
///
/// let sas = [
///     6, 0, 0, 0, 0x50, 0x00, 0xc5, 0x00, 0x05, 0xb3, 0x20, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
/// ];
/// let id = TransportId::parse(&sas)?;
/// assert_eq!(id, TransportId::Sas { address: 0x5000_c500_05b3_2001 });
/// assert_eq!(id.to_string(), "sas,5000c50005b32001");
/// # Ok::<(), scsi_sense::pr::TransportIdError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportId<'a> {
    /// Protocol 0h.
    FibreChannel {
        /// `N_PORT` NAME (a world wide port name), bytes 8-15.
        port_name: u64,
    },
    /// Protocol 1h.
    ParallelScsi {
        /// SCSI ADDRESS, bytes 2-3.
        address: u16,
        /// RELATIVE TARGET PORT IDENTIFIER, bytes 6-7.
        relative_port: u16,
    },
    /// Protocol 3h.
    Sbp {
        /// EUI-64 NAME, bytes 8-15.
        eui64: u64,
    },
    /// Protocol 4h.
    Srp {
        /// INITIATOR PORT IDENTIFIER, bytes 8-23.
        port: [u8; 16],
    },
    /// Protocol 5h, format 00b: any port of this initiator.
    IscsiDevice {
        /// ISCSI NAME.
        name: IscsiName<'a>,
    },
    /// Protocol 5h, format 01b: one port of this initiator.
    IscsiPort {
        /// ISCSI NAME.
        name: IscsiName<'a>,
        /// ISCSI INITIATOR SESSION ID.
        session: IscsiSessionId,
    },
    /// Protocol 6h.
    Sas {
        /// SAS ADDRESS, bytes 4-11.
        address: u64,
    },
    /// Protocol Ah.
    Sop {
        /// ROUTING ID (PCI bus, device and function), bytes 2-3.
        routing_id: u16,
    },
    /// A protocol or format for which the standard defines no TransportID.
    Other(RawTransportId<'a>),
}

/// The bytes of a TransportID of known length and unknown format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawTransportId<'a>(&'a [u8]);

const SEPARATOR: &[u8; 5] = b",i,0x";

impl<'a> TransportId<'a> {
    /// Length in bytes of every TransportID except those of iSCSI, for which it is the minimum.
    pub const LENGTH: usize = 24;

    /// Length in bytes of the longest accepted TransportID.
    ///
    /// The standard sets no limit. An iSCSI name has at most 223 bytes, and programs that store TransportIDs reserve
    /// 256.
    pub const MAX_LENGTH: usize = 256;

    /// Reads a TransportID. `bytes` must be exactly the TransportID.
    ///
    /// # Errors
    ///
    /// [`TransportIdError`] if it is malformed or bytes follow it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TransportIdError> {
        match Self::split_first(bytes)? {
            (id, []) => Ok(id),
            (_, rest) => Err(TransportIdError::TrailingBytes(rest.len())),
        }
    }

    /// Reads the TransportID at the start of `bytes`, and returns it with the bytes after it.
    ///
    /// # Errors
    ///
    /// [`TransportIdError`] if it is malformed.
    pub fn split_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), TransportIdError> {
        let got = bytes.len();
        let (head, _) =
            bytes.split_first_chunk().ok_or(TransportIdError::TooShort { needed: Self::LENGTH, got })?;
        let length = whole_length(*head)?;
        let (whole, rest) =
            bytes.split_at_checked(length).ok_or(TransportIdError::TooShort { needed: length, got })?;
        Ok((Self::decode(whole)?, rest))
    }

    /// Returns the protocol.
    pub fn protocol(&self) -> ProtocolIdentifier {
        match self {
            Self::FibreChannel { .. } => ProtocolIdentifier::FIBRE_CHANNEL,
            Self::ParallelScsi { .. } => ProtocolIdentifier::PARALLEL_SCSI,
            Self::Sbp { .. } => ProtocolIdentifier::SBP,
            Self::Srp { .. } => ProtocolIdentifier::SRP,
            Self::IscsiDevice { .. } | Self::IscsiPort { .. } => ProtocolIdentifier::ISCSI,
            Self::Sas { .. } => ProtocolIdentifier::SAS,
            Self::Sop { .. } => ProtocolIdentifier::SOP,
            Self::Other(raw) => raw.protocol(),
        }
    }

    /// Writes it to the start of `buffer` and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`BuildError::BufferTooSmall`]; [`BuildError::TooLong`] if it exceeds [`MAX_LENGTH`](Self::MAX_LENGTH), which
    /// needs an iSCSI name longer than the 223 bytes that the standard allows.
    pub fn write(&self, buffer: &mut [u8]) -> Result<usize, BuildError> {
        let mut cursor = Cursor::new(buffer);
        self.put(&mut cursor)?;
        cursor.finish()
    }

    pub(super) fn put(&self, cursor: &mut Cursor<'_>) -> Result<(), BuildError> {
        let protocol = self.protocol().0;
        match self {
            Self::FibreChannel { port_name: name } | Self::Sbp { eui64: name } => {
                cursor.put(&[protocol, 0, 0, 0, 0, 0, 0, 0]);
                cursor.put(&name.to_be_bytes());
                cursor.put_zeros(8);
            }
            Self::ParallelScsi { address, relative_port } => {
                cursor.put(&[protocol, 0]);
                cursor.put(&address.to_be_bytes());
                cursor.put_zeros(2);
                cursor.put(&relative_port.to_be_bytes());
                cursor.put_zeros(16);
            }
            Self::Srp { port } => {
                cursor.put(&[protocol, 0, 0, 0, 0, 0, 0, 0]);
                cursor.put(port);
            }
            Self::IscsiDevice { name } => put_iscsi(cursor, &[name.as_bytes()])?,
            Self::IscsiPort { name, session } => {
                put_iscsi(cursor, &[name.as_bytes(), SEPARATOR, session.as_digits()])?;
            }
            Self::Sas { address } => {
                cursor.put(&[protocol, 0, 0, 0]);
                cursor.put(&address.to_be_bytes());
                cursor.put_zeros(12);
            }
            Self::Sop { routing_id } => {
                cursor.put(&[protocol, 0]);
                cursor.put(&routing_id.to_be_bytes());
                cursor.put_zeros(20);
            }
            Self::Other(raw) => cursor.put(raw.as_bytes()),
        }
        Ok(())
    }

    /// Wraps the bytes of a valid TransportID without decoding them.
    pub(super) const fn raw(bytes: &'a [u8]) -> Self {
        Self::Other(RawTransportId(bytes))
    }

    /// Decodes a TransportID. `whole` must have the length that [`whole_length`] returns.
    fn decode(whole: &'a [u8]) -> Result<Self, TransportIdError> {
        let Some(bytes) = whole.first_chunk::<24>() else {
            return Err(TransportIdError::TooShort { needed: Self::LENGTH, got: whole.len() });
        };
        let raw = RawTransportId(whole);
        Ok(match (raw.protocol(), raw.format()) {
            (ProtocolIdentifier::FIBRE_CHANNEL, 0) => Self::FibreChannel { port_name: u64_at(bytes, 8) },
            (ProtocolIdentifier::PARALLEL_SCSI, 0) => {
                let [_, _, a2, a3, _, _, r6, r7, ..] = *bytes;
                Self::ParallelScsi {
                    address: u16::from_be_bytes([a2, a3]),
                    relative_port: u16::from_be_bytes([r6, r7]),
                }
            }
            (ProtocolIdentifier::SBP, 0) => Self::Sbp { eui64: u64_at(bytes, 8) },
            (ProtocolIdentifier::SRP, 0) => {
                let [_, _, _, _, _, _, _, _, port @ ..] = *bytes;
                Self::Srp { port }
            }
            (ProtocolIdentifier::ISCSI, 0) => Self::IscsiDevice { name: IscsiName::new(iscsi_text(whole)?)? },
            (ProtocolIdentifier::ISCSI, 1) => iscsi_port(iscsi_text(whole)?)?,
            (ProtocolIdentifier::SAS, 0) => Self::Sas { address: u64_at(bytes, 4) },
            (ProtocolIdentifier::SOP, 0) => {
                let [_, _, r2, r3, ..] = *bytes;
                Self::Sop { routing_id: u16::from_be_bytes([r2, r3]) }
            }
            _ => Self::Other(raw),
        })
    }
}

impl<'a> RawTransportId<'a> {
    /// Returns all bytes, including the header.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns PROTOCOL IDENTIFIER, byte 0 bits 3-0.
    pub fn protocol(self) -> ProtocolIdentifier {
        ProtocolIdentifier(self.0.first().map_or(0, |byte| byte & 0x0f))
    }

    /// Returns FORMAT CODE, byte 0 bits 7-6.
    pub fn format(self) -> u8 {
        self.0.first().map_or(0, |byte| byte >> 6)
    }
}

/// Returns the length in bytes of a TransportID with these first four bytes.
fn whole_length([first, _, high, low]: [u8; 4]) -> Result<usize, TransportIdError> {
    if first & 0x0f != ProtocolIdentifier::ISCSI.0 {
        return Ok(TransportId::LENGTH);
    }
    match u16::from_be_bytes([high, low]) {
        additional @ 20..=252 if additional % 4 == 0 => Ok(4 + usize::from(additional)),
        additional => Err(TransportIdError::AdditionalLength(additional)),
    }
}

fn u64_at(bytes: &[u8; 24], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Returns the text of an iSCSI TransportID: the bytes before the first zero. Only zeros may follow.
fn iscsi_text(whole: &[u8]) -> Result<&[u8], TransportIdError> {
    let field = whole.get(4..).unwrap_or_default();
    let end = field.iter().position(|byte| *byte == 0).ok_or(TransportIdError::NotTerminated)?;
    let (text, padding) = field.split_at_checked(end).ok_or(TransportIdError::NotTerminated)?;
    if padding.iter().all(|byte| *byte == 0) { Ok(text) } else { Err(TransportIdError::Padding) }
}

/// Splits the text into name and session identifier at the last separator: a session identifier has none.
fn iscsi_port(text: &[u8]) -> Result<TransportId<'_>, TransportIdError> {
    let at = text
        .windows(SEPARATOR.len())
        .rposition(|window| window == SEPARATOR)
        .ok_or(TransportIdError::NoSeparator)?;
    let (name, rest) = text.split_at_checked(at).ok_or(TransportIdError::NoSeparator)?;
    let session = rest.get(SEPARATOR.len()..).unwrap_or_default();
    Ok(TransportId::IscsiPort { name: IscsiName::new(name)?, session: IscsiSessionId::parse(session)? })
}

/// Appends an iSCSI TransportID whose text consists of these parts; its format is 01b if there is more than one.
fn put_iscsi(cursor: &mut Cursor<'_>, parts: &[&[u8]]) -> Result<(), BuildError> {
    let text = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
    // At least one terminating zero, at least twenty bytes, a multiple of four.
    let field = text.saturating_add(1).max(20).checked_next_multiple_of(4).unwrap_or(usize::MAX);
    let additional = match u16::try_from(field) {
        Ok(additional) if additional <= 252 => additional,
        _ => return Err(BuildError::too_long(TransportId::MAX_LENGTH, field.saturating_add(4))),
    };
    let format = if parts.len() > 1 { 0x40 } else { 0x00 };
    cursor.put(&[format | ProtocolIdentifier::ISCSI.0, 0]);
    cursor.put(&additional.to_be_bytes());
    for part in parts {
        cursor.put(part);
    }
    cursor.put_zeros(field.saturating_sub(text));
    Ok(())
}

/// Shows the format of `sg_persist`: `sas,5000c50005b32001`, `fcp,10000000c9f3a571`, `iqn.…`.
impl fmt::Display for TransportId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FibreChannel { port_name } => write!(f, "fcp,{port_name:016x}"),
            Self::ParallelScsi { address, relative_port } => write!(f, "spi,{address},{relative_port}"),
            Self::Sbp { eui64 } => write!(f, "sbp,{eui64:016x}"),
            Self::Srp { port } => write!(f, "srp,{:032x}", u128::from_be_bytes(*port)),
            Self::IscsiDevice { name } => name.fmt(f),
            Self::IscsiPort { name, session } => write!(f, "{name},i,0x{session}"),
            Self::Sas { address } => write!(f, "sas,{address:016x}"),
            Self::Sop { routing_id } => write!(f, "sop,{routing_id:x}"),
            Self::Other(raw) => raw.fmt(f),
        }
    }
}

/// Shows the protocol and the bytes: `SSA (2h), format 0: 0200…`.
impl fmt::Display for RawTransportId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, format {}: ", self.protocol(), self.format())?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
