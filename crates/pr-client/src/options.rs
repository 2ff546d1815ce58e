//! How a client behaves.

use std::{fmt, sync::Arc, time::Duration};

use crate::{State, state::Listener};

/// How a [`Client`](crate::Client) is to behave, and the way to one that does not behave as by default.
///
/// ```no_run
/// use std::time::Duration;
/// use pr_client::Client;
///
/// let client = Client::options()
///     .timeout(Duration::from_secs(40))
///     .connections(1)
///     .on_state_change(|state| println!("the helper is {state}"))
///     .connect("/run/pr-helper.sock")?;
/// # Ok::<(), pr_client::Error>(())
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) attempts: u32,
    pub(crate) pause: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) connections: usize,
    pub(crate) listener: Option<Listener>,
}

impl Options {
    /// What [`Client::connect`](crate::Client::connect) has.
    pub fn new() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_secs(1),
            timeout: Some(Duration::from_secs(240)),
            connections: 8,
            listener: None,
        }
    }

    /// How often one command may try to connect before it gives up, at least once. 5 by default, as QEMU.
    ///
    /// That a connection was found closed while it was idle is not counted.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// How long to wait between two attempts. One second by default, as QEMU.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// How long a command may take in all, from the call to its return: waiting for a free connection, connecting (a
    /// helper that does not accept lets its clients wait), pausing, sending, waiting for the answer. `None` is for
    /// ever. Four minutes by default.
    ///
    /// Too short is worse than too long: when time is up the outcome is unknown, while a helper that is left alone
    /// tells it in the end. A hung device costs pr-helper its own timeout (30 seconds) and then the kernel's recovery
    /// of the device, a minute and more; a multipath map six times its timeout. Four minutes are longer than that, and
    /// longer than guests wait (30 to 60 seconds by default), so when they are over nobody is waiting any more but a thread of the VMM: that is why
    /// there is a bound at all.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// How many connections the client may have, at least one: so many commands may be under way at once. 8 by
    /// default. They are made when needed and kept.
    ///
    /// A command on a hung device keeps its connection. Where disks must not delay each other, give each a client of
    /// its own.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Whom to tell of each change between connected and not connected: once each, in order, never two at a time.
    ///
    /// It is called on the thread that notices, with no lock held: it may use the client, and the time it takes is that
    /// of the command. What to do there: tell a management layer, which may have to restart the helper. A client
    /// notices the end of a helper when it needs one, at the next command.
    #[must_use]
    pub fn on_state_change(mut self, listener: impl Fn(State) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("attempts", &self.attempts)
            .field("pause", &self.pause)
            .field("timeout", &self.timeout)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
