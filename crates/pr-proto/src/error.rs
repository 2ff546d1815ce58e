//! The protocol violations of each side.

use crate::wire::DATA_MAX;

/// A client's violation of the protocol. The helper sends no reply and closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A feature bit that the helper has not offered.
    #[error("asks for features {wanted:#010x} of which {missing:#010x} are not supported")]
    UnsupportedFeatures {
        /// All bits that the client requested.
        wanted: u32,
        /// The requested bits that the helper has not offered.
        missing: u32,
    },
    /// A CDB without a descriptor.
    #[error("sent a command without a file descriptor")]
    NoDescriptor,
    /// A CDB with more than one descriptor.
    #[error("sent more than one file descriptor with a command")]
    ManyDescriptors,
    /// A descriptor with a greeting or a parameter list.
    #[error("sent a file descriptor where none belongs")]
    StrayDescriptor,
    /// An opcode other than 5Eh and 5Fh.
    #[error("sent a command that is not PERSISTENT RESERVE (opcode {0:02X}h)")]
    Opcode(u8),
    /// An allocation length or a parameter list length above [`DATA_MAX`].
    #[error("sent a command with a transfer length of {0} bytes, more than {DATA_MAX}")]
    TransferLength(u32),
    /// The end of the stream inside a greeting or a request.
    #[error("closed the connection inside a message")]
    Truncated,
}

/// A helper's violation of the protocol. The connection is unusable, and it is unknown whether the current command was
/// run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A SCSI status that does not fit a byte.
    #[error("the helper's status {0:#x} is no SCSI status")]
    Status(u32),
    /// A payload with a PERSISTENT RESERVE OUT command.
    #[error("the helper sent a payload of {0} bytes for a command that returns none")]
    UnexpectedPayload(u32),
    /// A payload with a status other than GOOD.
    #[error("the helper sent a payload of {0} bytes with a failed command")]
    PayloadOfFailure(u32),
    /// A payload longer than the allocation length.
    #[error("the helper sent a payload of {size} bytes where at most {allocation_length} were asked for")]
    PayloadLength {
        /// Payload size in the reply.
        size: u32,
        /// ALLOCATION LENGTH of the CDB.
        allocation_length: u16,
    },
    /// The end of the stream inside a greeting or a reply, or before the reply to a request.
    #[error("the helper closed the connection before its reply was whole")]
    Truncated,
}

/// The reason why a command was not begun. The session is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCommand {
    /// Not a CDB of PERSISTENT RESERVE IN for `read`, or PERSISTENT RESERVE OUT for `write`, of ten to sixteen bytes.
    #[error("not a PERSISTENT RESERVE command of the right direction")]
    Cdb,
    /// More data than [`DATA_MAX`].
    #[error("a transfer length of {0} bytes, more than {DATA_MAX}")]
    TransferLength(u32),
    /// The parameter list is not as long as the CDB announces.
    #[error("the CDB announces {announced} bytes of parameters and {given} were given")]
    ParameterLength {
        /// PARAMETER LIST LENGTH of the CDB.
        announced: u32,
        /// Length of the list.
        given: usize,
    },
    /// The helper's greeting or the response to another command has not been received, or the session is closed.
    #[error("the session is not ready for a command")]
    NotReady,
}
