//! The threads that serve active connections: spawned on demand, parked when idle.
//!
//! Everything that can block is done on them. A job is handed to a parked thread directly, else to a new one, so a job
//! never waits behind another job: neither can a connection wait for another connection's device.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// How long a thread stays parked before it exits.
const IDLE: Duration = Duration::from_secs(5);

/// How many threads linger at a time: with more clients than this, a thread for each takes more memory than it saves time.
const LINGERING_MAX: usize = 192;

/// Stack of a thread, in bytes. The deepest call formats a log line.
const STACK: usize = 256 << 10;

/// Work for a thread.
pub(crate) trait Job: Send + 'static {
    /// Does the work; may block.
    fn run(self);
}

/// A handle to the threads; clones refer to the same threads.
pub(crate) struct Threads<J: Job>(Arc<Shared<J>>);

impl<J: Job> Clone for Threads<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<J> {
    state: Mutex<State<J>>,
    /// Cached `!queued.is_empty()`, readable without the lock. A stale value costs one lingering command.
    contended: AtomicBool,
    /// Threads that linger.
    lingering: AtomicUsize,
    on_panic: Box<dyn Fn() + Send + Sync>,
}

/// A permit to linger.
pub(crate) struct LingerPermit<'a>(&'a AtomicUsize);

impl Drop for LingerPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct State<J> {
    /// Threads without a job; the last one parked is the first to be unparked.
    parked: Vec<Arc<Parker<J>>>,
    /// Jobs for which no thread could be spawned.
    queued: VecDeque<J>,
    /// Threads that exist.
    threads: usize,
    stopping: bool,
}

/// Where a parked thread gets its next job.
struct Parker<J> {
    next: Mutex<Next<J>>,
    changed: Condvar,
}

enum Next<J> {
    Nothing,
    Job(J),
    Exit,
}

impl<J: Job> Threads<J> {
    /// Returns a handle without a thread. `on_panic` is called after a job has panicked.
    pub(crate) fn new(on_panic: impl Fn() + Send + Sync + 'static) -> Self {
        let state = State { parked: Vec::new(), queued: VecDeque::new(), threads: 0, stopping: false };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            contended: AtomicBool::new(false),
            lingering: AtomicUsize::new(0),
            on_panic: Box::new(on_panic),
        }))
    }

    /// Hands `job` to a parked thread, or to a new one. If none can be spawned, queues it for the next thread that has
    /// done its job, and returns how many threads there are and why there are no more.
    pub(crate) fn submit(&self, job: J) -> Result<(), (usize, io::Error)> {
        let mut state = self.lock();
        if let Some(parker) = state.parked.pop() {
            drop(state);
            parker.give(Next::Job(job));
            return Ok(());
        }
        self.spawn(state, job)
    }

    /// Tries again to spawn threads for the jobs that are queued for want of one.
    pub(crate) fn retry(&self) {
        loop {
            let mut state = self.lock();
            let Some(job) = state.queued.pop_front() else { return };
            self.publish(&state);
            // The error was reported when the job was queued.
            if self.spawn(state, job).is_err() {
                return;
            }
        }
    }

    /// Permits the calling thread to linger, until the permit is dropped; `None` if a job is queued for want of a thread, or
    /// [`LINGERING_MAX`] threads linger already.
    pub(crate) fn linger(&self) -> Option<LingerPermit<'_>> {
        if self.0.contended.load(Ordering::Relaxed) {
            return None;
        }
        let permit = LingerPermit(&self.0.lingering);
        (self.0.lingering.fetch_add(1, Ordering::Relaxed) < LINGERING_MAX).then_some(permit)
    }

    /// Has each thread exit when its job is done.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        let parked = std::mem::take(&mut state.parked);
        state.threads = state.threads.saturating_sub(parked.len());
        drop(state);
        for parker in parked {
            parker.give(Next::Exit);
        }
    }

    fn spawn(&self, mut state: MutexGuard<'_, State<J>>, job: J) -> Result<(), (usize, io::Error)> {
        let threads = state.threads;
        state.threads = threads.saturating_add(1);
        drop(state);
        let parker = Arc::new(Parker { next: Mutex::new(Next::Job(job)), changed: Condvar::new() });
        let (shared, its_parker) = (self.clone(), Arc::clone(&parker));
        let spawned = thread::Builder::new()
            .name("connection".into())
            .stack_size(STACK)
            .spawn(move || shared.run(&its_parker));
        let Err(error) = spawned else { return Ok(()) };
        let mut state = self.lock();
        state.threads = state.threads.saturating_sub(1);
        if let Next::Job(job) = parker.take() {
            state.queued.push_back(job);
            // A thread may have parked meanwhile.
            if let Some(parked) = state.parked.pop() {
                if let Some(job) = state.queued.pop_front() {
                    parked.give(Next::Job(job));
                }
            }
        }
        self.publish(&state);
        Err((threads, error))
    }

    /// Runs jobs until the thread exits.
    fn run(&self, parker: &Arc<Parker<J>>) {
        loop {
            match parker.take() {
                Next::Job(job) => {
                    // A panic costs one client its connection; the panic hook has logged it.
                    if catch_unwind(AssertUnwindSafe(|| job.run())).is_err() {
                        (self.0.on_panic)();
                    }
                }
                Next::Exit => return,
                Next::Nothing => {}
            }
            let mut state = self.lock();
            if let Some(job) = state.queued.pop_front() {
                self.publish(&state);
                drop(state);
                parker.give(Next::Job(job));
                continue;
            }
            if state.stopping {
                state.threads = state.threads.saturating_sub(1);
                return;
            }
            state.parked.push(Arc::clone(parker));
            drop(state);
            if !parker.wait(IDLE) && self.try_retire(parker) {
                return;
            }
        }
    }

    /// Takes a thread that stayed parked for long off the list. Returns false if it must go on: a job is on its way to
    /// it, or it is the last thread, which is kept because it cannot fail to start.
    fn try_retire(&self, parker: &Arc<Parker<J>>) -> bool {
        let mut state = self.lock();
        let place = state.parked.iter().position(|parked| Arc::ptr_eq(parked, parker));
        let Some(place) = place else {
            drop(state);
            parker.wait_for_job();
            return false;
        };
        state.parked.remove(place);
        let retires = state.threads > 1;
        if retires {
            state.threads = state.threads.saturating_sub(1);
        }
        retires
    }

    fn publish(&self, state: &State<J>) {
        self.0.contended.store(!state.queued.is_empty(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // No operation under this lock leaves the state half changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Parker<J> {
    fn give(&self, next: Next<J>) {
        *self.lock() = next;
        self.changed.notify_one();
    }

    fn take(&self) -> Next<J> {
        std::mem::replace(&mut *self.lock(), Next::Nothing)
    }

    /// Blocks until there is something to take; returns false if there was nothing for so long.
    fn wait(&self, timeout: Duration) -> bool {
        let (next, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |next| matches!(next, Next::Nothing))
            .unwrap_or_else(PoisonError::into_inner);
        !matches!(*next, Next::Nothing)
    }

    fn wait_for_job(&self) {
        let is_empty = |next: &mut Next<J>| matches!(next, Next::Nothing);
        drop(self.changed.wait_while(self.lock(), is_empty).unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, Next<J>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Receiver, Sender, channel},
        time::Instant,
    };

    use super::*;

    /// A job that runs until it is told to end.
    struct Fake {
        number: usize,
        begun: Sender<usize>,
        end: Receiver<()>,
        panics: bool,
    }

    impl Job for Fake {
        fn run(self) {
            self.begun.send(self.number).unwrap();
            let _ = self.end.recv_timeout(Duration::from_secs(30));
            assert!(!self.panics, "as told");
        }
    }

    fn eventually(condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(30), "timed out");
            thread::yield_now();
        }
    }

    fn submit(threads: &Threads<Fake>, number: usize, begun: &Sender<usize>, panics: bool) -> Sender<()> {
        let (end, ended) = channel();
        threads.submit(Fake { number, begun: begun.clone(), end: ended, panics }).unwrap();
        end
    }

    #[test]
    fn no_job_waits_for_another() {
        let threads = Threads::new(|| {});
        let (begun, order) = channel();
        let ends: Vec<_> = (0..50).map(|number| submit(&threads, number, &begun, false)).collect();
        let mut seen: Vec<_> =
            (0..50).map(|_| order.recv_timeout(Duration::from_secs(30)).unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
        assert_eq!(threads.lock().threads, 50);
        drop(ends);
        eventually(|| threads.lock().parked.len() == 50);
        drop(submit(&threads, 50, &begun, false));
        assert_eq!(order.recv_timeout(Duration::from_secs(30)), Ok(50));
        assert_eq!(threads.lock().threads, 50, "a parked thread takes it");
        threads.stop();
        eventually(|| threads.lock().threads == 0);
    }

    #[test]
    fn panic_costs_one_job() {
        let panics = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&panics);
        let threads = Threads::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let (begun, order) = channel();
        drop(submit(&threads, 0, &begun, true));
        eventually(|| panics.load(Ordering::SeqCst) == 1 && threads.lock().parked.len() == 1);
        drop(submit(&threads, 1, &begun, false));
        assert_eq!(order.iter().take(2).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(threads.lock().threads, 1);
    }

    #[test]
    fn queued_job_runs_on_a_free_thread() {
        let threads = Threads::new(|| {});
        let (begun, order) = channel();
        let busy = submit(&threads, 0, &begun, false);
        assert_eq!(order.recv(), Ok(0));
        let (_end, ended) = channel();
        {
            // As if no thread could be spawned.
            let mut state = threads.lock();
            state.queued.push_back(Fake { number: 1, begun: begun.clone(), end: ended, panics: false });
            threads.publish(&state);
        }
        assert!(threads.linger().is_none());
        drop(busy);
        assert_eq!(order.recv_timeout(Duration::from_secs(30)), Ok(1));
        let permits: Vec<_> = (0..1000).filter_map(|_| threads.linger()).collect();
        assert_eq!(permits.len(), LINGERING_MAX);
        drop(permits);
        assert!(threads.linger().is_some());
        assert_eq!(threads.lock().threads, 1);
    }

    #[test]
    fn retry_spawns_threads_for_queued_jobs() {
        let threads = Threads::new(|| {});
        let (begun, order) = channel();
        let _busy = submit(&threads, 0, &begun, false);
        assert_eq!(order.recv(), Ok(0));
        let mut ends = Vec::new();
        {
            // As if no thread could be spawned.
            let mut state = threads.lock();
            for number in 1..=3 {
                let (end, ended) = channel();
                ends.push(end);
                state.queued.push_back(Fake { number, begun: begun.clone(), end: ended, panics: false });
            }
            threads.publish(&state);
        }
        threads.retry();
        let mut seen: Vec<_> = (0..3).map(|_| order.recv_timeout(Duration::from_secs(20)).unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3], "while the first job still runs");
        assert_eq!(threads.lock().threads, 4);
        assert!(threads.linger().is_some(), "no job is queued");
    }

    #[test]
    fn jobs_race_with_threads_that_retire() {
        let threads = Threads::new(|| {});
        let (begun, order) = channel();
        let submitting = {
            let threads = threads.clone();
            thread::spawn(move || {
                for number in 0..2000 {
                    drop(submit(&threads, number, &begun, false));
                }
            })
        };
        // Every parked thread is asked to retire, again and again, as if its time were over.
        let mut seen = 0;
        let begun = Instant::now();
        while seen < 2000 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{seen} of 2000 jobs were run");
            let parked = threads.lock().parked.last().map(Arc::clone);
            if let Some(parker) = parked {
                let mut state = threads.lock();
                if let Some(place) = state.parked.iter().position(|parked| Arc::ptr_eq(parked, &parker)) {
                    if state.threads > 1 {
                        state.parked.remove(place);
                        state.threads -= 1;
                        drop(state);
                        parker.give(Next::Exit);
                    }
                }
            }
            seen += order.try_iter().count();
        }
        submitting.join().unwrap();
    }
}
