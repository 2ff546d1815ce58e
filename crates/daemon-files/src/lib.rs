//! A daemon that starts as root makes a socket, a pidfile and perhaps a log in a directory that it was told. If another user
//! owns that directory, each path can become a symbolic link between two system calls, and `chown` then gives away
//! /etc/shadow. This crate makes those files by descriptors: a replaced file or directory redirects nothing.
//!
//! ```
//! use daemon_files::{Access, Listener, Pidfile};
//!
//! # let directory = tempfile::tempdir()?;
//! # let (pid, path) = (directory.path().join("pid"), directory.path().join("socket"));
//! let pidfile = Pidfile::create(&pid)?;
//! let listener = Listener::bind(&path, &Access { mode: Some(0o660), ..Access::default() })?;
//! std::os::unix::net::UnixStream::connect(&path)?;
//! // Dropped, both remove their files, if these are still the ones that were made.
//! drop((listener, pidfile));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What this crate does not do
//!
//! It creates no directories and knows no daemon's default paths. [`Listener::bind`] changes the umask of the process for a
//! moment: call it before other threads create files.

#![deny(unsafe_code)]

mod append;
mod pidfile;
mod place;
mod socket;
mod sys;

pub use append::open_to_append;
pub use pidfile::{Pidfile, PidfileError};
pub use place::Place;
pub use socket::{Access, ListenError, Listener, SocketFile};
