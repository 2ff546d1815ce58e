//! All connections, each owned by the event loop while it is idle and by a thread while it is active.
//!
//! The event loop polls a connection only while it owns it, so a request to a connection whose thread lingers wakes that
//! thread alone. Giving a connection back registers it anew (`EPOLL_CTL_ADD`). The kernel then checks whether bytes have
//! arrived already, so no request is overlooked.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use slab::Slab;

use crate::{
    activity::Activity,
    connection::{Connection, shut_down},
    peer::ClientProcess,
};

/// The connections of a server.
pub(crate) struct Connections {
    slots: Mutex<Slab<Arc<Slot>>>,
    /// Connections that threads own.
    active: AtomicUsize,
    registry: Registry,
    /// The token of a connection is this and its key.
    first_token: usize,
}

/// A connection that was taken from the event loop, and its place.
pub(crate) type Taken = (Arc<Slot>, Box<Connection>);

/// The place of one connection.
pub(crate) struct Slot {
    key: usize,
    /// By which the connection can be shut down while a thread owns it.
    socket: Weak<OwnedFd>,
    activity: Arc<Activity>,
    owner: Mutex<Owner>,
}

/// The owner of a connection.
enum Owner {
    EventLoop(Box<Connection>),
    Thread,
}

impl Slot {
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(crate) fn process(&self) -> ClientProcess {
        self.activity.client.into()
    }

    /// Shuts the connection down, if the event loop owns it.
    pub(crate) fn shut_down_if_idle(&self) {
        if let Owner::EventLoop(connection) = &*self.owner() {
            connection.shut_down();
        }
    }

    fn owner(&self) -> MutexGuard<'_, Owner> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    pub(crate) fn new(registry: Registry, first_token: usize) -> Self {
        Self { slots: Mutex::default(), active: AtomicUsize::new(0), registry, first_token }
    }

    fn slots(&self) -> MutexGuard<'_, Slab<Arc<Slot>>> {
        // No operation under this lock leaves the table half changed.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots().len()
    }

    /// Returns how many connections threads own.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// Returns all slots.
    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.slots().iter().map(|(_, slot)| Arc::clone(slot)).collect()
    }

    /// Adds a connection, owned by the caller; call [`return_to_event_loop`](Self::return_to_event_loop) to hand it over.
    pub(crate) fn insert(&self, connection: &Connection) -> Arc<Slot> {
        let mut slots = self.slots();
        let entry = slots.vacant_entry();
        let slot = Arc::new(Slot {
            key: entry.key(),
            socket: connection.socket(),
            activity: connection.activity(),
            owner: Mutex::new(Owner::Thread),
        });
        self.active.fetch_add(1, Ordering::SeqCst);
        entry.insert(Arc::clone(&slot));
        slot
    }

    /// Removes a connection that the caller owned and has closed.
    pub(crate) fn remove(&self, slot: &Slot) {
        self.slots().try_remove(slot.key);
        self.active.fetch_sub(1, Ordering::SeqCst);
    }

    /// For the event loop: takes the connection with this key for a thread, unless a thread owns it.
    pub(crate) fn take(&self, key: usize) -> Option<Taken> {
        let slot = self.slots().get(key).cloned()?;
        let connection = self.take_from(&slot)?;
        Some((slot, connection))
    }

    /// For the event loop: takes every connection that has been inside one message for too long. Says also whether
    /// another connection is inside a message, and must be looked at again.
    pub(crate) fn take_overdue(&self) -> (Vec<Taken>, bool) {
        let (now, mut overdue, mut is_any_inside) = (Instant::now(), Vec::new(), false);
        for slot in self.all() {
            let is_overdue = match &*slot.owner() {
                Owner::EventLoop(connection) if connection.is_overdue(now) => true,
                Owner::EventLoop(connection) => {
                    is_any_inside |= connection.is_inside_message();
                    false
                }
                // The thread looks itself before it gives the connection back.
                Owner::Thread => false,
            };
            // Only the event loop takes, and it is here.
            if let Some(connection) = is_overdue.then(|| self.take_from(&slot)).flatten() {
                overdue.push((slot, connection));
            }
        }
        (overdue, is_any_inside)
    }

    fn take_from(&self, slot: &Slot) -> Option<Box<Connection>> {
        match std::mem::replace(&mut *slot.owner(), Owner::Thread) {
            Owner::EventLoop(connection) => {
                self.active.fetch_add(1, Ordering::SeqCst);
                // If it cannot be deregistered, it cannot be registered again, and is closed then.
                let _ = self.registry.deregister(&mut SourceFd(&connection.as_fd().as_raw_fd()));
                Some(connection)
            }
            Owner::Thread => None,
        }
    }

    /// Hands a connection over to the event loop, which is told if something has arrived already. Gives it back if it
    /// cannot be polled.
    pub(crate) fn return_to_event_loop(
        &self,
        slot: &Slot,
        connection: Box<Connection>,
    ) -> Result<(), (Box<Connection>, io::Error)> {
        // The event loop may be told at once, and waits for this lock then.
        let mut owner = slot.owner();
        let token = Token(slot.key.saturating_add(self.first_token));
        let socket = connection.as_fd().as_raw_fd();
        match self.registry.register(&mut SourceFd(&socket), token, Interest::READABLE) {
            Ok(()) => {
                *owner = Owner::EventLoop(connection);
                drop(owner);
                self.active.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
            Err(error) => Err((connection, error)),
        }
    }

    /// Shuts down every connection that the event loop owns: its client is told at once and can connect to the next
    /// helper.
    pub(crate) fn shut_down_idle(&self) {
        for slot in self.all() {
            slot.shut_down_if_idle();
        }
    }

    /// Closes every connection that the event loop owns, which may block.
    pub(crate) fn close_idle(&self) {
        for slot in self.all() {
            if self.take_from(&slot).is_some() {
                self.remove(&slot);
            }
        }
    }

    /// Shuts down every connection, also those whose commands are in flight. Returns handles of their sockets: dropping
    /// the last handle closes a socket, which may block.
    pub(crate) fn shut_down_all(&self) -> Vec<Arc<OwnedFd>> {
        let sockets: Vec<_> = self.all().iter().filter_map(|slot| slot.socket.upgrade()).collect();
        for socket in &sockets {
            shut_down(socket.as_fd());
        }
        sockets
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::net::UnixStream, time::Duration};

    use mio::{Events, Poll};

    use super::*;
    use crate::{Client, Peer};

    /// A connection that the event loop owns, and its other end.
    fn idle() -> (Connections, Arc<Slot>, UnixStream, Poll) {
        let poll = Poll::new().unwrap();
        let connections = Connections::new(poll.registry().try_clone().unwrap(), 10);
        let (socket, stream) = UnixStream::pair().unwrap();
        let client = Client { connection: 1, peer: Peer { pid: 1, uid: 2, process: None } };
        let Ok(connection) = Connection::new(socket.into(), client, 0) else { panic!("a socket") };
        let slot = connections.insert(&connection);
        assert_eq!((connections.len(), connections.active()), (1, 1));
        assert!(connections.return_to_event_loop(&slot, Box::new(connection)).is_ok());
        (connections, slot, stream, poll)
    }

    /// The tokens that are readable now.
    fn readable(poll: &mut Poll) -> Vec<usize> {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().map(|event| event.token().0).collect()
    }

    #[test]
    fn bytes_that_arrive_during_ownership_are_seen() {
        let (connections, slot, mut client, mut poll) = idle();
        assert_eq!(readable(&mut poll), []);
        client.write_all(&[0]).unwrap();
        assert_eq!(readable(&mut poll), [10]);
        let (_, connection) = connections.take(0).expect("idle");
        assert!(connections.take(0).is_none(), "it has one owner");
        client.write_all(&[0]).unwrap();
        assert_eq!(readable(&mut poll), [], "the thread's affair");
        assert!(connections.return_to_event_loop(&slot, connection).is_ok());
        assert_eq!(readable(&mut poll), [10], "not read yet");
        assert_eq!(readable(&mut poll), [], "told once");
        assert!(connections.take(0).is_some());
        assert_eq!(connections.active(), 1);
    }

    #[test]
    fn connection_that_cannot_be_polled_comes_back() {
        let (connections, slot, _client, _poll) = idle();
        let (_, connection) = connections.take(0).unwrap();
        let socket = connection.as_fd().as_raw_fd();
        connections.registry.register(&mut SourceFd(&socket), Token(10), Interest::READABLE).unwrap();
        let Err((connection, error)) = connections.return_to_event_loop(&slot, connection) else {
            panic!("it is registered already")
        };
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        connections.registry.deregister(&mut SourceFd(&socket)).unwrap();
        assert!(connections.return_to_event_loop(&slot, connection).is_ok());
    }
}
