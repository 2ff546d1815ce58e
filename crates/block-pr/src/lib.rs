//! Hosts that share a disk fence each other by persistent reservations. NVMe namespaces have reservation commands of their
//! own, which Linux passes on by an ioctl; other block devices are reached by the ioctls of `<linux/pr.h>`. Both
//! interfaces have traps: an error comes as a negative error number or as a positive status, a length field counts from
//! zero, and a command that was cancelled may have taken effect. This crate has a type for each of these.
//!
//! ```no_run
//! use std::{fs::File, os::fd::AsFd as _, time::Duration};
//!
//! use block_pr::{Kernel, Namespace};
//!
//! let disk = File::open("/dev/nvme0n1")?;
//! let namespace = Namespace::open(Kernel::new(disk.as_fd()), Duration::from_secs(30))?;
//! let report = namespace.report()?;
//! println!("generation {}, reservation {:?}", report.generation, report.reservation_type);
//! for registrant in &report.registrants {
//!     println!("host {} has key {:#x}", registrant.host, registrant.key);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | type | interface |
//! |---|---|
//! | [`Namespace`] | an NVMe namespace: Reservation Register, Report, Acquire and Release, and what Identify says of them |
//! | [`BlockDevice`] | any block device: `IOC_PR_REGISTER` to `IOC_PR_READ_RESERVATION` |
//! | [`Kernel`] | the ioctls themselves, on a descriptor |
//! | [`Passthrough`], [`PrIoctl`] | what `Kernel` implements; a test implements them instead, without a device |
//!
//! # Errors
//!
//! A command that returns `Ok` was completed by the device without an error. [`Error`] tells apart a status of the device,
//! a cancelled command, which may have taken effect ([`Error::Cancelled`]), a command that was not sent for want of a path
//! ([`Error::NoPath`]), and a lack of privilege. No command is ever repeated by this crate.
//!
//! # What success does not mean
//!
//! NVMe reports success for commands that changed nothing: Release by a host that does not hold the reservation, Register
//! of the key that is registered already. Some targets do so for Acquire with preempt, too (Linux's nvmet up to 7.2, if
//! the host that preempts holds the reservation). To know what a command did, read the [`Report`] afterwards.
//!
//! # What this crate does not do
//!
//! It sends no other NVMe command, changes no host identifier, and finds no devices. It does not know SCSI: the crate
//! `pr-backend` translates. On SCSI disks use SG_IO (the crate `sg-io`) rather than [`BlockDevice`]: it has every service
//! action, and the answers of the disk.

#![deny(unsafe_code)]
#![warn(missing_docs)]

// The README's examples are compiled with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod block_device;
mod error;
mod identify;
mod ioctl;
mod kind;
mod layout;
mod namespace;
mod pr_request;
mod report;
mod request;
mod status;

pub use block_device::{BlockDevice, Held, KeyList};
pub use error::Error;
pub use identify::{CommandEffects, HostIdentifier, ReservationCapabilities};
pub use ioctl::Kernel;
pub use kind::ReservationType;
pub use namespace::{Acquire, Namespace, Persist, Register, Release, opcode};
pub use pr_request::{PrIoctl, PrRequest, PrStatus};
pub use report::{Format, Malformed, Registrant, Report};
pub use request::{Data, Passthrough, Queue, Request};
pub use status::Status;
