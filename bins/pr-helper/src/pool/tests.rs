//! Every way in which threads and clients can meet, tried in a small world: four clients, a device that takes any number of
//! commands, one that takes one at a time, and closes that are aside. Devices answer when they like, or never; clients send
//! and leave when they like; threads are called, time out, panic, and sometimes cannot be started.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use super::*;

const ROOM: Room = Room { read: 2, read_of_one: 1, run: 3, close: 1 };

/// What is next of a client, which names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Item {
    client: u8,
    /// Of its device.
    device: Lane,
    next: Lane,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Lane {
    Read,
    Disk,
    OneAtATime,
    Close,
}

impl Item {
    fn then(self, next: Lane) -> Self {
        Self { next, ..self }
    }
}

impl Placed for Item {
    type Lane = Lane;

    fn lane(&self) -> Lane {
        self.next
    }

    fn purpose(lane: Lane) -> Purpose {
        match lane {
            Lane::Read => Purpose::Read,
            Lane::Disk | Lane::OneAtATime => Purpose::Run,
            Lane::Close => Purpose::Close,
        }
    }

    fn most(lane: Lane) -> usize {
        if lane == Lane::Disk { usize::MAX } else { 1 }
    }
}

/// What a thread is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Thread {
    /// About to take.
    Awake,
    /// Rests until it is called.
    Idle,
    /// Does what is next of this client, and may be blocked.
    Busy(Item),
    /// Waits in a lane for its client.
    Staying(Item),
}

/// The world.
#[derive(Debug, Clone, Hash)]
struct World {
    pool: Pool<Item>,
    threads: Vec<Thread>,
    /// Idle threads that have been called and are not awake yet.
    called: usize,
    clients: usize,
    /// Clients that the loop watches, in order.
    watched: Vec<Item>,
    /// How often something may still come from a client.
    messages: u8,
    /// A thread could not be started.
    starved: bool,
}

impl World {
    fn new(clients: &[Lane], messages: u8) -> Self {
        let mut pool = Pool::new(ROOM);
        pool.started();
        // They need not be told apart, only counted.
        let watched = clients.iter().map(|&device| Item { client: 0, device, next: Lane::Read }).collect();
        Self {
            pool,
            threads: vec![Thread::Awake],
            called: 0,
            clients: clients.len(),
            watched,
            messages,
            starved: false,
        }
    }

    /// What makes it different from others.
    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn idle(&self) -> usize {
        self.threads.iter().filter(|thread| **thread == Thread::Idle).count()
    }

    fn call(&mut self, call: Call, can_start: bool) {
        match call {
            Call::Nobody => {}
            Call::New if can_start => {
                self.starved = false;
                self.pool.started();
                self.threads.push(Thread::Awake);
            }
            Call::Idle | Call::New => {
                self.starved |= call == Call::New;
                self.called = (self.called + 1).min(self.idle());
            }
        }
    }

    fn begin(Task { lane, work, .. }: Task<Item>) -> Thread {
        assert_eq!(lane, work.lane());
        Thread::Busy(work)
    }

    /// A thread takes what it can.
    fn take(&mut self, index: usize, can_start: bool) {
        if let Some((task, call)) = self.pool.take() {
            self.call(call, can_start);
            self.threads[index] = Self::begin(task);
        } else {
            self.pool.rest();
            self.threads[index] = Thread::Idle;
        }
    }

    /// A thread has done what it could in its lane, and this follows, if anything does.
    fn leave(&mut self, index: usize, lane: Lane, next: Option<Item>, can_start: bool) {
        let (task, call) = self.pool.leave(lane, next);
        self.threads[index] = task.map_or(Thread::Awake, Self::begin);
        self.call(call, can_start);
    }

    /// All that can happen next, if a thread that is wanted can be started, or cannot.
    fn steps(&self, can_start: bool) -> Vec<Self> {
        let mut worlds = Vec::new();
        let mut step = |change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            world.threads.sort_unstable();
            world.watched.sort_unstable();
            worlds.push(world);
        };
        // The loop tries again from time to time.
        if self.starved && can_start {
            step(&|world| {
                world.starved = false;
                let call = world.pool.call();
                world.call(call, true);
            });
        }
        if self.messages > 0 {
            for index in 0..self.watched.len() {
                step(&|world| {
                    world.messages -= 1;
                    let item = world.watched.remove(index);
                    let call = world.pool.submit(item);
                    world.call(call, can_start);
                });
            }
        }
        for (index, thread) in self.threads.iter().enumerate() {
            // There is no more; or it panicked: then the client is gone, which is as good.
            let ends = |item: Item| {
                move |world: &mut Self| {
                    world.watched.push(item.then(Lane::Read));
                    world.leave(index, item.next, None, can_start);
                }
            };
            match *thread {
                Thread::Awake => step(&|world| world.take(index, can_start)),
                Thread::Idle => {
                    if self.called > 0 {
                        step(&|world| {
                            world.called -= 1;
                            world.pool.rise();
                            world.take(index, can_start);
                        });
                    }
                    // It has rested for long. Whoever is called meanwhile is another.
                    step(&|world| {
                        world.pool.rise();
                        if world.pool.end() {
                            world.threads.remove(index);
                        } else {
                            world.take(index, can_start);
                        }
                        world.called = world.called.min(world.idle());
                    });
                }
                Thread::Busy(item) => {
                    step(&ends(item));
                    let follows: &[Lane] = match item.next {
                        Lane::Read => &[item.device, Lane::Close],
                        Lane::Disk | Lane::OneAtATime => &[Lane::Read, Lane::Close],
                        Lane::Close => &[Lane::Read],
                    };
                    for next in follows {
                        step(&|world| world.leave(index, item.next, Some(item.then(*next)), can_start));
                    }
                    // Also if it is wanted: it may have looked before.
                    if item.next == Lane::Disk {
                        step(&|world| world.threads[index] = Thread::Staying(item));
                    }
                }
                Thread::Staying(item) => {
                    step(&ends(item));
                    if self.messages > 0 {
                        step(&|world| {
                            world.messages -= 1;
                            world.threads[index] = Thread::Busy(item);
                        });
                        // For another lane.
                        for next in [Lane::OneAtATime, Lane::Close] {
                            step(&|world| {
                                world.messages -= 1;
                                world.leave(index, item.next, Some(item.then(next)), can_start);
                            });
                        }
                    }
                }
            }
        }
        worlds
    }

    /// What must be true whatever has happened.
    fn check(&self) {
        let Pool { ready, reads, runs, closes, threads, idle, called } = &self.pool;
        assert_eq!(*threads, self.threads.len());
        assert!(*threads > 0, "another may not start");
        assert_eq!(*idle, self.idle());
        assert!(*called <= self.called, "somebody will not come: {self:?}");

        // A device may never answer, and nor may a client: somebody else must be awake, or have been called, for what is
        // ready. If there is nobody, it is because no thread could be started.
        let awake = self.threads.iter().filter(|thread| **thread == Thread::Awake).count();
        let is_seen = awake + self.called > 0 || (self.starved && *idle == 0);
        assert!(ready.is_empty() || is_seen, "forgotten: {self:?}");

        let mut in_lanes = 0;
        for (lanes, purpose, places) in [
            (reads, Purpose::Read, ROOM.read),
            (runs, Purpose::Run, ROOM.run),
            (closes, Purpose::Close, ROOM.close),
        ] {
            // Every place is somebody's.
            let held = self.threads.iter().filter_map(|thread| match thread {
                Thread::Busy(item) | Thread::Staying(item) => Some(item.next),
                Thread::Awake | Thread::Idle => None,
            });
            let taken =
                held.chain(ready.iter().map(|task| task.lane)).filter(|lane| Item::purpose(*lane) == purpose);
            assert_eq!(lanes.taken(), taken.count());
            assert!(lanes.taken() <= places);
            assert!(lanes.iter().all(|(lane, running, _)| running <= Item::most(lane)));
            // Whatever waits for a lane, waits for somebody who is there, or will be.
            let waiting: usize = lanes.iter().map(|(_, _, waiting)| waiting).sum();
            assert!(waiting == 0 || lanes.taken() > 0);
            in_lanes += lanes.taken() + waiting;
        }
        // Nobody is lost, and nobody is in two places.
        assert_eq!(self.watched.len() + in_lanes, self.clients);
    }
}

/// Tries everything, and returns how many different worlds there were.
fn explore(clients: &[Lane], messages: u8, threads_may_fail: bool) -> usize {
    let first = World::new(clients, messages);
    let mut seen = HashSet::from([first.key()]);
    let mut todo = vec![first];
    while let Some(world) = todo.pop() {
        world.check();
        let mut next = world.steps(true);
        if threads_may_fail {
            next.extend(world.steps(false));
        }
        todo.extend(next.into_iter().filter(|world| seen.insert(world.key())));
    }
    seen.len()
}

#[test]
fn nothing_that_is_ready_is_forgotten_whatever_happens() {
    let worlds = explore(&[Lane::Disk, Lane::Disk, Lane::OneAtATime, Lane::OneAtATime], 4, false);
    assert!(worlds > 20_000, "{worlds}");
}

#[test]
fn nobody_is_lost_if_threads_cannot_be_started() {
    let worlds = explore(&[Lane::Disk, Lane::Disk, Lane::OneAtATime, Lane::OneAtATime], 4, true);
    assert!(worlds > 40_000, "{worlds}");
}

/// A command of one client after the other, for this device.
fn commands(device: Lane) -> impl Iterator<Item = Item> {
    (0..).map(move |client| Item { client, device, next: device })
}

#[test]
fn there_is_a_thread_for_each_that_is_ready() {
    let mut pool = Pool::new(ROOM);
    pool.started();
    let [one, two]: [Item; 2] = commands(Lane::Disk).take(2).collect::<Vec<_>>().try_into().unwrap();
    pool.rest();
    assert_eq!(pool.submit(one), Call::Idle);
    assert_eq!(pool.submit(two), Call::New, "the one that was called takes one");
    pool.started();
    assert!(!pool.is_wanted());
    pool.rise();
    for work in [one, two] {
        assert_eq!(pool.take(), Some((Task { lane: Lane::Disk, work, waited: false }, Call::Nobody)));
    }
    let next = Task { lane: Lane::Read, work: one.then(Lane::Read), waited: false };
    assert_eq!(
        pool.leave(Lane::Disk, Some(one.then(Lane::Read))),
        (Some(next), Call::Nobody),
        "it goes on itself"
    );
}

#[test]
fn those_that_have_waited_for_a_thread_come_first() {
    let mut pool = Pool::new(ROOM);
    pool.started();
    let [one, two]: [Item; 2] = commands(Lane::Disk).take(2).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(pool.submit(one), Call::Nobody, "the one thread is awake");
    assert!(pool.take().is_some());
    assert_eq!(pool.submit(two), Call::New);
    assert!(pool.is_wanted(), "it could not be started");
    let (one, second) = (one.then(Lane::Read), Task { lane: Lane::Disk, work: two, waited: false });
    assert_eq!(pool.leave(Lane::Disk, Some(one)), (Some(second), Call::New));
    assert_eq!(
        pool.leave(Lane::Disk, Some(two)),
        (Some(Task { lane: Lane::Read, work: one, waited: true }), Call::New)
    );
}

#[test]
fn whoever_waits_for_room_wants_others_to_leave() {
    let mut pool = Pool::new(ROOM);
    (0..10).for_each(|_| pool.started());
    let mut disk = commands(Lane::Disk);
    let mut map = commands(Lane::OneAtATime).skip(4);
    for item in disk.by_ref().take(2).chain(map.by_ref().take(1)) {
        assert_eq!(pool.submit(item), Call::Nobody);
        assert!(pool.take().is_some());
    }
    assert_eq!(pool.submit(map.next().unwrap()), Call::Nobody);
    assert_eq!(pool.take(), None);
    assert!(!pool.is_wanted(), "it waits for one that is there, not for room");
    let (next, call) = pool.leave(Lane::OneAtATime, None);
    assert!(next.is_some_and(|task| task.waited) && call == Call::Nobody);
    assert_eq!(pool.submit(disk.next().unwrap()), Call::Nobody);
    assert_eq!(pool.take(), None);
    assert!(pool.is_wanted(), "those that are there may only stay");
}
