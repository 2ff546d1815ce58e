//! The daemon, as hostile processes find it.

use std::{path::PathBuf, thread, time::Duration};

/// The place of the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) directory: PathBuf,
    /// Whether there are simulated disks.
    pub(crate) has_simulation: bool,
}

impl Target {
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Returns whether the test is over: the directory no longer exists.
    pub(crate) fn is_gone(&self) -> bool {
        !self.directory.exists()
    }
}

/// Waits for less than this many milliseconds.
pub(crate) fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(fastrand::u64(..milliseconds)));
}
