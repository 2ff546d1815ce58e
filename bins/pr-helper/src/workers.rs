//! The threads that serve clients: they come when needed and leave when idle.
//!
//! Whatever may block is done here, in the lane of what it may block on. Which thread does what is for the [pool](Pool) to
//! say; here are the threads themselves.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::pool::{Call, Placed, Pool, Room, Task};

/// How long a thread waits for work before it leaves.
const IDLE: Duration = Duration::from_secs(5);

/// The stack of a thread. What is deepest is a log line being formatted; the largest frame holds the control data of a
/// message with 253 descriptors.
const STACK: usize = 256 << 10;

/// Something for a thread to do.
pub(crate) trait Work: Placed + Send + 'static {
    /// What a thread keeps from work to work.
    type Scratch: Default;

    /// Does what is next, in its lane, where it may block, and returns what follows from it: itself, if it belongs in another
    /// lane by now. `waited` tells that it had to wait for its place.
    fn run(self, lane: Self::Lane, waited: bool, scratch: &mut Self::Scratch) -> Option<Self>;

    /// What follows, if it can be done in `lane`, or waited for there, by a thread that has a place in it. It is done
    /// somewhere else if the thread or its place `is_wanted`.
    fn stay(self, lane: Self::Lane, is_wanted: bool, scratch: &mut Self::Scratch) -> Stay<Self>;
}

/// What a thread does after its work.
pub(crate) enum Stay<W: Work> {
    /// It goes on in its lane.
    Here(W),
    /// This is to be done in its lane, which may be another.
    Elsewhere(W),
    /// Nothing is left to be done.
    Done,
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
    /// What the pool says of itself, to be seen without its lock. Who sees it late stays for one command more.
    is_wanted: AtomicBool,
    wanted: Box<dyn Fn() + Send + Sync>,
    panics: AtomicU64,
    /// That a thread could not be started is said once.
    starved: Once,
}

impl<W: Work> Workers<W> {
    /// Starts with one thread. `wanted` is called when somebody begins to wait for a thread, or for room.
    pub(crate) fn start(room: Room, wanted: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let workers = Self(Arc::new(Shared {
            pool: Mutex::new(Pool::new(room)),
            work: Condvar::new(),
            is_wanted: AtomicBool::new(false),
            wanted: Box::new(wanted),
            panics: AtomicU64::new(0),
            starved: Once::new(),
        }));
        workers.change(|pool| workers.spawn(pool))?;
        Ok(workers)
    }

    /// Has a thread do `work`.
    pub(crate) fn submit(&self, work: W) {
        self.change(|pool| {
            let call = pool.submit(work);
            self.call(call, pool);
        });
    }

    /// Each lane of commands in which something waits, and how much. (What is under way in it may be a thread that stays.)
    pub(crate) fn waiting(&self) -> Vec<(W::Lane, usize)> {
        let pool = self.lock();
        pool.runs().filter(|(.., waiting)| *waiting > 0).map(|(lane, _, waiting)| (lane, waiting)).collect()
    }

    /// Whether somebody waits for a thread, or for room.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.is_wanted.load(Ordering::Relaxed)
    }

    /// To be called from time to time while that is so: tries again to start what could not be started.
    pub(crate) fn look_after(&self) {
        self.change(|pool| {
            let call = pool.call();
            self.call(call, pool);
        });
    }

    /// How many panics there have been.
    pub(crate) fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Pool<W>> {
        // Nothing that runs under this lock leaves it half done.
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Pool<W>) -> R) -> R {
        let mut pool = self.lock();
        let result = change(&mut pool);
        self.tell(&pool);
        result
    }

    /// Makes known whether the pool is wanted.
    fn tell(&self, pool: &Pool<W>) {
        let is_wanted = pool.is_wanted();
        // Under the lock, so that what is told last is true. All threads read it, so it is written only to be changed.
        if self.0.is_wanted.load(Ordering::Relaxed) != is_wanted {
            self.0.is_wanted.store(is_wanted, Ordering::Relaxed);
            if is_wanted {
                (self.0.wanted)();
            }
        }
    }

    fn call(&self, call: Call, pool: &mut Pool<W>) {
        match call {
            Call::Nobody => {}
            Call::Idle => self.0.work.notify_one(),
            Call::New => {
                if let Err(error) = self.spawn(pool) {
                    // If there is one.
                    self.0.work.notify_one();
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
        let mut next = None;
        while let Some(Task { lane, work, waited }) = next.take().or_else(|| self.take()) {
            let run = AssertUnwindSafe(|| self.run(lane, work, waited, &mut scratch));
            let more = catch_unwind(run).unwrap_or_else(|_| {
                // The panic itself has been logged. It cost one client its connection. What it had sent is closed here, since
                // that may block as well.
                scratch = W::Scratch::default();
                self.0.panics.fetch_add(1, Ordering::Relaxed);
                None
            });
            next = self.change(|pool| {
                let (task, call) = pool.leave(lane, more);
                self.call(call, pool);
                task
            });
        }
    }

    /// The next thing to do; `None` if the thread is to end.
    fn take(&self) -> Option<Task<W>> {
        let mut pool = self.lock();
        loop {
            if let Some((task, call)) = pool.take() {
                self.call(call, &mut pool);
                self.tell(&pool);
                return Some(task);
            }
            pool.rest();
            let (guard, timeout) =
                self.0.work.wait_timeout(pool, IDLE).unwrap_or_else(PoisonError::into_inner);
            pool = guard;
            pool.rise();
            if timeout.timed_out() && pool.end() {
                return None;
            }
        }
    }

    /// Does it, and all that follows from it in the same lane. Returns what does in another.
    fn run(&self, lane: W::Lane, mut work: W, mut waited: bool, scratch: &mut W::Scratch) -> Option<W> {
        loop {
            match work.run(lane, waited, scratch)?.stay(lane, self.is_wanted(), scratch) {
                Stay::Here(next) => (work, waited) = (next, false),
                Stay::Elsewhere(next) => return Some(next),
                Stay::Done => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::pool::Purpose;

    /// What comes next from a client.
    enum Next {
        /// A command for this lane.
        Command(u8),
        Nothing,
        Panic,
    }

    /// A client that does as it is told, and tells what is done with it.
    struct Fake {
        orders: Receiver<Next>,
        events: Sender<&'static str>,
        /// Of what is next.
        lane: u8,
    }

    /// Those from 10 on are of devices at which no thread stays.
    const READ: u8 = 100;

    impl Fake {
        /// The lane of what it is told.
        fn read(mut self, event: &'static str) -> Option<Self> {
            let _ = self.events.send(event);
            match self.orders.recv_timeout(Duration::from_secs(30)) {
                Ok(Next::Command(lane)) => self.lane = lane,
                Ok(Next::Panic) => panic!("as ordered"),
                Ok(Next::Nothing) | Err(_) => return None,
            }
            Some(self)
        }
    }

    impl Placed for Fake {
        type Lane = u8;

        fn lane(&self) -> u8 {
            self.lane
        }

        fn purpose(lane: u8) -> Purpose {
            if lane == READ { Purpose::Read } else { Purpose::Run }
        }

        fn most(_: u8) -> usize {
            usize::MAX
        }
    }

    impl Work for Fake {
        type Scratch = ();

        fn run(mut self, _: u8, _: bool, (): &mut ()) -> Option<Self> {
            if self.lane == READ {
                return self.read("reads");
            }
            let _ = self.events.send("runs");
            self.lane = READ;
            Some(self)
        }

        fn stay(self, lane: u8, is_wanted: bool, (): &mut ()) -> Stay<Self> {
            if self.lane != READ || lane >= 10 || is_wanted {
                return Stay::Elsewhere(self);
            }
            match self.read("stays") {
                None => Stay::Done,
                Some(fake) if fake.lane == lane => Stay::Here(fake),
                Some(fake) => Stay::Elsewhere(fake),
            }
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = self.events.send("ends");
        }
    }

    fn client() -> (Sender<Next>, Receiver<&'static str>, Fake) {
        let ((order, orders), (events, seen)) = (channel(), channel());
        (order, seen, Fake { orders, events, lane: READ })
    }

    /// All that happens until the client's end.
    fn story(workers: &Workers<Fake>, orders: impl IntoIterator<Item = Next>) -> Vec<&'static str> {
        let (order, seen, fake) = client();
        orders.into_iter().for_each(|next| order.send(next).unwrap());
        workers.submit(fake);
        seen.iter().collect()
    }

    fn eventually(condition: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(30), "in vain");
            thread::yield_now();
        }
    }

    fn workers() -> Workers<Fake> {
        Workers::start(Room { read: 8, read_of_one: 8, run: 8, close: 1 }, || {}).unwrap()
    }

    #[test]
    fn a_thread_stays_where_it_may_and_leaves_no_place_taken() {
        use Next::{Command, Nothing};
        let workers = workers();
        assert_eq!(
            story(&workers, [Command(1), Command(1), Command(2), Nothing]),
            ["reads", "runs", "stays", "runs", "stays", "runs", "stays", "ends"]
        );
        assert_eq!(
            story(&workers, [Command(10), Command(1), Command(10), Nothing]),
            ["reads", "runs", "reads", "runs", "stays", "runs", "reads", "ends"]
        );
        eventually(|| workers.change(|pool| pool.runs().count()) == 0);
    }

    #[test]
    fn a_panic_costs_one_client_and_no_place() {
        let workers = workers();
        for orders in [vec![Next::Panic], vec![Next::Command(1), Next::Panic]] {
            assert_eq!(story(&workers, orders).last(), Some(&"ends"));
        }
        assert_eq!(story(&workers, [Next::Nothing]), ["reads", "ends"]);
        eventually(|| (workers.panics(), workers.change(|pool| pool.runs().count())) == (2, 0));
    }

    #[test]
    fn who_stays_leaves_when_somebody_waits_for_room() {
        let workers = Workers::start(Room { read: 2, read_of_one: 2, run: 2, close: 1 }, || {}).unwrap();
        let (order, seen, staying) = client();
        order.send(Next::Command(1)).unwrap();
        workers.submit(staying);
        let said = |seen: &Receiver<_>, expected: &[&str]| {
            for expected in expected {
                assert_eq!(seen.recv_timeout(Duration::from_secs(30)).as_ref(), Ok(expected));
            }
        };
        said(&seen, &["reads", "runs", "stays"]);
        let (other_order, other_seen, other) = client();
        other_order.send(Next::Command(2)).unwrap();
        workers.submit(other);
        said(&other_seen, &["reads", "runs", "stays"]);
        // The last place would be a third device's, but both are taken.
        let (third_order, third_seen, third) = client();
        third_order.send(Next::Command(3)).unwrap();
        workers.submit(third);
        said(&third_seen, &["reads"]);
        eventually(|| workers.is_wanted());
        order.send(Next::Command(1)).unwrap();
        said(&seen, &["runs", "reads"]);
        said(&third_seen, &["runs"]);
    }
}
