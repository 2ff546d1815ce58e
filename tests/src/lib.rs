//! What tests of the whole share: a client that can behave and misbehave, and a daemon to do it to.

#![forbid(unsafe_code)]

mod client;
mod daemon;
mod direct;
pub mod kubevirt;
pub mod lab;
mod service;
mod user;

pub use client::{Client, Reply};
pub use daemon::{Daemon, Options, build, eventually};
pub use direct::direct;
pub use service::Service;
pub use user::as_user;
