//! The system calls without a safe wrapper.
#![allow(unsafe_code)]

use std::{os::fd::RawFd, sync::OnceLock};

use libc::{c_int, c_void};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Exit status of a process that a forbidden call has ended: 128 and the number of SIGSYS.
pub const FORBIDDEN_EXIT_STATUS: i32 = 128 + libc::SIGSYS;

/// Begins the line about a forbidden call.
static LOG_PREFIX: OnceLock<&str> = OnceLock::new();

/// The part of `siginfo_t` that the kernel sets for SIGSYS (`<asm-generic/siginfo.h>`, on 64-bit architectures).
#[repr(C)]
struct SysInfo {
    signal: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    address: *const c_void,
    call: c_int,
    architecture: u32,
}

const _: () = assert!(size_of::<SysInfo>() <= size_of::<libc::siginfo_t>());

/// Lets a call that a filter traps end the process.
pub(crate) fn exit_on_forbidden_calls(log_prefix: &'static str) -> nix::Result<()> {
    if LOG_PREFIX.set(log_prefix).is_err() {
        // It is in place since an earlier restriction, which may forbid to install it again.
        return Ok(());
    }
    let action =
        SigAction::new(SigHandler::SigAction(on_forbidden_call), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler makes only async-signal-safe calls (write, _exit), allocates nothing and takes no lock.
    unsafe { sigaction(Signal::SIGSYS, &action) }.map(drop)
}

extern "C" fn on_forbidden_call(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo_t to a handler with SA_SIGINFO. For SIGSYS it has these fields, and it is at
    // least as long (checked above).
    let SysInfo { call, .. } = unsafe { info.cast::<SysInfo>().read_unaligned() };
    let mut line = Line::default();
    line.push(LOG_PREFIX.get().copied().unwrap_or_default().as_bytes());
    line.push(b"error: forbidden system call ");
    line.push_number(call.unsigned_abs());
    line.push(b": the process ends. Please report this, with the C library and the kernel; --seccomp=log allows such calls and has the kernel log them\n");
    let bytes = line.bytes();
    // SAFETY: the pointer and the length are those of a live slice.
    let _ = unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: the call takes an integer and ends the process.
    unsafe { libc::_exit(FORBIDDEN_EXIT_STATUS) }
}

/// A line of text without allocation. What does not fit is left out.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 256], length: 0 }
    }
}

impl Line {
    fn push(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length += 1;
            }
        }
    }

    fn push_number(&mut self, number: u32) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        let digit = u8::try_from(number % 10).unwrap_or_default();
        self.push(&[b'0' + digit]);
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Closes a descriptor that no part of the program owns. Fails without harm if it is not open.
pub(crate) fn close(descriptor: RawFd) {
    // SAFETY: the caller has found the descriptor open before the program has opened any that it keeps, so nothing owns it.
    unsafe { libc::close(descriptor) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        let mut line = Line::default();
        for number in [0, 7, 10, 435, 100_000] {
            line.push_number(number);
            line.push(b" ");
        }
        assert_eq!(line.bytes(), b"0 7 10 435 100000 ");
        line.push(&[b'x'; 300]);
        assert_eq!(line.bytes().len(), 256);
    }
}
