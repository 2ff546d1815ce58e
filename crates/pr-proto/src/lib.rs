//! A virtual machine monitor runs without privilege and may not send SCSI PERSISTENT RESERVE commands to its guest's
//! disk; a small privileged helper may. They speak over a Unix stream socket, in the protocol that QEMU's
//! `pr-manager-helper` object and `qemu-pr-helper` introduced. This crate is that protocol, both ends of it, as state
//! machines that do no I/O: bytes and descriptors go in, and out come the next thing to do and the bytes to send.
//!
//! ```
//! use pr_proto::{ClientSession, Completion, Data, HelperSession};
//! use scsi_sense::Status;
//!
//! // Any type can stand for a file descriptor: `OwnedFd` in a program, here a name.
//! let mut helper = HelperSession::<&str>::new();
//! let mut client = ClientSession::new();
//! # fn take(buffer: &mut [u8], stream: &mut Vec<u8>) -> usize {
//! #     let n = buffer.len().min(stream.len());
//! #     for (to, from) in buffer.iter_mut().zip(stream.drain(..n)) { *to = from; }
//! #     n
//! # }
//!
//! // Both greet. `take` stands for a read from the socket: it fills what it can of a buffer.
//! let mut to_client = helper.greeting().to_vec();
//! let n = take(client.buffer(), &mut to_client);
//! client.received(n)?;
//! let mut to_helper = client.greeting().expect("the helper has greeted").to_vec();
//! let n = take(helper.buffer(), &mut to_helper);
//! helper.received(n, &mut vec![])?;
//!
//! // PERSISTENT RESERVE IN, READ KEYS, allocation length 16, and with it the disk.
//! let cdb = client.read(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 16, 0])?;
//! let mut to_helper = cdb.to_vec();
//! let n = take(helper.buffer(), &mut to_helper);
//! helper.received(n, &mut vec!["disk"])?;
//!
//! // The helper has a whole request: run it. The answer goes straight into the reply's buffers.
//! let request = helper.request().expect("all of it is there");
//! let reply = request.answer(|command, disk| {
//!     assert_eq!((disk, command.cdb[0]), ("disk", 0x5e));
//!     if let Data::In(data) = command.data {
//!         data[..8].copy_from_slice(&[0, 0, 0, 7, 0, 0, 0, 0]); // generation 7, no keys
//!     }
//!     Completion { status: Status::GOOD, transferred: 8, sense_len: 0 }
//! });
//!
//! let mut to_client = reply.to_vec();
//! while client.response().is_none() {
//!     let n = take(client.buffer(), &mut to_client);
//!     client.received(n)?;
//! }
//! let response = client.response().expect("just seen");
//! assert_eq!(response.status, Status::GOOD);
//! assert_eq!(response.payload, [0, 0, 0, 7, 0, 0, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How to drive a session
//!
//! Both sessions lend a [`buffer`](HelperSession::buffer) to read into, never longer than what the message at hand
//! still lacks, and are told with `received` how much of it was filled. Reading no further than that is what makes it
//! certain to which message a descriptor belongs, however the stream is cut into pieces, and nothing is copied.
//!
//! # What this crate does not do
//!
//! No sockets, no descriptors, no SCSI beyond the two opcodes and their transfer lengths. `no_std`; each session
//! allocates one buffer when it is made and nothing after that.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod client;
mod error;
mod frame;
mod helper;
mod wire;

pub use client::{ClientSession, Response};
pub use error::{ClientError, InvalidCommand, Violation};
pub use helper::{Command, Completion, Data, HelperSession, Request};
pub use wire::{CDB_LEN, DATA_MAX, Features, GREETING_LEN, REPLY_LEN, SENSE_LEN};
