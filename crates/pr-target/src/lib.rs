//! A virtual disk needs persistent reservations before the first cluster boots from it, and a test of anything that
//! uses them needs a disk that has them. This crate is that part of a disk in software: registrations, the
//! reservation, who may do what because of them, and what survives a loss of power, complete to SPC-4 clauses 5.13,
//! 6.15 and 6.16.
//!
//! It is a state machine without I/O: an I_T nexus, a CDB and its parameters go in; status, sense and data come out.
//!
//! ```
//! use pr_target::{Access, LogicalUnit, Nexus};
//! use scsi_sense::pr::TransportId;
//! use scsi_sense::{SenseCode, Status};
//!
//! let mut unit = LogicalUnit::new(&[1])?;
//! let a = Nexus::new(TransportId::Sas { address: 0x5000_0000_0000_000a }, 1)?;
//! let b = Nexus::new(TransportId::Sas { address: 0x5000_0000_0000_000b }, 1)?;
//!
//! // Both register, each with a key of its own: REGISTER AND IGNORE EXISTING KEY.
//! let register = [0x5f, 0x06, 0, 0, 0, 0, 0, 0, 24, 0];
//! for (nexus, key) in [(&a, 0xa), (&b, 0xb)] {
//!     let mut parameters = [0; 24];
//!     parameters[15] = key;
//!     assert_eq!(unit.execute(nexus, &register, &parameters, &mut []).status, Status::GOOD);
//! }
//!
//! // A reserves: WRITE EXCLUSIVE, REGISTRANTS ONLY. Both may write.
//! let reserve = [0x5f, 0x01, 0x05, 0, 0, 0, 0, 0, 24, 0];
//! let mut parameters = [0; 24];
//! parameters[7] = 0xa;
//! assert_eq!(unit.execute(&a, &reserve, &parameters, &mut []).status, Status::GOOD);
//! let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
//! assert_eq!(unit.allows(&b, &write), Access::Allowed);
//!
//! // A no longer answers its peers. B preempts it, and A cannot write any more.
//! let preempt = [0x5f, 0x04, 0x05, 0, 0, 0, 0, 0, 24, 0];
//! parameters[7] = 0xb;
//! parameters[15] = 0xa;
//! assert_eq!(unit.execute(&b, &preempt, &parameters, &mut []).status, Status::GOOD);
//! assert_eq!(unit.allows(&a, &write), Access::Conflict);
//!
//! // It learns why from the next command that does not conflict.
//! let test_unit_ready = [0; 6];
//! let answer = unit.admit(&a, &test_unit_ready).expect("something to be told");
//! assert_eq!(answer.sense, Some(SenseCode::REGISTRATIONS_PREEMPTED));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # In a disk
//!
//! For each command, in the order in which the disk processes them:
//!
//! - PERSISTENT RESERVE IN and OUT: [`LogicalUnit::execute`], and its [`Answer`] is the end of the command. If
//!   [`Answer::abort`] names nexuses, abort their commands before this one ends.
//! - every other command: [`LogicalUnit::admit`]. With an answer, that is the end of the command; with none, the disk
//!   performs it.
//!
//! Resets and the loss of a nexus change nothing here (SPC-4 clause 5.13.1); only the loss of power does, and for that,
//! drop the unit and [`open`](LogicalUnit::open) it again.
//!
//! # Over a loss of power
//!
//! With a [`Store`], initiators may ask for registrations and reservation to be kept (APTPL). `FileStore` keeps them
//! in a file. A change is on the disk before the command that made it is GOOD; a crash leaves the old state or the
//! new one; and what cannot be read is an error, never a unit without reservations: nobody who was fenced is let in
//! by a broken file. [`LogicalUnit::lost`] goes on from there as the standard has it.
//!
//! # What is left to a device
//!
//! Where SPC-4 leaves a choice, or contradicts itself, this crate
//!
//! - supports all six types, SPEC_I_PT, ALL_TG_PT and (with a store) APTPL and REPLACE LOST RESERVATION;
//! - returns one READ FULL STATUS descriptor for each I_T nexus, with ALL_TG_PT = 0;
//! - takes a REGISTER that does nothing (no registration, both keys zero) for none: PRGENERATION stays;
//! - refuses a request with ALL_TG_PT as a whole, if one of the target ports would refuse it;
//! - ends with RESERVATION CONFLICT what comes from a nexus that would have to be registered and is not, or has a wrong
//!   key, whatever is wrong with the parameter list and whichever unit attention condition of this crate's is pending
//!   (SAM-5 clause 5.3.3). CHECK CONDITION comes first for what is wrong with the CDB (it is cut, NACA is set, the
//!   service action is unknown), for a target port that the unit does not have, and while reservation information is
//!   lost;
//! - follows the text, then the tables, then the figures: REGISTER AND MOVE ignores SCOPE and TYPE, and REPLACE LOST
//!   RESERVATION ignores ALL_TG_PT;
//! - has room for [`MAX_REGISTRATIONS`] registrations.
//!
//! # Features
//!
//! - `std` (default): `FileStore`. Without it the crate needs `alloc` only.
#![cfg_attr(
    feature = "test-utils",
    doc = "- `test-utils`: [`test_utils`], random commands and a store that fails when it is told to."
)]
#![cfg_attr(
    not(feature = "test-utils"),
    doc = "- `test-utils`: random commands and a store that fails when it is told to."
)]
//!
//! # What this crate does not do
//!
//! - It performs no other command than PERSISTENT RESERVE, aborts none and resets nothing: that is the disk's.
//! - It does not stand between two programs by itself: it fences those who ask it.
//! - It has no RESERVE(6) and RELEASE(6) (CRH = 0), no ACA, and no NUAR bit.
//! - It does not tell initiators of a reset or a power on (29h/..).
//! - It does not lock its file: one owner at a time is the caller's care.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

// The README's example is compiled and run with the other ones.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod access;
mod answer;
mod attention;
mod error;
#[cfg(feature = "std")]
mod file;
mod nexus;
mod out;
mod report;
mod saved;
mod state;
mod store;
#[cfg(feature = "test-utils")]
pub mod test_utils;
mod unit;

pub use access::Access;
pub use answer::Answer;
pub use error::Error;
#[cfg(feature = "std")]
pub use file::{FileError, FileStore};
pub use nexus::{MAX_TARGET_PORTS, Nexus};
pub use state::MAX_REGISTRATIONS;
pub use store::{Store, Volatile};
pub use unit::LogicalUnit;
