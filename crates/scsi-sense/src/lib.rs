//! SCSI as types: commands, status, sense data and persistent reservations, without an allocator.
//!
//! A program that passes SCSI commands on, emulates a disk or explains a disk's errors parses bytes that it does not
//! control: a guest's, a device's, a peer's. Length fields lie, data end early, codes are new. This crate turns such
//! bytes into types and back, and keeps three promises:
//!
//! - **No panic and no read beyond the end**, whatever the bytes are. Lengths of up to 2^32-1 do not wrap, not even on
//!   32-bit machines.
//! - **Truncated data are not misread.** Sense data and reservation data may end at any byte; the fields before the
//!   end are available, and missing ones are `None` or an error, never zero.
//! - **Unknown values are kept.** A status, a type, a service action, a descriptor or a TransportID without a name is
//!   written as it was read.
//!
//! It has no dependencies, needs neither `std` nor `alloc`, and forbids `unsafe`.
//!
//! # Example
//!
//! Reading a device's answer to a PREEMPT:
//!
//! ```
//! use scsi_sense::pr::{BasicParameters, OutServiceAction, PersistentReserveOut};
//! use scsi_sense::pr::{ReservationKey, ReservationType, Scope};
//! use scsi_sense::{Cdb, Sense, SenseCode, Status};
//!
//! // A command and its parameter list, as a device gets them.
//! let parameters = BasicParameters {
//!     reservation_key: ReservationKey(0x1),
//!     service_action_key: ReservationKey(0x2),
//!     ..BasicParameters::default()
//! }
//! .to_bytes();
//! let cdb = PersistentReserveOut {
//!     action: OutServiceAction::Preempt,
//!     scope: Scope::LogicalUnit,
//!     kind: ReservationType::WriteExclusiveRegistrantsOnly,
//!     parameter_list_length: 24,
//! }
//! .to_cdb();
//! assert_eq!(parameters.len(), 24);
//! assert_eq!(
//!     Cdb::new(&cdb)?.to_string(),
//!     "PERSISTENT RESERVE OUT, PREEMPT, type WRITE EXCLUSIVE, REGISTRANTS ONLY (5h), 24 bytes",
//! );
//!
//! // The device's answer.
//! let (status, sense) = (Status(0x02), SenseCode::INVALID_FIELD_IN_PARAMETER_LIST.to_fixed());
//! assert_eq!(status.to_string(), "CHECK CONDITION (02h)");
//! assert_eq!(
//!     Sense::parse(&sense)?.to_string(),
//!     "ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST (05/26/00)",
//! );
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Where to find what
//!
//! - [`Cdb`], [`Transfer`], [`opcode`]: command descriptor blocks of any command, by name.
//! - [`Status`]; [`Sense`] to read sense data, [`SenseCode::to_fixed`], [`FixedSense`] and [`DescriptorSense`] to
//!   build them; [`SenseKey`], [`AdditionalSense`] and [`SenseCode`] for the codes.
//! - [`pr`]: persistent reservations, that is commands, parameter lists, returned data and TransportIDs.
//!
//! # Conventions
//!
//! All fields are big-endian on the wire and native in the types. Lengths are in bytes. Builders return an array or
//! write into a buffer of the caller's ([`BuildError`] says how much room it needs). Reserved and obsolete fields are
//! ignored when read and zero when built. Clause numbers are those of SPC-4 (T10/BSR INCITS 513) revision 36 unless
//! another standard is named.
//!
//! # What this crate does not do
//!
//! - It does no I/O and knows no operating system's interfaces. On Linux, the crate `sg-io` sends commands and
//!   translates the kernel's results into the types of this crate.
//! - It does not decide what a reservation permits: that is for a device, or an emulation of one.
//! - It decodes no other command's parameters or data (INQUIRY, MODE SENSE, READ CAPACITY, ...), and names no
//!   operation codes that are special to tapes, changers and the like.
//! - It does not have every text of the standard's list of additional sense codes, only those of disks. The codes
//!   themselves are never lost.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

// The README's example is compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod additional;
mod build;
mod cdb;
mod cdb_text;
pub mod opcode;
pub mod pr;
mod sense;
mod sense_code;
mod sense_key;
mod status;

pub use additional::AdditionalSense;
pub use build::BuildError;
pub use cdb::{Cdb, CdbError, Transfer};
pub use sense::{
    AtaStatusReturn, Descriptor, DescriptorSense, Descriptors, DirectAccessBlockDevice, FixedSense, Sense,
    SenseError, SenseFormat, SenseKeySpecific,
};
pub use sense_code::SenseCode;
pub use sense_key::SenseKey;
pub use status::Status;
