//! What can go wrong.

use mpathpersist_sys::LoadError;
use scsi_sense::pr::{InDataError, OutServiceAction, ProtocolIdentifier, Reservation};

use crate::Failure;

/// Why the library could not be opened. The chain of sources has the dynamic loader's words.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It has been opened in this process before: it can be initialised once.
    #[error("libmpathpersist was opened in this process before, and can be only once")]
    AlreadyOpen,
    /// There is no such library on this host.
    #[error("libmpathpersist is not installed; multipath-tools has it")]
    NotInstalled(#[source] LoadError),
    /// The library is there, and the dynamic loader refuses it: a library or symbol that it needs is missing, or the file
    /// is broken.
    #[error("libmpathpersist is there and cannot be loaded")]
    Load(#[source] LoadError),
    /// It was found and could not be initialised.
    #[error("libmpathpersist cannot read its configuration; it said why on standard error")]
    Initialise,
}

impl From<LoadError> for OpenError {
    fn from(error: LoadError) -> Self {
        if error.is_not_installed() { Self::NotInstalled(error) } else { Self::Load(error) }
    }
}

/// Why a command was not executed, or its answer cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The library tried, and failed.
    #[error("libmpathpersist failed")]
    Library(#[source] Failure),
    /// The library has no such service action: REGISTER AND MOVE, REPLACE LOST RESERVATION, one without a name. Nothing
    /// was done.
    #[error("{0} is not possible on a multipath map")]
    ServiceAction(OutServiceAction),
    /// There are TransportIDs, and the service action is not REGISTER. Nothing was done.
    #[error("SPEC_I_PT is set with {0}")]
    SpecifyInitiatorPorts(OutServiceAction),
    /// There are more than 32 TransportIDs. Nothing was done.
    #[error("{0} TransportIDs, of which libmpathpersist takes 32 at most")]
    TransportIdCount(usize),
    /// A TransportID is of a protocol other than Fibre Channel, iSCSI and SAS, or of a format that the library does not
    /// know. Nothing was done.
    #[error("a TransportID of {protocol}, format {format}, which libmpathpersist cannot send")]
    TransportId {
        /// PROTOCOL IDENTIFIER, byte 0 bits 3-0.
        protocol: ProtocolIdentifier,
        /// FORMAT CODE, byte 0 bits 7-6.
        format: u8,
    },
    /// The parameter list has more than 8192 bytes: the library would leave out the last TransportIDs. Nothing was done.
    #[error("a parameter list of {0} bytes, of which libmpathpersist sends 8192 at most")]
    ParameterListLength(usize),
    /// RELEASE of a reservation that another key holds. Nothing was done.
    ///
    /// A device answers GOOD to that, if the initiator is registered, and RESERVATION CONFLICT otherwise. The library
    /// in 0.9.4 and 0.11.1 clears the other's reservation; see [`behaviour`](crate::behaviour#release).
    #[error("RELEASE by a key that does not hold the reservation ({0})")]
    NotReservationHolder(Reservation),
    /// RELEASE with a scope or type that is not the reservation's. Nothing was done.
    ///
    /// A device answers CHECK CONDITION, INVALID RELEASE OF PERSISTENT RESERVATION (05/26/04) to that. The library until
    /// 0.12 clears all registrations and registers them anew.
    #[error("RELEASE with another scope or type than the reservation's ({0})")]
    InvalidRelease(Reservation),
    /// The device's answer contradicts itself.
    #[error("the device's answer makes no sense")]
    Answer(#[source] InDataError),
}

impl Error {
    /// What an operator can look at or do, in one sentence.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Library(failure) => failure.advice(),
            Self::ServiceAction(_)
            | Self::SpecifyInitiatorPorts(_)
            | Self::TransportIdCount(_)
            | Self::TransportId { .. }
            | Self::ParameterListLength(_) => "the command was refused: multipath-tools cannot execute it",
            Self::NotReservationHolder(_) | Self::InvalidRelease(_) => {
                "the command was refused: multipath-tools might have taken away the reservation of another host"
            }
            Self::Answer(_) => "look at the disk's firmware",
        }
    }

    /// The library's code, if it was the library that failed.
    pub const fn failure(&self) -> Option<Failure> {
        match self {
            Self::Library(failure) => Some(*failure),
            _ => None,
        }
    }
}

impl From<InDataError> for Error {
    fn from(error: InDataError) -> Self {
        Self::Answer(error)
    }
}
