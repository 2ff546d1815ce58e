//! What can go wrong between a client and a helper, and between a helper and a device.

use std::{
    io,
    path::{Path, PathBuf},
};

use pr_proto::{ClientError, InvalidCommand};
use scsi_sense::{BuildError, SenseCode, Status, pr::InDataError};

use crate::{RegisteredKeys, Registrations, SenseData};

/// Why there is no answer to a command.
///
/// The text says what failed, and not why: print the chain of sources ([`std::error::Error::source`]) behind it, which
/// ends in the kernel's error.
///
/// The question that matters is whether the command may have run all the same: [`may_have_run`](Self::may_have_run).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be had, or it was closed before a single byte of the command was sent. For a
    /// [`Client`](crate::Client): all its attempts failed, this is the last one's error.
    #[error("cannot reach the helper{}", at(path.as_deref()))]
    Unreachable {
        /// The socket's path; `None` for a connection that somebody else has made.
        path: Option<PathBuf>,
        /// The kernel's error, or what the helper did.
        source: io::Error,
    },
    /// All connections of the client were in use by other threads until the deadline. Nothing was sent.
    #[error("all connections to the helper were in use until the deadline")]
    Busy,
    /// The protocol does not carry this command, or not now. Nothing was sent, and the connection is as it was.
    #[error("the command cannot be sent")]
    Command(#[source] InvalidCommand),
    /// The buffer is shorter than the allocation length. Nothing was sent.
    #[error("a buffer of {got} bytes for a command that may return {needed}")]
    Buffer {
        /// The allocation length.
        needed: usize,
        /// The buffer's length.
        got: usize,
    },
    /// The kernel did not pass the descriptor on: too many are under way (`ETOOMANYREFS`), or it is of a kind that
    /// cannot be passed. Nothing was sent.
    #[error("the kernel does not pass the device's descriptor to the helper")]
    Send(#[source] io::Error),
    /// The deadline passed while the helper had the command. Its connection is closed, so that a late answer cannot be
    /// taken for that of another command.
    #[error("the helper has not answered in time: whether the command has run is unknown")]
    TimedOut,
    /// The connection ended when the command, or a part of it, had been sent. It is not sent again: answer the guest
    /// with [`sense_code`](Self::sense_code), and the guest decides.
    #[error(
        "the connection to the helper was lost after the command was sent: whether it has run is unknown"
    )]
    Lost(#[source] io::Error),
    /// The helper's answer is against the protocol. The connection is closed.
    #[error("the helper broke the protocol: whether the command has run is unknown")]
    Protocol(#[source] ClientError),
}

impl Error {
    /// Whether the command, or a part of it, may have reached a helper. If not, it certainly has not run, and may be
    /// sent again by whoever has the patience.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::TimedOut | Self::Lost(_) | Self::Protocol(_) => true,
            Self::Unreachable { .. }
            | Self::Busy
            | Self::Command(_)
            | Self::Buffer { .. }
            | Self::Send(_) => false,
        }
    }

    /// What to tell a guest, with CHECK CONDITION.
    ///
    /// For everything that a repetition may mend, ABORTED COMMAND, LOGICAL UNIT COMMUNICATION FAILURE (0B/08/00), as
    /// QEMU does; after the deadline ABORTED COMMAND, COMMAND TIMEOUT DURING PROCESSING (0B/2E/02); for a command that
    /// the protocol does not carry, ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00).
    pub fn sense_code(&self) -> SenseCode {
        match self {
            Self::Command(_) | Self::Buffer { .. } => SenseCode::INVALID_FIELD_IN_CDB,
            Self::TimedOut => SenseCode::COMMAND_TIMEOUT_DURING_PROCESSING,
            Self::Unreachable { .. } | Self::Busy | Self::Send(_) | Self::Lost(_) | Self::Protocol(_) => {
                SenseCode::LU_COMMUNICATION_FAILURE
            }
        }
    }
}

/// ` at PATH`, if there is a path.
fn at(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| format!(" at {}", path.display()))
}

/// Why a typed call, such as [`Client::reserve`](crate::Client::reserve), has failed.
///
/// As with [`Error`], the chain of sources belongs to the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no answer.
    #[error(transparent)]
    Client(#[from] Error),
    /// RESERVATION CONFLICT: this I_T nexus has another key than the one given, or none, or another one holds the
    /// reservation.
    #[error("{}", Status::RESERVATION_CONFLICT)]
    Conflict,
    /// CHECK CONDITION, and why. A unit attention is among these: it is told once, the command has not run, and the
    /// next one may.
    #[error("{status}: {0}", status = Status::CHECK_CONDITION)]
    CheckCondition(SenseData),
    /// Any other status but GOOD.
    #[error("{0}")]
    Status(Status),
    /// GOOD, with data that cannot be what was asked for.
    #[error("the device's data cannot be read")]
    Data(#[source] InDataError),
    /// GOOD, with a list of keys that ends early. There are more keys than those that could be read.
    #[error("the device's list of keys cannot be read to its end")]
    Keys {
        /// What is before that place. It is not complete.
        read: RegisteredKeys,
        /// What is wrong with the data.
        source: InDataError,
    },
    /// GOOD, with a list of registrations that ends early. There are more registrations than those that could be read.
    #[error("the device's list of registrations cannot be read to its end")]
    Registrations {
        /// What is before that place. It is not complete.
        read: Registrations,
        /// What is wrong with the data.
        source: InDataError,
    },
    /// The parameter list is longer than what the protocol carries. Nothing was sent.
    #[error("the parameter list cannot be built")]
    Parameters(#[source] BuildError),
}

impl CommandError {
    /// Sense key, additional sense code and qualifier, if the device gave them.
    pub fn sense_code(&self) -> Option<SenseCode> {
        match self {
            Self::CheckCondition(sense) => sense.code(),
            _ => None,
        }
    }
}
