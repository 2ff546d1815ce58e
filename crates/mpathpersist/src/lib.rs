//! A persistent reservation on a multipath map is one on each of its paths: a key has to be registered through all of
//! them, and through those that appear later. On Linux multipath-tools does that, and libmpathpersist is how a program
//! asks for it: a C library with static state, one call at a time, that writes where it was not asked to, does what
//! nobody asked for (see [`behaviour`]), and says in one number what went wrong. This crate is that library with those
//! properties in types: there is one [`Library`] in a process, each call needs it exclusively, and an error says what an
//! operator can do.
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
//! The library is found when it is [opened](Library::open), so a program that uses this crate is built and runs without
//! it. With the feature `link` it is linked instead.
//!
//! Run it in a process of its own, as root, with one thread. A call can take minutes, can end the process (the library
//! calls `exit` where device-mapper or its multipath target is missing), raises the limit of open files, and uses
//! `SIGALRM`; and its errors are crashes. But do not kill that process without need: see "Suspended maps" in
//! [`behaviour`].
//!
//! # What this crate does not do
//!
//! - It does not mend the library. What is known of it is in [`behaviour`]; what would harm others is refused
//!   ([`Error`]).
//! - It bounds no call's time.
//! - It has no REGISTER AND MOVE and no REPLACE LOST RESERVATION: the library has neither.
//! - It does not tell a map from another device: the library does ([`Failure::MapError`]).
//! - It has no PERSISTENT RESERVE IN: send it to the map itself by `SG_IO`, since any path knows the answer. The
//!   library's own cuts or overwrites lists ([`behaviour`](behaviour#read-full-status)).

#![warn(missing_docs)]

// The README's example is compiled with the other ones.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod behaviour;
mod error;
mod failure;
mod ffi;
mod library;
mod outbound;
mod returned;
mod version;

pub use error::{Error, OpenError};
pub use failure::Failure;
pub use library::{Library, RegisteredKey, Verbosity};
pub use version::{Generation, Version};
