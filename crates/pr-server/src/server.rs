//! The event loop: accepts clients, hands readable connections to threads, and ends when told to.
//!
//! Invariant: the event loop never blocks. It reads no client's socket, runs no ioctl, and closes nothing that a client can
//! make slow (a message in a socket's queue can hold a descriptor whose close blocks).

use std::{
    io,
    mem::ManuallyDrop,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker, unix::SourceFd};
use pr_backend::Executor;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::SocketFlags,
};

use crate::{
    Client, DeviceLoad, DisconnectReason, Event, Handle, Observer, Peer, SharedNexus,
    connection::{Connection, shut_down},
    connections::Connections,
    handle::Control,
    observers::Observers,
    peer::ClientProcess,
    serve::{Lease, Shared, Task},
    threads::Threads,
};

const WAKER: Token = Token(0);
/// Token of the first listening socket; those of the others follow, and behind them those of connections.
const LISTENERS: usize = 1;

/// How many clients are accepted from one socket before connections are looked at again: a process that connects in a loop
/// must not delay clients that are connected.
const ACCEPTS_PER_TURN: usize = 16;

/// How long to wait before clients are accepted again, when a resource was short.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How often observers are told at most of one shortage: that new clients wait, or that there are no more threads.
const SHORTAGE_REPORTS: Duration = Duration::from_secs(60);

/// How often deadlines and slow commands are checked while a connection is active.
const TICK: Duration = Duration::from_secs(1);

/// Limits of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many clients can be connected at a time. Each takes up to four descriptors, and a thread while it is active.
    pub max_clients: usize,
    /// How many of them can belong to one process.
    pub max_clients_per_process: usize,
    /// How long a command runs before observers are told that it is slow.
    pub slow: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_clients: 256, max_clients_per_process: 64, slow: Duration::from_secs(10) }
    }
}

/// A server that is being put together. See [`Server::builder`].
#[must_use = "nothing is served before `build` and `run`"]
pub struct Builder {
    executor: Executor,
    listeners: Vec<Listener>,
    observers: Observers,
    limits: Limits,
    shared_nexus: SharedNexus,
}

/// A listening socket.
struct Listener {
    socket: OwnedFd,
    /// The socket stays open for the next process, as with socket activation.
    is_shared: bool,
    /// More clients may wait to be accepted.
    has_more: bool,
}

impl Builder {
    /// Adds a listening Unix stream socket. Its index, counted from 0, is [`Target::listener`](pr_backend::Target) of its
    /// clients' commands.
    pub fn listen(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.listeners.push(Listener { socket: socket.into(), is_shared: false, has_more: true });
        self
    }

    /// Adds a listening socket that is not shut down at the end: it belongs to another process too, such as systemd.
    pub fn listen_shared(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.listeners.push(Listener { socket: socket.into(), is_shared: true, has_more: true });
        self
    }

    /// Adds an observer.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.0.push(Box::new(observer));
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what is done when two client processes register keys through the same I_T nexus.
    pub fn shared_nexus(mut self, policy: SharedNexus) -> Self {
        self.shared_nexus = policy;
        self
    }

    /// Builds the server. Starts no thread.
    ///
    /// # Errors
    ///
    /// The kernel refuses a descriptor that the event loop needs, or a listening socket cannot be polled.
    pub fn build(self) -> io::Result<Server> {
        let Self { executor, listeners, observers, limits, shared_nexus } = self;
        let poll = Poll::new()?;
        for (listener, token) in listeners.iter().zip(LISTENERS..) {
            rustix::io::ioctl_fionbio(&listener.socket, true)?;
            let socket = listener.socket.as_raw_fd();
            poll.registry().register(&mut SourceFd(&socket), Token(token), Interest::READABLE)?;
        }
        let waker = Waker::new(poll.registry(), WAKER)?;
        let first_token = LISTENERS.saturating_add(listeners.len());
        let connections = Connections::new(poll.registry().try_clone()?, first_token);
        let max_per_process = limits.max_clients_per_process.max(1);
        let shared =
            Arc::new(Shared::new(executor, observers, connections, max_per_process, shared_nexus, waker));
        let panicked = Arc::downgrade(&shared);
        let threads = Threads::new(move || {
            if let Some(shared) = panicked.upgrade() {
                shared.panics.fetch_add(1, Ordering::Relaxed);
                shared.observers.notify(&Event::Panicked);
            }
        });
        let control = Arc::new(Control { started: Instant::now(), deadline: Mutex::new(None) });
        Ok(Server {
            poll,
            listeners,
            first_token,
            shared,
            threads,
            control,
            limits,
            next_connection: 0,
            paused: None,
            pause_reports: Reports::default(),
            thread_reports: Reports::default(),
            is_ticking: false,
            next_tick: Instant::now(),
        })
    }
}

/// A server of the helper protocol.
#[must_use = "nothing is served before `run`"]
pub struct Server {
    poll: Poll,
    listeners: Vec<Listener>,
    first_token: usize,
    shared: Arc<Shared>,
    threads: Threads<Task>,
    control: Arc<Control>,
    limits: Limits,
    /// Number of the next connection.
    next_connection: u64,
    /// When clients are accepted again, if a resource was short.
    paused: Option<Instant>,
    pause_reports: Reports,
    thread_reports: Reports,
    is_ticking: bool,
    next_tick: Instant,
}

/// When observers were last told of a shortage.
#[derive(Default)]
struct Reports(Option<Instant>);

impl Reports {
    /// Returns whether observers are to be told now.
    fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|before| before.elapsed() >= SHORTAGE_REPORTS);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

/// How [`Server::run`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All commands were answered.
    Clean,
    /// Commands were still in flight when the grace was over. Whether they take effect is up to the devices.
    CutShort(Vec<(String, DeviceLoad)>),
}

impl Server {
    /// Returns a builder of a server that runs commands by `executor`.
    pub fn builder(executor: Executor) -> Builder {
        let (listeners, observers, limits) = (Vec::new(), Observers::default(), Limits::default());
        let shared_nexus = SharedNexus::default();
        Builder { executor, listeners, observers, limits, shared_nexus }
    }

    /// Returns a handle, by which the server can be stopped and read from other threads.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared), control: Arc::clone(&self.control) }
    }

    /// Serves clients until [`Handle::shutdown`] is called and the commands in flight have ended. Blocks meanwhile.
    ///
    /// At the end all connections are shut down; a thread of its own closes them, since a client can make that slow.
    ///
    /// # Errors
    ///
    /// The event loop cannot wait for events.
    pub fn run(mut self) -> io::Result<Ended> {
        let ended = self.serve();
        self.stop_listening();
        self.threads.stop();
        self.shared.observers.notify(&Event::Stopped);
        let sockets = self.shared.connections.shut_down_all();
        // If the thread cannot be started, nothing is closed before the process ends.
        let rest = ManuallyDrop::new((sockets, self));
        let close = move || {
            let (sockets, server) = ManuallyDrop::into_inner(rest);
            server.shared.connections.close_idle();
            drop((sockets, server));
        };
        let _ = thread::Builder::new().name("teardown".into()).spawn(close);
        ended
    }

    fn serve(&mut self) -> io::Result<Ended> {
        let mut events = Events::with_capacity(256);
        loop {
            match self.poll.poll(&mut events, self.poll_timeout()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Err(_) => continue,
                Ok(()) => {}
            }
            // Clients that are connected come before new ones.
            for event in &events {
                let Token(token) = event.token();
                if let Some(key) = token.checked_sub(self.first_token) {
                    self.hand_over(key);
                } else if let Some(index) = token.checked_sub(LISTENERS) {
                    self.listeners.get_mut(index).into_iter().for_each(|listener| listener.has_more = true);
                }
            }
            if let Some(deadline) = self.control.deadline() {
                if !self.shared.is_stopping() {
                    self.stop_listening();
                    self.shared.stop();
                }
                if self.shared.in_flight() == 0 {
                    return Ok(Ended::Clean);
                }
                if deadline <= Instant::now() {
                    return Ok(Ended::CutShort(self.handle().state().devices.into_iter().collect()));
                }
            } else {
                self.accept();
            }
            self.tick();
        }
    }

    /// Returns how long there is nothing to do but wait for events.
    fn poll_timeout(&self) -> Option<Duration> {
        if self.paused.is_none() && self.listeners.iter().any(|listener| listener.has_more) {
            return Some(Duration::ZERO);
        }
        let tick = self.is_ticking.then_some(self.next_tick);
        let next = [self.paused, self.control.deadline(), tick].into_iter().flatten().min();
        next.map(|instant| instant.saturating_duration_since(Instant::now()))
    }

    /// Hands a readable connection to a thread.
    fn hand_over(&mut self, key: usize) {
        if let Some((slot, connection)) = self.shared.connections.take(key) {
            let lease = Lease::new(&self.shared, &self.threads, slot, connection);
            self.submit(Task::Serve(lease));
        }
    }

    fn submit(&mut self, task: Task) {
        // A thread becomes active only here: from now on deadlines and slow commands are checked.
        self.start_ticking();
        if let Err((threads, error)) = self.threads.submit(task) {
            if self.thread_reports.is_due() {
                self.shared.observers.notify(&Event::ThreadsExhausted { threads, error: &error });
            }
        }
    }

    fn start_ticking(&mut self) {
        if !self.is_ticking {
            self.is_ticking = true;
            self.next_tick = Instant::now() + TICK;
        }
    }

    /// Checks deadlines and slow commands, if it is time.
    fn tick(&mut self) {
        if !self.is_ticking || Instant::now() < self.next_tick {
            return;
        }
        // Read first: a thread gives a connection back before it lowers the count, so if none is active, the connections
        // below are as threads have left them.
        let is_active = self.shared.connections.active() > 0 || self.shared.rejected.count() > 0;
        let (overdue, is_any_inside) = self.shared.connections.take_overdue();
        for (slot, connection) in overdue {
            let lease = Lease::new(&self.shared, &self.threads, slot, connection);
            self.submit(Task::Close(lease, DisconnectReason::Deadline));
        }
        self.threads.retry();
        for slot in self.shared.connections.all() {
            slot.activity().report_if_slow(self.limits.slow, |event| self.shared.observers.notify(event));
        }
        let is_any_exiting = self.shared.registrations.sweep();
        self.is_ticking = self.shared.observers.tick() | is_active | is_any_inside | is_any_exiting;
        self.next_tick = Instant::now() + TICK;
    }

    /// Accepts some of the clients that wait.
    fn accept(&mut self) {
        if self.paused.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.paused = None;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.accept_from(index) {
                    break;
                }
            }
        }
    }

    /// Accepts one client. Returns whether more may wait.
    fn accept_from(&mut self, index: usize) -> bool {
        let Some(listener) = self.listeners.get_mut(index).filter(|listener| listener.has_more) else {
            return false;
        };
        let open = self.shared.connections.len().saturating_add(self.shared.rejected.count());
        if open >= self.limits.max_clients {
            if !is_readable(&listener.socket) {
                listener.has_more = false;
                return false;
            }
            let limit = self.limits.max_clients;
            self.pause(&format!("{limit} clients are connected, which is the limit (--max-clients)"));
            return false;
        }
        match rustix::net::accept_with(&listener.socket, SocketFlags::CLOEXEC) {
            Ok(socket) => {
                self.connected(socket, index);
                true
            }
            Err(Errno::AGAIN) => {
                listener.has_more = false;
                false
            }
            // The client has gone before it was accepted.
            Err(Errno::INTR | Errno::CONNABORTED) => true,
            Err(Errno::MFILE) => {
                self.pause("this process is at its limit of open files (RLIMIT_NOFILE)");
                false
            }
            Err(error) => {
                self.pause(&format!("accept: {error}"));
                false
            }
        }
    }

    /// Takes a new client's socket.
    fn connected(&mut self, socket: OwnedFd, listener: usize) {
        let connection = self.next_connection;
        self.next_connection = connection.wrapping_add(1);
        let (peer, error) = match Peer::of(&socket) {
            Ok(peer) => (peer, None),
            Err(error) => (Peer { pid: 0, uid: u32::MAX, process: None }, Some(error)),
        };
        let client = Client { connection, peer };
        self.shared.observers.notify(&Event::Connected(client));
        match error {
            Some(error) => self.reject(client, socket, &DisconnectReason::Io(error)),
            None => self.admit(client, socket, listener),
        }
    }

    /// Hands a new client to the event loop, or rejects it if its process is at its quota or its socket cannot be set up.
    fn admit(&mut self, client: Client, socket: OwnedFd, listener: usize) {
        let process = ClientProcess::from(client);
        if !self.shared.quotas.admit(process) {
            return self.reject(client, socket, &DisconnectReason::TooManyConnections);
        }
        match Connection::new(socket, client, listener) {
            Ok(connection) => {
                let slot = self.shared.connections.insert(&connection);
                let lease = Lease::new(&self.shared, &self.threads, slot, Box::new(connection));
                if let Err((lease, reason)) = lease.give_back() {
                    self.submit(Task::Close(lease, reason));
                }
            }
            Err((socket, error)) => {
                self.shared.quotas.release(process);
                self.reject(client, socket, &DisconnectReason::Io(error));
            }
        }
    }

    /// Ends a connection that is not served. Its socket is closed by a thread, since that may block.
    fn reject(&mut self, client: Client, socket: OwnedFd, reason: &DisconnectReason) {
        self.shared.observers.notify(&Event::Disconnected(client, reason));
        shut_down(socket.as_fd());
        let process = ClientProcess::from(client);
        if self.shared.rejected.push(process, socket) {
            self.submit(Task::CloseRejected(Arc::clone(&self.shared), process));
        }
    }

    fn pause(&mut self, reason: &str) {
        self.paused = Some(Instant::now() + BACK_OFF);
        if self.pause_reports.is_due() {
            self.shared.observers.notify(&Event::AcceptPaused(reason));
        }
    }

    /// Accepts no more clients. Closes nothing: clients that wait to be accepted may have sent descriptors whose close
    /// blocks.
    fn stop_listening(&mut self) {
        for listener in &mut self.listeners {
            let socket = listener.socket.as_raw_fd();
            // It is not registered any more if this was called before.
            let _ = self.poll.registry().deregister(&mut SourceFd(&socket));
            listener.has_more = false;
            if !listener.is_shared {
                shut_down(listener.socket.as_fd());
            }
        }
    }
}

fn is_readable(socket: &OwnedFd) -> bool {
    let mut events = [PollFd::new(socket, PollFlags::IN)];
    rustix::event::poll(&mut events, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    /// Notes why connections end.
    #[derive(Default)]
    struct Reasons(Mutex<Vec<String>>);

    impl Observer for Reasons {
        fn event(&self, event: &Event<'_>) {
            if let Event::Disconnected(_, reason) = event {
                self.0.lock().unwrap().push(reason.to_string());
            }
        }
    }

    /// Returns whether all readers of this pipe are closed.
    fn is_closed(writer: &OwnedFd) -> bool {
        let mut events = [PollFd::new(writer, PollFlags::empty())];
        rustix::event::poll(&mut events, Some(&Timespec::default())).unwrap() == 1
    }

    fn eventually(condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(30), "timed out");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// A pipe stands for a socket that cannot be set up.
    #[test]
    fn socket_without_set_up_is_rejected() {
        let reasons = Arc::new(Reasons::default());
        let limits = Limits { max_clients_per_process: 1, ..Limits::default() };
        let builder = Server::builder(Executor::new()).limits(limits).observer(Arc::clone(&reasons));
        let mut server = builder.build().unwrap();
        let client = Client { connection: 1, peer: Peer { pid: 1, uid: 2, process: None } };
        // As if a closer of this process were busy: nothing is closed until it goes on.
        let (first, _writer) = pipe().unwrap();
        assert!(server.shared.rejected.push(client.into(), first));
        let pipes = [(); 3].map(|()| pipe().unwrap());
        let writers = pipes.map(|(reader, writer)| {
            server.admit(client, reader, 0);
            writer
        });
        let reason = DisconnectReason::Io(Errno::NOTSOCK.into()).to_string();
        assert_eq!(*reasons.0.lock().unwrap(), [(); 3].map(|()| reason.clone()));
        assert_eq!((server.shared.connections.len(), server.shared.rejected.count()), (0, 4));
        assert!(!writers.iter().any(is_closed), "the event loop closes nothing");
        server.submit(Task::CloseRejected(Arc::clone(&server.shared), client.into()));
        eventually(|| server.shared.rejected.count() == 0);
        assert!(writers.iter().all(is_closed));
        assert!(server.shared.quotas.admit(client.into()), "the quota is unused");
    }

    #[test]
    fn shortages_are_reported_once_a_minute() {
        let mut reports = Reports::default();
        assert_eq!([(); 3].map(|()| reports.is_due()), [true, false, false]);
        reports.0 = Instant::now().checked_sub(SHORTAGE_REPORTS);
        assert_eq!([(); 2].map(|()| reports.is_due()), [true, false]);
    }
}
