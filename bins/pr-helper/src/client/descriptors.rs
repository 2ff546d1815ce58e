//! The descriptors that clients have this process hold, so that none of them can use up its limit of open files.
//!
//! A message can bring 253, and a client can make the close of each last. So those that did not belong are counted until they
//! are closed: whoever has that many is read from only then, one message after the other. And a thread waits for a client's
//! next message only as long as there is room for all that such messages could bring. Connections are descriptors too: a process may
//! have as many as are left for all others.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    connection::{DESCRIPTORS_MAX, Peer},
    files::{Allowance, PER_CLIENT},
};

/// So many connections a process may have in any case.
const OWN: usize = 64;

/// For so many connections of a process threads may wait. While one does, it holds a place in the lane of a device that others
/// use, too; and if what comes cannot be received and does not close, it holds it for as long as its sender likes.
const STAYING_OF_ONE: usize = 256;

/// Whose they are. Processes of other PID namespaces all have number 0; where the kernel cannot tell one from the other, they
/// are told apart by their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sender {
    Process(Peer),
    Connection(Peer, usize),
}

impl Sender {
    /// The one at the other end of the connection with this key.
    pub(super) fn new(peer: Peer, key: usize) -> Self {
        let is_known = peer.pid != 0 || peer.process.is_some();
        if is_known { Self::Process(peer) } else { Self::Connection(peer, key) }
    }

    pub(super) fn peer(self) -> Peer {
        match self {
            Self::Process(peer) | Self::Connection(peer, _) => peer,
        }
    }
}

/// How many there are.
#[derive(Debug)]
pub(super) struct Count {
    allowance: Allowance,
    clients: AtomicUsize,
    /// Threads that wait for a message.
    staying: AtomicUsize,
    strays: AtomicUsize,
    by_sender: Mutex<BTreeMap<Sender, Held>>,
}

/// What one sender has.
#[derive(Debug, Default)]
struct Held {
    clients: usize,
    strays: usize,
    /// It has had more connections than it may since it had none.
    has_exceeded: bool,
}

/// Whether a process has no more connections than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Kept {
        threads_may_stay: bool,
    },
    Exceeded {
        /// For the first time.
        first: bool,
    },
}

impl Count {
    pub(super) fn new(allowance: &Allowance) -> Self {
        Self {
            allowance: *allowance,
            clients: AtomicUsize::new(0),
            staying: AtomicUsize::new(0),
            strays: AtomicUsize::new(0),
            by_sender: Mutex::default(),
        }
    }

    /// A client has come. Says whether its process may have that many.
    pub(super) fn connected(&self, sender: Sender) -> Share {
        let all = self.clients.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let most = OWN.max(self.allowance.clients.saturating_sub(all));
        self.change(sender, |held| {
            held.clients = held.clients.saturating_add(1);
            if held.clients <= most {
                return Share::Kept { threads_may_stay: held.clients <= STAYING_OF_ONE };
            }
            Share::Exceeded { first: !std::mem::replace(&mut held.has_exceeded, true) }
        })
    }

    /// A client has gone.
    pub(super) fn disconnected(&self, sender: Sender) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
        self.change(sender, |held| held.clients = held.clients.saturating_sub(1));
    }

    /// How many clients are connected.
    pub(super) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Reserves room for what a client's next message can bring, for a thread to wait for it, if there is room.
    pub(super) fn reserve(self: &Arc<Self>) -> Option<Reserved> {
        let Some(limit) = self.allowance.staying else { return Some(Reserved(None)) };
        let reserved = Reserved(Some(Arc::clone(self)));
        let staying = self.staying.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let held =
            self.clients().saturating_mul(PER_CLIENT).saturating_add(self.strays.load(Ordering::Relaxed));
        (staying.saturating_mul(DESCRIPTORS_MAX).saturating_add(held) <= limit).then_some(reserved)
    }

    /// Whether the sender has as many as a message can bring, or any if all have too many, and so has to queue up.
    pub(super) fn is_large(&self, sender: Sender) -> bool {
        let all = self.strays.load(Ordering::Relaxed);
        let most = if all > self.allowance.strays { 1 } else { DESCRIPTORS_MAX };
        all >= most && self.change(sender, |held| held.strays) >= most
    }

    /// Looks at what a sender has, and may change it.
    fn change<R>(&self, sender: Sender, change: impl FnOnce(&mut Held) -> R) -> R {
        // Nothing that is done under this lock leaves it half done.
        let mut by_sender = self.by_sender.lock().unwrap_or_else(PoisonError::into_inner);
        let held = by_sender.entry(sender).or_default();
        let result = change(held);
        if held.clients == 0 && held.strays == 0 {
            by_sender.remove(&sender);
        }
        result
    }
}

/// Room for what a message can bring, until it is dropped.
pub(super) struct Reserved(Option<Arc<Count>>);

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.staying.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Descriptors of a client that are to be closed where that may block. Closed when dropped.
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
            count.strays.fetch_add(number, Ordering::Relaxed);
            count.change(sender, |held| held.strays = held.strays.saturating_add(number));
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
        self.count.strays.fetch_sub(number, Ordering::Relaxed);
        self.count.change(self.sender, |held| held.strays = held.strays.saturating_sub(number));
    }
}

impl Drop for Strays {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::pool::Room;

    fn count(clients: usize, staying: Option<usize>, strays: usize) -> Arc<Count> {
        let room = Room { read: 1, read_of_one: 1, run: 1, close: 1 };
        Arc::new(Count::new(&Allowance { clients, room, staying, strays }))
    }

    #[test]
    fn strays_are_counted_for_their_sender_until_they_are_closed() {
        let count = count(100, None, 1000);
        let some = |number| (0..number).map(|_| rustix::pipe::pipe().unwrap().0).collect();
        let [one, other] = [1, 2].map(|pid| Sender::new(Peer { pid, uid: 0, process: None }, 7));
        let mut most = Strays::new(some(250), one, &count);
        let few = Strays::new(some(10), other, &count);
        assert!(!count.is_large(one) && !count.is_large(other), "neither alone");
        let more = Strays::new(some(3), one, &count);
        assert!(count.is_large(one) && !count.is_large(other));
        most.close();
        assert!(!count.is_large(one));
        drop((most, few, more));
        assert_eq!(count.strays.load(Ordering::Relaxed), 0);
        assert!(count.by_sender.lock().unwrap().is_empty());
    }

    #[test]
    fn a_process_may_have_as_many_connections_as_are_left_for_others() {
        let count = count(1024, None, 1000);
        let of = |pid| Sender::new(Peer { pid, uid: 107, process: None }, 7);
        let takes = |sender| {
            let taken =
                (0..2000).take_while(|_| matches!(count.connected(sender), Share::Kept { .. })).count();
            count.disconnected(sender);
            taken
        };
        assert_eq!([1, 2, 3, 4].map(|pid| takes(of(pid))), [512, 256, 128, 64]);
        assert_eq!(takes(of(5)), OWN, "the limit of all is for the loop to keep");
        (0..512).for_each(|_| count.disconnected(of(1)));
        assert_eq!(takes(of(6)), 256);
    }

    #[test]
    fn threads_stay_for_some_connections_of_a_process() {
        let count = count(4096, None, 1000);
        let sender = |pid| Sender::new(Peer { pid, uid: 107, process: None }, 7);
        let stays = |pid| count.connected(sender(pid)) == Share::Kept { threads_may_stay: true };
        assert_eq!((0..300).filter(|_| stays(1)).count(), STAYING_OF_ONE);
        assert!(stays(2), "another process");
        (0..44).for_each(|_| count.disconnected(sender(1)));
        assert!(!stays(1));
        count.disconnected(sender(1));
        count.disconnected(sender(1));
        assert!(stays(1));
    }

    #[test]
    fn who_has_too_many_connections_is_told_once_until_it_has_none() {
        let count = count(128, None, 1000);
        let sender = Sender::new(Peer { pid: 1, uid: 107, process: None }, 7);
        for _ in 0..2 {
            assert!((0..64).all(|_| matches!(count.connected(sender), Share::Kept { .. })));
            assert_eq!(count.connected(sender), Share::Exceeded { first: true });
            count.disconnected(sender);
            assert_eq!(count.connected(sender), Share::Exceeded { first: false });
            (0..65).for_each(|_| count.disconnected(sender));
        }
    }

    #[test]
    fn if_all_have_many_each_that_has_any_queues_up() {
        let count = count(100, None, 10);
        let some = |number| (0..number).map(|_| rustix::pipe::pipe().unwrap().0).collect();
        let [one, other, none] = [1, 2, 3].map(|pid| Sender::new(Peer { pid, uid: 0, process: None }, 7));
        let _few = Strays::new(some(10), one, &count);
        assert!(!count.is_large(one));
        let _one_more = Strays::new(some(1), other, &count);
        assert!(count.is_large(one) && count.is_large(other) && !count.is_large(none));
    }

    #[test]
    fn no_more_threads_wait_for_messages_than_there_is_room_for_what_these_can_bring() {
        let count = count(100, Some(2 * DESCRIPTORS_MAX + 5), 1000);
        let sender = Sender::new(Peer { pid: 1, uid: 2, process: None }, 3);
        let kept = Share::Kept { threads_may_stay: true };
        assert_eq!([(); 2].map(|()| count.connected(sender)), [kept; 2]);
        let one = count.reserve().unwrap();
        {
            let _two = count.reserve().unwrap();
            assert!(count.reserve().is_none() && count.reserve().is_none());
        }
        let two = count.reserve();
        assert!(two.is_some());
        drop((one, two));
        assert_eq!(count.connected(sender), kept);
        let one = count.reserve();
        assert!(one.is_some() && count.reserve().is_none(), "a client came");
        count.disconnected(sender);
        let strays = Strays::new((0..2).map(|_| rustix::pipe::pipe().unwrap().0).collect(), sender, &count);
        assert!(count.reserve().is_none(), "something is still to be closed");
        drop(strays);
        assert!(count.reserve().is_some());
        let ample = self::count(100, None, 1000);
        let all: Vec<_> = (0..10_000).filter_map(|_| ample.reserve()).collect();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn processes_that_cannot_be_told_apart_are_told_by_their_connections() {
        let sender = |pid, process: Option<u64>, key| {
            let process = process.and_then(NonZeroU64::new);
            Sender::new(Peer { pid, uid: 107, process }, key)
        };
        assert_eq!(sender(4711, None, 1), sender(4711, None, 2));
        assert_ne!(sender(0, None, 1), sender(0, None, 2));
        assert_eq!(sender(0, Some(4), 1), sender(0, Some(4), 2));
        assert_ne!(sender(0, Some(4), 1), sender(0, Some(5), 1));
    }
}
