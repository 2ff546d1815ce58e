//! A client's connection on its way between the main loop, which knows when there is something to read, and the
//! threads, which read it and do what it says.
//!
//! A connection is owned by one of the two at a time. While a thread has it, the loop can only leave a note that more
//! has come; the thread looks at the note before it gives the connection back, under the lock that the note is left
//! under. So no event is lost, and giving back wakes nobody.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use slab::Slab;

use crate::{
    backend::Backends,
    connection::{Connection, Fault, Read, Scratch},
    device::{Device, DeviceId, Refusal},
    trace::Tracer,
    workers::{Step, Work},
};

/// What loop and threads share.
pub(crate) struct Clients {
    slots: Mutex<Slab<Arc<Slot>>>,
    /// How many connections the threads have.
    busy: AtomicUsize,
    /// No new requests: finish those that are there.
    stopping: AtomicBool,
    /// The loop looks for overdue clients.
    watching: AtomicBool,
    waker: mio::Waker,
    backends: Backends,
    tracer: Tracer,
}

/// Where a connection is kept while nobody needs it.
pub(crate) struct Slot {
    key: usize,
    turn: Mutex<Turn>,
}

/// Whose turn it is.
enum Turn {
    /// The loop's: the next event is what the connection waits for.
    Idle(Box<Connection>),
    /// A thread's. `more`: there was an event since.
    Busy { more: bool },
}

impl Clients {
    pub(crate) fn new(waker: mio::Waker, backends: Backends, tracer: Tracer) -> Self {
        Self {
            slots: Mutex::new(Slab::new()),
            busy: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            watching: AtomicBool::new(false),
            waker,
            backends,
            tracer,
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slab<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many clients are connected.
    pub(crate) fn len(&self) -> usize {
        self.slots().len()
    }

    /// How many connections the threads have at the moment.
    pub(crate) fn busy(&self) -> usize {
        self.busy.load(Ordering::Acquire)
    }

    /// Has the threads finish what they have, and the loop woken when each is done.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Keeps a new connection. `register` is told its key, and what it fails with is returned.
    pub(crate) fn insert<E>(
        &self,
        connection: Connection,
        register: impl FnOnce(&Connection, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut slots = self.slots();
        let entry = slots.vacant_entry();
        let key = entry.key();
        register(&connection, key)?;
        entry.insert(Arc::new(Slot { key, turn: Mutex::new(Turn::Idle(Box::new(connection))) }));
        Ok(())
    }

    /// There is something to read from the connection `key`: returns it as work, or leaves the thread that has it a note.
    pub(crate) fn readable(self: &Arc<Self>, key: usize) -> Option<Job> {
        let slot = self.slots().get(key).cloned()?;
        let connection = slot.take()?;
        Some(Job::new(self, slot, connection, Stage::Read))
    }

    /// Returns, as work, the connections that have been inside one message for too long. Says also whether others may
    /// come to that, and the loop has to ask again.
    pub(crate) fn overdue(self: &Arc<Self>) -> (Vec<Job>, bool) {
        self.watching.store(false, Ordering::SeqCst);
        let now = Instant::now();
        let mut overdue = Vec::new();
        for (_, slot) in self.slots().iter() {
            match slot.take_if(|connection| connection.is_overdue(now)) {
                Expiry::Taken(connection) => overdue.push((Arc::clone(slot), connection)),
                Expiry::Later => self.watching.store(true, Ordering::SeqCst),
                Expiry::Never => {}
            }
        }
        let jobs = overdue
            .into_iter()
            .map(|(slot, connection)| {
                Job::new(self, slot, connection, Stage::Discard(Fault::Deadline, Vec::new()))
            })
            .collect();
        (jobs, self.watching.load(Ordering::SeqCst))
    }

    /// Has the loop look for overdue clients, if it does not already.
    fn watch(&self) {
        if !self.watching.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("the main loop cannot be woken: {error}");
        }
    }
}

/// What a look at a connection's deadline brings.
enum Expiry {
    Taken(Box<Connection>),
    Later,
    Never,
}

impl Slot {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the loop: takes the connection, or leaves a note.
    fn take(&self) -> Option<Box<Connection>> {
        let mut turn = self.turn();
        let more = matches!(&*turn, Turn::Busy { .. });
        match std::mem::replace(&mut *turn, Turn::Busy { more }) {
            Turn::Busy { .. } => None,
            Turn::Idle(connection) => Some(connection),
        }
    }

    /// For the loop: takes an idle connection that is overdue.
    fn take_if(&self, is_overdue: impl FnOnce(&Connection) -> bool) -> Expiry {
        let mut turn = self.turn();
        match &*turn {
            Turn::Idle(connection) if is_overdue(connection) => {}
            Turn::Idle(connection) if connection.is_inside_message() => return Expiry::Later,
            // A thread that has it looks itself before it gives it back.
            Turn::Idle(_) | Turn::Busy { .. } => return Expiry::Never,
        }
        match std::mem::replace(&mut *turn, Turn::Busy { more: false }) {
            Turn::Idle(connection) => Expiry::Taken(connection),
            Turn::Busy { .. } => Expiry::Never,
        }
    }

    /// For a thread: gives the connection back, unless there is more to read.
    fn give_back(&self, connection: Box<Connection>) -> Option<Box<Connection>> {
        let mut turn = self.turn();
        if let Turn::Busy { more: true } = &*turn {
            *turn = Turn::Busy { more: false };
            return Some(connection);
        }
        *turn = Turn::Idle(connection);
        None
    }
}

/// A connection in a thread's hands. Dropped, it closes the connection, unless that was given back.
pub(crate) struct Job {
    clients: Arc<Clients>,
    slot: Arc<Slot>,
    connection: Option<Box<Connection>>,
    stage: Stage,
}

/// What is to be done with a connection.
enum Stage {
    Read,
    /// Run the request that waits.
    Answer(Result<Device, Refusal>),
    /// Close it, and descriptors that should not have come.
    Discard(Fault, Vec<OwnedFd>),
}

/// What a thread may block on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Device(DeviceId),
    /// The close of a descriptor that is not of a device that we serve: a FUSE server may make it last.
    Foreign,
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(id) => id.fmt(f),
            Self::Foreign => f.write_str("descriptors that are not of disks"),
        }
    }
}

impl Job {
    fn new(clients: &Arc<Clients>, slot: Arc<Slot>, connection: Box<Connection>, stage: Stage) -> Self {
        clients.busy.fetch_add(1, Ordering::AcqRel);
        Self { clients: Arc::clone(clients), slot, connection: Some(connection), stage }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            log::debug!("{}: connection closed", connection.peer());
            drop(connection);
            self.clients.slots().try_remove(self.slot.key);
        }
        self.clients.busy.fetch_sub(1, Ordering::AcqRel);
        if self.clients.stopping.load(Ordering::Acquire) {
            self.clients.wake();
        }
    }
}

impl Work for Job {
    type Lane = Lane;
    type Scratch = Scratch;

    fn prepare(mut self, scratch: &mut Scratch) -> Step<Self> {
        loop {
            let Some(connection) = &mut self.connection else { return Step::Done };
            if let Stage::Discard(..) = self.stage {
                return Step::Block(Lane::Foreign, self);
            }
            if self.clients.stopping.load(Ordering::Acquire) {
                return Step::Done;
            }
            match connection.read(scratch) {
                Read::Request => {
                    let target = connection.target();
                    self.stage = Stage::Answer(target);
                    let lane = target.map_or(Lane::Foreign, |device| Lane::Device(device.id));
                    return Step::Block(lane, self);
                }
                Read::Blocked => {
                    let inside = connection.is_inside_message();
                    self.connection =
                        self.connection.take().and_then(|connection| self.slot.give_back(connection));
                    if self.connection.is_none() {
                        if inside {
                            self.clients.watch();
                        }
                        return Step::Done;
                    }
                }
                Read::Ended => return Step::Done,
                Read::Failed(fault) => self.stage = Stage::Discard(fault, scratch.take()),
            }
        }
    }

    fn run(mut self, waited: bool, _: &mut Scratch) -> Option<Self> {
        let clients = Arc::clone(&self.clients);
        let connection = self.connection.as_mut()?;
        match std::mem::replace(&mut self.stage, Stage::Read) {
            Stage::Read => Some(self),
            Stage::Answer(target) => {
                if waited && connection.is_abandoned() {
                    // Its client has told the guest that the command failed. To run it now would surprise everybody.
                    log::warn!("{}: gone before its command could be run: not run", connection.peer());
                    return None;
                }
                match connection.answer(target, &clients.backends, &clients.tracer) {
                    Ok(()) => Some(self),
                    Err(fault) => {
                        log::warn!("{}: {fault}; closing its connection", connection.peer());
                        None
                    }
                }
            }
            Stage::Discard(fault, stray) => {
                log::warn!("{}: {fault}; closing its connection", connection.peer());
                drop(stray);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn slot() -> Slot {
        let (socket, _) = UnixStream::pair().unwrap();
        let connection = Connection::new(socket.into()).unwrap();
        Slot { key: 0, turn: Mutex::new(Turn::Idle(Box::new(connection))) }
    }

    #[test]
    fn an_event_that_comes_while_a_thread_reads_makes_it_read_again() {
        let slot = slot();
        let connection = slot.take().expect("idle");
        assert!(slot.take().is_none(), "a note is left");
        let connection = slot.give_back(connection).expect("the note is found");
        assert!(slot.give_back(connection).is_none(), "once");
        assert!(slot.take().is_some(), "and the loop has it again");
    }
}
