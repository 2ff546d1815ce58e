//! Tests on real SCSI disks of a real kernel. Each runs as root in the lab's machine, in a process of its own, and may change
//! anything there: `cargo xtask lab`.

mod descriptors;
mod doctor;
mod machine;
mod model;
mod multipath;
mod nvme;
mod privileges;
mod reservations;
mod shared_nexus;
mod systemd;
mod transport;
mod unplug;
mod windows;
