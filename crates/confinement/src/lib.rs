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
//! A crate that is a part of such daemons can publish the rules for its own calls: without the feature `restrict` this crate
//! is [`Rule`], [`rules!`] and [`COMMON`] alone.
//!
//! # Example
//!
#![cfg_attr(feature = "restrict", doc = "```no_run")]
#![cfg_attr(not(feature = "restrict"), doc = "```ignore")]
//! use confinement::{COMMON, Mode, Rule, Settings, rules};
//!
//! const CALLS: &[Rule] = rules![
//!     Rule::new(libc::SYS_sendto, "replies"),
//!     Rule::without(libc::SYS_openat, 2, 0o3 | 0o100, "reads files: neither O_WRONLY, O_RDWR nor O_CREAT"),
//! ];
//!
//! let settings = Settings { mode: Mode::Kill, log_prefix: "my-daemon: " };
//! confinement::restrict_calls(&[COMMON, CALLS], settings)?;
//! # Ok::<(), confinement::Error>(())
//! ```

#![deny(unsafe_code)]

#[cfg(feature = "restrict")]
mod calls;
mod common;
#[cfg(feature = "restrict")]
mod files;
#[cfg(feature = "restrict")]
mod inherited;
#[cfg(feature = "restrict")]
mod process;
mod rule;
#[cfg(feature = "restrict")]
mod sys;

#[cfg(feature = "restrict")]
pub use calls::{Error, IS_SUPPORTED, Mode, Settings, restrict_calls};
pub use common::COMMON;
#[cfg(feature = "restrict")]
pub use files::{FileAccess, FileError, FileRestriction, restrict_files};
#[cfg(feature = "restrict")]
pub use inherited::close_inherited;
#[cfg(feature = "restrict")]
pub use process::harden;
pub use rule::Rule;
#[cfg(feature = "restrict")]
pub use sys::FORBIDDEN_EXIT_STATUS;
