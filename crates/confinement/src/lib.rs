//! Takes from a running daemon what it no longer needs, so that code injected into it can do little.
//!
//! A service manager can confine a daemon from outside. But many daemons are also started by other programs, which do not:
//! a monitor's manager, a container's entry point, an administrator. This crate has what a process can do itself, once it has
//! started:
//!
//! - [`restrict_calls`] leaves it a list of system calls, with conditions on their arguments and a reason for each
//!   ([`Rule`]). A forbidden call ends the process with a line on standard error that has the call's number.
//! - [`restrict_files`] leaves it some files and directories, if the kernel has Landlock.
//! - [`harden`] rules out core dumps, tracing by processes of the same user, and files that others can read.
//! - [`close_inherited`] closes descriptors that were passed on by mistake.
//!
//! What it does not do: capabilities and users (crate `caps`, `nix`), namespaces, control groups.
//!
//! # Example
//!
//! ```no_run
//! use confinement::{COMMON, Mode, Rule, Settings};
//!
//! const CALLS: &[Rule] = &[
//!     Rule::new(libc::SYS_read, "requests"),
//!     Rule::new(libc::SYS_write, "replies and the log"),
//!     Rule::without(libc::SYS_openat, 2, 0o3 | 0o100, "reads files: neither O_WRONLY, O_RDWR nor O_CREAT"),
//! ];
//!
//! let settings = Settings { mode: Mode::Kill, log_prefix: "my-daemon: " };
//! confinement::restrict_calls(&[COMMON, CALLS], settings)?;
//! # Ok::<(), confinement::Error>(())
//! ```

#![deny(unsafe_code)]

mod calls;
mod common;
mod files;
mod inherited;
mod process;
mod rule;
mod sys;

pub use calls::{Error, IS_SUPPORTED, Mode, Settings, restrict_calls};
pub use common::COMMON;
pub use files::{FileAccess, FileError, FileRestriction, restrict_files};
pub use inherited::close_inherited;
pub use process::harden;
pub use rule::Rule;
pub use sys::FORBIDDEN_EXIT_STATUS;
