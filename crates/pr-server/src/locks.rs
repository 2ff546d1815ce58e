//! A lock for each device that takes one command at a time.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use pr_backend::DeviceId;

/// Locks of devices, each granted in the order in which it was asked for.
#[derive(Debug, Default)]
pub(crate) struct DeviceLocks {
    queues: Mutex<HashMap<DeviceId, Queue>>,
    released: Condvar,
}

/// Tickets of one device. The lock is held by the holder of ticket `serving`; a queue exists while its lock is held.
#[derive(Debug, Default)]
struct Queue {
    next: u64,
    serving: u64,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub(crate) struct DeviceGuard<'a> {
    locks: &'a DeviceLocks,
    device: DeviceId,
    /// Whether another command held the lock before.
    pub(crate) waited: bool,
}

impl DeviceLocks {
    /// Blocks until the lock of `device` is free and takes it.
    pub(crate) fn acquire(&self, device: DeviceId) -> DeviceGuard<'_> {
        let mut queues = self.lock();
        let queue = queues.entry(device).or_default();
        let ticket = queue.next;
        queue.next = ticket.wrapping_add(1);
        let waited = queue.serving != ticket;
        let queues = self
            .released
            .wait_while(queues, |queues| queues.get(&device).is_some_and(|queue| queue.serving != ticket))
            .unwrap_or_else(PoisonError::into_inner);
        drop(queues);
        DeviceGuard { locks: self, device, waited }
    }

    /// Returns each device with commands that wait for its lock, and how many.
    pub(crate) fn waiting(&self) -> Vec<(DeviceId, usize)> {
        let count = |queue: &Queue| queue.next.wrapping_sub(queue.serving).saturating_sub(1);
        let queues = self.lock();
        let waiting =
            queues.iter().map(|(id, queue)| (*id, usize::try_from(count(queue)).unwrap_or(usize::MAX)));
        waiting.filter(|(_, count)| *count > 0).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Queue>> {
        // No operation under this lock leaves the map half changed.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DeviceGuard<'_> {
    fn drop(&mut self) {
        let mut queues = self.locks.lock();
        if let Some(queue) = queues.get_mut(&self.device) {
            queue.serving = queue.serving.wrapping_add(1);
            if queue.serving == queue.next {
                queues.remove(&self.device);
            } else {
                self.locks.released.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    const ONE: DeviceId = DeviceId::Block { major: 253, minor: 0 };
    const OTHER: DeviceId = DeviceId::Block { major: 253, minor: 1 };

    #[test]
    fn lock_is_granted_in_order() {
        let locks = DeviceLocks::default();
        let held = locks.acquire(ONE);
        assert!(!held.waited && !locks.acquire(OTHER).waited, "another device has its own lock");
        let (order, granted) = mpsc::channel();
        thread::scope(|scope| {
            for number in 0..5 {
                let (locks, order) = (&locks, order.clone());
                scope.spawn(move || {
                    let guard = locks.acquire(ONE);
                    assert!(guard.waited);
                    order.send(number).unwrap();
                });
                while locks.waiting() != [(ONE, number + 1)] {
                    thread::yield_now();
                }
            }
            drop(held);
        });
        assert_eq!(granted.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert!(locks.lock().is_empty(), "nothing is left behind");
    }
}
