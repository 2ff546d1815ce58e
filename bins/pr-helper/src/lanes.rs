//! Who may run now: how many commands each device may have under way, decided without threads or time.
//!
//! A device that hangs holds every thread that has a command on it. So no device may have more commands under way than
//! there are places left for all the others ("dynamic threshold", as switches share their buffers): the first device
//! to hang ends with half of the places, the next with half of what is left, and there is always room for one more.
//! What is over a device's share waits, and holds no thread.
//!
//! Reads and closes have the same, with the sender of what is read or closed instead of a device.

use std::collections::{BTreeMap, VecDeque};

/// How many lanes are kept although nothing is under way in them: the next command will want its own again.
const KEPT: usize = 16;

/// The lanes of all devices. `K` names a device, `J` is a command that waits.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Lanes<K, J> {
    places: usize,
    /// How much may be under way on each device, whatever room there is.
    each: usize,
    /// The same of one.
    most: fn(K) -> usize,
    taken: usize,
    devices: BTreeMap<K, Lane<J>>,
    /// The lanes in which somebody waits, each once; the first is the next to be looked at.
    waiting: VecDeque<K>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
struct Lane<J> {
    running: usize,
    waiting: VecDeque<J>,
}

impl<K: Copy + Ord, J> Lanes<K, J> {
    /// `places` is how many commands may be under way in all, `most` how many on one device.
    pub(crate) fn new(places: usize, most: fn(K) -> usize) -> Self {
        Self { places, each: usize::MAX, most, taken: 0, devices: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// However many may be under way in all, on one device there may be no more than `each`.
    pub(crate) fn with_at_most(self, each: usize) -> Self {
        Self { each, ..self }
    }

    /// Lets `job` run on the device `key` now, and gives it back, or keeps it until [`leave`](Self::leave) does.
    pub(crate) fn enter(&mut self, key: K, job: J) -> Option<J> {
        let share = self.share(key);
        let lane = self.devices.entry(key).or_insert_with(|| Lane { running: 0, waiting: VecDeque::new() });
        if lane.waiting.is_empty() && lane.running < share {
            lane.running = lane.running.saturating_add(1);
            self.taken = self.taken.saturating_add(1);
            return Some(job);
        }
        if lane.waiting.is_empty() {
            self.waiting.push_back(key);
        }
        lane.waiting.push_back(job);
        None
    }

    /// A command on `key` has ended. `resume` is given each of those that may run now, in turn among the devices.
    pub(crate) fn leave(&mut self, key: K, mut resume: impl FnMut(K, J)) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(lane) = self.devices.get_mut(&key) {
            lane.running = lane.running.saturating_sub(1);
            if lane.is_empty() && self.devices.len() > KEPT {
                self.devices.remove(&key);
            }
        }
        while let Some((key, job)) = self.next() {
            resume(key, job);
        }
    }

    fn next(&mut self) -> Option<(K, J)> {
        for _ in 0..self.waiting.len() {
            let key = self.waiting.pop_front()?;
            let share = self.share(key);
            let lane = self.devices.get_mut(&key)?;
            if lane.running >= share {
                self.waiting.push_back(key);
                continue;
            }
            let job = lane.waiting.pop_front()?;
            lane.running = lane.running.saturating_add(1);
            self.taken = self.taken.saturating_add(1);
            if !lane.waiting.is_empty() {
                self.waiting.push_back(key);
            }
            return Some((key, job));
        }
        None
    }

    /// How many commands the device may have under way now.
    fn share(&self, key: K) -> usize {
        self.places.saturating_sub(self.taken).min(self.most_of(key))
    }

    fn most_of(&self, key: K) -> usize {
        self.each.min((self.most)(key))
    }

    /// How many commands are under way.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Whether anything waits for others to leave, also those of other devices.
    pub(crate) fn are_short(&self) -> bool {
        let waits_for_room =
            |key: &K| self.devices.get(key).is_some_and(|lane| lane.running < self.most_of(*key));
        self.waiting.iter().any(waits_for_room)
    }

    /// Each device with how many of its commands are under way, and how many wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, usize, usize)> {
        let used = self.devices.iter().filter(|(_, lane)| !lane.is_empty());
        used.map(|(key, lane)| (*key, lane.running, lane.waiting.len()))
    }
}

impl<J> Lane<J> {
    fn is_empty(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hung_devices_leave_room_for_one_more() {
        let mut lanes = Lanes::new(1024, |_| usize::MAX);
        let mut running = Vec::new();
        for device in 0..10 {
            running.push((0..2000).filter(|&job| lanes.enter(device, job).is_some()).count());
        }
        assert_eq!(running, [512, 256, 128, 64, 32, 16, 8, 4, 2, 1]);
        assert_eq!(lanes.taken(), 1023);
        assert!(lanes.enter(99, 0).is_some(), "the last place");
        assert!(lanes.enter(98, 0).is_none(), "more than all devices of a host hang");
    }

    #[test]
    fn those_that_wait_run_in_order_and_in_turn_among_devices() {
        let mut lanes = Lanes::new(4, |_| usize::MAX);
        assert!(lanes.enter('a', 1).is_some() && lanes.enter('a', 2).is_some());
        assert!(!lanes.are_short());
        assert!(lanes.enter('a', 3).is_none() && lanes.enter('a', 4).is_none());
        assert!(lanes.are_short());
        assert!(lanes.enter('b', 5).is_some() && lanes.enter('c', 6).is_some());
        assert!(lanes.enter('d', 7).is_none() && lanes.enter('d', 8).is_none());
        let mut order = Vec::new();
        for leaving in ['a', 'a', 'b', 'c', 'd', 'a', 'd', 'a'] {
            lanes.leave(leaving, |_, job| order.push(job));
        }
        order.sort_unstable();
        assert_eq!(order, [3, 4, 7, 8], "each once");
        assert_eq!((lanes.taken(), lanes.iter().count()), (0, 0), "and nothing is left behind");
    }

    #[test]
    fn a_newcomer_does_not_overtake_those_that_wait() {
        let mut lanes = Lanes::new(2, |_| usize::MAX);
        assert!(lanes.enter('a', 1).is_some());
        assert!(lanes.enter('a', 2).is_none());
        lanes.leave('a', |_, job| assert_eq!(job, 2));
        assert!(lanes.enter('a', 3).is_none());
        assert!(lanes.enter('a', 4).is_none());
        let mut order = Vec::new();
        lanes.leave('a', |_, job| order.push(job));
        lanes.leave('a', |_, job| order.push(job));
        assert_eq!(order, [3, 4]);
    }

    #[test]
    fn a_device_may_be_for_one_at_a_time() {
        let mut lanes = Lanes::new(8, |key| if key == 'm' { 1 } else { usize::MAX });
        assert!(lanes.enter('m', 1).is_some());
        assert!(lanes.enter('m', 2).is_none() && lanes.enter('m', 3).is_none());
        assert!(!lanes.are_short(), "they wait for each other, not for room");
        assert!(lanes.enter('a', 4).is_some() && lanes.enter('a', 5).is_some(), "others are not held up");
        lanes.leave('a', |_, job| panic!("{job} may not run yet"));
        let mut order = Vec::new();
        lanes.leave('m', |_, job| order.push(job));
        assert_eq!(order, [2]);
        lanes.leave('m', |_, job| order.push(job));
        assert_eq!(order, [2, 3]);
    }

    proptest::proptest! {
        /// Whatever comes and goes: nobody is lost or run twice, the total is never exceeded, and whoever waits does so
        /// only while its device has as many under way as there are places free.
        #[test]
        fn nobody_is_lost_and_nobody_waits_without_need(
            places in 1_usize..20,
            steps in proptest::collection::vec((0_u8..5, proptest::bool::weighted(0.6)), 0..300),
        ) {
            let most = |device: u8| if device == 0 { 1 } else { usize::MAX };
            let mut lanes = Lanes::new(places, most);
            let (mut next, mut started, mut running) = (0_u32, Vec::new(), Vec::<(u8, u32)>::new());
            for (device, enters) in steps {
                if enters {
                    next += 1;
                    if let Some((device, job)) = lanes.enter(device, (device, next)) {
                        running.push((device, job));
                        started.push(job);
                    }
                } else if !running.is_empty() {
                    let (device, _) = running.remove(usize::from(device) % running.len());
                    lanes.leave(device, |device, (_, job)| {
                        running.push((device, job));
                        started.push(job);
                    });
                }
                assert_eq!(lanes.taken(), running.len());
                assert!(lanes.taken() <= places);
                let free = places - lanes.taken();
                for (device, running, waiting) in lanes.iter() {
                    assert!(running <= most(device));
                    assert!(waiting == 0 || running >= free.min(most(device)));
                }
            }
            while let Some((device, _)) = running.pop() {
                lanes.leave(device, |device, (_, job)| {
                    running.push((device, job));
                    started.push(job);
                });
            }
            started.sort_unstable();
            assert_eq!(started, (1..=next).collect::<Vec<_>>());
            assert_eq!(lanes.iter().count(), 0);
        }
    }

    #[test]
    fn lanes_that_nobody_uses_are_not_kept_for_ever() {
        let mut lanes = Lanes::new(1000, |_| usize::MAX);
        assert!((0..500).all(|device| lanes.enter(device, ()).is_some()));
        assert_eq!(lanes.iter().count(), 500);
        (0..500).for_each(|device| lanes.leave(device, |_, ()| {}));
        assert_eq!((lanes.iter().count(), lanes.devices.len()), (0, KEPT));
    }
}
