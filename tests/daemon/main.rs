//! Tests of the daemon as a process: how it starts and stops, and how it serves well-behaved and hostile
//! clients. They run on any host, without root and without a disk; the exceptions are ignored by default and
//! say what they need.

mod client;
mod confinement;
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
mod metrics_table;
mod migration;
mod multipath;
mod openmetrics;
mod options;
mod places;
mod scrapers;
mod shared_nexus;
mod start;
mod stop;

use std::{fs::File, os::fd::OwnedFd};

/// Returns the CDB of READ KEYS with this allocation length, padded to the 16 bytes of the protocol.
fn read_keys(allocation_length: u16) -> [u8; 16] {
    let [high, low] = allocation_length.to_be_bytes();
    [0x5e, 0, 0, 0, 0, 0, 0, high, low, 0, 0, 0, 0, 0, 0, 0]
}

/// Returns the CDB of REGISTER with this parameter list length, padded to the 16 bytes of the protocol.
fn register(length: u32) -> [u8; 16] {
    let [a, b, c, d] = length.to_be_bytes();
    [0x5f, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0]
}

/// Opens `/dev/null`, a descriptor that is not a disk.
fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").expect("/dev/null").into()
}
