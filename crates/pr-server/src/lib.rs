//! A virtual machine monitor passes PERSISTENT RESERVE commands to a privileged process over a Unix socket. This crate is
//! that process's server, for a program that wants to be it: between the listening socket and an
//! [`Executor`](pr_backend::Executor), with the promises that a privileged process owes its clients. A command on a hung
//! disk delays no other connection; no client can stop the server, hold its event loop, or use up what others need; and a
//! reply carries only bytes that were written for it.
//!
//! ```no_run
//! use std::{os::unix::net::UnixListener, time::Duration};
//!
//! use pr_backend::{Executor, Scsi};
//! use pr_server::{LogEvents, Server};
//!
//! let executor = Executor::new().with(Scsi::new(Duration::from_secs(30)));
//! let server = Server::builder(executor)
//!     .listen(UnixListener::bind("/run/my-helper.sock")?)
//!     .observer(LogEvents::default())
//!     .build()?;
//! let handle = server.handle();
//! let running = std::thread::spawn(|| server.run());
//! // Later:
//! handle.shutdown(Duration::from_secs(60));
//! println!("{:?}", running.join());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # How it works
//!
//! The event loop owns idle connections, and a thread each active one. A thread receives a request, has the executor claim
//! its descriptor and run the command, sends the reply, and lingers 50 ms for the next request before it gives the
//! connection back. The protocol allows one command at a time on a connection, so no command waits for another
//! connection's device. Each client process has a quota of connections, and with it of threads and descriptors.
//!
//! # What this crate does not do
//!
//! It handles no signals, changes no limits or privileges of the process, and writes nothing: an [`Observer`] sees all
//! events. The observer [`LogEvents`] writes to the `log` crate; the observer of `pr-metrics` counts. It makes no sockets.

#![forbid(unsafe_code)]

use std::time::Duration;

mod activity;
mod announcements;
mod connection;
mod connections;
mod event;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod locks;
mod log_events;
mod observers;
mod peer;
mod quota;
mod register;
mod registrations;
mod serve;
mod server;
mod shared_nexus;
mod system_calls;
mod threads;

pub use activity::Running;
pub use event::{CommandName, Completed, DisconnectReason, Event, Observer, Started};
pub use handle::{ConnectionState, DeviceLoad, Handle, State};
pub use log_events::LogEvents;
pub use peer::{Client, Peer};
pub use server::{Builder, Ended, Limits, Server};
pub use shared_nexus::{NexusShared, Registrant, SharedNexus};
pub use system_calls::SYSTEM_CALLS;

/// How long a message may take from its first byte to its last.
pub const MESSAGE_DEADLINE: Duration = Duration::from_secs(30);
