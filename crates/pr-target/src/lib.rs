//! A virtual disk needs persistent reservations before the first cluster boots from it, and tests of programs that use
//! reservations need a disk that has them. This crate implements that part of a disk in software, complete to SPC-4
//! clauses 5.13, 6.15 and 6.16: registrations, the reservation, the access that they allow to each nexus, and the state
//! that survives a power loss.
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
//! // The next command of A that does not conflict reports why, as a unit attention.
//! let test_unit_ready = [0; 6];
//! let answer = unit.admit(&a, &test_unit_ready).expect("a unit attention is pending");
//! assert_eq!(answer.sense, Some(SenseCode::REGISTRATIONS_PREEMPTED));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Use in a disk
//!
//! For each command, in the order in which the disk processes them:
//!
//! - PERSISTENT RESERVE IN and OUT: call [`LogicalUnit::execute`] and end the command with the [`Answer`]. If
//!   [`Answer::abort`] names nexuses, abort their commands before this one ends.
//! - every other command: call [`LogicalUnit::admit`]. If it returns an answer, end the command with it; otherwise
//!   perform the command.
//!
//! Resets and the loss of a nexus change nothing here (SPC-4 clause 5.13.1). To model a power loss, drop the unit and
//! [`open`](LogicalUnit::open) it again.
//!
//! # Power loss
//!
//! With a [`Store`], initiators may request that registrations and reservation are kept (APTPL). `FileStore` keeps them
//! in a file. A change is durable before its command ends with GOOD, and a crash leaves the old state or the new one.
//! Unreadable state is an error, never a unit without reservations: a broken file must not give access to a fenced
//! initiator. [`LogicalUnit::lost`] continues from there as the standard specifies.
//!
//! # Choices left to a device
//!
//! Where SPC-4 leaves a choice, or contradicts itself, this crate
//!
//! - supports all six types, SPEC_I_PT, ALL_TG_PT and (with a store) APTPL and REPLACE LOST RESERVATION;
//! - returns one READ FULL STATUS descriptor for each I_T nexus, with ALL_TG_PT = 0;
//! - does not count a REGISTER that does nothing (no registration, both keys zero): PRGENERATION stays;
//! - refuses a request with ALL_TG_PT as a whole, if one of the target ports would refuse it;
//! - ends a command with RESERVATION CONFLICT if its nexus must be registered and is not, or if its key is wrong. This
//!   takes precedence over errors in the parameter list and over the unit attention conditions of this crate (SAM-5
//!   clause 5.3.3). CHECK CONDITION takes precedence over it for errors in the CDB (it is cut, NACA is set, the service
//!   action is unknown), for a target port that the unit does not have, and while reservation information is lost;
//! - follows the text, then the tables, then the figures: REGISTER AND MOVE ignores SCOPE and TYPE, and REPLACE LOST
//!   RESERVATION ignores ALL_TG_PT;
//! - holds at most [`MAX_REGISTRATIONS`] registrations.
//!
//! # Features
//!
//! - `std` (default): `FileStore`. Without it the crate needs `alloc` only.
#![cfg_attr(
    feature = "test-utils",
    doc = "- `test-utils`: [`test_utils`], random commands and a store that fails on request."
)]
#![cfg_attr(
    not(feature = "test-utils"),
    doc = "- `test-utils`: random commands and a store that fails on request."
)]
//!
//! # What this crate does not do
//!
//! - It performs no other command than PERSISTENT RESERVE, aborts none and resets nothing: the disk must.
//! - It intercepts nothing by itself: it fences only the commands that the caller submits to it.
//! - It has no RESERVE(6) and RELEASE(6) (CRH = 0), no ACA, and no NUAR bit.
//! - It does not report a reset or a power on (29h/..) to initiators.
//! - It does not lock its file: the caller must make sure that there is one owner at a time.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

// Tests the README's example with the other doc tests.
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
