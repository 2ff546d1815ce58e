//! What each side can do wrong.

use crate::wire::DATA_MAX;

/// What a client did against the protocol. There is no reply to it: the helper closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A feature bit that the helper has not offered.
    #[error("asks for features {wanted:#010x} of which {missing:#010x} are not supported")]
    UnsupportedFeatures {
        /// All bits that the client asked for.
        wanted: u32,
        /// Those of them that were not offered.
        missing: u32,
    },
    /// A CDB that came without a descriptor.
    #[error("sent a command without a file descriptor")]
    NoDescriptor,
    /// A CDB that came with more than one descriptor.
    #[error("sent more than one file descriptor with a command")]
    ManyDescriptors,
    /// A descriptor beside a greeting or a parameter list.
    #[error("sent a file descriptor where none belongs")]
    StrayDescriptor,
    /// Another opcode than 5Eh and 5Fh.
    #[error("sent a command that is not PERSISTENT RESERVE (opcode {0:02X}h)")]
    Opcode(u8),
    /// An allocation length or a parameter list length above [`DATA_MAX`].
    #[error("sent a command with a transfer length of {0} bytes, more than {DATA_MAX}")]
    TransferLength(u32),
    /// The end of the stream inside a greeting or a request.
    #[error("closed the connection inside a message")]
    Truncated,
}

/// What a helper did against the protocol. The connection is of no more use, and whether the command at hand was run
/// is unknown.
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
        /// What the helper announced.
        size: u32,
        /// What the CDB allowed.
        allocation_length: u16,
    },
    /// The end of the stream inside a greeting or a reply, or before the reply to a request.
    #[error("the helper closed the connection before its reply was whole")]
    Truncated,
}

/// Why a command was not put on the wire: the session is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCommand {
    /// The protocol carries PERSISTENT RESERVE IN for `read` and PERSISTENT RESERVE OUT for `write`, whole CDBs of at
    /// least ten and at most sixteen bytes.
    #[error("not a PERSISTENT RESERVE command of the right direction")]
    Cdb,
    /// More data than [`DATA_MAX`].
    #[error("a transfer length of {0} bytes, more than {DATA_MAX}")]
    TransferLength(u32),
    /// The CDB announces another parameter list length than that of the list given.
    #[error("the CDB announces {announced} bytes of parameters and {given} were given")]
    ParameterLength {
        /// PARAMETER LIST LENGTH of the CDB.
        announced: u32,
        /// Length of the list.
        given: usize,
    },
    /// The helper's greeting has not been received, or another command's response not been taken.
    #[error("the session is not ready for a command")]
    NotReady,
}
