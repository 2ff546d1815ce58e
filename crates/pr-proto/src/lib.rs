//! An unprivileged virtual machine monitor may not send SCSI PERSISTENT RESERVE commands to its guest's disk, so a
//! small privileged helper sends them on its behalf. They communicate over a Unix stream socket, in the protocol that
//! QEMU's `pr-manager-helper` object and `qemu-pr-helper` introduced. This crate implements both ends of that protocol
//! as state machines without I/O: bytes and descriptors go in; the next step and the bytes to send come out.
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
//! // Both send a greeting. `take` stands for a read from the socket, which fills as much of the buffer as it can.
//! let mut to_client = helper.greeting().to_vec();
//! let n = take(client.buffer(), &mut to_client);
//! client.received(n)?;
//! let mut to_helper = client.greeting().expect("the helper has greeted").to_vec();
//! let n = take(helper.buffer(), &mut to_helper);
//! helper.received(n, &mut vec![])?;
//!
//! // PERSISTENT RESERVE IN, READ KEYS, allocation length 16, with the disk's descriptor.
//! let cdb = client.read(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 16, 0])?;
//! let mut to_helper = cdb.to_vec();
//! let n = take(helper.buffer(), &mut to_helper);
//! helper.received(n, &mut vec!["disk"])?;
//!
//! // The helper has a complete request and runs it. The answer is written directly to the reply's buffers.
//! let request = helper.request().expect("the request is complete");
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
//! let response = client.response().expect("the loop has ended");
//! assert_eq!(response.status, Status::GOOD);
//! assert_eq!(response.payload, [0, 0, 0, 7, 0, 0, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How to drive a session
//!
//! Both sessions lend a [`buffer`](HelperSession::buffer) to read into, exactly as long as the missing rest of the
//! current message. After reading, call `received` with the number of bytes read. Since a read never goes beyond the
//! current message, a descriptor always belongs to that message, however the stream is split, and nothing is copied.
//!
//! # What this crate does not do
//!
//! It opens no sockets, passes no descriptors, and knows no SCSI beyond the two opcodes and their transfer lengths. It
//! is `no_std`. Each session allocates one buffer when it is created, and nothing later.

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
