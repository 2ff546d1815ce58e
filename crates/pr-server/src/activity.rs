//! Per-client activity, readable from other threads. The connection itself is owned by one thread.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use pr_backend::DeviceId;

use crate::{Client, Event, Started};

/// What one client has the server do.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(crate) client: Client,
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
pub struct Running {
    /// The device.
    pub device: DeviceId,
    /// The ten bytes of the command.
    pub cdb: [u8; 10],
    /// When the device got it.
    pub begun: Instant,
    /// An observer was told that it is slow.
    reported: bool,
}

impl Activity {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, since: Instant::now(), now: Mutex::default() }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many commands the client has sent.
    pub(crate) fn commands(&self) -> u64 {
        self.now().commands
    }

    /// Returns the client's command that a device has been given, if there is one.
    pub(crate) fn running(&self) -> Option<Running> {
        self.now().running
    }

    /// Counts a command, and notes the device that is given it. A command that is refused has no `device`.
    pub(crate) fn begin(&self, device: Option<DeviceId>, cdb: [u8; 10], begun: Instant) {
        let mut now = self.now();
        now.commands = now.commands.saturating_add(1);
        now.running = device.map(|device| Running { device, cdb, begun, reported: false });
    }

    /// Notes that the command has ended.
    pub(crate) fn end(&self, notify: impl FnOnce(&Event<'_>)) {
        if let Some(Running { device, cdb, begun, reported: true }) = self.now().running.take() {
            notify(&Event::SlowEnded(&Started { client: self.client, device, cdb: &cdb }, begun.elapsed()));
        }
    }

    /// Reports, once, a command that has run for longer than `threshold`.
    pub(crate) fn report_if_slow(&self, threshold: Duration, notify: impl FnOnce(&Event<'_>)) {
        // Reported under the lock, so that the report of the command's end comes after it.
        let mut now = self.now();
        let Some(running) = &mut now.running else { return };
        let age = running.begun.elapsed();
        if age < threshold || running.reported {
            return;
        }
        running.reported = true;
        notify(&Event::Slow(
            &Started { client: self.client, device: running.device, cdb: &running.cdb },
            age,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Peer;

    const DEVICE: DeviceId = DeviceId::Block { major: 8, minor: 0 };

    fn activity() -> Activity {
        Activity::new(Client { connection: 1, peer: Peer { pid: 1, uid: 2, process: None } })
    }

    #[test]
    fn command_is_shown_until_it_ends() {
        let activity = activity();
        activity.begin(Some(DEVICE), [0x5e; 10], Instant::now());
        assert_eq!(activity.running().map(|now| (now.device, now.cdb)), Some((DEVICE, [0x5e; 10])));
        activity.end(|event| panic!("{event:?}"));
        assert!(activity.running().is_none());
        activity.begin(None, [0x5e; 10], Instant::now());
        assert!(activity.running().is_none(), "a refused command runs on no device");
        assert_eq!(activity.commands(), 2);
    }

    #[test]
    fn slow_command_is_reported_once() {
        let activity = activity();
        let mut events = Vec::new();
        activity.begin(Some(DEVICE), [0x5e; 10], Instant::now());
        activity.report_if_slow(Duration::from_secs(3600), |_| events.push("too early"));
        for _ in 0..2 {
            activity.report_if_slow(Duration::ZERO, |_| events.push("slow"));
        }
        activity.end(|_| events.push("ended"));
        activity.begin(Some(DEVICE), [0x5e; 10], Instant::now());
        activity.end(|_| events.push("was not slow"));
        assert_eq!(events, ["slow", "ended"]);
    }
}
