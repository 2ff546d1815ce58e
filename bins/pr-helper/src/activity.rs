//! What each client has the daemon do at the moment, for those who watch: its connection itself is one thread's alone.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    connection::{CommandName, Peer},
    device::DeviceId,
};

/// The doings of one client.
pub(crate) struct Activity {
    pub(crate) peer: Peer,
    /// When it connected.
    pub(crate) since: Instant,
    now: Mutex<Now>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Now {
    commands: u64,
    running: Option<Running>,
}

/// A command that a device has been given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running {
    pub(crate) device: DeviceId,
    pub(crate) cdb: [u8; 10],
    pub(crate) begun: Instant,
    /// That it takes long has been logged.
    warned: bool,
}

impl Running {
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Activity {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, since: Instant::now(), now: Mutex::default() }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many commands the client has sent.
    pub(crate) fn commands(&self) -> u64 {
        self.now().commands
    }

    /// The client's command that is under way, if one is.
    pub(crate) fn running(&self) -> Option<Running> {
        self.now().running
    }

    /// A command has begun; it ends when what is returned is dropped. One that is refused is for no `device`.
    pub(crate) fn begin(&self, device: Option<DeviceId>, cdb: [u8; 10], begun: Instant) -> InFlight<'_> {
        let mut now = self.now();
        now.commands = now.commands.saturating_add(1);
        now.running = device.map(|device| Running { device, cdb, begun, warned: false });
        InFlight(self)
    }

    /// Logs, once, that a command has been under way for longer than `threshold`.
    pub(crate) fn warn_if_slow(&self, threshold: Duration) {
        // The line is written under the lock, so that the one of the command's end follows it.
        let mut now = self.now();
        let Some(running) = &mut now.running else { return };
        let age = running.age();
        if age < threshold || running.warned {
            return;
        }
        running.warned = true;
        log::warn!(
            "{}: {} has not answered {} for {} seconds",
            self.peer,
            running.device,
            CommandName(&running.cdb),
            age.as_secs()
        );
    }
}

/// Dropped, it notes that the command has ended.
pub(crate) struct InFlight<'a>(&'a Activity);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let ended = self.0.now().running.take();
        if let Some(running) = ended.filter(|running| running.warned) {
            log::info!(
                "{}: {} took {:.1} seconds for {}",
                self.0.peer,
                running.device,
                running.age().as_secs_f64(),
                CommandName(&running.cdb)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_there_until_it_ends_and_is_counted_for_good() {
        let activity = Activity::new(Peer { pid: 1, uid: 2, process: None });
        let device = DeviceId::Block { major: 8, minor: 0 };
        let in_flight = activity.begin(Some(device), [0x5e; 10], Instant::now());
        assert_eq!(
            activity.running().map(|running| (running.device, running.cdb)),
            Some((device, [0x5e; 10]))
        );
        drop(in_flight);
        assert!(activity.running().is_none());
        let refused = activity.begin(None, [0x5e; 10], Instant::now());
        assert!(activity.running().is_none());
        drop(refused);
        assert_eq!(activity.commands(), 2);
    }

    #[test]
    fn a_slow_command_is_warned_of_once() {
        let activity = Activity::new(Peer { pid: 1, uid: 2, process: None });
        let device = DeviceId::Block { major: 8, minor: 0 };
        let warned = || activity.running().is_some_and(|running| running.warned);
        let in_flight = activity.begin(Some(device), [0x5e; 10], Instant::now());
        activity.warn_if_slow(Duration::from_secs(3600));
        assert!(!warned());
        activity.warn_if_slow(Duration::ZERO);
        assert!(warned());
        drop(in_flight);
        let _next = activity.begin(Some(device), [0x5e; 10], Instant::now());
        assert!(!warned(), "the next is another one");
    }
}
