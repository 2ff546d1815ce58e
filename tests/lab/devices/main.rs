//! Tests on real SCSI disks of a real kernel. They run as root in the lab's machine, one process each, and change
//! what they like there: `cargo xtask lab`.

mod descriptors;
mod iscsi;
mod machine;
mod model;
mod multipath;
mod privileges;
mod reservations;
mod systemd;
mod transport;
mod unplug;
