//! The errors between client and helper, and between helper and device.

use std::{error, fmt, io, path::PathBuf};

use pr_proto::{ClientError, InvalidCommand};
use scsi_sense::{BuildError, SenseCode, Status, pr::InDataError};

use crate::{RegisteredKeys, Registrations, SenseData};

/// The reason why there is no answer to a command.
///
/// The text says what failed, and not why. **In a log, print it as `{error:#}`**: this adds all causes, of which the
/// last is the kernel's error; or print the chain of [sources](std::error::Error::source).
///
/// Most important is whether the command may have run nevertheless: [`may_have_run`](Self::may_have_run).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made, or it was closed before any byte of the command was sent. For a
    /// [`Client`](crate::Client): all attempts failed, and this is the error of the last one.
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
    /// The protocol does not carry this command, or the connection is not ready for one. Nothing was sent, and the
    /// connection is unchanged.
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
    /// The kernel did not pass the descriptor: too many are in flight (`ETOOMANYREFS`), or descriptors of this kind
    /// cannot be passed. Nothing was sent.
    #[error(fmt = not_passed)]
    Send(#[source] io::Error),
    /// The deadline passed while the command was in flight. Its connection is closed, so that a late answer cannot be
    /// taken for the answer to another command.
    #[error("the helper has not answered in time: whether the command has run is unknown")]
    TimedOut,
    /// The connection ended after the command, or a part of it, was sent. The command is not sent again: answer the
    /// guest with [`sense_code`](Self::sense_code), and let it decide.
    #[error(fmt = lost)]
    Lost(#[source] io::Error),
    /// The helper's answer violates the protocol. The connection is closed.
    #[error(fmt = protocol_violation)]
    Protocol(#[source] ClientError),
}

impl Error {
    /// Returns whether the command, or a part of it, may have reached a helper. If not, it certainly has not run, and
    /// the caller may send it again.
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

    /// Returns the sense code to report to a guest, with CHECK CONDITION.
    ///
    /// After the deadline it is ABORTED COMMAND, COMMAND TIMEOUT DURING PROCESSING (0B/2E/02); for a command that the
    /// protocol does not carry, ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00); for all other errors, which a
    /// repetition may resolve, ABORTED COMMAND, LOGICAL UNIT COMMUNICATION FAILURE (0B/08/00), as QEMU does.
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

/// Writes the text, and with `{:#}` also the causes.
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
fn protocol_violation(source: &ClientError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// The reason why a typed call, such as [`Client::reserve`](crate::Client::reserve), has failed.
///
/// As with [`Error`], `{error:#}` adds the causes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no answer.
    #[error(transparent)]
    Client(#[from] Error),
    /// RESERVATION CONFLICT: this I_T nexus is not registered with the given key, or another nexus holds the
    /// reservation.
    #[error("{}", Status::RESERVATION_CONFLICT)]
    Conflict,
    /// CHECK CONDITION, with the sense data. They may be a unit attention: the device reports it once and has not run
    /// the command; a repetition may succeed.
    #[error("{status}: {0}", status = Status::CHECK_CONDITION)]
    CheckCondition(SenseData),
    /// Any other status except GOOD.
    #[error("{0}")]
    Status(Status),
    /// GOOD, with data that cannot be parsed.
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
    /// The parameter list is longer than the protocol allows. Nothing was sent.
    #[error(fmt = not_buildable)]
    Parameters(#[source] BuildError),
}

impl CommandError {
    /// Returns sense key, additional sense code and qualifier, if the device returned them.
    pub fn sense_code(&self) -> Option<SenseCode> {
        match self {
            Self::CheckCondition(sense) => sense.code(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use scsi_sense::SenseKey;

    use super::*;

    /// All errors, each with every kind of cause that it can have.
    fn all() -> Vec<Error> {
        let io = || io::Error::from_raw_os_error(104);
        let commands = [
            InvalidCommand::Cdb,
            InvalidCommand::TransferLength(8193),
            InvalidCommand::ParameterLength { announced: 24, given: 0 },
            InvalidCommand::NotReady,
        ];
        let violations = [
            ClientError::Status(0x100),
            ClientError::UnexpectedPayload(1),
            ClientError::PayloadOfFailure(1),
            ClientError::PayloadLength { size: 2, allocation_length: 1 },
            ClientError::Truncated,
        ];
        let others = [
            Error::Unreachable { path: Some("/socket".into()), source: io() },
            Error::Unreachable { path: None, source: io() },
            Error::Busy,
            Error::Buffer { needed: 16, got: 15 },
            Error::Send(io()),
            Error::TimedOut,
            Error::Lost(io()),
        ];
        let others = others.into_iter();
        others
            .chain(commands.into_iter().map(Error::Command))
            .chain(violations.into_iter().map(Error::Protocol))
            .collect()
    }

    /// A virtual machine monitor passes this sense data on to the guest.
    #[test]
    fn sense_code_is_always_a_failure() {
        for error in all() {
            let code = error.sense_code();
            assert!(![0x0, 0x1, 0xf].contains(&code.key.code()), "{error:?}: {code}");
            let is_invalid = matches!(error, Error::Command(_) | Error::Buffer { .. });
            let expected = if is_invalid { SenseKey::ILLEGAL_REQUEST } else { SenseKey::ABORTED_COMMAND };
            assert_eq!(code.key, expected, "{error:?}");
        }
    }

    #[test]
    fn alternate_text_ends_with_the_cause() {
        for error in all() {
            let (text, whole) = (error.to_string(), format!("{error:#}"));
            match error.source() {
                Some(cause) => assert_eq!(whole, format!("{text}: {cause}")),
                None => assert_eq!(whole, text),
            }
        }
    }
}
