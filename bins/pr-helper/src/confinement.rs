//! What the daemon leaves itself once it has started: system calls, with the reason for each, and files.
//!
//! The lists hold for the threads that serve clients. Those of the metrics socket have a shorter one. The processes of
//! `pr-multipath` have lists of their own.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use crate::args::{Args, Seccomp, SharedNexusPolicy};
use confinement::{COMMON, FileAccess, FileRestriction, Mode, Rule, Settings};

/// `O_WRONLY | O_RDWR | O_CREAT`: absent if a file is opened to be read.
const WRITES: u32 = 0o1 | 0o2 | 0o100;

/// `AF_UNIX`.
const UNIX: &[u32] = &[1];

/// The request numbers of ioctl(2) with which devices are examined and served.
const IOCTLS: &[u32] = &[
    // SG_IO: sends a SCSI command (<scsi/sg.h>).
    0x2285,
    // BLKGETDISKSEQ: tells a disk from a later one of the same number (<linux/fs.h>).
    0x8008_1280,
    // NVME_IOCTL_ID, NVME_IOCTL_ADMIN_CMD, NVME_IOCTL_IO_CMD, NVME_IOCTL_IO64_CMD: examine and change the reservations of an
    // NVMe namespace (<linux/nvme_ioctl.h>).
    0x4e40,
    0xc048_4e41,
    0xc048_4e43,
    0xc050_4e48,
    // FIONBIO, FIOCLEX: the standard library's flags of sockets.
    0x5421,
    0x5451,
];

/// Serving clients.
const SERVER: &[Rule] = &[
    Rule::new(libc::SYS_accept4, "accepts clients"),
    Rule::new(libc::SYS_recvmsg, "receives requests and descriptors"),
    Rule::new(libc::SYS_sendto, "sends replies"),
    Rule::new(libc::SYS_sendmsg, "sends commands to workers"),
    Rule::new(libc::SYS_recvfrom, "receives requests"),
    Rule::new(libc::SYS_shutdown, "disconnects clients"),
    Rule::new(libc::SYS_getsockopt, "reads who a client is"),
    Rule::new(libc::SYS_setsockopt, "sets buffers and time limits"),
    Rule::new(libc::SYS_epoll_ctl, "watches connections"),
    Rule::new(libc::SYS_epoll_pwait, "waits for connections"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_epoll_wait, "waits for connections"),
    Rule::new(libc::SYS_timerfd_settime, "sets deadlines"),
    Rule::one_of(libc::SYS_ioctl, 1, IOCTLS, "sends commands to devices"),
    Rule::without(libc::SYS_openat, 2, WRITES, "reads /sys"),
    #[cfg(target_arch = "x86_64")]
    Rule::without(libc::SYS_open, 1, WRITES, "reads /sys"),
    Rule::new(libc::SYS_getdents64, "reads directories of /sys"),
    Rule::new(libc::SYS_readlinkat, "reads links of /sys"),
    Rule::new(libc::SYS_faccessat, "reads /sys"),
    Rule::new(libc::SYS_faccessat2, "reads /sys"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_access, "reads /sys"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_readlink, "reads links of /sys"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_stat, "examines files, with older C libraries"),
    Rule::new(libc::SYS_fstatfs, "tells kinds of descriptors apart"),
    Rule::new(libc::SYS_statfs, "tells kinds of files apart"),
    Rule::new(libc::SYS_pidfd_open, "tells whether a client process has ended"),
    Rule::one_of(libc::SYS_socket, 0, UNIX, "announces registrations, notifies the service manager"),
    Rule::one_of(libc::SYS_socketpair, 0, UNIX, "talks to workers"),
    Rule::new(libc::SYS_bind, "announces registrations"),
    Rule::new(libc::SYS_listen, "announces registrations"),
    Rule::new(libc::SYS_connect, "reads who announces, notifies the service manager"),
    Rule::new(libc::SYS_pipe2, "reads what workers print"),
    Rule::new(libc::SYS_wait4, "waits for the supervisor"),
    Rule::new(libc::SYS_waitid, "waits for the supervisor"),
    Rule::new(libc::SYS_flock, "locks the directory of a socket that it removes"),
    Rule::new(libc::SYS_unlinkat, "removes sockets and pidfile"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_unlink, "removes sockets and pidfile"),
    Rule::new(libc::SYS_getppid, "tells whether the service manager waits for notifications"),
    Rule::new(libc::SYS_geteuid, "compares who announces registrations"),
    Rule::new(libc::SYS_dup3, "detaches from the terminal"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_dup2, "detaches from the terminal"),
    Rule::new(libc::SYS_chdir, "leaves the working directory"),
    Rule::new(libc::SYS_prlimit64, "reads limits"),
    // A filter, once in place, is inherited: the metrics threads set theirs below this one.
    Rule::new(libc::SYS_seccomp, "restricts the metrics threads further"),
    Rule::one_of(libc::SYS_prctl, 0, &[38], "PR_SET_NO_NEW_PRIVS, before a filter"),
];

/// Keeping registrations of emulated disks in files.
const EMULATION: &[Rule] = &[
    Rule::new(libc::SYS_openat, "writes states"),
    Rule::new(libc::SYS_renameat, "replaces states"),
    Rule::new(libc::SYS_renameat2, "replaces states"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_rename, "replaces states"),
    Rule::new(libc::SYS_fsync, "keeps states through a loss of power"),
    Rule::new(libc::SYS_fdatasync, "keeps states through a loss of power"),
    Rule::new(libc::SYS_ftruncate, "replaces states"),
    Rule::new(libc::SYS_flock, "locks the directory of states"),
    Rule::new(libc::SYS_fchmod, "sets the mode of states"),
    Rule::new(libc::SYS_getuid, "checks the owner of states"),
];

/// Serving metrics and state.
const METRICS: &[Rule] = &[
    Rule::new(libc::SYS_accept4, "accepts scrapers"),
    Rule::new(libc::SYS_recvfrom, "receives requests"),
    Rule::new(libc::SYS_recvmsg, "receives requests"),
    Rule::new(libc::SYS_sendto, "sends pages"),
    Rule::new(libc::SYS_setsockopt, "sets time limits"),
    Rule::new(libc::SYS_shutdown, "disconnects scrapers"),
    Rule::new(libc::SYS_pidfd_open, "tells whether a registered client process has ended"),
    Rule::without(libc::SYS_openat, 2, WRITES, "the C library counts processors, for its memory"),
    Rule::one_of(libc::SYS_ioctl, 1, &[0x5421, 0x5451], "FIONBIO, FIOCLEX"),
];

/// The files that the daemon uses after its start.
#[derive(Debug, Default)]
pub(crate) struct Files<'a> {
    /// Files that it removes when it stops.
    pub(crate) removed: Vec<&'a Path>,
    /// The directory of emulated disks' states.
    pub(crate) states: Option<&'a Path>,
}

/// Restricts this process, which must have one thread, and all threads that it spawns.
pub(crate) fn restrict(args: &Args, files: &Files<'_>) -> Result<(), Box<dyn Error>> {
    confinement::harden()?;
    restrict_files(args, files)?;
    let Some(settings) = settings(args) else { return Ok(()) };
    let emulation = if files.states.is_some() { EMULATION } else { &[] };
    match confinement::restrict_calls(&[COMMON, SERVER, emulation], settings) {
        Err(error @ confinement::Error::Unsupported) => log::info!("{error}"),
        restricted => restricted?,
    }
    Ok(())
}

/// Restricts a thread that serves metrics, and all threads that it spawns.
pub(crate) fn restrict_metrics(args: &Args) -> impl FnOnce() + Send + 'static {
    let settings = settings(args);
    move || {
        if let Some(settings) = settings {
            // Checked by the restriction of the process; this one is in addition.
            if let Err(error) = confinement::restrict_calls(&[COMMON, METRICS], settings) {
                log::debug!("metrics: {error}");
            }
        }
    }
}

/// Returns how system calls are restricted; `None` if they are not.
pub(crate) fn settings(args: &Args) -> Option<Settings> {
    let mode = match args.seccomp {
        Seccomp::Kill => Mode::Kill,
        Seccomp::Log => Mode::Log,
        Seccomp::Off => return None,
    };
    Some(Settings { mode, log_prefix: "pr-helper: " })
}

fn restrict_files(args: &Args, files: &Files<'_>) -> Result<(), Box<dyn Error>> {
    let directories: Vec<PathBuf> =
        files.removed.iter().filter_map(|path| path.parent().map(Path::to_owned)).collect();
    let remove: Vec<&Path> = directories.iter().map(PathBuf::as_path).collect();
    let write: Vec<&Path> = files.states.into_iter().collect();
    let access = FileAccess {
        read: &[Path::new("/sys"), Path::new("/proc/self/net")],
        remove: &remove,
        write: &write,
        // To learn whose announcement it is, the helper connects to other helpers' sockets.
        abstract_sockets: args.shared_nexus == SharedNexusPolicy::Refuse,
    };
    let extent = match confinement::restrict_files(access)? {
        FileRestriction::Full => "restricted by Landlock",
        FileRestriction::Partial => "restricted by an older Landlock, in part",
        FileRestriction::None => "not restricted: this kernel has no Landlock, or it is switched off",
    };
    log::debug!("access to files is {extent}");
    Ok(())
}
