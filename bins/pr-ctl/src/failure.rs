//! Failures, their exit status, and the advice printed with them.

use std::{error, fmt, io, path::PathBuf};

use pr_client::{CommandError, Error, InvalidCommand};
use rustix::io::Errno;
use scsi_sense::{
    SenseCode, SenseKey, Status,
    pr::{InServiceAction, OutServiceAction},
};
use serde_json::{Value, json};

use crate::json::{Object, object, text};

/// The reason why a command line failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments do not form a command.
    #[error("{0}")]
    Arguments(String),
    #[error("cannot open {}{}", path.display(), if *for_writing { " for writing" } else { "" })]
    Open { path: PathBuf, for_writing: bool, node: Option<Node>, source: io::Error },
    /// No connection to the helper could be made. The error names the socket.
    #[error(transparent)]
    Unreachable(Error),
    #[error("{request} {}", device.display())]
    Command { request: Request, device: PathBuf, source: Box<CommandError> },
    #[error("standard output")]
    Output(#[from] io::Error),
}

/// The file that could not be opened.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) is_device: bool,
    /// Mode and owner.
    pub(crate) access: String,
}

/// The command that an error message names.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    In(InServiceAction),
    Out(OutServiceAction, Options),
    /// Any other command, by name.
    Other(String),
}

/// Options of a registration that not all devices support.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) aptpl: bool,
    pub(crate) all_target_ports: bool,
    pub(crate) transport_ids: bool,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(action) => action.fmt(f),
            Self::Out(action, _) => action.fmt(f),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl From<InServiceAction> for Request {
    fn from(action: InServiceAction) -> Self {
        Self::In(action)
    }
}

/// Displays an error with the chain of its causes on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Failure {
    /// Returns the exit status that `sg3_utils` has for this failure (`sg_lib.h`).
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Arguments(_) => 1,
            Self::Open { .. } => 15,
            // The command itself was done.
            Self::Output(_) => 99,
            Self::Unreachable(error) => error_exit_status(error),
            Self::Command { source, .. } => command_exit_status(source),
        }
    }

    /// Returns what the user can do, if that is known.
    pub(crate) fn advice(&self) -> Option<String> {
        match self {
            Self::Arguments(_) | Self::Output(_) => None,
            Self::Open { source, node, for_writing, .. } => open_advice(source, node.as_ref(), *for_writing),
            Self::Unreachable(error) => error_advice(error),
            Self::Command { source, device, request } => answer_advice(source, request, &device.display()),
        }
    }

    /// Returns the failure with the chain of its causes on one line.
    pub(crate) fn text(&self) -> String {
        Chain(self).to_string()
    }

    /// Returns the object that `--json` prints.
    pub(crate) fn json(&self) -> Object {
        let (status, sense) = match self {
            Self::Command { source, .. } => (status_of(source), source.sense_code()),
            _ => (None, None),
        };
        let mut members = vec![("error", text(self.text()))];
        members.extend(status.map(|status| ("status", json_status(status))));
        members.extend(sense.map(|code| ("sense", json_sense(code))));
        members.extend(self.advice().map(|advice| ("advice", text(advice))));
        members.push(("exit_status", self.exit_status().into()));
        object(members)
    }
}

/// Returns a SCSI status with number and name.
pub(crate) fn json_status(status: Status) -> Value {
    json!({ "code": status.0, "name": status.name() })
}

/// Returns sense key, ASC and ASCQ with their text.
pub(crate) fn json_sense(code: SenseCode) -> Value {
    let (key, additional) = (code.key.code(), code.additional);
    json!({ "key": key, "asc": additional.asc, "ascq": additional.ascq, "text": text(code) })
}

fn status_of(error: &CommandError) -> Option<Status> {
    match error {
        CommandError::Conflict => Some(Status::RESERVATION_CONFLICT),
        CommandError::CheckCondition(_) => Some(Status::CHECK_CONDITION),
        CommandError::Status(status) => Some(*status),
        _ => None,
    }
}

pub(crate) fn error_exit_status(error: &Error) -> u8 {
    match error {
        Error::Unreachable { .. } => 35,
        Error::TimedOut => 33,
        Error::Command(_) | Error::Buffer { .. } => 1,
        _ => 99,
    }
}

pub(crate) fn command_exit_status(error: &CommandError) -> u8 {
    match error {
        CommandError::Client(error) => error_exit_status(error),
        CommandError::Conflict => 24,
        CommandError::CheckCondition(sense) => sense.code().map_or(98, sense_exit_status),
        CommandError::Status(Status::CONDITION_MET) => 25,
        CommandError::Status(Status::BUSY) => 26,
        CommandError::Status(Status::TASK_SET_FULL) => 27,
        CommandError::Status(Status::ACA_ACTIVE) => 28,
        CommandError::Status(Status::TASK_ABORTED) => 29,
        CommandError::Data(_) | CommandError::Keys { .. } | CommandError::Registrations { .. } => 97,
        CommandError::Parameters(_) => 1,
        _ => 99,
    }
}

fn sense_exit_status(code: SenseCode) -> u8 {
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

fn open_advice(error: &io::Error, node: Option<&Node>, for_writing: bool) -> Option<String> {
    // The device cgroup gives EPERM; a mode or an access control list gives EACCES.
    let is_forbidden = error.raw_os_error() == Some(Errno::PERM.raw_os_error());
    Some(match error.kind() {
        io::ErrorKind::NotFound => "see /dev/disk/by-id for the disks that there are".into(),
        io::ErrorKind::PermissionDenied if is_forbidden && node.is_some_and(|node| node.is_device) => {
            "this is not about the device's mode, and root meets it, too: the device cgroup of this container or \
             service does not let the device through. Give the container the device (--device with podman and docker, a \
             privileged container in Kubernetes), or the service a DeviceAllow= of it"
                .into()
        }
        io::ErrorKind::PermissionDenied => {
            let access = node.map_or_else(String::new, |node| format!(" (it is {})", node.access));
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

fn error_advice(error: &Error) -> Option<String> {
    let Error::Unreachable { path, source } = error else { return None };
    path.as_ref().map(|path| connect_advice(source, &path.display()))
}

/// Returns what to do about a socket to which no connection could be made.
fn connect_advice(error: &io::Error, path: &dyn fmt::Display) -> String {
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
            "no process listens there: the helper has ended and left its socket, or it is no socket; start it again".into()
        }
        io::ErrorKind::TimedOut => {
            "a process listens there and does not answer: the helper hangs, is stopped, or has as many clients as it \
             takes; see its log"
                .into()
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "a process listens there and hangs up: is it a helper? See its log".into()
        }
        _ => "see the helper's log".into(),
    }
}

fn answer_advice(error: &CommandError, request: &Request, device: &dyn fmt::Display) -> Option<String> {
    Some(match error {
        CommandError::Client(Error::Lost(_) | Error::TimedOut | Error::Protocol(_)) => {
            format!("look before you repeat it: `pr-ctl reservation {device}` and `pr-ctl keys {device}`")
        }
        CommandError::Client(Error::Command(InvalidCommand::Cdb)) => {
            "a helper takes PERSISTENT RESERVE only, operation codes 5E (in) and 5F (out)".into()
        }
        CommandError::Client(error) => return error_advice(error),
        CommandError::Conflict => format!(
            "this initiator has registered another key than the one given, or none, or the reservation is another's: \
             see `pr-ctl keys {device}` and `pr-ctl reservation {device}`"
        ),
        CommandError::CheckCondition(sense) => return sense_advice(sense.code()?, request, device),
        CommandError::Keys { .. } => {
            format!("look at the device's firmware; its answer is `pr-ctl raw {device} 5e000000000000200000`")
        }
        CommandError::Registrations { .. } => {
            format!("look at the device's firmware; its answer is `pr-ctl raw {device} 5e030000000000200000`")
        }
        _ => return None,
    })
}

fn sense_advice(code: SenseCode, request: &Request, device: &dyn fmt::Display) -> Option<String> {
    Some(match (code, request) {
        (SenseCode::INVALID_OPCODE, _) => format!(
            "the device has no persistent reservations, or the helper does not serve it: `pr-ctl probe {device}` \
             tells which"
        ),
        (SenseCode::INVALID_FIELD_IN_CDB, Request::In(InServiceAction::ReadFullStatus)) => format!(
            "the device does not support READ FULL STATUS, as many do not: `pr-ctl keys {device}` and `pr-ctl \
             reservation {device}` show the same without the initiators"
        ),
        (SenseCode::INVALID_FIELD_IN_CDB, Request::In(InServiceAction::ReportCapabilities)) => {
            "the device does not support REPORT CAPABILITIES, and says in no other way what it can do".into()
        }
        (SenseCode::INVALID_FIELD_IN_PARAMETER_LIST, Request::Out(_, options)) => {
            let asked = options.names()?;
            format!("the device may not support {asked}: see `pr-ctl capabilities {device}`")
        }
        (code, _) if code.key == SenseKey::UNIT_ATTENTION => {
            "the device tells this once, and has not done the command: look, and repeat it".into()
        }
        _ => return None,
    })
}

impl Options {
    /// Returns the options as on the command line, each with the capability that it requires.
    fn names(self) -> Option<String> {
        let Self { aptpl, all_target_ports, transport_ids } = self;
        let names: Vec<_> = [
            (aptpl, "--aptpl (PTPL_C)"),
            (all_target_ports, "--all-target-ports (ATP_C)"),
            (transport_ids, "--transport-id (SIP_C)"),
        ]
        .into_iter()
        .filter_map(|(is_requested, name)| is_requested.then_some(name))
        .collect();
        (!names.is_empty()).then(|| names.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container's device cgroup gives EPERM, a mode gives EACCES.
    #[test]
    fn device_cgroup_differs_from_a_mode() {
        let node = |is_device| Node { is_device, access: "mode 0660, user 0, group 6".into() };
        let advice =
            |errno: Errno, is_device| open_advice(&errno.into(), Some(&node(is_device)), true).unwrap();
        let cgroup = advice(Errno::PERM, true);
        assert!(cgroup.contains("device cgroup") && !cgroup.contains("0660"), "{cgroup}");
        for mode in [advice(Errno::ACCESS, true), advice(Errno::PERM, false)] {
            assert!(
                mode.contains("(it is mode 0660, user 0, group 6)") && !mode.contains("cgroup"),
                "{mode}"
            );
        }
    }
}
