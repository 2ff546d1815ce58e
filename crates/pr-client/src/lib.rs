//! Runs SCSI PERSISTENT RESERVE commands through a privileged helper: the client for virtual machine monitors.
//!
//! ```no_run
//! # use std::fs::File;
//! let client = pr_client::Client::connect("/run/pr-helper.sock")?;
//! let disk = File::options().read(true).write(true).open("/dev/sdb")?;
//! println!("{:?}", client.read_keys(&disk)?.keys);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A guest that is part of a cluster reserves its disk with PERSISTENT RESERVE, and fences other nodes with it. These
//! commands need a privilege that a virtual machine monitor should not have. `pr-helper` (or QEMU's `qemu-pr-helper`)
//! has it, listens on a Unix socket, and runs the commands on descriptors that the monitor passes. This crate is the
//! monitor's end of that connection, like `pr-manager-helper` in QEMU.
//!
//! # Which part to use
//!
//! | you have | use |
//! |---|---|
//! | a guest's command, as `SG_IO` would take it | [`sg::execute`] |
//! | a CDB and a buffer | [`Client::execute`] |
//! | your own commands to a disk | [`Client::read_keys`], [`Client::reserve`] and the like |
//! | an event loop that must not block | [`nonblocking::Connection`] |
//!
//! A [`Client`] is for any number of threads; [`Options`] sets the number of connections, the timeout of a command, and
//! a callback that is called when the helper connects or disconnects.
//!
//! In a log, print errors as `{error:#}`: this includes the path of the socket and the kernel's error.
//!
//! # Retries
//!
//! A PREEMPT that runs twice may fence the wrong node. Invariant: a command is tried again, on a new connection, only
//! if no byte of it was sent: when an idle connection turns out to be closed, when connecting fails, when the helper
//! does not send its greeting, when the kernel accepts no byte of the command. After the first byte, every failure is
//! an [error](Error::may_have_run) that says that the command may have run, with a [sense code](Error::sense_code) for
//! the guest, which decides what to do.
//!
//! Invariant: an answer belongs to the last command sent on its connection. When a deadline passes, the connection is
//! closed, and a connection on which unsolicited data arrives is not used again.
//!
//! # What this crate does not do
//!
//! It opens no devices and checks none: the helper decides which descriptors it accepts. It decides nothing about
//! reservations and remembers none: after a migration or a restart, the registrations are in the disk. It does not
//! start helpers. It has no thread of its own and logs nothing.

#![forbid(unsafe_code)]

// Compiles the README's example with the other doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod client;
mod completion;
mod deadline;
mod error;
pub mod nonblocking;
mod options;
mod pool;
mod reported;
mod reservations;
mod sense_data;
pub mod sg;
mod socket;
mod state;

pub use client::Client;
pub use completion::{Completion, Data};
pub use error::{CommandError, Error};
pub use options::Options;
pub use pr_proto::{ClientError, DATA_MAX, InvalidCommand, SENSE_LEN};
pub use reported::{CurrentReservation, RegisteredKeys, Registration, Registrations};
pub use sense_data::SenseData;
pub use state::State;
