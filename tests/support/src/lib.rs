//! Support shared by the packages of tests: the daemon as a process, and a client that can also break the
//! protocol.

#![forbid(unsafe_code)]

mod client;
mod daemon;
mod helper;
pub mod kubevirt;
mod lingering;
pub mod other_process;
pub mod scrape;
mod user;

pub use client::{Client, Reply};
pub use daemon::{Daemon, Options, build, eventually};
pub use helper::Helper;
pub use lingering::LingeringSockets;
pub use other_process::OtherProcess;
pub use user::as_user;
