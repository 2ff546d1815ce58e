//! SCSI as types: commands, status, sense data and persistent reservations, without an allocator.
//!
//! A program that forwards SCSI commands, emulates a disk or explains a disk's errors parses bytes that it does not
//! control: from a guest, a device, a peer. Length fields lie, data end early, codes are new. This crate turns such
//! bytes into types and back, and keeps three promises:
//!
//! - **No panic and no read beyond the end** for any input. Lengths of up to 2^32-1 do not wrap, not even on
//!   32-bit machines.
//! - **Truncated data are not misread.** Sense data and reservation data may end at any byte; the fields before the
//!   end are available, and missing ones are `None` or an error, never zero.
//! - **Unknown values are kept.** A status, type, service action, descriptor or TransportID without a name is
//!   written as it was read.
//!
//! It has no dependencies, needs neither `std` nor `alloc`, and forbids `unsafe`.
//!
//! # Example
//!
//! This reads a device's answer to a PREEMPT:
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
//! # Overview
//!
//! - [`Cdb`], [`Transfer`], [`opcode`]: command descriptor blocks of any command, by name.
//! - [`Status`]; [`Sense`] to read sense data, [`SenseCode::to_fixed`], [`FixedSense`] and [`DescriptorSense`] to
//!   build them; [`SenseKey`], [`AdditionalSense`] and [`SenseCode`] for the codes.
//! - [`pr`]: persistent reservations, that is commands, parameter lists, returned data and TransportIDs.
//!
//! # Conventions
//!
//! All fields are big-endian on the wire and native in the types. Lengths are in bytes. Builders return an array or
//! write into a buffer of the caller ([`BuildError`] states the size it needs). Reserved and obsolete fields are
//! ignored when read and zero when built. Clause numbers are those of SPC-4 (T10/BSR INCITS 513) revision 36 unless
//! another standard is named.
//!
//! # What this crate does not do
//!
//! - It does no I/O and uses no operating system interface. On Linux, the crate `sg-io` sends commands and
//!   translates the kernel's results into the types of this crate.
//! - It does not decide which commands a reservation permits: that is up to a device, or an emulation of one.
//! - It decodes no parameters or data of other commands (INQUIRY, MODE SENSE, READ CAPACITY, ...), and does not name
//!   the operation codes that only tapes, changers and similar devices have.
//! - It has the texts of the additional sense codes of disks, not of the standard's whole list. Codes without a text
//!   are kept.

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
