//! The threads that serve clients: they come when needed and leave when idle, and some are always free of devices.
//!
//! Whatever may block is done here, in the lane of the device that it may block on. Which thread does what is for the
//! [pool](Pool) to say; here are the threads themselves.

use std::{
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::pool::{Call, Placed, Pool, Posted, Room, Task};

/// How long a thread waits for work before it leaves.
const IDLE: Duration = Duration::from_secs(5);

/// The stack of a thread. What is deepest is a log line being formatted; the largest frame holds the control data of a
/// message with 253 descriptors.
const STACK: usize = 256 << 10;

/// Something for a thread to do.
pub(crate) trait Work: Placed + Send + 'static {
    /// What a thread keeps from work to work.
    type Scratch: Default;

    /// Does what cannot block, and says what is left to do, and where. Only with a post it may wait, for a moment.
    fn prepare(self, posted: Posted, scratch: &mut Self::Scratch) -> Step<Self>;

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
    pool: Mutex<Pool<W>>,
    work: Condvar,
    panics: AtomicU64,
    /// That a thread could not be started is said once.
    starved: Once,
}

impl<W: Work> Workers<W> {
    /// Starts with one thread.
    pub(crate) fn start(room: Room) -> io::Result<Self> {
        let workers = Self(Arc::new(Shared {
            pool: Mutex::new(Pool::new(room)),
            work: Condvar::new(),
            panics: AtomicU64::new(0),
            starved: Once::new(),
        }));
        workers.spawn(&mut workers.lock())?;
        Ok(workers)
    }

    /// Has a thread do `work`.
    pub(crate) fn submit(&self, work: W) {
        let mut pool = self.lock();
        let call = pool.submit(work);
        self.call(call, &mut pool);
    }

    /// Each lane in use, with how much is under way in it and how much waits.
    pub(crate) fn lanes(&self) -> Vec<(W::Lane, usize, usize)> {
        self.lock().lanes().collect()
    }

    /// How many panics there have been.
    pub(crate) fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Pool<W>> {
        // Nothing that runs under this lock leaves it half done.
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, call: Call, pool: &mut Pool<W>) {
        match call {
            Call::Nobody => {}
            Call::Idle => self.0.work.notify_one(),
            Call::New => {
                if let Err(error) = self.spawn(pool) {
                    self.0.starved.call_once(|| {
                        log::warn!(
                            "no more than {} threads can be started ({error}): commands will wait for each other; raise the limit of processes (RLIMIT_NPROC, TasksMax)",
                            pool.threads()
                        );
                    });
                }
            }
        }
    }

    fn spawn(&self, pool: &mut Pool<W>) -> io::Result<()> {
        let workers = self.clone();
        thread::Builder::new().name("worker".into()).stack_size(STACK).spawn(move || workers.serve())?;
        pool.started();
        Ok(())
    }

    fn serve(&self) {
        let mut scratch = W::Scratch::default();
        while let Some(task) = self.take() {
            let guarded = catch_unwind(AssertUnwindSafe(|| self.perform(task, &mut scratch)));
            if guarded.is_err() {
                // The panic itself has been logged. It cost one client its connection.
                scratch = W::Scratch::default();
                self.0.panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The next thing to do; `None` if the thread is to leave.
    fn take(&self) -> Option<Task<W>> {
        let mut pool = self.lock();
        loop {
            if let Some((task, call)) = pool.take() {
                self.call(call, &mut pool);
                return Some(task);
            }
            pool.rest();
            let (guard, timeout) =
                self.0.work.wait_timeout(pool, IDLE).unwrap_or_else(PoisonError::into_inner);
            pool = guard;
            pool.rise();
            if timeout.timed_out() && pool.leave() {
                return None;
            }
        }
    }

    /// Does it, and all that follows from it without another thread.
    fn perform(&self, mut task: Task<W>, scratch: &mut W::Scratch) {
        loop {
            let (lane, work, waited) = match task {
                Task::Run(lane, work) => (lane, work, true),
                Task::Prepare(work, posted) => {
                    let post = Post { workers: self, posted };
                    let Step::Block(lane, work) = work.prepare(posted, scratch) else { return };
                    let Some(work) = post.enter(lane, work) else { return };
                    (lane, work, false)
                }
            };
            let place = Place { workers: self, lane };
            let more = work.run(waited, scratch);
            let Some(next) = place.exit(more) else { return };
            task = next;
        }
    }
}

/// A thread's post, or none, while it prepares. Given back when dropped: also when the work panics.
struct Post<'a, W: Work> {
    workers: &'a Workers<W>,
    posted: Posted,
}

impl<W: Work> Post<'_, W> {
    /// Gives the post back for a place in a lane; `None` if the work has to wait for that.
    fn enter(self, lane: W::Lane, work: W) -> Option<W> {
        let mut pool = self.workers.lock();
        let (work, call) = pool.enter(self.posted, lane, work);
        self.workers.call(call, &mut pool);
        drop(pool);
        mem::forget(self);
        work
    }
}

impl<W: Work> Drop for Post<'_, W> {
    fn drop(&mut self) {
        self.workers.lock().finish(self.posted);
    }
}

/// A place in a lane, given back when dropped: also when the work panics.
struct Place<'a, W: Work> {
    workers: &'a Workers<W>,
    lane: W::Lane,
}

impl<W: Work> Place<'_, W> {
    /// Gives the place back; what the thread does next.
    fn exit(self, more: Option<W>) -> Option<Task<W>> {
        let mut pool = self.workers.lock();
        let next = pool.exit(self.lane, more).map(|(task, call)| {
            self.workers.call(call, &mut pool);
            task
        });
        drop(pool);
        mem::forget(self);
        next
    }
}

impl<W: Work> Drop for Place<'_, W> {
    fn drop(&mut self) {
        self.workers.lock().vacate(self.lane);
    }
}
