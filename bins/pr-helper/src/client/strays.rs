//! Descriptors that clients have sent and that are to be closed where that may block.
//!
//! A message can bring 253 of them, and a client can make the close of each last. So they are counted: while there are
//! many, a client's process is read from only when all that it has sent before is closed.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// From how many on clients queue up. Each process that then sends can add one message's.
const LARGE: usize = 512;

/// How many there are in all.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicUsize);

impl Count {
    /// Whether there are so many that clients have to queue up.
    pub(super) fn is_large(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= LARGE
    }
}

/// Some of them. Closed when dropped.
#[derive(Debug)]
pub(super) struct Strays {
    descriptors: Vec<OwnedFd>,
    count: Arc<Count>,
}

impl Strays {
    pub(super) fn new(descriptors: Vec<OwnedFd>, count: &Arc<Count>) -> Self {
        count.0.fetch_add(descriptors.len(), Ordering::Relaxed);
        Self { descriptors, count: Arc::clone(count) }
    }

    /// Closes them, which may block.
    pub(super) fn close(&mut self) {
        for descriptor in self.descriptors.drain(..) {
            drop(descriptor);
            self.count.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Strays {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_counted_until_they_are_closed() {
        let count = Arc::default();
        let some = |number| (0..number).map(|_| rustix::pipe::pipe().unwrap().0).collect();
        let few = Strays::new(some(10), &count);
        let mut more = Strays::new(some(253), &count);
        let many = Strays::new(some(249), &count);
        assert!(count.is_large());
        more.close();
        assert!(!count.is_large());
        drop((few, many));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }
}
