//! Errors of opening the library and of commands.

use mpathpersist_sys::LoadError;
use scsi_sense::pr::{InDataError, OutServiceAction, ProtocolIdentifier, Reservation};

use crate::Failure;

/// The reason why the library could not be opened. The chain of sources has the dynamic loader's message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The library was opened in this process before: it can be initialised only once.
    #[error("libmpathpersist was opened in this process before, which is possible only once")]
    AlreadyOpen,
    /// The library is not installed on this host.
    #[error("libmpathpersist is not installed; it is part of multipath-tools")]
    NotInstalled(#[source] LoadError),
    /// The library is installed, but the dynamic loader refuses it: a library or symbol that it needs is missing, or
    /// the file is broken.
    #[error("libmpathpersist is installed but cannot be loaded")]
    Load(#[source] LoadError),
    /// The library was loaded but could not be initialised.
    #[error("libmpathpersist cannot read its configuration; it wrote the reason to standard error")]
    Initialise,
}

impl From<LoadError> for OpenError {
    fn from(error: LoadError) -> Self {
        if error.is_not_installed() { Self::NotInstalled(error) } else { Self::Load(error) }
    }
}

/// The reason why a command was not executed, or why its answer is not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The library was called and failed.
    #[error("libmpathpersist failed")]
    Library(#[source] Failure),
    /// The library does not support this service action: REGISTER AND MOVE, REPLACE LOST RESERVATION, or one without a
    /// name. Nothing was done.
    #[error("{0} is not possible on a multipath map")]
    ServiceAction(OutServiceAction),
    /// There are TransportIDs, but the service action is not REGISTER. Nothing was done.
    #[error("SPEC_I_PT is set with {0}")]
    SpecifyInitiatorPorts(OutServiceAction),
    /// There are more than 32 TransportIDs. Nothing was done.
    #[error("{0} TransportIDs: libmpathpersist accepts at most 32")]
    TransportIdCount(usize),
    /// A TransportID has a protocol other than Fibre Channel, iSCSI and SAS, or a format that the library does not
    /// support. Nothing was done.
    #[error("a TransportID of {protocol}, format {format}, which libmpathpersist cannot send")]
    TransportId {
        /// PROTOCOL IDENTIFIER, byte 0 bits 3-0.
        protocol: ProtocolIdentifier,
        /// FORMAT CODE, byte 0 bits 7-6.
        format: u8,
    },
    /// The parameter list has more than 8192 bytes: the library would omit the last TransportIDs. Nothing was done.
    #[error("a parameter list of {0} bytes: libmpathpersist sends at most 8192")]
    ParameterListLength(usize),
    /// RELEASE of a reservation that another key holds. Nothing was done.
    ///
    /// A device answers GOOD to such a RELEASE if the initiator is registered, and RESERVATION CONFLICT otherwise. The
    /// library in 0.9.4 and 0.11.1 clears the reservation of the other key: see
    /// [`behaviour`](crate::behaviour#release).
    #[error("RELEASE by a key that does not hold the reservation ({0})")]
    NotReservationHolder(Reservation),
    /// RELEASE with a scope or type other than that of the reservation. Nothing was done.
    ///
    /// A device answers CHECK CONDITION, INVALID RELEASE OF PERSISTENT RESERVATION (05/26/04) to such a RELEASE. The
    /// library until 0.12 clears all registrations and registers them anew.
    #[error("RELEASE with a scope or type other than that of the reservation ({0})")]
    InvalidRelease(Reservation),
    /// The device's answer is malformed.
    #[error("the device's answer is malformed")]
    Answer(#[source] InDataError),
}

impl Error {
    /// Returns advice for an operator, in one sentence.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Library(failure) => failure.advice(),
            Self::ServiceAction(_)
            | Self::SpecifyInitiatorPorts(_)
            | Self::TransportIdCount(_)
            | Self::TransportId { .. }
            | Self::ParameterListLength(_) => "the command was refused: multipath-tools cannot execute it",
            Self::NotReservationHolder(_) | Self::InvalidRelease(_) => {
                "the command was refused: multipath-tools might have removed the reservation of another host"
            }
            Self::Answer(_) => "check the disk's firmware",
        }
    }

    /// Returns the library's code, if the library failed.
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
