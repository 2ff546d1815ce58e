//! What happens in a server, for observers.

use std::{fmt, io, sync::Arc, time::Duration};

use pr_backend::{DeviceId, Outcome};
use pr_proto::Violation;
use scsi_sense::Cdb;

use crate::{Client, MESSAGE_DEADLINE, NexusShared};

/// Sees what happens in a server.
///
/// Called on the thread on which it happens, so an observer must not block: a slow one delays one client, or the event
/// loop. Invariant of the order: a command's [`Event::Completed`] comes before its reply is sent, so that a client that has
/// its reply finds the command counted; [`Event::Replied`] comes after it.
pub trait Observer: Send + Sync {
    /// Takes notice of an event.
    fn event(&self, event: &Event<'_>);

    /// Does periodic work. Called about once a second while any connection is active, and for as long as an observer
    /// returns true.
    fn tick(&self) -> bool {
        false
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn event(&self, event: &Event<'_>) {
        (**self).event(event);
    }

    fn tick(&self) -> bool {
        (**self).tick()
    }
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A client connected.
    Connected(Client),
    /// A device was given a command.
    Started(&'a Started<'a>),
    /// A command ended; its reply is not sent yet.
    Completed(&'a Completed<'a>),
    /// The reply of a command was sent.
    Replied(&'a Completed<'a>),
    /// A command was skipped, because its client disconnected before it started.
    Abandoned(Client, [u8; 10]),
    /// A client process registered a key through the I_T nexus of another one.
    NexusShared(&'a NexusShared<'a>),
    /// A device has not answered a command for longer than [`Limits::slow`](crate::Limits::slow).
    Slow(&'a Started<'a>, Duration),
    /// A command that was slow ended, after so long.
    SlowEnded(&'a Started<'a>, Duration),
    /// A connection ended.
    Disconnected(Client, &'a DisconnectReason),
    /// New clients wait, for this reason.
    AcceptPaused(&'a str),
    /// No more threads can be started.
    ThreadsExhausted {
        /// How many threads there are.
        threads: usize,
        /// The kernel's reason.
        error: &'a io::Error,
    },
    /// A connection was closed for an internal error (a panic).
    Panicked,
    /// The server has stopped: [`Server::run`](crate::Server::run) returns.
    Stopped,
}

/// A command that was given to a device.
#[derive(Debug)]
pub struct Started<'a> {
    /// The client that sent it.
    pub client: Client,
    /// The device that got it.
    pub device: DeviceId,
    /// The ten bytes of the command.
    pub cdb: &'a [u8; 10],
}

/// A command that ended.
#[derive(Debug)]
pub struct Completed<'a> {
    /// The client that sent it.
    pub client: Client,
    /// The device it was for; `None` if no backend serves the descriptor.
    pub device: Option<DeviceId>,
    /// The ten bytes of the command.
    pub cdb: &'a [u8; 10],
    /// How it ended.
    pub outcome: &'a Outcome,
    /// The reply's 96 bytes of sense data, zero behind their end.
    pub sense: &'a [u8],
    /// How long the device took.
    pub elapsed: Duration,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The client closed it, between two messages.
    #[error("closed by the client")]
    Client,
    /// The server stops.
    #[error("the helper stops")]
    Shutdown,
    /// The client broke the protocol.
    #[error("{0}")]
    Violation(#[from] Violation),
    /// The client stayed inside a message for too long.
    #[error("stayed in the middle of a message for {} seconds", MESSAGE_DEADLINE.as_secs())]
    Deadline,
    /// The client does not read its replies.
    #[error("does not read its replies")]
    Unread,
    /// The client sent a descriptor that this process could not receive.
    #[error(
        "sent a descriptor that could not be received: this process is at its limit of open files (RLIMIT_NOFILE), or a security module forbids it"
    )]
    DescriptorLost,
    /// The client process has too many connections.
    #[error("its process has too many connections (see --max-clients)")]
    TooManyConnections,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
    /// An internal error.
    #[error("internal error")]
    Panic,
}

impl DisconnectReason {
    /// All labels, in the order in which metrics show them.
    pub const LABELS: [&'static str; 13] = [
        "unsupported_features",
        "no_descriptor",
        "many_descriptors",
        "stray_descriptor",
        "other_opcode",
        "transfer_length",
        "truncated",
        "other_violation",
        "deadline",
        "unread",
        "descriptor_lost",
        "too_many_connections",
        "io",
    ];

    /// Returns a label for metrics if the server closed the connection for something that the client did; `None` for an
    /// end in order.
    pub fn label(&self) -> Option<&'static str> {
        Some(match self {
            Self::Client | Self::Shutdown | Self::Panic => return None,
            Self::Violation(violation) => match violation {
                Violation::UnsupportedFeatures { .. } => "unsupported_features",
                Violation::NoDescriptor => "no_descriptor",
                Violation::ManyDescriptors => "many_descriptors",
                Violation::StrayDescriptor => "stray_descriptor",
                Violation::Opcode(_) => "other_opcode",
                Violation::TransferLength(_) => "transfer_length",
                Violation::Truncated => "truncated",
                _ => "other_violation",
            },
            Self::Deadline => "deadline",
            Self::Unread => "unread",
            Self::DescriptorLost => "descriptor_lost",
            Self::TooManyConnections => "too_many_connections",
            Self::Io(_) => "io",
        })
    }
}

/// Displays a command by its name, such as `PERSISTENT RESERVE IN, READ KEYS`.
#[derive(Debug, Clone, Copy)]
pub struct CommandName<'a>(pub &'a [u8]);

impl fmt::Display for CommandName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Cdb::new(self.0) {
            Ok(cdb) => cdb.fmt(f),
            Err(_) => write!(f, "{:02X?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_listed_label() {
        let violations = [
            Violation::UnsupportedFeatures { wanted: 1, missing: 1 },
            Violation::NoDescriptor,
            Violation::ManyDescriptors,
            Violation::StrayDescriptor,
            Violation::Opcode(0x12),
            Violation::TransferLength(8193),
            Violation::Truncated,
        ];
        let others = [
            DisconnectReason::Deadline,
            DisconnectReason::Unread,
            DisconnectReason::DescriptorLost,
            DisconnectReason::TooManyConnections,
            DisconnectReason::Io(io::ErrorKind::BrokenPipe.into()),
        ];
        let reasons = violations.into_iter().map(DisconnectReason::from).chain(others);
        let labels: Vec<_> = reasons.filter_map(|reason| reason.label()).collect();
        // A violation that a later version of pr-proto adds counts as another one.
        let listed = DisconnectReason::LABELS.into_iter().filter(|label| *label != "other_violation");
        assert_eq!(labels, listed.collect::<Vec<_>>());
        for reason in [DisconnectReason::Client, DisconnectReason::Shutdown, DisconnectReason::Panic] {
            assert_eq!(reason.label(), None, "{reason}");
        }
    }
}
