//! The only system call of this crate that no other crate wraps.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// Makes the kernel refuse messages with descriptors from clients of this listening socket (`SO_PASSRIGHTS` of
/// `<asm-generic/socket.h>`).
///
/// # Errors
///
/// The kernel does not know the option (before 6.16).
pub(crate) fn refuse_descriptors(listener: BorrowedFd<'_>) -> io::Result<()> {
    const SO_PASSRIGHTS: libc::c_int = 83;
    const LENGTH: libc::socklen_t = 4;
    let pass: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed, so it is open. The kernel reads four bytes, an int, from a variable of that type,
    // which outlives the call.
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
