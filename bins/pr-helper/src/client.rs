//! A client's connection on its way between the main loop, which knows when there is something to read, and the
//! threads, which read it and do what it says.
//!
//! A connection is owned by one of the two at a time. The loop watches for what comes only while it has the connection,
//! and forgets it when a thread takes over. Who gives it back has it watched anew, upon which the kernel looks whether
//! something is there already: so nothing that comes meanwhile is overlooked, and a thread that stays with its client
//! (see [`crate::pool`]) is the only one that a new command wakes.

use std::{
    fmt, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use pr_proto::Violation;
use slab::Slab;

use crate::{
    activity::Activity,
    backend::Backends,
    connection::{self, Connection, Fault, Peer, Read, Scratch},
    device::{Device, DeviceId, Kind, Refusal, Unavailable},
    metrics::Metrics,
    pool::Placed,
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
    pub(crate) fn new(waker: mio::Waker, watch_list: WatchList, backends: Backends, tracer: Tracer) -> Self {
        Self {
            slots: Mutex::new(Slab::new()),
            busy: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            watching: AtomicBool::new(false),
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

    /// Keeps a new connection, and has it watched. If that fails it is returned, as work, to be closed.
    pub(crate) fn insert(self: &Arc<Self>, connection: Connection) -> Result<(), Job> {
        let mut slots = self.slots();
        let entry = slots.vacant_entry();
        let slot = Arc::new(Slot::new(entry.key(), &connection));
        entry.insert(Arc::clone(&slot));
        drop(slots);
        self.metrics.accepted();
        slot.give_back(Box::new(connection), &self.watch_list)
            .map_err(|(connection, error)| Job::discard(self, slot, connection, Fault::Io(error)))
    }

    /// There is something to read from the connection `key`: returns it as work.
    pub(crate) fn readable(self: &Arc<Self>, key: usize) -> Option<Job> {
        let slot = self.slots().get(key).cloned()?;
        let connection = slot.take(&self.watch_list)?;
        Some(Job::new(self, slot, connection, Stage::Read))
    }

    /// Returns, as work, the connections that have been inside one message for too long. Says also whether others may
    /// come to that, and the loop has to ask again.
    pub(crate) fn overdue(self: &Arc<Self>) -> (Vec<Job>, bool) {
        self.watching.store(false, Ordering::SeqCst);
        let now = Instant::now();
        let mut overdue = Vec::new();
        for (_, slot) in self.slots().iter() {
            match slot.take_if(&self.watch_list, |connection| connection.is_overdue(now)) {
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
    /// Whose turn it is is for the one to say who has the connection.
    fn new(key: usize, connection: &Connection) -> Self {
        Self {
            key,
            socket: connection.handle(),
            activity: connection.activity(),
            turn: Mutex::new(Turn::Busy),
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the loop: takes the connection for a thread, unless one has it.
    fn take(&self, watch_list: &WatchList) -> Option<Box<Connection>> {
        match self.take_if(watch_list, |_| true) {
            Expiry::Taken(connection) => Some(connection),
            Expiry::Later | Expiry::Never => None,
        }
    }

    /// For the loop: takes an idle connection that is overdue.
    fn take_if(&self, watch_list: &WatchList, is_overdue: impl FnOnce(&Connection) -> bool) -> Expiry {
        let mut turn = self.turn();
        match std::mem::replace(&mut *turn, Turn::Busy) {
            Turn::Idle(connection) if is_overdue(&connection) => {
                // If it cannot be taken off the list, it cannot be put there again, and is closed then.
                let _ = watch_list.remove(&connection);
                Expiry::Taken(connection)
            }
            Turn::Idle(connection) => {
                let later = connection.is_inside_message();
                *turn = Turn::Idle(connection);
                if later { Expiry::Later } else { Expiry::Never }
            }
            // A thread that has it looks itself before it gives it back.
            Turn::Busy => Expiry::Never,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

    /// Leaves the connection to the loop.
    fn give_back(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let inside = connection.is_inside_message();
        match self.slot.give_back(connection, &self.clients.watch_list) {
            Ok(()) if inside => self.clients.watch(),
            Ok(()) => {}
            Err((connection, error)) => {
                self.connection = Some(connection);
                self.give_up(Some(Fault::Io(error)), Vec::new());
            }
        }
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
        let may_be_late = waited || (connection.is_change() && connection.may_be_old());
        if may_be_late && connection.is_abandoned() {
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

impl Placed for Job {
    type Lane = Lane;

    fn is_aside(lane: Lane) -> bool {
        matches!(lane, Lane::Foreign(_))
    }

    fn most(lane: Lane) -> usize {
        if matches!(lane, Lane::Map(_)) { 1 } else { usize::MAX }
    }

    /// Who stays at a map would keep all others from it.
    fn may_stay(lane: Lane) -> bool {
        matches!(lane, Lane::Device(_))
    }
}

impl Work for Job {
    type Scratch = Scratch;

    /// Reads. No connection that may hold a descriptor is dropped here, since closing that may block.
    fn prepare(mut self, may_stay: bool, scratch: &mut Scratch) -> Step<Self> {
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
            match connection.read(may_stay, scratch) {
                Read::Request => match connection.target(&self.clients.backends) {
                    Ok(device) => self.stage = Stage::Answer(device),
                    Err(refusal) => self.refuse(refusal),
                },
                Read::Blocked => self.give_back(),
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
    use std::{io::Write as _, os::unix::net::UnixStream, time::Duration};

    use mio::{Events, Poll};

    use super::*;

    /// A connection as the loop has it, its other end, and the loop's eyes.
    fn idle() -> (Slot, WatchList, UnixStream, Poll) {
        let poll = Poll::new().unwrap();
        let watch_list = WatchList { registry: poll.registry().try_clone().unwrap(), first: 3 };
        let (socket, client) = UnixStream::pair().unwrap();
        let connection = Connection::new(socket.into(), 0).unwrap();
        let slot = Slot::new(7, &connection);
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
