//! I_T nexuses: who sends a command, and through which port.

use core::fmt;

use scsi_sense::BuildError;
use scsi_sense::pr::{IscsiSessionId, TransportId, TransportIdBuf};

/// The most target ports that a logical unit has.
pub const MAX_TARGET_PORTS: usize = 64;

/// An I_T nexus: an initiator port, and the target port through which it reaches the logical unit.
///
/// Two are the same if the TransportIDs have the same bytes and the relative target port identifiers are equal. A
/// device names an initiator port always in the same way, and so must the caller: in particular an iSCSI port is
/// either always its name alone or always its name and session identifier. (Of the latter, upper and lower case
/// digits are the same.)
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
    /// The nexus of this initiator port and of the target port with this RELATIVE TARGET PORT IDENTIFIER.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLong`] for an iSCSI name that is longer than the standard allows, as from
    /// [`TransportId::write`].
    pub fn new(initiator: TransportId<'_>, relative_port: u16) -> Result<Self, BuildError> {
        Ok(Self { initiator: TransportIdBuf::new(in_lower_case(initiator))?, relative_port })
    }

    /// The initiator port.
    pub const fn initiator(&self) -> &TransportIdBuf {
        &self.initiator
    }

    /// RELATIVE TARGET PORT IDENTIFIER of the target port.
    pub const fn relative_port(&self) -> u16 {
        self.relative_port
    }

    /// The same initiator port at another target port.
    pub(crate) const fn at(&self, relative_port: u16) -> Self {
        Self { initiator: self.initiator, relative_port }
    }
}

/// With the digits of an iSCSI session identifier in lower case: the port is the same (SPC-4 clause 5.13.7 d).
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
