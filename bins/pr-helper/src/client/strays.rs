//! Descriptors that clients have sent and that are to be closed where that may block.
//!
//! A message can bring 253 of them, and a client can make the close of each last. So they are counted: whoever has that
//! many to be closed is read from only when they are, one message after the other.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::connection::Peer;

/// From how many of its own on a sender queues up.
const LARGE: usize = 253;

/// Whose they are. Processes of other PID namespaces all look alike (process 0), and are told apart by their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sender {
    Process(Peer),
    Connection(Peer, usize),
}

impl Sender {
    /// The one at the other end of the connection with this key.
    pub(super) fn new(peer: Peer, key: usize) -> Self {
        if peer.pid == 0 { Self::Connection(peer, key) } else { Self::Process(peer) }
    }

    pub(super) fn peer(self) -> Peer {
        match self {
            Self::Process(peer) | Self::Connection(peer, _) => peer,
        }
    }
}

/// How many there are.
#[derive(Debug, Default)]
pub(super) struct Count {
    all: AtomicUsize,
    by_sender: Mutex<BTreeMap<Sender, usize>>,
}

impl Count {
    /// Whether the sender has so many that it has to queue up.
    pub(super) fn is_large(&self, sender: Sender) -> bool {
        self.all.load(Ordering::Relaxed) >= LARGE
            && self.by_sender().get(&sender).is_some_and(|count| *count >= LARGE)
    }

    fn by_sender(&self) -> MutexGuard<'_, BTreeMap<Sender, usize>> {
        // Nothing that is done under this lock leaves it half done.
        self.by_sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some of them. Closed when dropped.
#[derive(Debug)]
pub(super) struct Strays {
    descriptors: Vec<OwnedFd>,
    sender: Sender,
    count: Arc<Count>,
}

impl Strays {
    pub(super) fn new(descriptors: Vec<OwnedFd>, sender: Sender, count: &Arc<Count>) -> Self {
        let number = descriptors.len();
        if number > 0 {
            count.all.fetch_add(number, Ordering::Relaxed);
            let mut by_sender = count.by_sender();
            let count = by_sender.entry(sender).or_default();
            *count = count.saturating_add(number);
        }
        Self { descriptors, sender, count: Arc::clone(count) }
    }

    /// Closes them, which may block.
    pub(super) fn close(&mut self) {
        let number = self.descriptors.len();
        self.descriptors.clear();
        if number == 0 {
            return;
        }
        self.count.all.fetch_sub(number, Ordering::Relaxed);
        let mut by_sender = self.count.by_sender();
        if let Some(count) = by_sender.get_mut(&self.sender) {
            *count = count.saturating_sub(number);
            if *count == 0 {
                by_sender.remove(&self.sender);
            }
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
    fn they_are_counted_for_their_sender_until_they_are_closed() {
        let count = Arc::default();
        let some = |number| (0..number).map(|_| rustix::pipe::pipe().unwrap().0).collect();
        let [one, other] = [1, 2].map(|pid| Sender::new(Peer { pid, uid: 0 }, 7));
        let mut most = Strays::new(some(250), one, &count);
        let few = Strays::new(some(10), other, &count);
        assert!(!count.is_large(one) && !count.is_large(other), "neither alone");
        let more = Strays::new(some(3), one, &count);
        assert!(count.is_large(one) && !count.is_large(other));
        most.close();
        assert!(!count.is_large(one));
        drop((most, few, more));
        assert_eq!(count.all.load(Ordering::Relaxed), 0);
        assert!(count.by_sender().is_empty());
    }

    #[test]
    fn processes_that_cannot_be_told_apart_are_told_by_their_connections() {
        let sender = |pid, key| Sender::new(Peer { pid, uid: 107 }, key);
        assert_eq!(sender(4711, 1), sender(4711, 2));
        assert_ne!(sender(0, 1), sender(0, 2));
    }
}
