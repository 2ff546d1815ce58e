//! What packages of tests share: a client that can behave and misbehave, and a daemon to do it to.

#![forbid(unsafe_code)]

mod client;
mod daemon;
mod helper;
pub mod kubevirt;
pub mod scrape;
mod user;

pub use client::{Client, Reply};
pub use daemon::{Daemon, Options, build, eventually};
pub use helper::Helper;
pub use user::as_user;
