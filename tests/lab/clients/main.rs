//! The programs that use the helper, as Debian has them, on real SCSI disks of a real kernel. They run as root in the
//! lab's larger machine, one process each: `cargo xtask lab --real-clients`.

mod disk;
mod documented;
mod helper;
mod interruption;
mod libvirt;
mod machine;
mod map;
mod messages;
mod qemu;
mod qmp;
