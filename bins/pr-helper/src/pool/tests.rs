//! Every way in which threads and clients can meet, tried in a small world: four clients, a device that takes any number of
//! commands, one that takes one at a time, and closes that are aside. Devices answer when they like, or never; clients send
//! and leave when they like; threads are called, time out, panic, and sometimes cannot be started.

use std::collections::{BTreeSet, HashSet};

use super::*;

const ROOM: Room = Room { places: 3, aside: 1 };

/// The command of a client, which names it and is for the device of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    client: u8,
    device: Lane,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Disk,
    OneAtATime,
    Aside,
}

impl Placed for Item {
    type Lane = Lane;

    fn is_aside(lane: Lane) -> bool {
        lane == Lane::Aside
    }

    fn most(lane: Lane) -> usize {
        if lane == Lane::OneAtATime { 1 } else { usize::MAX }
    }

    fn may_stay(lane: Lane) -> bool {
        lane == Lane::Disk
    }
}

/// What a thread is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thread {
    /// About to take.
    Awake,
    /// Rests until it is called.
    Idle,
    /// Reads.
    Preparing(Item),
    /// Runs, and may be blocked.
    Running(Lane, Item),
    /// Waits in a lane for its client.
    Staying(Lane, Item),
}

/// The world.
#[derive(Clone)]
struct World {
    pool: Pool<Item>,
    threads: Vec<Thread>,
    /// Idle threads that have been called and are not awake yet.
    called: usize,
    /// Clients that the loop watches.
    watched: BTreeSet<Item>,
    /// How often something may still come from a client.
    messages: u8,
    /// A thread could not be started.
    starved: bool,
}

impl World {
    fn new(messages: u8) -> Self {
        let mut pool = Pool::new(ROOM);
        pool.started();
        let lanes = [Lane::Disk, Lane::OneAtATime, Lane::OneAtATime, Lane::Aside];
        let watched = (0..).zip(lanes).map(|(client, device)| Item { client, device }).collect();
        Self { pool, threads: vec![Thread::Awake], called: 0, watched, messages, starved: false }
    }

    /// What makes it different from others.
    fn key(&self) -> String {
        let Pool { ready, lanes, aside, threads, idle, readers, has_moved: _ } = &self.pool;
        let Self { threads: all, called, watched, messages, starved, .. } = self;
        format!(
            "{ready:?}{lanes:?}{aside:?}{threads}{idle}{readers}{all:?}{called}{watched:?}{messages}{starved}"
        )
    }

    fn call(&mut self, call: Call, can_start: bool) {
        match call {
            Call::Nobody => {}
            Call::Idle => {
                let idle = self.threads.iter().filter(|thread| **thread == Thread::Idle).count();
                self.called = (self.called + 1).min(idle);
            }
            Call::New if can_start => {
                self.starved = false;
                self.pool.started();
                self.threads.push(Thread::Awake);
            }
            Call::New => self.starved = true,
        }
    }

    /// A thread goes on with this, or with whatever it can take.
    fn go_on(&mut self, index: usize, next: Option<(Task<Item>, Call)>, can_start: bool) {
        let Some((task, call)) = next.or_else(|| self.pool.take()) else {
            self.pool.rest();
            self.threads[index] = Thread::Idle;
            return;
        };
        self.call(call, can_start);
        self.threads[index] = match task {
            Task::Prepare(item) => Thread::Preparing(item),
            Task::Run(lane, item) => Thread::Running(lane, item),
        };
    }

    /// A thread wants to run in this lane.
    fn enter(&mut self, index: usize, lane: Lane, item: Item, can_start: bool) {
        let (entered, call) = self.pool.enter(lane, item);
        self.call(call, can_start);
        match entered {
            Some(item) => self.threads[index] = Thread::Running(lane, item),
            None => self.go_on(index, None, can_start),
        }
    }

    /// All that can happen next, if a thread that is wanted can be started, or cannot.
    fn steps(&self, can_start: bool) -> Vec<Self> {
        let mut worlds = Vec::new();
        let mut step = |change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            world.threads.sort_unstable();
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
            for item in &self.watched {
                step(&|world| {
                    world.messages -= 1;
                    world.watched.remove(item);
                    let call = world.pool.submit(*item);
                    world.call(call, can_start);
                });
            }
        }
        for (index, thread) in self.threads.iter().enumerate() {
            match *thread {
                Thread::Awake => step(&|world| world.go_on(index, None, can_start)),
                Thread::Idle => {
                    if self.called > 0 {
                        step(&|world| {
                            world.called -= 1;
                            world.pool.rise();
                            world.go_on(index, None, can_start);
                        });
                    }
                    // It has rested for long. Whoever is called meanwhile is another.
                    step(&|world| {
                        world.pool.rise();
                        if world.pool.leave() {
                            world.threads.remove(index);
                        } else {
                            world.go_on(index, None, can_start);
                        }
                        let idle = world.threads.iter().filter(|thread| **thread == Thread::Idle).count();
                        world.called = world.called.min(idle);
                    });
                }
                Thread::Preparing(item) => {
                    // There was nothing, or it panicked: then the client is gone, which is as good.
                    step(&|world| {
                        world.watched.insert(item);
                        world.go_on(index, None, can_start);
                    });
                    for lane in [item.device, Lane::Aside] {
                        step(&|world| world.enter(index, lane, item, can_start));
                    }
                }
                Thread::Running(lane, item) => {
                    // There is no more, or it panicked.
                    step(&|world| {
                        world.watched.insert(item);
                        world.pool.vacate(lane);
                        world.go_on(index, None, can_start);
                    });
                    step(&|world| {
                        let next = world.pool.exit(lane, item);
                        world.go_on(index, Some(next), can_start);
                    });
                    // Also if it is wanted: it may have looked before.
                    if Item::may_stay(lane) {
                        step(&|world| world.threads[index] = Thread::Staying(lane, item));
                    }
                }
                Thread::Staying(lane, item) => {
                    // Nothing came, or it panicked.
                    step(&|world| {
                        world.watched.insert(item);
                        world.pool.vacate(lane);
                        world.go_on(index, None, can_start);
                    });
                    if self.messages > 0 {
                        step(&|world| {
                            world.messages -= 1;
                            world.threads[index] = Thread::Running(lane, item);
                        });
                        // For another lane. Between the two it is as if it had just read.
                        step(&|world| {
                            world.messages -= 1;
                            world.pool.vacate(lane);
                            world.threads[index] = Thread::Preparing(item);
                        });
                    }
                }
            }
        }
        worlds
    }

    /// What must be true whatever has happened.
    fn check(&self) {
        let count = |is: fn(&Thread) -> bool| self.threads.iter().filter(|thread| is(thread)).count();
        let Pool { lanes, aside, threads, idle, .. } = &self.pool;
        assert_eq!(*threads, self.threads.len());
        assert_eq!(*idle, count(|thread| matches!(thread, Thread::Idle)));
        assert!(lanes.taken() <= ROOM.places && aside.taken() <= ROOM.aside);
        let one_at_a_time = |thread: &Thread| matches!(thread, Thread::Running(Lane::OneAtATime, _));
        assert!(count(one_at_a_time) <= 1);

        // A device may never answer, and nor may a client: somebody else must be awake, or have been called, for what is
        // ready. To prepare does not block.
        let will_look = |thread: &Thread| matches!(thread, Thread::Awake | Thread::Preparing(_));
        let is_seen = self.called > 0 || count(will_look) > 0;
        assert!(self.pool.ready.is_empty() || is_seen || self.starved, "forgotten: {}", self.key());

        // Whatever waits for a lane, waits for somebody who is there, or will be.
        let mut in_lanes = 0;
        for (lanes, is_aside) in [(lanes, false), (aside, true)] {
            let is_here = |lane| Item::is_aside(lane) == is_aside;
            let threads = self.threads.iter().filter(
                |thread| matches!(thread, Thread::Running(lane, _) | Thread::Staying(lane, _) if is_here(*lane)),
            );
            let ready =
                self.pool.ready.iter().filter(|task| matches!(task, Task::Run(lane, _) if is_here(*lane)));
            let waiting: usize = lanes.iter().map(|(_, _, waiting)| waiting).sum();
            assert_eq!(lanes.taken(), threads.count() + ready.count());
            assert!(waiting == 0 || lanes.taken() > 0);
            in_lanes += lanes.taken() + waiting;
        }

        // Nobody is lost, and nobody is in two places.
        let prepared = self.pool.ready.iter().filter(|task| matches!(task, Task::Prepare(_))).count();
        let preparing = count(|thread| matches!(thread, Thread::Preparing(_)));
        assert_eq!(self.watched.len() + prepared + preparing + in_lanes, 4);
    }
}

/// Tries everything, and returns how many different worlds there were.
fn explore(messages: u8, threads_may_fail: bool) -> usize {
    let first = World::new(messages);
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
    let worlds = explore(5, false);
    assert!(worlds > 10_000, "{worlds}");
}

#[test]
fn nobody_is_lost_if_threads_cannot_be_started() {
    let worlds = explore(3, true);
    assert!(worlds > 5_000, "{worlds}");
}

#[test]
fn those_that_have_waited_for_a_thread_come_first() {
    let mut pool = Pool::new(ROOM);
    pool.started();
    let item = |client| Item { client, device: Lane::Disk };
    assert_eq!(pool.submit(item(0)), Call::New);
    assert_eq!(pool.submit(item(1)), Call::New, "the one thread may be about to block");
    assert!(pool.is_wanted());
    assert_eq!(pool.take(), Some((Task::Prepare(item(0)), Call::New)), "the other waits");
    assert_eq!(pool.enter(Lane::Disk, item(0)), (Some(item(0)), Call::New));
    assert_eq!(pool.exit(Lane::Disk, item(0)), (Task::Prepare(item(1)), Call::New));
    assert_eq!(pool.take(), Some((Task::Prepare(item(0)), Call::Nobody)));
    assert!(!pool.is_wanted());
    assert_eq!(pool.enter(Lane::Disk, item(1)), (Some(item(1)), Call::Nobody));
    assert_eq!(pool.exit(Lane::Disk, item(1)), (Task::Prepare(item(1)), Call::Nobody), "nobody waits");
}

#[test]
fn whoever_waits_for_room_wants_others_to_leave() {
    let mut pool = Pool::new(ROOM);
    let item = |client, device| Item { client, device };
    for client in 0..2 {
        assert!(pool.enter(Lane::Disk, item(client, Lane::Disk)).0.is_some());
    }
    assert!(pool.enter(Lane::OneAtATime, item(2, Lane::OneAtATime)).0.is_some());
    assert!(!pool.is_wanted());
    assert!(pool.enter(Lane::OneAtATime, item(3, Lane::OneAtATime)).0.is_none());
    assert!(!pool.is_wanted(), "it waits for one that is there, not for room");
    pool.vacate(Lane::OneAtATime);
    let next = Task::Run(Lane::OneAtATime, item(3, Lane::OneAtATime));
    assert_eq!(pool.take(), Some((next, Call::Nobody)));
    assert!(pool.enter(Lane::Disk, item(4, Lane::Disk)).0.is_none());
    assert!(pool.is_wanted(), "those that are there may only stay");
}

#[test]
fn if_those_that_read_are_blocked_there_will_be_others() {
    let mut pool = Pool::new(ROOM);
    let item = |client| Item { client, device: Lane::Disk };
    let mut started = 0;
    for client in 0..2 {
        pool.started();
        assert!(pool.submit(item(client)) == Call::New || client == 1);
        assert!(pool.take().is_some());
    }
    // Both are blocked in what should not block.
    assert_eq!(pool.submit(item(2)), Call::Nobody);
    assert_eq!(pool.look_after(), Call::Nobody, "what was taken since the last look");
    while pool.look_after() == Call::New {
        pool.started();
        started += 1;
        if started == 10 {
            assert!(pool.take().is_some());
        }
    }
    assert!(started >= 10 && pool.threads() < 100, "{started}");
    for _ in 0..READERS_MAX {
        assert_eq!(pool.look_after(), Call::Nobody);
    }
    assert_eq!(pool.readers, READERS, "and when it is over they are too many");
}
