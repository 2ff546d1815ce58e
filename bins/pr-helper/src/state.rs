//! What the daemon is doing now, told to whoever asks: as metrics, or in words.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    activity::Activity,
    client::{Clients, Job},
    connection::CommandName,
    metrics::exposition::{Exposition, Kind},
    workers::Workers,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Sees all there is to see, from any thread.
pub(crate) struct Observer {
    clients: Arc<Clients>,
    workers: Workers<Job>,
    /// When the daemon started.
    started: Instant,
    /// From when on a command is slow.
    slow: Duration,
}

impl Observer {
    pub(crate) fn new(
        clients: Arc<Clients>,
        workers: Workers<Job>,
        started: Instant,
        slow: Duration,
    ) -> Self {
        Self { clients, workers, started, slow }
    }

    /// Each device with commands, by its name, and how many it has been given and how many wait.
    pub(crate) fn devices(&self) -> BTreeMap<String, (usize, usize)> {
        let mut devices = BTreeMap::<_, (usize, usize)>::new();
        for running in self.clients.activities().iter().filter_map(|activity| activity.running()) {
            let device = devices.entry(running.device.to_string()).or_default();
            device.0 = device.0.saturating_add(1);
        }
        for (lane, waiting) in self.workers.waiting() {
            // A number that was a disk's can be a map's before the disk's last command has ended.
            let device = devices.entry(lane.to_string()).or_default();
            device.1 = device.1.saturating_add(waiting);
        }
        devices
    }

    /// As OpenMetrics text.
    pub(crate) fn metrics(&self) -> String {
        let mut exposition = Exposition::default();
        exposition.family(Kind::Info, "pr_helper_build", "What this is.").sample(&[("version", VERSION)], 1);
        self.clients.metrics().write(&mut exposition);

        let activities = self.clients.activities();
        exposition
            .family(Kind::Gauge, "pr_helper_clients", "Clients that are connected.")
            .sample(&[], activities.len());
        let running = activities.iter().filter_map(|activity| activity.running());
        exposition
            .family(
                Kind::Gauge,
                "pr_helper_slow_commands",
                "Commands that have been in flight for longer than --slow.",
            )
            .sample(&[], running.filter(|running| running.age() >= self.slow).count());
        let devices = self.devices();
        let mut family = exposition.family(
            Kind::Gauge,
            "pr_helper_device_commands_in_flight",
            "Commands that the device has been given.",
        );
        for (device, (running, _)) in &devices {
            family.sample(&[("device", device)], running);
        }
        let mut family = exposition.family(
            Kind::Gauge,
            "pr_helper_device_commands_waiting",
            "Commands that wait for others to the device to end.",
        );
        for (device, (_, waiting)) in &devices {
            family.sample(&[("device", device)], waiting);
        }
        exposition
            .family(Kind::Counter, "pr_helper_panics", "Internal errors that cost a client its connection.")
            .sample(&[], self.workers.panics());
        exposition.finish()
    }

    /// In words.
    pub(crate) fn state(&self) -> String {
        let mut text = String::new();
        // To write to a string does not fail.
        let _ = self.describe(&mut text);
        text
    }

    fn describe(&self, text: &mut String) -> fmt::Result {
        let up = Age(self.started.elapsed());
        writeln!(text, "pr-helper {VERSION}, process {}, up {up}", std::process::id())?;
        match self.clients.multipath() {
            Ok(()) => writeln!(text, "multipath maps are served")?,
            Err(why) => writeln!(text, "multipath maps are not served: {why}")?,
        }

        let activities = self.clients.activities();
        let mut running: Vec<_> =
            activities.iter().filter_map(|activity| Some((activity.peer, activity.running()?))).collect();
        running.sort_by_key(|(_, running)| running.begun);
        writeln!(text, "commands in flight: {}", running.len())?;
        for (peer, running) in running {
            let command = CommandName(&running.cdb);
            writeln!(text, "  for {}: {peer}: {}: {command}", Age(running.age()), running.device)?;
        }

        let devices = self.devices();
        writeln!(text, "devices with commands: {}", devices.len())?;
        for (device, (running, waiting)) in devices {
            writeln!(text, "  {device}: {running} in flight, {waiting} waiting")?;
        }

        writeln!(text, "clients: {}", activities.len())?;
        for activity in &activities {
            let Activity { peer, since, .. } = &**activity;
            writeln!(text, "  {peer}: for {}, {} commands", Age(since.elapsed()), activity.commands())?;
        }
        Ok(())
    }

    /// Into the log.
    pub(crate) fn log(&self) {
        for line in self.state().lines() {
            log::info!("state: {line}");
        }
    }
}

/// A time span, as exact as a reader needs it.
struct Age(Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
        match seconds {
            0..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            60..3600 => write!(f, "{minutes} min {} s", seconds % 60),
            3600..86400 => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (12.34, "12.3 s"),
            (60.0, "1 min 0 s"),
            (3599.9, "59 min 59 s"),
            (3600.0, "1 h 0 min"),
            (90_000.0, "1 d 1 h"),
            (8_640_000.0, "100 d 0 h"),
        ] {
            assert_eq!(Age(Duration::from_secs_f64(seconds)).to_string(), text);
        }
    }
}
