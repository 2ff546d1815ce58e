//! The data of REPORT CAPABILITIES.

use core::fmt;

use super::ReservationType;
use super::data::InDataError;

/// The data of REPORT CAPABILITIES: the features that the device supports (SPC-4 clause 6.15.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// `RLR_C`: REPLACE LOST RESERVATION is supported.
    pub replace_lost_reservation: bool,
    /// CRH: RESERVE(6) and RELEASE(6) of a holder or registrant succeed without effect, instead of a conflict.
    pub compatible_reservation_handling: bool,
    /// `SIP_C`: SPEC_I_PT is supported.
    pub specify_initiator_ports: bool,
    /// `ATP_C`: ALL_TG_PT is supported.
    pub all_target_ports: bool,
    /// `PTPL_C`: registrations and reservation can persist through power loss.
    pub persist_through_power_loss_capable: bool,
    /// `PTPL_A`: registrations and reservation do persist through power loss.
    pub persist_through_power_loss_activated: bool,
    /// ALLOW COMMANDS, three bits: the standard's code for the commands that a reservation allows; 0 if not stated.
    pub allow_commands: u8,
    /// PERSISTENT RESERVATION TYPE MASK, if TMV is set: the supported types.
    pub types: Option<TypeMask>,
}

/// Byte 2.
const RLR_C: u8 = 0x80;
const CRH: u8 = 0x10;
const SIP_C: u8 = 0x08;
const ATP_C: u8 = 0x04;
const PTPL_C: u8 = 0x01;
/// Byte 3.
const TMV: u8 = 0x80;
const PTPL_A: u8 = 0x01;

/// LENGTH, bytes 0-1, in bytes. The field counts itself.
const LENGTH: u16 = 8;

impl Capabilities {
    /// Reads the data of a REPORT CAPABILITIES; bytes after the first 8 are ignored.
    ///
    /// # Errors
    ///
    /// [`InDataError::TooShort`] if there are fewer than 8 bytes; [`InDataError::Length`] if the LENGTH field is
    /// below 8.
    pub fn parse(bytes: &[u8]) -> Result<Self, InDataError> {
        let &[l0, l1, b2, b3, b4, b5, _, _] =
            bytes.first_chunk().ok_or(InDataError::TooShort { needed: 8, got: bytes.len() })?;
        let length = u16::from_be_bytes([l0, l1]);
        if length < LENGTH {
            return Err(InDataError::Length(length.into()));
        }
        Ok(Self {
            replace_lost_reservation: b2 & RLR_C != 0,
            compatible_reservation_handling: b2 & CRH != 0,
            specify_initiator_ports: b2 & SIP_C != 0,
            all_target_ports: b2 & ATP_C != 0,
            persist_through_power_loss_capable: b2 & PTPL_C != 0,
            persist_through_power_loss_activated: b3 & PTPL_A != 0,
            allow_commands: b3 >> 4 & 0x07,
            types: if b3 & TMV == 0 { None } else { Some(TypeMask(u16::from_be_bytes([b4, b5]))) },
        })
    }

    /// Returns the eight bytes.
    pub fn to_bytes(&self) -> [u8; 8] {
        let [l0, l1] = LENGTH.to_be_bytes();
        let [b4, b5] = self.types.unwrap_or_default().0.to_be_bytes();
        let b2 = collect([
            (self.replace_lost_reservation, RLR_C),
            (self.compatible_reservation_handling, CRH),
            (self.specify_initiator_ports, SIP_C),
            (self.all_target_ports, ATP_C),
            (self.persist_through_power_loss_capable, PTPL_C),
        ]);
        let b3 = collect([(self.types.is_some(), TMV), (self.persist_through_power_loss_activated, PTPL_A)]);
        [l0, l1, b2, b3 | (self.allow_commands & 0x07) << 4, b4, b5, 0, 0]
    }
}

/// Returns the union of the flags whose value is true.
fn collect<const N: usize>(flags: [(bool, u8); N]) -> u8 {
    flags.iter().filter(|(set, _)| *set).fold(0, |byte, (_, flag)| byte | flag)
}

/// PERSISTENT RESERVATION TYPE MASK: a set of reservation types. Byte 4 is the upper byte, byte 5 the lower.
///
/// ```
/// use scsi_sense::pr::{ReservationType, TypeMask};
///
/// let mask = TypeMask::new([ReservationType::WriteExclusive, ReservationType::ExclusiveAccess]);
/// assert_eq!(mask, TypeMask(0x0a00));
/// assert!(mask.contains(ReservationType::WriteExclusive));
/// assert!(!mask.contains(ReservationType::WriteExclusiveAllRegistrants));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TypeMask(pub u16);

impl TypeMask {
    /// Returns the mask of these types. Types without a name have no bit in it.
    pub fn new(types: impl IntoIterator<Item = ReservationType>) -> Self {
        Self(types.into_iter().fold(0, |mask, kind| mask | bit(kind)))
    }

    /// Returns whether the mask has this type.
    pub const fn contains(self, kind: ReservationType) -> bool {
        self.0 & bit(kind) != 0
    }

    /// Returns the types, in the order of their codes.
    pub fn iter(self) -> impl Iterator<Item = ReservationType> {
        ReservationType::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

const fn bit(kind: ReservationType) -> u16 {
    match kind {
        ReservationType::WriteExclusiveAllRegistrants => 0x8000,
        ReservationType::ExclusiveAccessRegistrantsOnly => 0x4000,
        ReservationType::WriteExclusiveRegistrantsOnly => 0x2000,
        ReservationType::ExclusiveAccess => 0x0800,
        ReservationType::WriteExclusive => 0x0200,
        ReservationType::ExclusiveAccessAllRegistrants => 0x0001,
        ReservationType::Other(_) => 0,
    }
}

/// Shows the types, separated by semicolons: `WRITE EXCLUSIVE (1h); EXCLUSIVE ACCESS (3h)`.
impl fmt::Display for TypeMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, kind) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            kind.fmt(f)?;
        }
        Ok(())
    }
}
