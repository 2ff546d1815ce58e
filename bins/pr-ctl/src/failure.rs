//! What can fail, what it means for the exit status, and what to do.

use std::{fmt, io, path::PathBuf};

use pr_client::{CommandError, Error, InvalidCommand};
use scsi_sense::{SenseCode, SenseKey, Status};

use crate::json::Json;

/// Why a command line did not do what it says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments are no command.
    #[error("{0}")]
    Arguments(String),
    #[error("cannot open {}{}", path.display(), if *for_writing { " for writing" } else { "" })]
    Open { path: PathBuf, for_writing: bool, access: Option<String>, source: io::Error },
    #[error("{}", path.display())]
    Helper { path: PathBuf, source: Error },
    #[error("{command} {}", device.display())]
    Command { command: String, device: PathBuf, source: Box<CommandError> },
    #[error("standard output")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Those of the `sg3_utils` (`sg_lib.h`).
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Arguments(_) => 1,
            Self::Open { .. } => 15,
            // The command itself was done.
            Self::Output(_) => 99,
            Self::Helper { source, .. } => of_error(source),
            Self::Command { source, .. } => of_command(source),
        }
    }

    /// What to do, if there is something to say.
    pub(crate) fn advice(&self) -> Option<String> {
        match self {
            Self::Arguments(_) | Self::Output(_) => None,
            Self::Open { source, access, for_writing, .. } => {
                of_opening(source, access.as_deref(), *for_writing)
            }
            Self::Helper { path, source } => match source {
                Error::Unreachable(source) => Some(of_connecting(source, &path.display())),
                _ => None,
            },
            Self::Command { source, device, .. } => of_answer(source, &device.display()),
        }
    }

    /// The chain of causes on one line.
    pub(crate) fn text(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    /// For `--json`.
    pub(crate) fn json(&self) -> Json {
        let (status, sense) = match self {
            Self::Command { source, .. } => (status_of(source), source.sense_code()),
            _ => (None, None),
        };
        let mut members = vec![("error", Json::Text(self.text()))];
        members.extend(status.map(|status| ("status", json_status(status))));
        members.extend(sense.map(|code| ("sense", json_sense(code))));
        members.extend(self.advice().map(|advice| ("advice", Json::Text(advice))));
        members.push(("exit_status", self.exit_status().into()));
        Json::Object(members)
    }
}

/// A SCSI status by number and name.
pub(crate) fn json_status(status: Status) -> Json {
    Json::Object(vec![("code", status.0.into()), ("name", status.name().map(Json::text).into())])
}

/// The three codes and what they mean.
pub(crate) fn json_sense(code: SenseCode) -> Json {
    Json::Object(vec![
        ("key", code.key.code().into()),
        ("asc", code.additional.asc.into()),
        ("ascq", code.additional.ascq.into()),
        ("text", Json::text(code)),
    ])
}

fn status_of(error: &CommandError) -> Option<Status> {
    match error {
        CommandError::Conflict => Some(Status::RESERVATION_CONFLICT),
        CommandError::CheckCondition(_) => Some(Status::CHECK_CONDITION),
        CommandError::Status(status) => Some(*status),
        _ => None,
    }
}

pub(crate) fn of_error(error: &Error) -> u8 {
    match error {
        Error::Unreachable(_) => 35,
        Error::TimedOut => 33,
        Error::Command(_) | Error::Buffer { .. } => 1,
        _ => 99,
    }
}

pub(crate) fn of_command(error: &CommandError) -> u8 {
    match error {
        CommandError::Client(error) => of_error(error),
        CommandError::Conflict => 24,
        CommandError::CheckCondition(sense) => sense.code().map_or(98, of_sense),
        CommandError::Status(Status::CONDITION_MET) => 25,
        CommandError::Status(Status::BUSY) => 26,
        CommandError::Status(Status::TASK_SET_FULL) => 27,
        CommandError::Status(Status::ACA_ACTIVE) => 28,
        CommandError::Status(Status::TASK_ABORTED) => 29,
        CommandError::Data(_) => 97,
        CommandError::Parameters(_) => 1,
        _ => 99,
    }
}

fn of_sense(code: SenseCode) -> u8 {
    match code.key {
        _ if code == SenseCode::INVALID_OPCODE => 9,
        SenseKey::NO_SENSE => 20,
        SenseKey::RECOVERED_ERROR => 21,
        SenseKey::NOT_READY => 2,
        SenseKey::MEDIUM_ERROR | SenseKey::HARDWARE_ERROR | SenseKey::BLANK_CHECK => 3,
        SenseKey::ILLEGAL_REQUEST => 5,
        SenseKey::UNIT_ATTENTION => 6,
        SenseKey::DATA_PROTECT => 7,
        SenseKey::COPY_ABORTED => 10,
        SenseKey::ABORTED_COMMAND => 11,
        SenseKey::MISCOMPARE => 14,
        _ => 98,
    }
}

fn of_opening(error: &io::Error, access: Option<&str>, for_writing: bool) -> Option<String> {
    Some(match error.kind() {
        io::ErrorKind::NotFound => "see /dev/disk/by-id for the disks that there are".into(),
        io::ErrorKind::PermissionDenied => {
            let access = access.map_or_else(String::new, |access| format!(" (it is {access})"));
            let wanted = if for_writing { "read and write" } else { "read" };
            format!(
                "you need permission to {wanted} the device{access}: join its group, or have an administrator give \
                 it by a udev rule or setfacl"
            )
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the kernel has the device as read-only, and to change a reservation it must be opened for writing".into()
        }
        _ => return None,
    })
}

/// What to do about a socket.
pub(crate) fn of_connecting(error: &io::Error, path: &dyn fmt::Display) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no such socket: start the helper with -k {path}, or name its socket with --socket")
        }
        io::ErrorKind::PermissionDenied => {
            "you need permission to write to the socket, and to enter the directories above it: join its group, or \
             start the helper with --socket-group or --socket-mode"
                .into()
        }
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there: the helper has ended and left its socket, or it is no socket; start it again".into()
        }
        io::ErrorKind::TimedOut => {
            "somebody listens there and does not answer: the helper hangs, is stopped, or has as many clients as it \
             takes; see its log"
                .into()
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "somebody listens there and hangs up: is it a helper? See its log".into()
        }
        _ => "see the helper's log".into(),
    }
}

fn of_answer(error: &CommandError, device: &dyn fmt::Display) -> Option<String> {
    Some(match error {
        CommandError::Client(Error::Lost(_) | Error::TimedOut | Error::Protocol(_)) => {
            format!("look before you repeat it: `pr-ctl reservation {device}` and `pr-ctl keys {device}`")
        }
        CommandError::Client(Error::Command(InvalidCommand::Cdb)) => {
            "a helper takes PERSISTENT RESERVE only, operation codes 5E (in) and 5F (out)".into()
        }
        CommandError::Conflict => format!(
            "this initiator has registered another key than the one given, or none, or the reservation is another's: \
             see `pr-ctl keys {device}` and `pr-ctl reservation {device}`"
        ),
        CommandError::CheckCondition(sense) => match sense.code()? {
            SenseCode::INVALID_OPCODE => format!(
                "the device has no persistent reservations, or the helper does not serve it: `pr-ctl probe {device}` \
                 tells which"
            ),
            code if code.key == SenseKey::UNIT_ATTENTION => {
                "the device tells this once, and has not done the command: look, and repeat it".into()
            }
            _ => return None,
        },
        _ => return None,
    })
}
