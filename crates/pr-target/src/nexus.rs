//! I_T nexuses: the initiator port that sends a command, and the target port that receives it.

use core::fmt;

use scsi_sense::BuildError;
use scsi_sense::pr::{IscsiSessionId, TransportId, TransportIdBuf};

/// The maximum number of target ports of a logical unit.
pub const MAX_TARGET_PORTS: usize = 64;

/// An I_T nexus: an initiator port, and the target port through which it reaches the logical unit.
///
/// Two nexuses are equal if their TransportIDs have the same bytes and their relative target port identifiers are
/// equal. The caller must always name an initiator port in the same way, as a device does: in particular an iSCSI port
/// either always by its name alone or always by its name and session identifier. (In the session identifier, upper and
/// lower case digits are equal.)
///
/// ```
/// use pr_target::Nexus;
/// use scsi_sense::pr::TransportId;
///
/// let nexus = Nexus::new(TransportId::Sas { address: 0x5000_c500_05b3_2001 }, 1)?;
/// assert_eq!(nexus.to_string(), "sas,5000c50005b32001 at target port 1");
/// # Ok::<(), scsi_sense::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nexus {
    initiator: TransportIdBuf,
    relative_port: u16,
}

impl Nexus {
    /// Returns the nexus of this initiator port and of the target port with this RELATIVE TARGET PORT IDENTIFIER.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLong`] for an iSCSI name that is longer than the standard allows, as from
    /// [`TransportId::write`].
    pub fn new(initiator: TransportId<'_>, relative_port: u16) -> Result<Self, BuildError> {
        Ok(Self { initiator: TransportIdBuf::new(in_lower_case(initiator))?, relative_port })
    }

    /// Returns the initiator port.
    pub const fn initiator(&self) -> &TransportIdBuf {
        &self.initiator
    }

    /// Returns the RELATIVE TARGET PORT IDENTIFIER of the target port.
    pub const fn relative_port(&self) -> u16 {
        self.relative_port
    }

    /// Returns the nexus of the same initiator port at another target port.
    pub(crate) const fn at(&self, relative_port: u16) -> Self {
        Self { initiator: self.initiator, relative_port }
    }
}

/// Returns the TransportID with the digits of an iSCSI session identifier in lower case: case makes no other port
/// (SPC-4 clause 5.13.7 d).
fn in_lower_case(id: TransportId<'_>) -> TransportId<'_> {
    match id {
        TransportId::IscsiPort { name, session } => {
            let session = session.to_bytes().map_or(session, IscsiSessionId::from_bytes);
            TransportId::IscsiPort { name, session }
        }
        other => other,
    }
}

impl fmt::Display for Nexus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at target port {}", self.initiator, self.relative_port)
    }
}
