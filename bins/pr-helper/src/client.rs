//! A client's connection on its way between the main loop, which knows when there is something to read, and the
//! threads, which read it and do what it says.
//!
//! A connection is owned by one of the two at a time. The loop watches for what comes only while it has the connection,
//! and forgets it when a thread takes over. Who gives it back has it watched anew, upon which the kernel looks whether
//! something is there already: so nothing that comes meanwhile is overlooked, and a thread that stays with its client
//! (see [`crate::pool`]) is the only one that a new command wakes.

mod descriptors;
mod job;

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use slab::Slab;

use self::descriptors::{Count, Sender, Share};
pub(crate) use self::job::Job;
use crate::{
    activity::Activity,
    backend::Backends,
    connection::{self, Connection, Fault},
    device::Unavailable,
    files::Allowance,
    metrics::Metrics,
    trace::Tracer,
};

/// What loop and threads share.
pub(crate) struct Clients {
    slots: Mutex<Slab<Arc<Slot>>>,
    /// How many commands are there and not yet answered.
    busy: AtomicUsize,
    /// No new requests: finish those that are there.
    stopping: AtomicBool,
    /// The loop looks for overdue clients and slow commands.
    watching: AtomicBool,
    descriptors: Arc<Count>,
    waker: mio::Waker,
    watch_list: WatchList,
    backends: Backends,
    metrics: Metrics,
    tracer: Tracer,
}

/// The loop's list of what it watches, as far as it is about clients.
pub(crate) struct WatchList {
    pub(crate) registry: Registry,
    /// The token of a client is its key and this.
    pub(crate) first: usize,
}

impl WatchList {
    fn add(&self, key: usize, connection: &Connection) -> io::Result<()> {
        let socket = connection.socket().as_fd().as_raw_fd();
        self.registry.register(
            &mut SourceFd(&socket),
            Token(key.saturating_add(self.first)),
            Interest::READABLE,
        )
    }

    fn remove(&self, connection: &Connection) -> io::Result<()> {
        let socket = connection.socket().as_fd().as_raw_fd();
        self.registry.deregister(&mut SourceFd(&socket))
    }
}

/// Where a connection is kept while nobody needs it.
pub(crate) struct Slot {
    key: usize,
    /// By which the connection can be ended while a thread has it.
    socket: Weak<OwnedFd>,
    /// The connection's, to be looked at while a thread has it.
    activity: Arc<Activity>,
    /// A thread may wait for its next command.
    threads_may_stay: bool,
    turn: Mutex<Turn>,
}

/// Whose turn it is.
enum Turn {
    /// The loop's, which watches it.
    Idle(Box<Connection>),
    /// A thread's.
    Busy,
}

impl Clients {
    pub(crate) fn new(
        waker: mio::Waker,
        watch_list: WatchList,
        backends: Backends,
        tracer: Tracer,
        allowance: &Allowance,
    ) -> Self {
        Self {
            slots: Mutex::new(Slab::new()),
            busy: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            watching: AtomicBool::new(false),
            descriptors: Arc::new(Count::new(allowance)),
            waker,
            watch_list,
            backends,
            metrics: Metrics::new(),
            tracer,
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slab<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many clients are connected.
    pub(crate) fn len(&self) -> usize {
        self.descriptors.clients()
    }

    /// What each client that is connected has us do.
    pub(crate) fn activities(&self) -> Vec<Arc<Activity>> {
        self.slots().iter().map(|(_, slot)| Arc::clone(&slot.activity)).collect()
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether multipath maps are served.
    pub(crate) fn multipath(&self) -> Result<(), Unavailable> {
        self.backends.multipath()
    }

    /// How many commands are there at the moment and not yet answered.
    pub(crate) fn busy(&self) -> usize {
        self.busy.load(Ordering::SeqCst)
    }

    /// Has the threads finish what they have, and the loop woken when each is done.
    ///
    /// Clients that wait for nothing are told at once that the end has come: they can connect to the next helper.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for (_, slot) in self.slots().iter() {
            if matches!(&*slot.turn(), Turn::Idle(_)) {
                connection::end(&slot.socket);
            }
        }
    }

    /// Tells all clients that the end has come, also those whose commands are in flight.
    pub(crate) fn end(&self) {
        for (_, slot) in self.slots().iter() {
            connection::end_at_last(&slot.socket);
        }
    }

    /// A request is in flight until this is dropped.
    fn begin(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Busy(self)
    }

    /// One request less is in flight.
    fn settle(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
        if self.stopping.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Keeps a new connection, and has it watched. If that fails, or its process has too many, it is returned, as work, to be
    /// closed.
    pub(crate) fn insert(self: &Arc<Self>, connection: Connection) -> Option<Job> {
        let mut slots = self.slots();
        let entry = slots.vacant_entry();
        let share = self.descriptors.connected(Sender::new(connection.peer(), entry.key()));
        let threads_may_stay = share == Share::Kept { threads_may_stay: true };
        let slot = Arc::new(Slot::new(entry.key(), &connection, threads_may_stay));
        entry.insert(Arc::clone(&slot));
        drop(slots);
        self.metrics.accepted();
        if let Share::Exceeded { first } = share {
            self.metrics.dropped(&Fault::TooMany);
            if first {
                log::warn!("{}: {}; closing each that is more", connection.peer(), Fault::TooMany);
            }
            return Some(Job::discard(self, slot, Box::new(connection), None));
        }
        let (connection, error) = slot.give_back(Box::new(connection), &self.watch_list).err()?;
        Some(Job::discard(self, slot, connection, Some(Fault::Io(error))))
    }

    /// There is something to read from the connection `key`: returns it as work.
    pub(crate) fn readable(self: &Arc<Self>, key: usize) -> Option<Job> {
        let slot = self.slots().get(key).cloned()?;
        let connection = slot.take(&self.watch_list)?;
        Some(Job::new(self, slot, connection))
    }

    /// Returns, as work, the connections that have been inside one message for too long. Says also whether others may
    /// come to that, and the loop has to ask again.
    pub(crate) fn overdue(self: &Arc<Self>) -> (Vec<Job>, bool) {
        self.watching.store(false, Ordering::SeqCst);
        let now = Instant::now();
        let mut overdue = Vec::new();
        for (_, slot) in self.slots().iter() {
            match slot.deadline(now) {
                // Only the loop takes, and it is here.
                Deadline::Over => {
                    overdue.extend(slot.take(&self.watch_list).map(|taken| (Arc::clone(slot), taken)));
                }
                Deadline::Ahead => self.watching.store(true, Ordering::SeqCst),
                Deadline::None => {}
            }
        }
        let jobs = overdue
            .into_iter()
            .map(|(slot, connection)| Job::discard(self, slot, connection, Some(Fault::Deadline)))
            .collect();
        (jobs, self.watching.load(Ordering::SeqCst))
    }

    /// Has the loop look for overdue clients, slow commands and threads that are missing, if it does not already.
    pub(crate) fn watch(&self) {
        if !self.watching.load(Ordering::SeqCst) && !self.watching.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("the main loop cannot be woken: {error}");
        }
    }
}

/// A request in flight.
struct Busy<'a>(&'a Clients);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.settle();
    }
}

/// What a look at a connection's deadline brings.
enum Deadline {
    Over,
    Ahead,
    None,
}

impl Slot {
    /// Whose turn it is is for the one to say who has the connection.
    fn new(key: usize, connection: &Connection, threads_may_stay: bool) -> Self {
        Self {
            key,
            socket: connection.handle(),
            activity: connection.activity(),
            threads_may_stay,
            turn: Mutex::new(Turn::Busy),
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the loop: takes the connection for a thread, unless one has it.
    fn take(&self, watch_list: &WatchList) -> Option<Box<Connection>> {
        match std::mem::replace(&mut *self.turn(), Turn::Busy) {
            Turn::Idle(connection) => {
                // If it cannot be taken off the list, it cannot be put there again, and is closed then.
                let _ = watch_list.remove(&connection);
                Some(connection)
            }
            Turn::Busy => None,
        }
    }

    /// For the loop: whether it has the connection, and the client has begun a message.
    fn deadline(&self, now: Instant) -> Deadline {
        match &*self.turn() {
            Turn::Idle(connection) if connection.is_overdue(now) => Deadline::Over,
            Turn::Idle(connection) if connection.is_inside_message() => Deadline::Ahead,
            // A thread that has it looks itself before it gives it back.
            Turn::Idle(_) | Turn::Busy => Deadline::None,
        }
    }

    /// For whoever has the connection: leaves it to the loop, which is told if there is something to read already.
    fn give_back(
        &self,
        connection: Box<Connection>,
        watch_list: &WatchList,
    ) -> Result<(), (Box<Connection>, io::Error)> {
        // The loop may be told at once, and waits for this lock then.
        let mut turn = self.turn();
        match watch_list.add(self.key, &connection) {
            Ok(()) => {
                *turn = Turn::Idle(connection);
                Ok(())
            }
            Err(error) => Err((connection, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::net::UnixStream, time::Duration};

    use mio::{Events, Poll};

    use super::*;

    /// A connection as the loop has it, its other end, and the loop's eyes.
    fn idle() -> (Slot, WatchList, UnixStream, Poll) {
        let poll = Poll::new().unwrap();
        let watch_list = WatchList { registry: poll.registry().try_clone().unwrap(), first: 3 };
        let (socket, client) = UnixStream::pair().unwrap();
        let connection = Connection::new(socket.into(), 0).unwrap();
        let slot = Slot::new(7, &connection, true);
        assert!(slot.give_back(Box::new(connection), &watch_list).is_ok());
        (slot, watch_list, client, poll)
    }

    /// What the loop is told now.
    fn told(poll: &mut Poll) -> Vec<usize> {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().map(|event| event.token().0).collect()
    }

    #[test]
    fn what_comes_while_a_thread_has_the_connection_is_told_to_the_loop_when_it_gets_it_back() {
        let (slot, watch_list, mut client, mut poll) = idle();
        assert_eq!(told(&mut poll), []);
        client.write_all(&[0]).unwrap();
        assert_eq!(told(&mut poll), [10]);
        let connection = slot.take(&watch_list).expect("idle");
        assert!(slot.take(&watch_list).is_none(), "it has one owner");
        client.write_all(&[0]).unwrap();
        assert_eq!(told(&mut poll), [], "the thread's affair");
        assert!(slot.give_back(connection, &watch_list).is_ok());
        assert_eq!(told(&mut poll), [10], "nobody has read it");
        assert_eq!(told(&mut poll), [], "told once");
        assert!(slot.take(&watch_list).is_some(), "and the loop has it again");
    }

    #[test]
    fn a_connection_that_cannot_be_watched_is_kept_by_whoever_has_it() {
        let (slot, watch_list, _client, _poll) = idle();
        let connection = slot.take(&watch_list).unwrap();
        watch_list.add(7, &connection).unwrap();
        let (connection, error) = slot.give_back(connection, &watch_list).expect_err("it is watched already");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        watch_list.remove(&connection).unwrap();
        assert!(slot.give_back(connection, &watch_list).is_ok());
    }
}
