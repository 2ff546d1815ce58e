//! The options of a client.

use std::{fmt, sync::Arc, time::Duration};

use crate::{State, state::Listener};

/// The options of a [`Client`](crate::Client), and the builder of a client with other options than the defaults.
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
    /// Returns the defaults, which [`Client::connect`](crate::Client::connect) uses.
    pub fn new() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_secs(1),
            timeout: Some(Duration::from_secs(240)),
            connections: 8,
            listener: None,
        }
    }

    /// Sets how often one command may try to connect before it fails, at least once. 5 by default, as in QEMU.
    ///
    /// An idle connection that turns out to be closed does not count.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the pause between two attempts. One second by default, as in QEMU.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets the time limit of a command, from the call to its return: waiting for a free connection, connecting (which
    /// blocks while the helper does not accept), pausing, sending, waiting for the answer. `None` means no limit. Four
    /// minutes by default.
    ///
    /// Too short is worse than too long: after the timeout the outcome is unknown, while the helper does answer in the
    /// end. On a hung device it answers after its own timeout (30 seconds) and the kernel's recovery of the device (a
    /// minute or more); on a multipath map after six times its timeout. Four minutes are longer than that, and longer
    /// than the timeout of guests (30 to 60 seconds by default): the limit only makes sure that a thread of the VMM
    /// does not wait for ever.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets the maximum number of connections, at least one, and with it of commands in flight at once. 8 by default.
    /// Connections are opened when needed and kept.
    ///
    /// A command on a hung device occupies its connection. If disks must not delay each other, use a client for each.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets a callback for changes between connected and disconnected. It is called once for each change, in order, and
    /// never concurrently.
    ///
    /// It is called on the thread that detects the change, with no lock held: it may use the client, and it delays that
    /// thread's command. Use it to notify a management layer, which may have to restart the helper. A client detects
    /// the end of a helper only at the next command.
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
