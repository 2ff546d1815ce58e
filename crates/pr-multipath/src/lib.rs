//! A reservation on a multipath map must be registered with every path, also with paths that come back later. Only
//! multipathd keeps that promise, and libmpathpersist is the way to it. But the library needs root, may block for long, keeps
//! state between calls, ends the process on some errors, and is written for a command line. This crate is a backend of
//! [`pr_backend`] that calls it all the same, from a daemon that is not root, has many threads and must not die.
//!
//! # How it works
//!
//! [`Multipath::start`] starts the program again as a *supervisor*, which stays root with three capabilities. The supervisor
//! starts *workers*, the same program again, one for each map with a command in flight. A worker calls the library; whatever
//! goes wrong there costs one command. A worker that takes too long is killed, and its map answers BUSY until it has ended.
//! Changes go through the library and are verified on the disk; commands that only read are sent to the paths themselves.
//!
//! ```no_run
//! use std::{process::ExitCode, time::Duration};
//!
//! use pr_backend::{Executor, Scsi};
//! use pr_multipath::{Config, Multipath, Role};
//!
//! fn main() -> ExitCode {
//!     // First of all: this process may be the supervisor or a worker.
//!     if let Some(role) = Role::from_args(std::env::args_os()) {
//!         return role.run(|| {});
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
//! It does not lock: a map takes one command at a time ([`Device::is_serial`](pr_backend::Device::is_serial)), and the caller
//! must see to that. It does not serve other device-mapper maps, and not the paths themselves (that is
//! [`pr_backend::Scsi`]). It does not configure multipath-tools: `reservation_key file` must be in multipath.conf. In the
//! daemon's process it touches no signals, no logger and no other state of the process; it starts threads that wait for
//! workers and the supervisor.

#![deny(unsafe_code)]

mod capabilities;
mod cause;
mod change;
mod change_error;
mod channel;
mod config;
mod map;
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
