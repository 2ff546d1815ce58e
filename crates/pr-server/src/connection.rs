//! One client's socket and session: receives requests, and sends replies.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use pr_backend::{Device, Executor, Outcome, Target};
use pr_proto::{HelperSession, REPLY_LEN, SENSE_LEN};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, Shutdown, sockopt,
        sockopt::Timeout,
    },
};
use scsi_sense::{SenseCode, opcode::PERSISTENT_RESERVE_OUT};

use crate::{
    Client, Completed, DisconnectReason, Event, MESSAGE_DEADLINE, Started, activity::Activity,
    locks::DeviceLocks, observers::Observers, register::LastRegister, registrations::Registrations,
};

/// How many descriptors a receive buffer has room for. A request carries one. The kernel closes any beyond these inside
/// `recvmsg` of the connection they came on, where a close that blocks delays only their sender.
const DESCRIPTORS: usize = 2;

/// Send buffer of a socket, in bytes: a few replies. A client that leaves more unread does not wait for them.
const SEND_BUFFER: usize = 32 << 10;

/// How long a thread lingers for its client's next request: long enough for a client that sends its next command when it
/// has its reply, runs a virtual machine in between, and shares its processor with hundreds of others.
const LINGER: Duration = Duration::from_millis(50);

/// Age at which a change may have been given up by its client before it was read.
const STALE: Duration = Duration::from_secs(1);

/// One client's connection.
pub(crate) struct Connection {
    /// Shared only for the moment of an upgrade: see [`Connection::socket`].
    socket: Arc<OwnedFd>,
    activity: Arc<Activity>,
    /// Index of the listening socket by which it came.
    listener: usize,
    session: HelperSession<OwnedFd>,
    /// When the message at hand began, if one is at hand.
    began: Option<Instant>,
    /// When the last reply was sent.
    answered: Option<Instant>,
    last_register: Option<LastRegister>,
    /// Descriptors that came with the bytes at hand. Empty between reads; kept for its memory.
    received: Vec<OwnedFd>,
}

/// What a read found.
#[derive(Debug)]
pub(crate) enum Read {
    /// Nothing more has arrived.
    Blocked,
    /// A request waits for its answer.
    Request,
    /// The connection is at its end. These descriptors came with what was wrong; closing them may block.
    Closed(DisconnectReason, Vec<OwnedFd>),
}

/// What is needed to answer a request.
pub(crate) struct Context<'a> {
    pub(crate) executor: &'a Executor,
    pub(crate) locks: &'a DeviceLocks,
    pub(crate) observers: &'a Observers,
    pub(crate) registrations: &'a Registrations,
}

impl Connection {
    /// Takes a new client's socket and sends the greeting. Never blocks; gives the socket back if it cannot be set up,
    /// since closing it may block.
    pub(crate) fn new(
        socket: OwnedFd,
        client: Client,
        listener: usize,
    ) -> Result<Self, (OwnedFd, io::Error)> {
        let session = HelperSession::new();
        if let Err(error) = set_up(socket.as_fd()) {
            return Err((socket, error.into()));
        }
        // A client that is gone already is noticed at the first read, on a thread that may close its socket.
        let _ = rustix::net::send(&socket, &session.greeting(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        let activity = Arc::new(Activity::new(client));
        let socket = Arc::new(socket);
        Ok(Self {
            socket,
            activity,
            listener,
            session,
            began: None,
            answered: None,
            last_register: None,
            received: Vec::new(),
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns a handle by which the connection can be shut down from another thread. It does not keep the socket open.
    pub(crate) fn socket(&self) -> Weak<OwnedFd> {
        Arc::downgrade(&self.socket)
    }

    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Returns whether a message has begun and is not whole.
    pub(crate) fn is_inside_message(&self) -> bool {
        self.began.is_some()
    }

    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now.saturating_duration_since(began) >= MESSAGE_DEADLINE)
    }

    /// Reads until a request is whole or nothing more has arrived; lingers for the latter if `linger` is set.
    pub(crate) fn read(&mut self, linger: bool) -> Read {
        // Once for the begin of a message and once for its end: a client that sends byte by byte keeps no thread.
        let mut waits = if linger { 2_u8 } else { 0 };
        loop {
            let flags = if waits > 0 { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
            waits = waits.saturating_sub(1);
            let (n, is_truncated) = match self.receive(flags) {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Read::Blocked,
                Err(Errno::CONNRESET) => return self.closed(self.end_of_stream()),
                Err(error) => return self.closed(DisconnectReason::Io(error.into())),
            };
            // With room for two descriptors, truncation with fewer means that one could not be installed.
            if is_truncated && self.received.len() < DESCRIPTORS {
                return self.closed(DisconnectReason::DescriptorLost);
            }
            if n == 0 {
                return self.closed(self.end_of_stream());
            }
            if let Err(violation) = self.session.received(n, &mut self.received) {
                return self.closed(violation.into());
            }
            if !self.session.is_inside_message() {
                self.began = None;
            } else if self.began.is_none() {
                self.began = Some(Instant::now());
            }
            if self.session.request().is_some() {
                return Read::Request;
            }
        }
    }

    fn end_of_stream(&self) -> DisconnectReason {
        self.session.end_of_stream().map_or_else(Into::into, |()| DisconnectReason::Client)
    }

    fn closed(&mut self, reason: DisconnectReason) -> Read {
        Read::Closed(reason, std::mem::take(&mut self.received))
    }

    fn receive(&mut self, flags: RecvFlags) -> Result<(usize, bool), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [IoSliceMut::new(self.session.buffer())];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&self.socket, &mut buffer, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                self.received.extend(came);
            }
        }
        Ok((received.bytes, received.flags.contains(ReturnFlags::CTRUNC)))
    }

    /// Runs the request that waits and sends the reply. An error ends the connection. The request's descriptor is returned
    /// if its close can block.
    ///
    /// A change is skipped if its client is gone: the client has told the guest that it failed, and a PREEMPT that takes
    /// effect minutes later fences the wrong node.
    pub(crate) fn answer(
        &mut self,
        context: &Context<'_>,
    ) -> (Result<(), DisconnectReason>, Option<OwnedFd>) {
        let Context { executor, locks, observers, registrations } = *context;
        let (client, listener) = (self.activity.client, self.listener);
        let Some(request) = self.session.request() else { return (Ok(()), None) };
        // A request that waits has a descriptor.
        let Some(descriptor) = request.descriptor() else { return (Ok(()), None) };
        let claim = executor.claim(descriptor.as_fd());
        let cdb = request.cdb();
        let device = claim.as_ref().ok();
        let lock = device.and_then(Device::lock).map(|device| locks.acquire(device));
        let waited = lock.as_ref().is_some_and(|lock| lock.waited);
        let is_change = cdb.first() == Some(&PERSISTENT_RESERVE_OUT);
        // A request that follows a reply at once cannot be stale.
        let may_be_stale = is_change && self.answered.is_none_or(|answered| answered.elapsed() >= STALE);
        if device.is_some() && (waited || may_be_stale) && is_abandoned(self.socket.as_fd()) {
            observers.notify(&Event::Abandoned(client, cdb));
            return (Err(DisconnectReason::Client), None);
        }

        let id = device.map(Device::id);
        let begun = Instant::now();
        self.activity.begin(id, cdb, begun);
        if let Some(device) = id {
            observers.notify(&Event::Started(&Started { client, device, cdb: &cdb }));
        }
        let mut outcome = Outcome::Rejected(SenseCode::IO_PROCESS_TERMINATED);
        let mut unclosed = None;
        let reply = request.answer(|mut command, descriptor| {
            outcome = match &claim {
                Ok(device) => {
                    let target = Target { descriptor: descriptor.as_fd(), device, listener };
                    if is_change {
                        let last = &mut self.last_register;
                        registrations.execute(executor, observers, client, target, &mut command, last)
                    } else {
                        executor.execute(target, &mut command)
                    }
                }
                Err(not_served) => not_served.clone().into(),
            };
            // A disk's descriptor is closed before the reply: a client that has its reply finds nothing of its own held
            // here. A close that can block on something else comes after it.
            if device.is_some_and(|device| !device.close_may_block()) {
                drop(descriptor);
            } else {
                unclosed = Some(descriptor);
            }
            outcome.completion(command.sense)
        });
        drop(lock);
        let ended = Instant::now();
        self.activity.end(|event| observers.notify(event));
        let completed = Completed {
            client,
            device: id,
            cdb: &cdb,
            outcome: &outcome,
            sense: reply.get(REPLY_LEN - SENSE_LEN..REPLY_LEN).unwrap_or_default(),
            elapsed: ended.saturating_duration_since(begun),
        };
        // Before the reply: a client that has its reply must find the command counted and no longer in flight.
        observers.notify(&Event::Completed(&completed));
        let sent = rustix::net::send(&self.socket, reply, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        observers.notify(&Event::Replied(&completed));
        self.answered = Some(ended);
        let result = match sent {
            Ok(n) if n == reply.len() => Ok(()),
            Ok(_) | Err(Errno::AGAIN) => Err(DisconnectReason::Unread),
            // The client did not wait; the next read says that it is gone.
            Err(Errno::PIPE | Errno::CONNRESET) => {
                self.answered = None;
                Ok(())
            }
            Err(error) => Err(DisconnectReason::Io(error.into())),
        };
        (result, unclosed)
    }

    /// Ends the connection for its client without closing anything here. Never blocks.
    pub(crate) fn shut_down(&self) {
        shut_down(self.socket.as_fd());
    }
}

/// Shuts a socket down in both directions.
pub(crate) fn shut_down(socket: BorrowedFd<'_>) {
    // A client that is gone needs no end.
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}

fn set_up(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    // Bounds what the kernel holds for a client, and is large enough that no reply is ever sent in part.
    sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER)?;
    // A byte out of band is read like any other. Else the kernel drops it in the middle of a read, and with it a descriptor
    // whose close may block.
    sockopt::set_socket_oobinline(socket, true)?;
    sockopt::set_socket_timeout(socket, Timeout::Recv, Some(LINGER))
}

/// Returns whether the client has closed its socket: then no client waits for an answer. (A client that has only said that
/// it sends no more still reads.)
fn is_abandoned(socket: BorrowedFd<'_>) -> bool {
    let mut events = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    let gone = PollFlags::HUP | PollFlags::ERR;
    rustix::event::poll(&mut events, Some(&Timespec::default())).is_ok()
        && events.iter().any(|event| event.revents().intersects(gone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Peer;

    #[test]
    fn socket_without_set_up_comes_back() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let client = Client { connection: 1, peer: Peer { pid: 1, uid: 2, process: None } };
        let Err((pipe, error)) = Connection::new(reader, client, 0) else { panic!("a pipe is no socket") };
        assert_eq!(error.raw_os_error(), Some(Errno::NOTSOCK.raw_os_error()));
        assert!(rustix::fs::fstat(&pipe).is_ok(), "its close is the caller's");
    }
}
