//! A persistent reservation on a multipath map needs a registration through each of its paths, including paths that
//! appear later. On Linux, multipath-tools provides this through libmpathpersist: a C library with static state that
//! allows one call at a time, overwrites its arguments, has unexpected side effects (see [`behaviour`]), and reports a
//! failure as a single number. This crate expresses these properties in types: a process has at most one [`Library`],
//! each call needs exclusive access to it, and an error has advice for an operator.
//!
//! ```no_run
//! use std::{error::Error, fs::File, os::fd::AsFd};
//!
//! use mpathpersist::Library;
//! use scsi_sense::pr::{BasicParameters, OutServiceAction, ReservationKey, ReservationType, Scope};
//!
//! let mut library = Library::open()?;
//! println!("{}", library.version());
//! let map = File::open("/dev/mapper/mpatha")?;
//! let parameters =
//!     BasicParameters { service_action_key: ReservationKey(0x123abc), ..BasicParameters::default() };
//! let (scope, kind) = (Scope::LogicalUnit, ReservationType::Other(0));
//! if let Err(error) = library.reserve_out(map.as_fd(), OutServiceAction::Register, scope, kind, &parameters) {
//!     let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
//!     eprintln!("{error}{cause}: {}", error.advice());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The library is loaded when it is [opened](Library::open), so a program that uses this crate can be built and run
//! without it. With the feature `link` it is linked instead.
//!
//! Run the library in a separate process, as root, with one thread. A call can take minutes, can end the process (the
//! library calls `exit` if device-mapper or its multipath target is missing), raises the limit of open files, and uses
//! `SIGALRM`. A bug in the library can crash the process. Do not kill the process without need: see "Suspended maps" in
//! [`behaviour`].
//!
//! # What this crate does not do
//!
//! - It does not fix the library's faults. [`behaviour`] documents the known ones; calls that would harm other hosts
//!   are refused ([`Error`]).
//! - It does not limit the duration of a call.
//! - It has no REGISTER AND MOVE and no REPLACE LOST RESERVATION: the library has neither.
//! - It does not check that a device is a multipath map: the library does ([`Failure::MapError`]).
//! - It has no PERSISTENT RESERVE IN: send that to the map itself by `SG_IO`, since every path returns the same data.
//!   The library's own functions truncate lists or write beyond them ([`behaviour`](behaviour#read-full-status)).

#![warn(missing_docs)]

// Compiles the README's example with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod behaviour;
mod error;
mod failure;
mod ffi;
mod library;
mod out_command;
mod returned;
mod version;

pub use error::{Error, OpenError};
pub use failure::Failure;
pub use library::{Library, RegisteredKey, Verbosity};
pub use version::{Generation, Version};
