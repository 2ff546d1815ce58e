//! Parameter lists of PERSISTENT RESERVE OUT.

use core::fmt;

use super::{OutServiceAction, ReservationKey, TransportId, TransportIdError, TransportIds};
use crate::build::Cursor;
use crate::{BuildError, SenseCode};

/// The parameter list of a PERSISTENT RESERVE OUT. REGISTER AND MOVE has its own layout, all others share one.
///
/// ```
/// use scsi_sense::pr::{BasicParameters, OutParameters, OutServiceAction, ReservationKey};
///
/// let list = BasicParameters {
///     service_action_key: ReservationKey(0x123abc),
///     aptpl: true,
///     ..BasicParameters::default()
/// };
/// let bytes = list.to_bytes();
/// assert_eq!(
///     OutParameters::parse(OutServiceAction::Register, &bytes)?,
///     OutParameters::Basic(list),
/// );
/// # Ok::<(), scsi_sense::pr::ParameterError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutParameters<'a> {
    /// The list of every service action except REGISTER AND MOVE.
    Basic(BasicParameters<'a>),
    /// REGISTER AND MOVE.
    RegisterAndMove(RegisterAndMoveParameters<'a>),
}

/// The basic parameter list (SPC-4 clause 6.16.3): 24 bytes, followed by TransportIDs if SPEC_I_PT is set.
///
/// Bytes 16-19 and 22-23 are obsolete: they are ignored when read and built as zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BasicParameters<'a> {
    /// RESERVATION KEY, bytes 0-7: the current key of this I_T nexus.
    pub reservation_key: ReservationKey,
    /// SERVICE ACTION RESERVATION KEY, bytes 8-15: the key to register or to preempt.
    pub service_action_key: ReservationKey,
    /// The other initiator ports to register. SPEC_I_PT (byte 20 bit 3) is set if there is a list, even an empty one.
    /// Valid for REGISTER only.
    pub transport_ids: Option<TransportIds<'a>>,
    /// `ALL_TG_PT`, byte 20 bit 2: register with all target ports. Ignored unless a key is registered.
    pub all_target_ports: bool,
    /// APTPL, byte 20 bit 0: registrations and reservation persist through power loss. Ignored unless a key is
    /// registered.
    pub aptpl: bool,
}

/// The parameter list of REGISTER AND MOVE (SPC-4 clause 6.16.4): 24 bytes and one TransportID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegisterAndMoveParameters<'a> {
    /// RESERVATION KEY, bytes 0-7: the current key of this I_T nexus.
    pub reservation_key: ReservationKey,
    /// SERVICE ACTION RESERVATION KEY, bytes 8-15: the key to register for the other I_T nexus.
    pub service_action_key: ReservationKey,
    /// UNREG, byte 17 bit 1: unregister this I_T nexus after the reservation has moved.
    pub unregister: bool,
    /// APTPL, byte 17 bit 0: registrations and reservation persist through power loss.
    pub aptpl: bool,
    /// RELATIVE TARGET PORT IDENTIFIER, bytes 18-19: the target port of the other I_T nexus.
    pub relative_port: u16,
    /// The initiator port of the other I_T nexus.
    pub transport_id: TransportId<'a>,
}

/// The reason why bytes are not the parameter list of a PERSISTENT RESERVE OUT.
///
/// [`sense_code`](Self::sense_code) returns the sense code with which a device refuses such a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterError {
    /// The list does not have the required length.
    Length {
        /// The required length in bytes; the minimum length if the list is shorter.
        needed: usize,
        /// Length of the list in bytes.
        got: usize,
    },
    /// SPEC_I_PT is set, and the service action is not REGISTER.
    SpecifyInitiatorPorts,
    /// The length field of the TransportIDs does not agree with the bytes that follow.
    TransportIdLength {
        /// Value of the length field in bytes.
        stated: u32,
        /// Number of bytes that follow.
        got: usize,
    },
    /// A TransportID is malformed.
    TransportId(TransportIdError),
}

/// Length in bytes of the basic list and, without the TransportID, of the list of REGISTER AND MOVE.
const LENGTH: usize = 24;

/// Byte 20 of the basic list.
const SPEC_I_PT: u8 = 0x08;
const ALL_TG_PT: u8 = 0x04;
const APTPL: u8 = 0x01;
/// Byte 17 of REGISTER AND MOVE, beside APTPL.
const UNREG: u8 = 0x02;

impl<'a> OutParameters<'a> {
    /// Reads the parameter list of this service action. `bytes` must be exactly the list.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] if the length is wrong, or the TransportIDs are malformed, contradict their length field, or
    /// are not allowed for this service action. Keys and other flags are not checked.
    pub fn parse(action: OutServiceAction, bytes: &'a [u8]) -> Result<Self, ParameterError> {
        let (head, rest) =
            bytes.split_first_chunk().ok_or(ParameterError::Length { needed: LENGTH, got: bytes.len() })?;
        if action == OutServiceAction::RegisterAndMove {
            RegisterAndMoveParameters::decode(head, rest).map(Self::RegisterAndMove)
        } else {
            BasicParameters::decode(action, head, rest).map(Self::Basic)
        }
    }

    /// Returns RESERVATION KEY, bytes 0-7 of both layouts.
    pub const fn reservation_key(&self) -> ReservationKey {
        match self {
            Self::Basic(list) => list.reservation_key,
            Self::RegisterAndMove(list) => list.reservation_key,
        }
    }

    /// Returns SERVICE ACTION RESERVATION KEY, bytes 8-15 of both layouts.
    pub const fn service_action_key(&self) -> ReservationKey {
        match self {
            Self::Basic(list) => list.service_action_key,
            Self::RegisterAndMove(list) => list.service_action_key,
        }
    }

    /// Writes the list to the start of `buffer` and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the buffer is too small, or a length exceeds its length field.
    pub fn write(&self, buffer: &mut [u8]) -> Result<usize, BuildError> {
        match self {
            Self::Basic(list) => list.write(buffer),
            Self::RegisterAndMove(list) => list.write(buffer),
        }
    }
}

impl<'a> BasicParameters<'a> {
    /// Returns the first 24 bytes, which are the whole list if there are no TransportIDs.
    pub fn to_bytes(&self) -> [u8; 24] {
        let [k0, k1, k2, k3, k4, k5, k6, k7] = self.reservation_key.to_be_bytes();
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.service_action_key.to_be_bytes();
        let mut flags = 0;
        for (set, flag) in [
            (self.transport_ids.is_some(), SPEC_I_PT),
            (self.all_target_ports, ALL_TG_PT),
            (self.aptpl, APTPL),
        ] {
            if set {
                flags |= flag;
            }
        }
        [k0, k1, k2, k3, k4, k5, k6, k7, s0, s1, s2, s3, s4, s5, s6, s7, 0, 0, 0, 0, flags, 0, 0, 0]
    }

    /// Writes the list to the start of `buffer` and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`BuildError::BufferTooSmall`]; [`BuildError::TooLong`] if the TransportIDs exceed 2^32-1 bytes.
    pub fn write(&self, buffer: &mut [u8]) -> Result<usize, BuildError> {
        let mut cursor = Cursor::new(buffer);
        cursor.put(&self.to_bytes());
        if let Some(ids) = self.transport_ids {
            let length = BuildError::length_field(ids.as_bytes().len())?;
            cursor.put(&length.to_be_bytes());
            cursor.put(ids.as_bytes());
        }
        cursor.finish()
    }

    fn decode(action: OutServiceAction, head: &[u8; 24], rest: &'a [u8]) -> Result<Self, ParameterError> {
        let (reservation_key, service_action_key) = keys(head);
        let flags = head.get(20).copied().unwrap_or_default();
        let transport_ids = if flags & SPEC_I_PT == 0 {
            if !rest.is_empty() {
                let got = LENGTH.saturating_add(rest.len());
                return Err(ParameterError::Length { needed: LENGTH, got });
            }
            None
        } else if action == OutServiceAction::Register {
            let (length, ids) = rest.split_first_chunk().ok_or(ParameterError::Length {
                needed: LENGTH + 4,
                got: LENGTH.saturating_add(rest.len()),
            })?;
            check_length(u32::from_be_bytes(*length), ids)?;
            Some(TransportIds::parse(ids)?)
        } else {
            return Err(ParameterError::SpecifyInitiatorPorts);
        };
        Ok(Self {
            reservation_key,
            service_action_key,
            transport_ids,
            all_target_ports: flags & ALL_TG_PT != 0,
            aptpl: flags & APTPL != 0,
        })
    }
}

impl<'a> RegisterAndMoveParameters<'a> {
    /// Writes the list to the start of `buffer` and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`BuildError::BufferTooSmall`]; [`BuildError::TooLong`] under the conditions of [`TransportId::write`].
    pub fn write(&self, buffer: &mut [u8]) -> Result<usize, BuildError> {
        let mut flags = 0;
        if self.unregister {
            flags |= UNREG;
        }
        if self.aptpl {
            flags |= APTPL;
        }
        let mut cursor = Cursor::new(buffer);
        cursor.put(&self.reservation_key.to_be_bytes());
        cursor.put(&self.service_action_key.to_be_bytes());
        cursor.put(&[0, flags]);
        cursor.put(&self.relative_port.to_be_bytes());
        let length_at = cursor.position();
        cursor.put_zeros(4);
        let start = cursor.position();
        self.transport_id.put(&mut cursor)?;
        // At most TransportId::MAX_LENGTH.
        let length = u32::try_from(cursor.position().saturating_sub(start)).unwrap_or(u32::MAX);
        cursor.set(length_at, &length.to_be_bytes());
        cursor.finish()
    }

    fn decode(head: &[u8; 24], rest: &'a [u8]) -> Result<Self, ParameterError> {
        let (reservation_key, service_action_key) = keys(head);
        let [.., flags, port_high, port_low, l0, l1, l2, l3] = *head;
        check_length(u32::from_be_bytes([l0, l1, l2, l3]), rest)?;
        Ok(Self {
            reservation_key,
            service_action_key,
            unregister: flags & UNREG != 0,
            aptpl: flags & APTPL != 0,
            relative_port: u16::from_be_bytes([port_high, port_low]),
            transport_id: TransportId::parse(rest)?,
        })
    }
}

/// Reads RESERVATION KEY and SERVICE ACTION RESERVATION KEY.
fn keys(head: &[u8; 24]) -> (ReservationKey, ReservationKey) {
    let [k0, k1, k2, k3, k4, k5, k6, k7, s0, s1, s2, s3, s4, s5, s6, s7, ..] = *head;
    (
        ReservationKey::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]),
        ReservationKey::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
    )
}

fn check_length(stated: u32, ids: &[u8]) -> Result<(), ParameterError> {
    if usize::try_from(stated) == Ok(ids.len()) {
        Ok(())
    } else {
        Err(ParameterError::TransportIdLength { stated, got: ids.len() })
    }
}

impl ParameterError {
    /// Returns the sense code with which a device refuses such a list, with CHECK CONDITION.
    pub const fn sense_code(&self) -> SenseCode {
        match self {
            Self::Length { .. } => SenseCode::PARAMETER_LIST_LENGTH_ERROR,
            Self::SpecifyInitiatorPorts | Self::TransportIdLength { .. } | Self::TransportId(_) => {
                SenseCode::INVALID_FIELD_IN_PARAMETER_LIST
            }
        }
    }
}

impl From<TransportIdError> for ParameterError {
    fn from(error: TransportIdError) -> Self {
        Self::TransportId(error)
    }
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { needed, got } => {
                write!(f, "a parameter list of {got} bytes where {needed} are needed")
            }
            Self::SpecifyInitiatorPorts => {
                f.write_str("SPEC_I_PT is set with a service action other than REGISTER")
            }
            Self::TransportIdLength { stated, got } => {
                write!(f, "{got} bytes of TransportIDs where the list says {stated}")
            }
            Self::TransportId(_) => f.write_str("the parameter list has a malformed TransportID"),
        }
    }
}

impl core::error::Error for ParameterError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::TransportId(error) => Some(error),
            _ => None,
        }
    }
}
