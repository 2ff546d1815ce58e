//! The connections of a client, and the state of the helper.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{State, deadline::Deadline, nonblocking::Connection, state::Listener};

/// The idle connections, slots for connections in use, and the state.
///
/// Each change of the state begins a new *epoch*. A connection belongs to the epoch in which it was made. If a
/// connection of an earlier epoch ends, the state does not change: ten connections that end with their helper are one
/// change.
pub(crate) struct Pool {
    capacity: usize,
    listener: Option<Listener>,
    inner: Mutex<Inner>,
    /// Signalled when a slot becomes free.
    freed: Condvar,
}

struct Inner {
    idle: Vec<Connection>,
    /// Slots in use.
    in_use: usize,
    state: State,
    epoch: Epoch,
    /// Changes that the listener was not notified of yet.
    pending: VecDeque<State>,
    /// Whether a thread is calling the listener.
    is_notifying: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

/// A connection in use.
pub(crate) struct Leased {
    pub(crate) connection: Connection,
    pub(crate) epoch: Epoch,
}

/// The right to use one connection, released on drop.
pub(crate) struct Slot<'a>(&'a Pool);

impl Pool {
    pub(crate) fn new(capacity: usize, listener: Option<Listener>) -> Self {
        let inner = Inner {
            idle: Vec::new(),
            in_use: 0,
            state: State::Disconnected,
            epoch: Epoch(0),
            pending: VecDeque::new(),
            is_notifying: false,
        };
        Self { capacity: capacity.max(1), listener, inner: Mutex::new(inner), freed: Condvar::new() }
    }

    /// Blocks until a slot is free. Returns `None` if the deadline passes first.
    pub(crate) fn acquire(&self, deadline: Deadline) -> Option<Slot<'_>> {
        let mut inner = self.lock();
        while inner.in_use >= self.capacity {
            inner = match deadline.remaining() {
                None => self.freed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(remaining) if remaining.is_zero() => return None,
                Some(remaining) => {
                    let (inner, _) =
                        self.freed.wait_timeout(inner, remaining).unwrap_or_else(PoisonError::into_inner);
                    inner
                }
            };
        }
        inner.in_use = inner.in_use.saturating_add(1);
        Some(Slot(self))
    }

    /// Returns the state, and the epoch that began with it.
    pub(crate) fn state(&self) -> (State, Epoch) {
        let inner = self.lock();
        (inner.state, inner.epoch)
    }

    /// Records that a connection was made.
    pub(crate) fn connected(&self, connection: Connection) -> Leased {
        let mut inner = self.lock();
        inner.change(State::Connected);
        let epoch = inner.epoch;
        drop(inner);
        self.notify();
        Leased { connection, epoch }
    }

    /// Records that a connection of this epoch was lost, or an attempt to connect in it failed.
    pub(crate) fn disconnected(&self, epoch: Epoch) {
        let mut inner = self.lock();
        if inner.epoch != epoch {
            return;
        }
        inner.change(State::Disconnected);
        // Idle connections have most likely ended, too. Dropping a good one costs one reconnection.
        let idle = std::mem::take(&mut inner.idle);
        drop(inner);
        drop(idle);
        self.notify();
    }

    /// Calls the listener for each pending change. If another thread is doing so, leaves them to that thread.
    fn notify(&self) {
        let Some(listener) = &self.listener else { return };
        while let Some(state) = self.next_pending() {
            // Reset on unwinding, too: if the listener panics, it must still be called for the next change.
            let _guard = NotifyGuard(self);
            listener(state);
        }
    }

    fn next_pending(&self) -> Option<State> {
        let mut inner = self.lock();
        if inner.is_notifying {
            return None;
        }
        let state = inner.pending.pop_front()?;
        inner.is_notifying = true;
        Some(state)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No thread panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn change(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.epoch = Epoch(self.epoch.0.wrapping_add(1));
            self.pending.push_back(state);
        }
    }
}

/// Resets `is_notifying` on drop.
struct NotifyGuard<'a>(&'a Pool);

impl Drop for NotifyGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().is_notifying = false;
    }
}

impl Slot<'_> {
    /// Takes an idle connection, if there is one.
    pub(crate) fn idle(&self) -> Option<Leased> {
        let mut inner = self.0.lock();
        let connection = inner.idle.pop()?;
        Some(Leased { connection, epoch: inner.epoch })
    }

    /// Puts a connection among the idle ones, unless it is of an earlier epoch.
    pub(crate) fn keep(&self, leased: Leased) {
        let mut inner = self.0.lock();
        if inner.epoch == leased.epoch {
            inner.idle.push(leased.connection);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.in_use = inner.in_use.saturating_sub(1);
        drop(inner);
        self.0.freed.notify_one();
    }
}
