//! A daemon that starts as root makes a socket, a pidfile and perhaps a log in a configured directory. If another user owns
//! that directory, each path can become a symbolic link between two system calls, and `chown` then gives away /etc/shadow.
//! This crate makes these files by descriptor, so a replaced file or directory redirects nothing.
//!
//! ```
//! use daemon_files::{Access, Listener, Pidfile};
//!
//! # let directory = tempfile::tempdir()?;
//! # let (pid, path) = (directory.path().join("pid"), directory.path().join("socket"));
//! let pidfile = Pidfile::create(&pid)?;
//! let listener = Listener::bind(&path, &Access { mode: Some(0o660), ..Access::default() })?;
//! std::os::unix::net::UnixStream::connect(&path)?;
//! // Dropping them removes both files, unless other files have taken their place.
//! drop((listener, pidfile));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What this crate does not do
//!
//! It creates no directories and has no default paths. [`Listener::bind`] changes the umask of the process for a moment, so
//! call it before other threads create files.

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
