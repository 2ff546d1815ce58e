//! The system calls of the supervisor and the workers, with the reason for each, and those by which the daemon reaches them.
//!
//! A filter is inherited through fork and exec. So the supervisor's contains everything that a worker needs, and what a
//! process needs to start; a worker then restricts itself further. The lists of the library follow from runs of the lab's
//! tests with multipath-tools 0.11 and 0.15 under strace.

use confinement::{COMMON, Error, Rule, Settings, rules};

/// `AF_UNIX`.
const UNIX: &[u32] = &[1];

/// The request numbers of ioctl(2) of a worker.
const IOCTLS: &[u32] = &[
    // SG_IO: sends a SCSI command to a path (<scsi/sg.h>).
    0x2285,
    // SG_GET_VERSION_NUM.
    0x2282,
    // BLKGETDISKSEQ, BLKGETSIZE, BLKGETSIZE64, BLKSSZGET, BLKROGET: examine a path (<linux/fs.h>).
    0x8008_1280,
    0x1260,
    0x8008_1272,
    0x1268,
    0x125e,
    // DM_VERSION, DM_LIST_DEVICES, DM_DEV_STATUS, DM_TABLE_DEPS, DM_TABLE_STATUS, DM_LIST_VERSIONS, DM_GET_TARGET_VERSION:
    // examine maps (<linux/dm-ioctl.h>).
    0xc138_fd00,
    0xc138_fd02,
    0xc138_fd07,
    0xc138_fd0b,
    0xc138_fd0c,
    0xc138_fd0d,
    0xc138_fd11,
    // DM_DEV_SUSPEND: suspends and resumes a map, from 0.13 on.
    0xc138_fd06,
    // FIONBIO, FIOCLEX, TCGETS: flags of descriptors; whether the output is a terminal.
    0x5421,
    0x5451,
    0x5401,
];

/// The daemon's own calls for maps.
pub(crate) const DAEMON: &[Rule] = rules![
    Rule::one_of(libc::SYS_socketpair, 0, UNIX, "makes the channel to a worker"),
    Rule::new(libc::SYS_pipe2, "reads what a worker prints"),
    Rule::new(libc::SYS_sendmsg, "sends commands to workers"),
    Rule::new(libc::SYS_recvmsg, "receives answers of workers"),
    Rule::new(libc::SYS_shutdown, "ends the supervisor"),
    Rule::new(libc::SYS_wait4, "waits for the supervisor"),
    Rule::new(libc::SYS_waitid, "waits for the supervisor"),
    Rule::without(
        libc::SYS_openat,
        2,
        0o3 | 0o100,
        "reads the UUID of a map in /sys: neither O_WRONLY, O_RDWR nor O_CREAT"
    ),
];

/// The library, and the commands of this crate.
const WORKER: &[Rule] = rules![
    Rule::one_of(libc::SYS_ioctl, 1, IOCTLS, "sends commands to paths, examines maps"),
    Rule::new(libc::SYS_recvmsg, "receives requests"),
    Rule::new(libc::SYS_recvfrom, "receives multipathd's answers"),
    Rule::new(libc::SYS_sendmsg, "sends replies"),
    Rule::new(libc::SYS_sendto, "asks multipathd"),
    Rule::one_of(libc::SYS_socket, 0, UNIX, "connects to multipathd"),
    Rule::new(libc::SYS_connect, "connects to multipathd"),
    Rule::new(libc::SYS_getsockopt, "connects to multipathd"),
    Rule::new(libc::SYS_setsockopt, "connects to multipathd"),
    Rule::new(libc::SYS_shutdown, "refuses more requests"),
    // For writing: /dev/mapper/control, and the file of keys.
    Rule::new(libc::SYS_openat, "opens paths, configuration, /sys, and shared objects"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_open, "opens paths, configuration, /sys, and shared objects"),
    Rule::new(libc::SYS_mmap, "loads shared objects"),
    Rule::new(libc::SYS_mprotect, "loads shared objects"),
    Rule::new(libc::SYS_pread64, "loads shared objects"),
    Rule::new(libc::SYS_pwrite64, "writes the file of keys"),
    Rule::new(libc::SYS_ftruncate, "writes the file of keys"),
    Rule::new(libc::SYS_fsync, "writes the file of keys"),
    Rule::new(libc::SYS_mkdirat, "makes /etc/multipath"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_mkdir, "makes /etc/multipath"),
    Rule::new(libc::SYS_getdents64, "reads directories of configuration and /sys"),
    Rule::new(libc::SYS_readlinkat, "reads links of /sys"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_readlink, "reads links of /sys"),
    Rule::new(libc::SYS_faccessat, "finds files"),
    Rule::new(libc::SYS_faccessat2, "finds files"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_access, "finds files"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_stat, "examines files"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_lstat, "examines files"),
    Rule::new(libc::SYS_statfs, "tells whether /sys is mounted"),
    Rule::new(libc::SYS_fstatfs, "tells whether /sys is mounted"),
    Rule::new(libc::SYS_rt_sigaction, "the library's own handlers"),
    // PR_SET_IO_FLUSHER: no waiting for the memory of the paths' own file systems.
    Rule::new(libc::SYS_prctl, "marks the library's process as one that writes to paths"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_alarm, "time limits of the library"),
    Rule::new(libc::SYS_setitimer, "time limits of the library"),
    Rule::new(libc::SYS_semget, "waits for udev"),
    Rule::new(libc::SYS_semop, "waits for udev"),
    Rule::new(libc::SYS_semtimedop, "waits for udev"),
    Rule::new(libc::SYS_semctl, "waits for udev"),
    Rule::new(libc::SYS_io_setup, "the path checker directio reads"),
    Rule::new(libc::SYS_io_submit, "the path checker directio reads"),
    Rule::new(libc::SYS_io_getevents, "the path checker directio reads"),
    Rule::new(libc::SYS_io_cancel, "the path checker directio reads"),
    Rule::new(libc::SYS_io_destroy, "the path checker directio reads"),
    Rule::new(libc::SYS_times, "time limits of the library"),
    Rule::new(libc::SYS_getrusage, "time limits of the library"),
    Rule::new(libc::SYS_getppid, "asks who it is"),
    Rule::new(libc::SYS_uname, "tells the version of the kernel"),
    Rule::new(libc::SYS_sysinfo, "sizes of memory"),
    Rule::new(libc::SYS_prlimit64, "raises the limit of open files"),
    Rule::new(libc::SYS_pipe2, "wakes the library's threads"),
    Rule::new(libc::SYS_eventfd2, "wakes the library's threads"),
    Rule::new(libc::SYS_umask, "makes files"),
    Rule::new(libc::SYS_getuid, "asks who it is"),
    Rule::new(libc::SYS_geteuid, "asks who it is"),
    Rule::new(libc::SYS_getgid, "asks who it is"),
    Rule::new(libc::SYS_getegid, "asks who it is"),
];

/// Starting workers, and the start of a worker.
const SUPERVISOR: &[Rule] = rules![
    Rule::new(libc::SYS_execve, "starts workers"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_vfork, "starts workers"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_fork, "starts workers"),
    Rule::new(libc::SYS_wait4, "waits for workers"),
    Rule::new(libc::SYS_waitid, "waits for workers"),
    Rule::new(libc::SYS_kill, "kills workers"),
    Rule::new(libc::SYS_pidfd_send_signal, "kills workers"),
    Rule::new(libc::SYS_dup3, "starts workers"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_dup2, "starts workers"),
    Rule::new(libc::SYS_chdir, "starts workers"),
    Rule::new(libc::SYS_close_range, "starts workers without other descriptors"),
    Rule::one_of(libc::SYS_socketpair, 0, UNIX, "starts workers"),
    Rule::new(libc::SYS_flock, "removes the daemon's socket"),
    Rule::new(libc::SYS_unlinkat, "removes the daemon's socket"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_unlink, "removes the daemon's socket"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_arch_prctl, "starts a process"),
    Rule::new(libc::SYS_set_tid_address, "starts a process"),
    Rule::new(libc::SYS_capget, "a worker gives up privileges"),
    Rule::new(libc::SYS_capset, "a worker gives up privileges"),
    Rule::new(libc::SYS_setgroups, "a worker gives up privileges"),
    Rule::new(libc::SYS_seccomp, "a worker restricts itself"),
];

/// Restricts the supervisor, and with it all workers.
pub(crate) fn restrict_supervisor(settings: Option<Settings>) -> Result<(), Error> {
    restrict(&[COMMON, WORKER, SUPERVISOR], settings)
}

/// Restricts a worker.
pub(crate) fn restrict_worker(settings: Option<Settings>) -> Result<(), Error> {
    restrict(&[COMMON, WORKER], settings)
}

fn restrict(lists: &[&[Rule]], settings: Option<Settings>) -> Result<(), Error> {
    match settings.map(|settings| confinement::restrict_calls(lists, settings)) {
        // The daemon says so.
        None | Some(Err(Error::Unsupported)) => Ok(()),
        Some(restricted) => restricted,
    }
}
