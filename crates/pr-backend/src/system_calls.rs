//! The system calls of this crate, with the reason for each.

use confinement::{Rule, rules};

/// `O_WRONLY | O_RDWR | O_CREAT`: absent if a file is opened to be read.
const WRITES: u32 = 0o1 | 0o2 | 0o100;

/// Finding out what a descriptor is.
pub(crate) const EXAMINING: &[Rule] = rules![
    Rule::new(libc::SYS_fstatfs, "tells kinds of files apart"),
    // BLKGETDISKSEQ: tells a disk from a later one of the same number (<linux/fs.h>).
    Rule::one_of(libc::SYS_ioctl, 1, &[0x8008_1280], "examines disks"),
    Rule::without(libc::SYS_openat, 2, WRITES, "reads /sys"),
    #[cfg(target_arch = "x86_64")]
    Rule::without(libc::SYS_open, 1, WRITES, "reads /sys"),
    Rule::new(libc::SYS_getdents64, "reads directories of /sys"),
    Rule::new(libc::SYS_faccessat, "finds files of /sys"),
    Rule::new(libc::SYS_faccessat2, "finds files of /sys"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_access, "finds files of /sys"),
];

/// SCSI disks. The request is `SG_IO` (`<scsi/sg.h>`).
pub(crate) const SCSI: &[Rule] = rules![Rule::one_of(libc::SYS_ioctl, 1, &[0x2285], "sends SCSI commands")];

/// NVMe namespaces. The requests are `NVME_IOCTL_ID`, `NVME_IOCTL_ADMIN_CMD`, `NVME_IOCTL_IO_CMD` and `NVME_IOCTL_IO64_CMD`
/// (`<linux/nvme_ioctl.h>`).
pub(crate) const NVME: &[Rule] = rules![Rule::one_of(
    libc::SYS_ioctl,
    1,
    &[0x4e40, 0xc048_4e41, 0xc048_4e43, 0xc050_4e48],
    "sends NVMe commands"
)];

/// Emulated disks, whose registrations are kept in files.
pub(crate) const EMULATED: &[Rule] = rules![
    Rule::new(libc::SYS_openat, "writes states"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_renameat, "replaces states"),
    Rule::new(libc::SYS_renameat2, "replaces states"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_rename, "replaces states"),
    Rule::new(libc::SYS_unlinkat, "removes states"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_unlink, "removes states"),
    Rule::new(libc::SYS_fsync, "keeps states through a loss of power"),
    Rule::new(libc::SYS_fdatasync, "keeps states through a loss of power"),
    Rule::new(libc::SYS_ftruncate, "replaces states"),
    Rule::new(libc::SYS_flock, "locks the directory of states"),
    Rule::new(libc::SYS_fchmod, "sets the mode of states"),
    Rule::new(libc::SYS_getuid, "checks the owner of states"),
    Rule::new(libc::SYS_geteuid, "checks the owner of states"),
];
