//! Code shared by xtask, the lab and the benchmark: running other programs, unpacking Debian packages without
//! installing them, and QEMU's helper.

#![forbid(unsafe_code)]

pub mod c_helper;
pub mod error;
pub mod libc_version;
pub mod packages;
pub mod process;
pub mod workspace;
