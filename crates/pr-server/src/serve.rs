//! What a thread does with a connection: reads a request, answers it, lingers for the next, and gives the connection back
//! to the event loop. And what it does with sockets that were rejected: it closes them.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use pr_backend::Executor;

use crate::{
    DisconnectReason, Event, SharedNexus,
    connection::{Connection, Context, Read},
    connections::{Connections, Slot},
    locks::DeviceLocks,
    observers::Observers,
    peer::ClientProcess,
    quota::ClientQuotas,
    registrations::Registrations,
    threads::{Job, Threads},
};

/// Everything that the event loop, threads and handles share.
pub(crate) struct Shared {
    pub(crate) executor: Executor,
    pub(crate) observers: Observers,
    pub(crate) connections: Connections,
    pub(crate) quotas: ClientQuotas,
    pub(crate) locks: DeviceLocks,
    pub(crate) rejected: Rejected,
    pub(crate) registrations: Registrations,
    pub(crate) waker: mio::Waker,
    pub(crate) panics: AtomicU64,
    /// Requests that were received and not yet answered.
    in_flight: AtomicUsize,
    /// No new requests are started.
    stopping: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        executor: Executor,
        observers: Observers,
        connections: Connections,
        max_per_process: usize,
        shared_nexus: SharedNexus,
        waker: mio::Waker,
    ) -> Self {
        Self {
            executor,
            observers,
            connections,
            quotas: ClientQuotas::new(max_per_process),
            locks: DeviceLocks::default(),
            rejected: Rejected::default(),
            registrations: Registrations::new(shared_nexus),
            waker,
            panics: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Has no new request started.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.connections.shut_down_idle();
    }

    fn begin_request(&self) -> InFlightGuard<'_> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlightGuard(self)
    }
}

/// A request in flight, until this is dropped.
struct InFlightGuard<'a>(&'a Shared);

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.0.is_stopping() {
            // The event loop waits for the last one. If it cannot be woken, it ends at its deadline.
            let _ = self.0.waker.wake();
        }
    }
}

/// A job for a thread.
pub(crate) enum Task {
    /// Serve an active connection.
    Serve(Lease),
    /// Close a connection.
    Close(Lease, DisconnectReason),
    /// Close the rejected sockets of a client process, one after the other.
    CloseRejected(Arc<Shared>, ClientProcess),
}

impl Job for Task {
    fn run(self) {
        match self {
            Self::Serve(lease) => lease.serve(),
            Self::Close(lease, reason) => lease.disconnect(&reason, Vec::new()),
            Self::CloseRejected(shared, process) => shared.rejected.close(process),
        }
    }
}

/// A connection that a thread owns, or soon will. Dropped, it closes the connection, unless that was given back.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    threads: Threads<Task>,
    slot: Arc<Slot>,
    connection: Option<Box<Connection>>,
    /// Observers know that the connection ends.
    is_reported: bool,
}

impl Lease {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        threads: &Threads<Task>,
        slot: Arc<Slot>,
        connection: Box<Connection>,
    ) -> Self {
        let (shared, threads) = (Arc::clone(shared), threads.clone());
        Self { shared, threads, slot, connection: Some(connection), is_reported: false }
    }

    /// Hands the connection over to the event loop. If that fails, returns it to be closed.
    pub(crate) fn give_back(mut self) -> Result<(), (Self, DisconnectReason)> {
        let Some(connection) = self.connection.take() else { return Ok(()) };
        match self.shared.connections.return_to_event_loop(&self.slot, connection) {
            Ok(()) => {
                // `Shared::stop` has shut down the connections that were idle then.
                if self.shared.is_stopping() {
                    self.slot.shut_down_if_idle();
                }
                Ok(())
            }
            Err((connection, error)) => {
                self.connection = Some(connection);
                Err((self, DisconnectReason::Io(error)))
            }
        }
    }

    /// Serves the connection until its client pauses or goes.
    fn serve(mut self) {
        // Something has arrived, so the first read need not wait.
        let mut may_linger = false;
        loop {
            let Some(connection) = &mut self.connection else { return };
            let permit = if may_linger { self.threads.linger() } else { None };
            let read = connection.read(permit.is_some());
            drop(permit);
            match read {
                Read::Request => {}
                Read::Blocked => {
                    if let Err((lease, reason)) = self.give_back() {
                        lease.disconnect(&reason, Vec::new());
                    }
                    return;
                }
                Read::Closed(reason, strays) => return self.disconnect(&reason, strays),
            }
            let in_flight = self.shared.begin_request();
            // Checked after the count was raised (both SeqCst): either the shutdown sees the request in flight, or the
            // request sees the shutdown.
            if self.shared.is_stopping() {
                drop(in_flight);
                return self.disconnect(&DisconnectReason::Shutdown, Vec::new());
            }
            let Shared { executor, locks, observers, registrations, .. } = &*self.shared;
            let context = Context { executor, locks, observers, registrations };
            let (result, unclosed) = connection.answer(&context);
            drop(in_flight);
            if let Err(reason) = result {
                return self.disconnect(&reason, unclosed.into_iter().collect());
            }
            drop(unclosed);
            may_linger = !self.shared.is_stopping();
        }
    }

    /// Ends the connection. Client and observers are told before anything is closed, which may block.
    fn disconnect(mut self, reason: &DisconnectReason, strays: Vec<OwnedFd>) {
        self.notify(reason);
        if let Some(connection) = &self.connection {
            connection.shut_down();
        }
        drop(strays);
    }

    fn notify(&mut self, reason: &DisconnectReason) {
        self.is_reported = true;
        self.shared.registrations.disconnected(self.slot.activity().client);
        self.shared.observers.notify(&Event::Disconnected(self.slot.activity().client, reason));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if !self.is_reported {
            self.notify(if std::thread::panicking() {
                &DisconnectReason::Panic
            } else {
                &DisconnectReason::Shutdown
            });
        }
        drop(connection);
        self.shared.connections.remove(&self.slot);
        self.shared.quotas.release(self.slot.process());
    }
}

/// Sockets that were rejected and are not closed yet. Closing one may block: its receive queue can hold descriptors. So each
/// client process has its own closer, which delays no other process.
#[derive(Default)]
pub(crate) struct Rejected {
    queues: Mutex<HashMap<ClientProcess, VecDeque<OwnedFd>>>,
    count: AtomicUsize,
}

impl Rejected {
    /// Queues a socket of `process`. Returns whether a closer must be started.
    pub(crate) fn push(&self, process: ClientProcess, socket: OwnedFd) -> bool {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !queues.contains_key(&process);
        queues.entry(process).or_default().push_back(socket);
        is_new
    }

    /// Returns how many are not closed yet.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Closes the sockets of `process`, one after the other, until none is left.
    fn close(&self, process: ClientProcess) {
        while let Some(socket) = self.next(process) {
            drop(socket);
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn next(&self, process: ClientProcess) -> Option<OwnedFd> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = queues.get_mut(&process).and_then(VecDeque::pop_front);
        if socket.is_none() {
            queues.remove(&process);
        }
        socket
    }
}
