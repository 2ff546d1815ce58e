//! What tests of the whole share: a client that can behave and misbehave, and a daemon to do it to.

#![forbid(unsafe_code)]

mod client;
mod daemon;
mod direct;
mod helper;
pub mod kubevirt;
pub mod lab;
pub mod scrape;
mod service;
mod user;

pub use client::{Client, Reply};
pub use daemon::{Daemon, Options, build, eventually};
pub use direct::direct;
pub use helper::{CHelper, Helper};
pub use service::Service;
pub use user::as_user;
