//! The system calls that have no safe form. But for [`disk_sequence`], all are of start-up, and made while there is one
//! thread.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{
    sys::signal::{SigHandler, Signal},
    unistd::ForkResult,
};

/// Splits the process in two. Must be called before any thread is started.
pub(crate) fn fork() -> io::Result<ForkResult> {
    // SAFETY: no thread but this one has been started (`main` starts them after this), so the child finds no lock held
    // by a thread that it does not have.
    unsafe { nix::unistd::fork() }.map_err(Into::into)
}

/// The descriptors that systemd passed, if it passed any to this process. Must be called once, before anything is
/// opened that is kept.
pub(crate) fn passed_descriptors() -> io::Result<Vec<OwnedFd>> {
    let descriptors = sd_notify::listen_fds()?;
    let own = |fd: RawFd| {
        // SAFETY: `listen_fds` has checked that LISTEN_PID is this process and that the descriptor is open; by the
        // protocol of sd_listen_fds(3) it is then this process's to own, and it is taken here alone, once.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    Ok(descriptors.map(own).collect())
}

/// Makes the end of children known: whoever started this process may have had that ignored.
pub(crate) fn hear_of_children() -> nix::Result<()> {
    // SAFETY: no handler is installed, so none can be run at a bad time.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(drop)
}

/// Closes all descriptors but the standard ones: whatever the one who started this process forgot to keep to itself.
/// Must be called before anything is opened that is kept.
pub(crate) fn close_inherited() {
    // SAFETY: `main` calls this before it opens anything (all that comes before is to look at the arguments), so no
    // descriptor above 2 is owned by anything in the process. A kernel older than 5.9 closes nothing and returns an error, which does no harm.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// Has the kernel refuse messages with descriptors that clients of this listening socket send (`SO_PASSRIGHTS` of
/// `<asm-generic/socket.h>`). An error if the kernel (before 6.16) cannot.
pub(crate) fn refuse_descriptors(listener: BorrowedFd<'_>) -> io::Result<()> {
    const SO_PASSRIGHTS: libc::c_int = 83;
    const LENGTH: libc::socklen_t = 4;
    let pass: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed, so it is open; the kernel reads four bytes, an int, from a variable of that type
    // that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const pass).cast(),
            LENGTH,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number that the kernel gives a disk when it appears, and never again (`BLKGETDISKSEQ` of `<linux/fs.h>`). `None` if
/// the kernel (before 5.15) has none; it asks the driver then, so this is for disks only.
pub(crate) fn disk_sequence(block_device: BorrowedFd<'_>) -> Option<u64> {
    const BLKGETDISKSEQ: libc::Ioctl = nix::request_code_read!(0x12, 128, size_of::<u64>());
    let mut sequence = 0_u64;
    // SAFETY: the descriptor is borrowed, so it is open; the ioctl writes one u64, to a variable of that type that outlives
    // the call. On anything but a block device the number may mean something else: the caller has one.
    let result = unsafe { libc::ioctl(block_device.as_raw_fd(), BLKGETDISKSEQ, &raw mut sequence) };
    (result == 0).then_some(sequence)
}
