//! The connections of a client, and what is known of the helper.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{State, deadline::Deadline, nonblocking::Connection, state::Listener};

/// Idle connections, a bound of those in use, and the state.
///
/// The state changes from one *epoch* to the next. A connection belongs to the epoch in which it was made, and what
/// happens to one of an earlier epoch is no news: ten connections that end with their helper are one change.
pub(crate) struct Pool {
    limit: usize,
    listener: Option<Listener>,
    inner: Mutex<Inner>,
    /// A place became free.
    freed: Condvar,
}

struct Inner {
    idle: Vec<Connection>,
    /// Commands that have a place.
    busy: usize,
    state: State,
    epoch: Epoch,
    /// Changes that the listener does not know of.
    news: VecDeque<State>,
    /// A thread is telling the listener.
    telling: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

/// A connection in use.
pub(crate) struct Leased {
    pub(crate) connection: Connection,
    pub(crate) epoch: Epoch,
}

/// The right to use one connection.
pub(crate) struct Place<'a>(&'a Pool);

impl Pool {
    pub(crate) fn new(limit: usize, listener: Option<Listener>) -> Self {
        let inner = Inner {
            idle: Vec::new(),
            busy: 0,
            state: State::Disconnected,
            epoch: Epoch(0),
            news: VecDeque::new(),
            telling: false,
        };
        Self { limit: limit.max(1), listener, inner: Mutex::new(inner), freed: Condvar::new() }
    }

    /// Waits for a place. `None`: there was none until the deadline.
    pub(crate) fn place(&self, deadline: Deadline) -> Option<Place<'_>> {
        let mut inner = self.lock();
        while inner.busy >= self.limit {
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
        inner.busy = inner.busy.saturating_add(1);
        Some(Place(self))
    }

    /// What is the state now, and since when.
    pub(crate) fn state(&self) -> (State, Epoch) {
        let inner = self.lock();
        (inner.state, inner.epoch)
    }

    /// A connection was made.
    pub(crate) fn connected(&self, connection: Connection) -> Leased {
        let mut inner = self.lock();
        inner.change(State::Connected);
        let epoch = inner.epoch;
        drop(inner);
        self.tell();
        Leased { connection, epoch }
    }

    /// A connection of this epoch was lost, or an attempt in it failed.
    pub(crate) fn disconnected(&self, epoch: Epoch) {
        let mut inner = self.lock();
        if inner.epoch != epoch {
            return;
        }
        inner.change(State::Disconnected);
        // They have gone, too; if not, no harm is done.
        let idle = std::mem::take(&mut inner.idle);
        drop(inner);
        drop(idle);
        self.tell();
    }

    /// Tells the listener what it does not know. If another thread is at it, that one tells this, too.
    fn tell(&self) {
        let Some(listener) = &self.listener else { return };
        while let Some(state) = self.next_news() {
            // Whatever becomes of the listener, the next change is told.
            let _telling = Telling(self);
            listener(state);
        }
    }

    fn next_news(&self) -> Option<State> {
        let mut inner = self.lock();
        if inner.telling {
            return None;
        }
        let state = inner.news.pop_front()?;
        inner.telling = true;
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
            self.news.push_back(state);
        }
    }
}

struct Telling<'a>(&'a Pool);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.lock().telling = false;
    }
}

impl Place<'_> {
    /// A connection that was idle, if there is one.
    pub(crate) fn idle(&self) -> Option<Leased> {
        let mut inner = self.0.lock();
        let connection = inner.idle.pop()?;
        Some(Leased { connection, epoch: inner.epoch })
    }

    /// A connection that is idle now.
    pub(crate) fn keep(&self, leased: Leased) {
        let mut inner = self.0.lock();
        if inner.epoch == leased.epoch {
            inner.idle.push(leased.connection);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.busy = inner.busy.saturating_sub(1);
        drop(inner);
        self.0.freed.notify_one();
    }
}
