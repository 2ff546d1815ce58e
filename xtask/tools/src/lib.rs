//! What xtask, the lab and the benchmark share: running other programs, Debian packages that are unpacked without being
//! installed, and QEMU's helper.

#![forbid(unsafe_code)]

pub mod c_helper;
pub mod error;
pub mod libc_version;
pub mod packages;
pub mod process;
pub mod workspace;
