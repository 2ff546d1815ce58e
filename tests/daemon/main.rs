//! The daemon as a process: started, stopped, and talked to by clients that mean well and others that do not. Runs on
//! any host, without root and without a disk.

mod client;
mod disks;
mod emulate;
mod flood;
mod fuse;
mod handover;
mod hostile;
mod hung;
mod kubevirt;
mod linger;
mod load;
mod metrics;
mod multipath;
mod openmetrics;
mod options;
mod places;
mod scrapers;
mod start;
mod stop;

use std::{fs::File, os::fd::OwnedFd};

/// READ KEYS with this allocation length, padded as the protocol has it.
fn read_keys(allocation_length: u16) -> [u8; 16] {
    let [high, low] = allocation_length.to_be_bytes();
    [0x5e, 0, 0, 0, 0, 0, 0, high, low, 0, 0, 0, 0, 0, 0, 0]
}

/// REGISTER with this parameter list length, padded as the protocol has it.
fn register(length: u32) -> [u8; 16] {
    let [a, b, c, d] = length.to_be_bytes();
    [0x5f, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0]
}

/// A descriptor of something that is not a disk.
fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").expect("/dev/null").into()
}
