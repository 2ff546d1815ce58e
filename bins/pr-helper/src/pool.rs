//! Which thread does what next, and when another is needed: decided without threads, time or system calls, so that
//! all that can happen can be tried (see the tests).
//!
//! What is ready to be done waits in one queue. A thread that takes from it reads what its client has sent, which does
//! not block, and then runs the command in the [lane](Lanes) of its device, which may. After that it may stay in the lane
//! for a moment, if [nobody wants](Pool::is_wanted) thread or lane, and wait for the client's next command there: one that
//! sends one command after the other finds its thread waiting, and nothing has to be decided anew.
//!
//! One rule keeps what is ready from being forgotten: whoever may be blocked from now on, and whoever takes something and
//! leaves something behind, sees to it that somebody else is called.

use std::collections::VecDeque;

use crate::lanes::Lanes;

/// Threads beyond the places in the lanes: those that read.
const READERS: usize = 2;

/// As many, if reading blocks. It should not; but when a descriptor cannot be received (a security module forbids it, or
/// there is no room), the kernel closes it in the middle of a read, and that lasts as long as its sender likes.
const READERS_MAX: usize = 256;

/// Something to do that may block on something.
pub(crate) trait Placed: Sized {
    /// What work of the same kind may block on.
    type Lane: Copy + Ord + Send + 'static;
    /// Whether the lane is of work that serves nobody: it has places of its own, so that it cannot take those of others.
    fn is_aside(lane: Self::Lane) -> bool;
    /// How much work may be under way in a lane at once, whatever room there is.
    fn most(lane: Self::Lane) -> usize;
    /// Whether a thread may stay in the lane when its work there is done. Its place counts as taken meanwhile.
    fn may_stay(lane: Self::Lane) -> bool;
}

/// How much there may be of what blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// What may be under way in all lanes.
    pub(crate) places: usize,
    /// The same of the lanes that are aside.
    pub(crate) aside: usize,
}

/// All that threads share: what is ready, who may run, and how many threads there are.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Pool<W: Placed> {
    ready: VecDeque<Task<W>>,
    lanes: Lanes<W::Lane, W>,
    aside: Lanes<W::Lane, W>,
    /// Threads that there are.
    threads: usize,
    /// Those that have nothing to do.
    idle: usize,
    /// How many there have to be beyond those that may be blocked.
    readers: usize,
    /// Something has been taken since somebody last looked.
    has_moved: bool,
}

/// What a thread is to do.
#[cfg_attr(test, derive(Debug, Clone, PartialEq, Eq))]
#[must_use]
pub(crate) enum Task<W: Placed> {
    /// Read what has come.
    Prepare(W),
    /// Run, in this lane, what had to wait for it.
    Run(W::Lane, W),
}

/// Who is to be called for what is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Call {
    Nobody,
    /// A thread that has nothing to do.
    Idle,
    /// One that is to be started, and [counted](Pool::started).
    New,
}

impl<W: Placed> Pool<W> {
    /// Without a thread.
    pub(crate) fn new(room: Room) -> Self {
        Self {
            ready: VecDeque::new(),
            lanes: Lanes::new(room.places, W::most),
            aside: Lanes::new(room.aside, W::most),
            threads: 0,
            idle: 0,
            readers: READERS,
            has_moved: false,
        }
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Each lane in use but those aside, with how much is under way in it and how much waits.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (W::Lane, usize, usize)> {
        self.lanes.iter()
    }

    /// Whether somebody waits for a thread or for a place in a lane: then none is to be kept without need.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.ready.is_empty() || self.lanes.are_short()
    }

    /// There is one more thread, which will [take](Self::take).
    pub(crate) fn started(&mut self) {
        self.threads = self.threads.saturating_add(1);
    }

    /// `work` is to be prepared.
    pub(crate) fn submit(&mut self, work: W) -> Call {
        self.ready.push_back(Task::Prepare(work));
        self.call()
    }

    /// The next thing to do.
    pub(crate) fn take(&mut self) -> Option<(Task<W>, Call)> {
        let task = self.ready.pop_front()?;
        self.has_moved = true;
        Some((task, self.call()))
    }

    /// Looks, from time to time, whether what is ready is taken: if not, those that read are blocked, and more are needed.
    pub(crate) fn look_after(&mut self) -> Call {
        let moves = std::mem::take(&mut self.has_moved) || self.ready.is_empty();
        self.readers = if moves {
            self.readers.saturating_sub(1).max(READERS)
        } else {
            self.readers.saturating_mul(2).min(READERS_MAX)
        };
        self.call()
    }

    /// A thread has found nothing to take.
    pub(crate) fn rest(&mut self) {
        self.idle = self.idle.saturating_add(1);
    }

    /// A thread has been called, or looks by itself: it takes, rests again or [leaves](Self::leave).
    pub(crate) fn rise(&mut self) {
        self.idle = self.idle.saturating_sub(1);
    }

    /// Whether a thread that has rested for long may end; then it is counted no more.
    pub(crate) fn leave(&mut self) -> bool {
        // The last one that is free stays: it is the one that cannot fail to start.
        let leaves = self.ready.is_empty() && self.threads.saturating_sub(self.blocked()) > 1;
        if leaves {
            self.threads = self.threads.saturating_sub(1);
        }
        leaves
    }

    /// `work` is prepared and may block. Gives it back if it may run now; else it is kept until it may, and the thread
    /// takes next.
    pub(crate) fn enter(&mut self, lane: W::Lane, work: W) -> (Option<W>, Call) {
        let work = self.lanes_of(lane).enter(lane, work);
        // The thread may be blocked from here on.
        let call = if work.is_some() { self.call() } else { Call::Nobody };
        (work, call)
    }

    /// A thread has left `lane`; it takes next.
    pub(crate) fn vacate(&mut self, lane: W::Lane) {
        let Self { ready, lanes, aside, .. } = self;
        let lanes = if W::is_aside(lane) { aside } else { lanes };
        lanes.leave(lane, |lane, work| ready.push_back(Task::Run(lane, work)));
    }

    /// A thread has left `lane`, and its work is to be prepared anew. Says what the thread does next.
    pub(crate) fn exit(&mut self, lane: W::Lane, work: W) -> (Task<W>, Call) {
        self.vacate(lane);
        let work = Task::Prepare(work);
        // Those first that have waited for a thread.
        match self.ready.pop_front() {
            Some(first) => {
                self.has_moved = true;
                self.ready.push_back(work);
                (first, self.call())
            }
            None => (work, Call::Nobody),
        }
    }

    fn lanes_of(&mut self, lane: W::Lane) -> &mut Lanes<W::Lane, W> {
        if W::is_aside(lane) { &mut self.aside } else { &mut self.lanes }
    }

    /// How many threads may be blocked.
    fn blocked(&self) -> usize {
        self.lanes.taken().saturating_add(self.aside.taken())
    }

    /// Who is to be called for what is ready: a thread that rests, or a new one if too few are awake.
    fn call(&self) -> Call {
        if self.ready.is_empty() {
            Call::Nobody
        } else if self.idle > 0 {
            Call::Idle
        } else if self.threads.saturating_sub(self.blocked()) < self.readers {
            Call::New
        } else {
            Call::Nobody
        }
    }
}

#[cfg(test)]
mod tests;
