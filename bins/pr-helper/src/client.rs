//! A client's connection on its way between the main loop, which knows when there is something to read, and the
//! threads, which read it and do what it says.
//!
//! A connection is owned by one of the two at a time. While a thread has it, the loop can only leave a note that more
//! has come; the thread looks at the note before it gives the connection back, under the lock that the note is left
//! under. So no event is lost, and giving back wakes nobody.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use pr_proto::Violation;
use slab::Slab;

use crate::{
    activity::Activity,
    backend::Backends,
    connection::{self, Connection, Fault, Peer, Read, Scratch},
    device::{Device, DeviceId, Kind, Refusal, Unavailable},
    metrics::Metrics,
    trace::Tracer,
    workers::{Step, Work},
};

/// What loop and threads share.
pub(crate) struct Clients {
    slots: Mutex<Slab<Arc<Slot>>>,
    /// How many connections the threads have that may wait for an answer.
    busy: AtomicUsize,
    /// No new requests: finish those that are there.
    stopping: AtomicBool,
    /// The loop looks for overdue clients.
    watching: AtomicBool,
    waker: mio::Waker,
    backends: Backends,
    metrics: Metrics,
    tracer: Tracer,
}

/// Where a connection is kept while nobody needs it.
pub(crate) struct Slot {
    key: usize,
    /// By which the connection can be ended while a thread has it.
    socket: Weak<OwnedFd>,
    /// The connection's, to be looked at while a thread has it.
    activity: Arc<Activity>,
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
            metrics: Metrics::new(),
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

    /// How many connections the threads have at the moment that may wait for an answer.
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
            connection::end(&slot.socket);
        }
    }

    /// One connection less is in flight.
    fn settle(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
        if self.stopping.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Keeps a new connection. `register` is told its key; if that fails the connection is returned, to be closed.
    pub(crate) fn insert(
        self: &Arc<Self>,
        connection: Connection,
        register: impl FnOnce(&Connection, usize) -> io::Result<()>,
    ) -> Result<(), Job> {
        let mut slots = self.slots();
        let entry = slots.vacant_entry();
        let key = entry.key();
        let registered = register(&connection, key);
        let slot = Arc::clone(entry.insert(Arc::new(Slot::new(key, connection))));
        drop(slots);
        self.metrics.accepted();
        if let Err(error) = registered {
            if let Some(connection) = slot.take() {
                return Err(Job::discard(self, slot, connection, Fault::Io(error)));
            }
        }
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
            .map(|(slot, connection)| Job::discard(self, slot, connection, Fault::Deadline))
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
    fn new(key: usize, connection: Connection) -> Self {
        Self {
            key,
            socket: connection.handle(),
            activity: connection.activity(),
            turn: Mutex::new(Turn::Idle(Box::new(connection))),
        }
    }

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
    Answer(Device),
    /// Close the descriptor of a request that was refused, or was for a file, and read on.
    Close(Vec<OwnedFd>),
    /// Close the connection, and descriptors that should not have come.
    Discard(Vec<OwnedFd>),
}

impl Stage {
    /// Whether somebody may wait for an answer.
    fn is_in_flight(&self) -> bool {
        matches!(self, Self::Read | Self::Answer(_))
    }
}

/// What a thread may block on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Device(DeviceId),
    /// One command at a time: the library registers with each path in turn, and two of its calls would mix.
    Map(DeviceId),
    /// The close of what a client sent and what is not of a device that we serve. It can make that last as long as it
    /// likes: by a FUSE server, or with a TCP socket that lingers.
    Foreign(Peer),
}

impl Lane {
    fn of(Device { id, kind }: Device) -> Self {
        match kind {
            Kind::Scsi | Kind::File => Self::Device(id),
            Kind::Map => Self::Map(id),
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(id) | Self::Map(id) => id.fmt(f),
            Self::Foreign(peer) => write!(f, "descriptors of {peer}"),
        }
    }
}

impl Job {
    fn new(clients: &Arc<Clients>, slot: Arc<Slot>, connection: Box<Connection>, stage: Stage) -> Self {
        clients.busy.fetch_add(1, Ordering::SeqCst);
        Self { clients: Arc::clone(clients), slot, connection: Some(connection), stage }
    }

    /// A connection that is to be closed, and why.
    fn discard(clients: &Arc<Clients>, slot: Arc<Slot>, connection: Box<Connection>, fault: Fault) -> Self {
        let mut job = Self::new(clients, slot, connection, Stage::Read);
        job.give_up(Some(fault), Vec::new());
        job
    }

    /// Has the connection closed where that may block. Nobody waits for that, so it is in flight no more.
    fn give_up(&mut self, fault: Option<Fault>, stray: Vec<OwnedFd>) {
        if let (Some(fault), Some(connection)) = (fault, &self.connection) {
            log::warn!("{}: {fault}; closing its connection", connection.peer());
            self.clients.metrics.dropped(&fault);
        }
        self.go_on(Stage::Discard(stray));
        // The client need not wait until all is closed here.
        connection::end(&self.slot.socket);
    }

    /// Changes the stage, and with it whether this counts as in flight.
    fn go_on(&mut self, stage: Stage) {
        match (self.stage.is_in_flight(), stage.is_in_flight()) {
            (true, false) => self.clients.settle(),
            (false, true) => {
                self.clients.busy.fetch_add(1, Ordering::SeqCst);
                // The loop does not know of it, and may be waiting for events alone.
                self.clients.watch();
            }
            _ => {}
        }
        self.stage = stage;
    }

    /// Refuses the request that waits; what is left is to close its descriptor.
    fn refuse(&mut self, refusal: Refusal) {
        let Some(connection) = &mut self.connection else { return };
        let Clients { backends, metrics, tracer, .. } = &*self.clients;
        let answered = connection.answer(Err(refusal), backends, metrics, tracer);
        self.go_on_after(answered);
    }

    /// What is left to do after a request was answered: to close its descriptor, if that is not done yet, or everything.
    fn go_on_after(&mut self, (result, descriptor): (Result<(), Fault>, Option<OwnedFd>)) {
        match (result, descriptor) {
            (Ok(()), Some(descriptor)) => self.go_on(Stage::Close(vec![descriptor])),
            (Ok(()), None) => {}
            (Err(fault), descriptor) => self.give_up(Some(fault), descriptor.into_iter().collect()),
        }
    }

    /// Runs the request that waits. A change of which nobody waits to hear is not made.
    fn run_on(&mut self, device: Device, waited: bool) {
        let Some(connection) = &mut self.connection else { return };
        let Clients { backends, metrics, tracer, .. } = &*self.clients;
        if (waited || connection.is_change()) && connection.is_abandoned() {
            // Its client has told the guest that the command failed. To run it now would surprise everybody.
            log::warn!("{}: gone before its command could be run: not run", connection.peer());
            if let Some(cdb) = connection.cdb() {
                metrics.abandoned(cdb);
            }
            return self.give_up(None, Vec::new());
        }
        let answered = connection.answer(Ok(device), backends, metrics, tracer);
        self.go_on_after(answered);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            log::debug!("{}: connection closed", connection.peer());
            drop(connection);
            self.clients.slots().try_remove(self.slot.key);
        }
        if self.stage.is_in_flight() {
            self.clients.settle();
        }
    }
}

impl Work for Job {
    type Lane = Lane;
    type Scratch = Scratch;

    fn is_aside(lane: Lane) -> bool {
        matches!(lane, Lane::Foreign(_))
    }

    fn most(lane: Lane) -> usize {
        if matches!(lane, Lane::Map(_)) { 1 } else { usize::MAX }
    }

    /// Reads. No connection that may hold a descriptor is dropped here, since closing that may block.
    fn prepare(mut self, scratch: &mut Scratch) -> Step<Self> {
        loop {
            let Some(connection) = &mut self.connection else { return Step::Done };
            match self.stage {
                Stage::Read => {}
                Stage::Answer(device) => return Step::Block(Lane::of(device), self),
                Stage::Close(_) | Stage::Discard(_) => {
                    return Step::Block(Lane::Foreign(connection.peer()), self);
                }
            }
            if self.clients.stopping.load(Ordering::SeqCst) {
                self.give_up(None, Vec::new());
                continue;
            }
            match connection.read(scratch) {
                Read::Request => match connection.target(&self.clients.backends) {
                    Ok(device) => self.stage = Stage::Answer(device),
                    Err(refusal) => self.refuse(refusal),
                },
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
                Read::Reset => {
                    let inside = connection.is_inside_message();
                    self.give_up(inside.then_some(Fault::Violation(Violation::Truncated)), scratch.take());
                }
                Read::Failed(fault) => self.give_up(Some(fault), scratch.take()),
            }
        }
    }

    fn run(mut self, waited: bool, _: &mut Scratch) -> Option<Self> {
        match &mut self.stage {
            Stage::Read => {}
            &mut Stage::Answer(device) => {
                self.stage = Stage::Read;
                self.run_on(device, waited);
            }
            Stage::Close(descriptors) => {
                descriptors.clear();
                self.go_on(Stage::Read);
            }
            Stage::Discard(stray) => {
                stray.clear();
                // The connection is dropped here, and so in this lane.
                return None;
            }
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn slot() -> Slot {
        let (socket, _) = UnixStream::pair().unwrap();
        Slot::new(0, Connection::new(socket.into(), 0).unwrap())
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
