//! What can go wrong between a client and a helper, and between a helper and a device.

use std::{error, fmt, io, path::PathBuf};

use pr_proto::{ClientError, InvalidCommand};
use scsi_sense::{BuildError, SenseCode, Status, pr::InDataError};

use crate::{RegisteredKeys, Registrations, SenseData};

/// Why there is no answer to a command.
///
/// The text says what failed, and not why. **In a log, print it as `{error:#}`**: this has all causes, of which the last is
/// the kernel's error; or print the chain of [sources](std::error::Error::source).
///
/// The question that matters is whether the command may have run all the same: [`may_have_run`](Self::may_have_run).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be had, or it was closed before a single byte of the command was sent. For a
    /// [`Client`](crate::Client): all its attempts failed, this is the last one's error.
    #[error(fmt = unreachable)]
    Unreachable {
        /// The socket's path; `None` for a [`Connection`](crate::nonblocking::Connection) made from a stream.
        path: Option<PathBuf>,
        /// The kernel's error, or the reason why the connection is not usable.
        source: io::Error,
    },
    /// All connections of the client were in use by other threads until the deadline. Nothing was sent.
    #[error("all connections to the helper were in use until the deadline")]
    Busy,
    /// The protocol does not carry this command, or not now. Nothing was sent, and the connection is as it was.
    #[error(fmt = not_sendable)]
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
    #[error(fmt = not_passed)]
    Send(#[source] io::Error),
    /// The deadline passed while the helper had the command. Its connection is closed, so that a late answer cannot be
    /// taken for that of another command.
    #[error("the helper has not answered in time: whether the command has run is unknown")]
    TimedOut,
    /// The connection ended when the command, or a part of it, had been sent. It is not sent again: answer the guest
    /// with [`sense_code`](Self::sense_code), and the guest decides.
    #[error(fmt = lost)]
    Lost(#[source] io::Error),
    /// The helper's answer is against the protocol. The connection is closed.
    #[error(fmt = against_protocol)]
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

/// Writes the text, and with `{:#}` the causes behind it.
fn explain(f: &mut fmt::Formatter<'_>, text: &str, cause: &dyn error::Error) -> fmt::Result {
    f.write_str(text)?;
    let mut next = f.alternate().then_some(cause);
    while let Some(cause) = next {
        write!(f, ": {cause}")?;
        next = cause.source();
    }
    Ok(())
}

#[allow(clippy::ref_option, reason = "thiserror passes a reference to each field")]
fn unreachable(path: &Option<PathBuf>, source: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let at = path.as_ref().map_or_else(String::new, |path| format!(" at {}", path.display()));
    explain(f, &format!("cannot reach the helper{at}"), source)
}

fn not_sendable(source: &InvalidCommand, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    explain(f, "the command cannot be sent", source)
}

fn not_passed(source: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    explain(f, "the kernel does not pass the device's descriptor to the helper", source)
}

fn lost(source: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text =
        "the connection to the helper was lost after the command was sent: whether it has run is unknown";
    explain(f, text, source)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "thiserror passes a reference to each field")]
fn against_protocol(source: &ClientError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    explain(f, "the helper broke the protocol: whether the command has run is unknown", source)
}

fn unreadable(source: &InDataError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    explain(f, "the device's data cannot be read", source)
}

fn unreadable_keys(_: &RegisteredKeys, source: &InDataError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    explain(f, "the device's list of keys cannot be read to its end", source)
}

fn unreadable_registrations(
    _: &Registrations,
    source: &InDataError,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    explain(f, "the device's list of registrations cannot be read to its end", source)
}

fn not_buildable(source: &BuildError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    explain(f, "the parameter list cannot be built", source)
}

/// Why a typed call, such as [`Client::reserve`](crate::Client::reserve), has failed.
///
/// As with [`Error`], `{error:#}` has the causes.
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
    #[error(fmt = unreadable)]
    Data(#[source] InDataError),
    /// GOOD, with a list of keys that ends early.
    #[error(fmt = unreadable_keys)]
    Keys {
        /// The entries before the malformed place. The list is not complete.
        read: RegisteredKeys,
        /// The reason.
        source: InDataError,
    },
    /// GOOD, with a list of registrations that ends early.
    #[error(fmt = unreadable_registrations)]
    Registrations {
        /// The entries before the malformed place. The list is not complete.
        read: Registrations,
        /// The reason.
        source: InDataError,
    },
    /// The parameter list is longer than what the protocol carries. Nothing was sent.
    #[error(fmt = not_buildable)]
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
