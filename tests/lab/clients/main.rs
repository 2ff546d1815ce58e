//! Tests with QEMU, libvirt and fence agents from Debian as clients of the helper, on real SCSI disks of a real kernel. Each
//! runs as root in the lab's larger machine, in a process of its own: `cargo xtask lab --real-clients`.

mod disk;
mod documented;
mod fence;
mod helper;
mod interruption;
mod libvirt;
mod machine;
mod map;
mod messages;
mod migration;
mod qemu;
mod qmp;
