//! The threads that serve clients: they come when needed and leave when idle, and some are always free of devices.
//!
//! Whatever may block is done here, in the lane of the device that it may block on ([`Lanes`]); with as many threads
//! as there are places in the lanes and a few more, some thread is always free to read what a client sends.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::lanes::Lanes;

/// Threads beyond the places in the lanes: those that read.
const READERS: usize = 2;

/// How long a thread waits for work before it leaves.
const IDLE: Duration = Duration::from_secs(5);

/// The stack of a thread. What is deepest is a log line being formatted; the largest frame holds the control data of a
/// message with 253 descriptors.
const STACK: usize = 256 << 10;

/// Something for a thread to do.
pub(crate) trait Work: Send + Sized + 'static {
    /// What work of the same kind may block on.
    type Lane: Copy + Eq + std::hash::Hash + Send + 'static;
    /// Whether the lane is of work that serves nobody: it has places of its own, so that it cannot take those of others.
    fn is_aside(lane: Self::Lane) -> bool;
    /// How much work may be under way in a lane at once, whatever room there is.
    fn most(lane: Self::Lane) -> usize;

    /// What a thread keeps from work to work.
    type Scratch: Default;

    /// Does what cannot block, and says what is left to do, and where.
    fn prepare(self, scratch: &mut Self::Scratch) -> Step<Self>;

    /// Does what may block, and says whether there is more. `waited` tells that it had to wait for its lane.
    fn run(self, waited: bool, scratch: &mut Self::Scratch) -> Option<Self>;
}

/// What is left to do after [`Work::prepare`].
pub(crate) enum Step<W: Work> {
    /// Nothing.
    Done,
    /// [`Work::run`], in this lane.
    Block(W::Lane, W),
}

/// A handle to the threads; clones are of the same.
pub(crate) struct Workers<W: Work>(Arc<Shared<W>>);

impl<W: Work> Clone for Workers<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<W: Work> {
    state: Mutex<State<W>>,
    work: Condvar,
    panics: AtomicU64,
}

struct State<W: Work> {
    ready: VecDeque<Ready<W>>,
    lanes: Lanes<W::Lane, W>,
    aside: Lanes<W::Lane, W>,
    threads: usize,
    idle: usize,
    /// A thread could not be started: said once.
    starved: bool,
}

enum Ready<W: Work> {
    Prepare(W),
    Run(W::Lane, W),
}

impl<W: Work> State<W> {
    fn lanes_of(&mut self, lane: W::Lane) -> &mut Lanes<W::Lane, W> {
        if W::is_aside(lane) { &mut self.aside } else { &mut self.lanes }
    }

    /// How many threads may be blocked.
    fn blocked(&self) -> usize {
        self.lanes.taken().saturating_add(self.aside.taken())
    }
}

impl<W: Work> Workers<W> {
    /// Starts with one thread. `places` is how much may be under way in all, `aside` how much in lanes that are aside.
    pub(crate) fn start(places: usize, aside: usize) -> io::Result<Self> {
        let state = State {
            ready: VecDeque::new(),
            lanes: Lanes::new(places, W::most),
            aside: Lanes::new(aside, W::most),
            threads: 1,
            idle: 0,
            starved: false,
        };
        let workers = Self(Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            panics: AtomicU64::new(0),
        }));
        workers.spawn()?;
        Ok(workers)
    }

    /// Has a thread do `work`.
    pub(crate) fn submit(&self, work: W) {
        let mut state = self.lock();
        state.ready.push_back(Ready::Prepare(work));
        self.attend(&mut state);
    }

    /// Each lane in use, with how much is under way in it and how much waits.
    pub(crate) fn lanes(&self) -> Vec<(W::Lane, usize, usize)> {
        self.lock().lanes.iter().collect()
    }

    /// How many panics there have been.
    pub(crate) fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // Nothing that runs under this lock leaves it half done.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that what is ready will be done: by a thread that waits, or by a new one if too few are awake.
    fn attend(&self, state: &mut State<W>) {
        if state.ready.is_empty() {
            return;
        }
        if state.idle > 0 {
            self.0.work.notify_one();
            return;
        }
        if state.threads.saturating_sub(state.blocked()) >= READERS {
            return;
        }
        match self.spawn() {
            Ok(()) => state.threads = state.threads.saturating_add(1),
            Err(error) if !state.starved => {
                state.starved = true;
                log::warn!(
                    "no more than {} threads can be started ({error}): commands will wait for each other; raise the limit of processes (RLIMIT_NPROC, TasksMax)",
                    state.threads
                );
            }
            Err(_) => {}
        }
    }

    fn spawn(&self) -> io::Result<()> {
        let workers = self.clone();
        thread::Builder::new()
            .name("worker".into())
            .stack_size(STACK)
            .spawn(move || workers.serve())
            .map(drop)
    }

    fn serve(&self) {
        let mut scratch = W::Scratch::default();
        while let Some(ready) = self.take() {
            let guarded = catch_unwind(AssertUnwindSafe(|| self.perform(ready, &mut scratch)));
            if guarded.is_err() {
                // The panic itself has been logged. It cost one client its connection.
                scratch = W::Scratch::default();
                self.0.panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The next thing to do; `None` if the thread is to leave.
    fn take(&self) -> Option<Ready<W>> {
        let mut state = self.lock();
        loop {
            if let Some(ready) = state.ready.pop_front() {
                return Some(ready);
            }
            state.idle = state.idle.saturating_add(1);
            let (guard, timeout) =
                self.0.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle = state.idle.saturating_sub(1);
            // The last one stays: it is the one that cannot fail to start.
            if timeout.timed_out() && state.ready.is_empty() && state.threads > 1 {
                state.threads = state.threads.saturating_sub(1);
                return None;
            }
        }
    }

    fn perform(&self, mut ready: Ready<W>, scratch: &mut W::Scratch) {
        loop {
            let (lane, work, waited) = match ready {
                Ready::Run(lane, work) => (lane, work, true),
                Ready::Prepare(work) => match work.prepare(scratch) {
                    Step::Done => return,
                    Step::Block(lane, work) => match self.enter(lane, work) {
                        Some(work) => (lane, work, false),
                        None => return,
                    },
                },
            };
            let leaving = Leaving { workers: self, lane };
            let more = work.run(waited, scratch);
            drop(leaving);
            match more.and_then(|work| self.yield_to_others(work)) {
                Some(work) => ready = Ready::Prepare(work),
                None => return,
            }
        }
    }

    /// Gives `work` back if nobody else waits for a thread, else puts it behind them.
    fn yield_to_others(&self, work: W) -> Option<W> {
        let mut state = self.lock();
        if state.ready.is_empty() {
            return Some(work);
        }
        state.ready.push_back(Ready::Prepare(work));
        None
    }

    fn enter(&self, lane: W::Lane, work: W) -> Option<W> {
        let mut state = self.lock();
        let work = state.lanes_of(lane).enter(lane, work)?;
        // This thread may block from here on: somebody else must be awake for what is ready.
        self.attend(&mut state);
        Some(work)
    }
}

/// A place in a lane, given back when dropped: also when the work panics.
struct Leaving<'a, W: Work> {
    workers: &'a Workers<W>,
    lane: W::Lane,
}

impl<W: Work> Drop for Leaving<'_, W> {
    fn drop(&mut self) {
        let mut state = self.workers.lock();
        let State { ready, lanes, aside, .. } = &mut *state;
        let lanes = if W::is_aside(self.lane) { aside } else { lanes };
        let mut resumed = 0_usize;
        lanes.leave(self.lane, |lane, work| {
            resumed = resumed.saturating_add(1);
            ready.push_back(Ready::Run(lane, work));
        });
        for _ in 0..resumed {
            self.workers.attend(&mut state);
        }
    }
}
