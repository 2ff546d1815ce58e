//! Which thread does what next, and when another is needed: decided without threads, time or system calls, so that
//! all that can happen can be tried (see the tests).
//!
//! Whatever is done may block: on a device, or on what a client has sent. So all work has a [lane](Lanes), and is ready only
//! when it has a place there; then it waits in one queue for a thread. A thread does what it takes and then what
//! follows from it, which may be in another lane. After a command it may stay in the lane of the device for a moment and
//! wait for the client's next one, unless [somebody waits](Pool::is_wanted) for the thread or its place: one that sends one
//! command after the other finds its thread waiting, and nothing has to be decided anew.
//!
//! One rule keeps what is ready from being forgotten: there are as many threads as places taken. So whoever makes something
//! ready, and whoever takes something and leaves something behind, calls a thread that rests, or has one more started.

use std::collections::VecDeque;

use crate::lanes::Lanes;

/// Something to do that may block on something.
pub(crate) trait Placed: Sized {
    /// What work may block on.
    type Lane: Copy + Ord + Send + 'static;
    /// Where what is to be done next may block.
    fn lane(&self) -> Self::Lane;
    /// What the lane is for.
    fn purpose(lane: Self::Lane) -> Purpose;
    /// How much work may be under way in a lane at once, whatever room there is.
    fn most(lane: Self::Lane) -> usize;
}

/// What lanes are for. Each has places of its own, so that none can take those of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To read what has come.
    Read,
    /// To run commands.
    Run,
    /// To close what serves nobody.
    Close,
}

/// How much may be under way for each purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) read: usize,
    /// In one lane.
    pub(crate) read_of_one: usize,
    pub(crate) run: usize,
    pub(crate) close: usize,
}

impl Room {
    /// How much may be under way in all.
    pub(crate) const fn all(self) -> usize {
        self.read.saturating_add(self.run).saturating_add(self.close)
    }
}

/// All that threads share: what is ready, who may run, and how many threads there are.
#[cfg_attr(test, derive(Debug, Clone, Hash))]
pub(crate) struct Pool<W: Placed> {
    ready: VecDeque<Task<W>>,
    reads: Lanes<W::Lane, W>,
    runs: Lanes<W::Lane, W>,
    closes: Lanes<W::Lane, W>,
    /// Threads that there are.
    threads: usize,
    /// Those that have nothing to do.
    idle: usize,
    /// How many of these, at least, have been called and will rise.
    called: usize,
}

/// What a thread is to do. Its place is taken.
#[cfg_attr(test, derive(Debug, Clone, PartialEq, Eq, Hash))]
#[must_use]
pub(crate) struct Task<W: Placed> {
    pub(crate) lane: W::Lane,
    pub(crate) work: W,
    /// It had to wait for its place.
    pub(crate) waited: bool,
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
            reads: Lanes::new(room.read, W::most).with_at_most(room.read_of_one),
            runs: Lanes::new(room.run, W::most),
            closes: Lanes::new(room.close, W::most),
            threads: 0,
            idle: 0,
            called: 0,
        }
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Each lane of commands in use, with how much is under way in it and how much waits.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (W::Lane, usize, usize)> {
        self.runs.iter()
    }

    /// Whether somebody waits for a thread that could not be started, or for a place that others could leave.
    pub(crate) fn is_wanted(&self) -> bool {
        self.runs.are_short() || self.is_starved()
    }

    fn is_starved(&self) -> bool {
        self.threads < self.taken()
    }

    /// There is one more thread, which will [take](Self::take).
    pub(crate) fn started(&mut self) {
        self.threads = self.threads.saturating_add(1);
    }

    /// `work` is to be done.
    pub(crate) fn submit(&mut self, work: W) -> Call {
        if let Some(task) = self.enter(work) {
            self.ready.push_back(task);
        }
        self.call()
    }

    /// The next thing to do.
    pub(crate) fn take(&mut self) -> Option<(Task<W>, Call)> {
        let task = self.ready.pop_front()?;
        let call = self.call();
        Some((task, call))
    }

    /// Makes ready what has waited for a place in `lane`, or for others of its kind.
    fn vacate(&mut self, lane: W::Lane) {
        let Self { ready, reads, runs, closes, .. } = self;
        let lanes = match W::purpose(lane) {
            Purpose::Read => reads,
            Purpose::Run => runs,
            Purpose::Close => closes,
        };
        lanes.leave(lane, |lane, work| ready.push_back(Task { lane, work, waited: true }));
    }

    /// A thread has done its work in `lane`, and `more` follows from it. Says what the thread does next: that, if it can be
    /// done now, or what is ready.
    pub(crate) fn leave(&mut self, lane: W::Lane, more: Option<W>) -> (Option<Task<W>>, Call) {
        self.vacate(lane);
        let task = match more.and_then(|more| self.enter(more)) {
            Some(task) if !self.is_starved() => Some(task),
            // Those first that have waited for a thread.
            task => {
                self.ready.extend(task.map(|task| Task { waited: true, ..task }));
                self.ready.pop_front()
            }
        };
        let call = self.call();
        (task, call)
    }

    /// A thread has found nothing to take.
    pub(crate) fn rest(&mut self) {
        self.idle = self.idle.saturating_add(1);
    }

    /// A thread has been called, or looks by itself: it takes, rests again or [ends](Self::end).
    pub(crate) fn rise(&mut self) {
        self.idle = self.idle.saturating_sub(1);
        // If it was another that was called, that one will be called again, which does no harm.
        self.called = self.called.saturating_sub(1);
    }

    /// Whether a thread that has rested for long may end; then it is counted no more.
    pub(crate) fn end(&mut self) -> bool {
        // The last one that is free stays: it is the one that cannot fail to start.
        let ends = self.ready.is_empty() && self.threads.saturating_sub(self.taken()) > 1;
        if ends {
            self.threads = self.threads.saturating_sub(1);
        }
        ends
    }

    /// Who is to be called for what is ready.
    pub(crate) fn call(&mut self) -> Call {
        if self.is_starved() {
            Call::New
        } else if self.called < self.ready.len().min(self.idle) {
            self.called = self.called.saturating_add(1);
            Call::Idle
        } else {
            // Those that are awake, or will be, are enough.
            Call::Nobody
        }
    }

    /// Work that may be done now; else it is kept until it may.
    fn enter(&mut self, work: W) -> Option<Task<W>> {
        let lane = work.lane();
        let lanes = match W::purpose(lane) {
            Purpose::Read => &mut self.reads,
            Purpose::Run => &mut self.runs,
            Purpose::Close => &mut self.closes,
        };
        lanes.enter(lane, work).map(|work| Task { lane, work, waited: false })
    }

    /// How many places are taken: by what is ready, and by threads that may be blocked.
    fn taken(&self) -> usize {
        let Self { reads, runs, closes, .. } = self;
        reads.taken().saturating_add(runs.taken()).saturating_add(closes.taken())
    }
}

#[cfg(test)]
mod tests;
