//! A key must be registered on every path of a multipath map, also on paths that come back later. Only multipathd does that,
//! and libmpathpersist is its interface. But the library needs root, may block for long, keeps state between calls, ends the
//! process on some errors, and is written for a command line. This crate is a backend of [`pr_backend`] that makes the
//! library usable for a daemon that is not root, has many threads and must not crash.
//!
//! # How it works
//!
//! [`Multipath::start`] starts the program again as a *supervisor*, which stays root with three capabilities. The supervisor
//! starts *workers*, the same program again, one for each map with a command in flight. A worker calls the library; a fault
//! there costs one command. A worker that takes too long is killed, and its map answers BUSY until it has exited. Changes go
//! through the library and are verified on the disk; commands that only read are sent to the paths directly.
//!
//! ```no_run
//! use std::{process::ExitCode, time::Duration};
//!
//! use pr_backend::{Executor, Scsi};
//! use pr_multipath::{Config, Multipath, Role};
//!
//! fn main() -> ExitCode {
//!     // Must come first: this process may be the supervisor or a worker.
//!     if let Some(role) = Role::from_args(std::env::args_os()) {
//!         return role.run(None, || {});
//!     }
//!     let timeout = Duration::from_secs(30);
//!     let multipath = Multipath::start(Config { timeout, arguments: Vec::new(), discard_stderr: false });
//!     // Here a daemon gives up its privileges.
//!     multipath.probe_library();
//!     if let Err(why) = multipath.availability() {
//!         eprintln!("no multipath maps: {why}");
//!     }
//!     let executor = Executor::new().with(multipath).with(Scsi::new(timeout));
//!     // Serve commands by the executor.
//!     # let _ = executor;
//!     ExitCode::SUCCESS
//! }
//! ```
//!
//! # What this crate does not do
//!
//! - It does not lock: the caller must send one command at a time to a map
//!   ([`Device::is_serial`](pr_backend::Device::is_serial)).
//! - It does not serve other device-mapper maps, nor the paths as disks of their own ([`pr_backend::Scsi`] does).
//! - It does not configure multipath-tools: `reservation_key file` must be in multipath.conf.
//! - In the daemon's process it changes no signals, no logger and no other state of the process; it spawns threads that wait
//!   for workers and the supervisor.

#![deny(unsafe_code)]

mod capabilities;
mod cause;
mod change;
mod change_error;
mod channel;
mod config;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod map;
mod map_state;
mod multipath;
mod nexus;
mod output;
mod path;
mod pool;
mod recent_lines;
mod refusal;
mod reply;
mod role;
mod role_process;
mod signals;
mod supervisor;
mod supervisor_client;
mod sys;
mod system_calls;
mod text;
mod unavailable;
mod wire;
mod worker;
mod worker_client;
mod worker_error;
mod worker_log;

pub use config::Config;
pub use multipath::Multipath;
pub use role::Role;
pub use unavailable::Unavailable;
