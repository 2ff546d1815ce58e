//! Protocol identifiers.

use core::fmt;

/// PROTOCOL IDENTIFIER: the SCSI transport protocol (SPC-4 clause 7.6.1).
///
/// It has four bits: 0h to Fh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolIdentifier(pub u8);

impl ProtocolIdentifier {
    /// 0h: Fibre Channel (FCP).
    pub const FIBRE_CHANNEL: Self = Self(0x0);
    /// 1h: parallel SCSI (SPI).
    pub const PARALLEL_SCSI: Self = Self(0x1);
    /// 2h: Serial Storage Architecture.
    pub const SSA: Self = Self(0x2);
    /// 3h: IEEE 1394 (SBP).
    pub const SBP: Self = Self(0x3);
    /// 4h: SCSI over RDMA (SRP).
    pub const SRP: Self = Self(0x4);
    /// 5h: iSCSI.
    pub const ISCSI: Self = Self(0x5);
    /// 6h: Serial Attached SCSI (SAS).
    pub const SAS: Self = Self(0x6);
    /// 7h: automation/drive interface (ADT).
    pub const ADT: Self = Self(0x7);
    /// 8h: AT Attachment (ATA).
    pub const ATA: Self = Self(0x8);
    /// 9h: USB attached SCSI (UAS).
    pub const UAS: Self = Self(0x9);
    /// Ah: SCSI over PCI Express (SOP).
    pub const SOP: Self = Self(0xa);
    /// Fh: no protocol.
    pub const NONE: Self = Self(0xf);

    /// Returns a short name, if the code has one.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::FIBRE_CHANNEL => "Fibre Channel",
            Self::PARALLEL_SCSI => "parallel SCSI",
            Self::SSA => "SSA",
            Self::SBP => "SBP",
            Self::SRP => "SRP",
            Self::ISCSI => "iSCSI",
            Self::SAS => "SAS",
            Self::ADT => "ADT",
            Self::ATA => "ATA",
            Self::UAS => "UAS",
            Self::SOP => "SOP",
            Self::NONE => "no protocol",
            _ => return None,
        })
    }
}

/// Shows the name and the code: `SAS (6h)`.
impl fmt::Display for ProtocolIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:X}h)", self.name().unwrap_or("unknown protocol"), self.0)
    }
}
