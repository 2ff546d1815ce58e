//! Descriptors that were passed on to the process.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use crate::sys;

/// Number of the first descriptor that is neither standard input, output nor error.
const FIRST: RawFd = 3;

/// Closes all descriptors except the standard ones, those of `kept`, and those of locked files: a program that starts a daemon
/// may pass on the lock of a pidfile, which ends with the descriptor. Does nothing if /proc does not show the descriptors.
///
/// Must be called before the program opens a descriptor that it keeps, and while it has one thread.
pub fn close_inherited(kept: &[OwnedFd]) {
    let kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers {
        if number >= FIRST && !kept.contains(&number) && !has_lock(number) {
            sys::close(number);
        }
    }
}

/// Returns whether the descriptor has a lock, or cannot be examined. The descriptor of the list itself is closed by now.
fn has_lock(number: RawFd) -> bool {
    fs::read_to_string(format!("/proc/self/fdinfo/{number}"))
        .map_or(true, |text| text.lines().any(|line| line.starts_with("lock:")))
}
