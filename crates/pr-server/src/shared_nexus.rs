//! What is said of client processes that register keys through the same I_T nexus.

use std::fmt;

use pr_backend::{DeviceId, Nexus};

use crate::Client;

/// What a server does when a client process registers a key through an I_T nexus through which another client process has
/// registered one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SharedNexus {
    /// Executes the command.
    Ignore,
    /// Tells observers ([`Event::NexusShared`](crate::Event::NexusShared)), and executes the command.
    #[default]
    Warn,
    /// Tells observers, and answers RESERVATION CONFLICT in the device's place.
    Refuse,
}

/// A client process that has registered a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registrant {
    /// Process number; 0 if the process is in another PID namespace.
    pub pid: i32,
    /// User number.
    pub uid: u32,
    /// Another server of this host serves it.
    pub is_of_other_server: bool,
}

impl fmt::Display for Registrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client pid {} uid {}", self.pid, self.uid)?;
        if self.is_of_other_server { f.write_str(" of another helper") } else { Ok(()) }
    }
}

/// A client process registered a key through the I_T nexus of another one.
#[derive(Debug)]
pub struct NexusShared<'a> {
    /// The client that sent the REGISTER.
    pub client: Client,
    /// The device that it was for.
    pub device: DeviceId,
    /// The client process that had registered a key before.
    pub registrant: Registrant,
    /// Names of the I_T nexuses that both use.
    pub nexuses: &'a [Nexus],
    /// The command was answered with RESERVATION CONFLICT, and not executed.
    pub is_refused: bool,
}
