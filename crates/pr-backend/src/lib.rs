//! Another process hands over a descriptor and a SCSI PERSISTENT RESERVE command. Running that command takes a privilege
//! (`CAP_SYS_RAWIO`) which the other process lacks, so three mistakes are close: a command on a partition that clears the
//! reservations of the whole disk, a failure on the way to the disk that reads as GOOD, and a byte in the answer that the
//! disk never wrote. This crate runs the command without them.
//!
//! An [`Executor`] has one [`Backend`] for each kind of device. It examines a descriptor without touching its file system
//! or device, asks the backends in turn whether they claim it, checks how it was opened, and runs the command.
//!
//! ```no_run
//! use std::{fs::File, os::fd::AsFd as _, time::Duration};
//!
//! use pr_backend::{Command, Data, Executor, Scsi};
//!
//! let executor = Executor::new().with(Scsi::new(Duration::from_secs(30)));
//! let disk = File::open("/dev/sda")?;
//! // PERSISTENT RESERVE IN, READ KEYS, allocation length 256.
//! let cdb = [0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0];
//! let (mut data, mut sense) = ([0; 256], [0; 96]);
//! let mut command = Command { cdb: &cdb, data: Data::In(&mut data), sense: &mut sense };
//! println!("{}", executor.run(disk.as_fd(), &mut command).status());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # A backend of your own
//!
//! Implement [`Backend`] and add it with [`Executor::with`]. [`Backend::claim`] gets a [`Descriptor`] and must not block;
//! [`Backend::execute`] may block for as long as its device takes. Refusals and causes are open: a backend brings its own
//! text for the log and its own label for metrics.
//!
//! # What this crate does not do
//!
//! It has no socket, no threads and no event loop (that is `pr-server`), and it never repeats a command that was sent. It
//! knows nothing of multipath maps (that is `pr-multipath`).

#![deny(unsafe_code)]

mod block;
mod descriptor;
mod device;
mod disks;
mod emulated;
mod executor;
mod kind;
mod nexus;
mod outcome;
mod scsi;
mod sys;
mod system_calls;
mod with_sources;

pub use block::Block;
pub use descriptor::{Descriptor, is_writable};
pub use device::{Device, DeviceId};
pub use disks::Disks;
pub use emulated::{DEFAULT_INITIATOR, EmulateError, Emulated};
pub use executor::{Backend, Executor, Target};
pub use kind::DescriptorKind;
pub use nexus::Nexus;
pub use outcome::{Cause, Failure, NotServed, Outcome, Refusal};
pub use pr_proto::{Command, Completion, Data};
pub use scsi::Scsi;
pub use with_sources::with_sources;
