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
//! A guest that is part of a cluster reserves its disk with PERSISTENT RESERVE, and fences other nodes with it. A
//! virtual machine monitor may not send these commands, for want of a privilege that it should not have. `pr-helper`
//! (or QEMU's `qemu-pr-helper`) has it, listens on a Unix socket, and runs the commands on descriptors that the
//! monitor passes. This crate is the monitor's end, what `pr-manager-helper` is in QEMU.
//!
//! # Which part to use
//!
//! | you have | use |
//! |---|---|
//! | a guest's command, as `SG_IO` would take it | [`sg::execute`] |
//! | a CDB and a buffer | [`Client::execute`] |
//! | something of your own to say to the disk | [`Client::read_keys`], [`Client::reserve`] and the like |
//! | an event loop that must not wait | [`nonblocking::Connection`] |
//!
//! A [`Client`] is for any number of threads; [`Options`] says how many connections it may have, how long a command
//! may take, and who is told when the helper comes and goes.
//!
//! In a log, print errors as `{error:#}`: then the path of the socket and the kernel's error are among the words.
//!
//! # What is sent twice, and what never
//!
//! A PREEMPT that runs twice may fence the wrong node. So a command is tried again, on a new connection, only as long
//! as not a byte of it was sent: when an idle connection turns out to be closed, when connecting fails, when the helper
//! does not greet, when the kernel takes nothing of the command. From the first byte on, whatever goes wrong is an
//! [error](Error::may_have_run) that says that the command may have run, with the [sense](Error::sense_code) that tells
//! the guest so. It decides.
//!
//! An answer can only belong to the command that was sent last on its connection: when a deadline passes, the
//! connection is closed, and one on which something arrives unasked is not used again.
//!
//! # What this crate does not do
//!
//! It opens no devices, and looks at none: what a descriptor is and may is the helper's to judge. It decides nothing
//! about reservations and remembers none: after a migration or a restart, what was registered is in the disk. It does
//! not start helpers. It has no thread of its own and logs nothing.

#![forbid(unsafe_code)]

// The README's example is compiled with the other ones.
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
