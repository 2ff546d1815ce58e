//! Controls and reads a server from other threads.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use pr_backend::Nexus;

use crate::{Client, Registrant, Running, serve::Shared};

/// Controls and reads a [`Server`](crate::Server) from any thread. Clones refer to the same server.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: Arc<Control>,
}

/// Longest grace: a hundred years. No [`Instant`] is as far away as `Duration::MAX`.
const GRACE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What the event loop learns from handles.
pub(crate) struct Control {
    pub(crate) started: Instant,
    /// When commands still in flight are given up, once a shutdown was asked for.
    pub(crate) deadline: Mutex<Option<Instant>>,
}

impl Control {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a server does at one moment.
#[derive(Debug, Clone)]
pub struct State {
    /// When the server was built.
    pub started: Instant,
    /// All connections.
    pub connections: Vec<ConnectionState>,
    /// Devices with commands, by name.
    pub devices: BTreeMap<String, DeviceLoad>,
    /// I_T nexuses through which several client processes have registered keys, and these processes, as far as this server
    /// has seen.
    pub shared_nexuses: Vec<(Nexus, Vec<Registrant>)>,
    /// How many internal errors (panics) have cost a client its connection.
    pub panics: u64,
}

/// What one connection does.
#[derive(Debug, Clone)]
pub struct ConnectionState {
    /// The client.
    pub client: Client,
    /// When it connected.
    pub since: Instant,
    /// How many commands it has sent.
    pub commands: u64,
    /// Its command that a device has been given, if there is one.
    pub running: Option<Running>,
}

/// Commands of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceLoad {
    /// Commands that the device has been given and has not answered.
    pub in_flight: usize,
    /// Commands that wait for another command to the device to end.
    pub waiting: usize,
}

impl Handle {
    /// Has the server stop: it accepts no more clients, tells idle clients at once, and returns from
    /// [`Server::run`](crate::Server::run) when the commands in flight have been answered, or after `grace`.
    ///
    /// May be called again, with another grace.
    pub fn shutdown(&self, grace: Duration) {
        let deadline = Instant::now() + grace.min(GRACE_MAX);
        *self.control.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
        // If the event loop cannot be woken, it has ended.
        let _ = self.shared.waker.wake();
    }

    /// Returns the number of commands in flight on devices and of commands that wait for a device's lock.
    pub fn commands_in_flight(&self) -> usize {
        let devices = self.state().devices;
        devices.values().map(|load| load.in_flight.saturating_add(load.waiting)).sum()
    }

    /// Returns what the server does now.
    pub fn state(&self) -> State {
        let slots = self.shared.connections.all();
        let connections: Vec<_> = slots
            .iter()
            .map(|slot| {
                let activity = slot.activity();
                ConnectionState {
                    client: activity.client,
                    since: activity.since,
                    commands: activity.commands(),
                    running: activity.running(),
                }
            })
            .collect();
        let mut devices = BTreeMap::<_, DeviceLoad>::new();
        for running in connections.iter().filter_map(|connection| connection.running) {
            let load = devices.entry(running.device.to_string()).or_default();
            load.in_flight = load.in_flight.saturating_add(1);
        }
        for (device, waiting) in self.shared.locks.waiting() {
            devices.entry(device.to_string()).or_default().waiting = waiting;
        }
        let panics = self.shared.panics.load(Ordering::Relaxed);
        let shared_nexuses = self.shared.registrations.shared();
        State { started: self.control.started, connections, devices, shared_nexuses, panics }
    }
}
