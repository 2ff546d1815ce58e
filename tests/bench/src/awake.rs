//! Keeps the processors from sleeping. How long a processor takes to wake depends on how deeply it sleeps,
//! which depends on what else the host does: by a factor of four in the figures of one client. One that never
//! sleeps is always as fast.

use std::{
    io,
    process::{Child, Command, Stdio},
};

use crate::process::busy_ticks;

/// Processes that do nothing, one for each processor, and only when nobody else wants it (`SCHED_IDLE`).
/// Dropped, they end.
#[derive(Debug, Default)]
pub struct Awake(Vec<Child>);

impl Awake {
    pub fn keep() -> io::Result<Self> {
        let mut awake = Self::default();
        for _ in 0..std::thread::available_parallelism()?.get() {
            let mut idler = Command::new("chrt");
            idler.args(["--idle", "0", "sh", "-c", "while :; do :; done"]).stdin(Stdio::null());
            let child = idler.spawn().map_err(|error| io::Error::other(format!("chrt: {error}")))?;
            awake.0.push(child);
        }
        Ok(awake)
    }

    /// Ticks of processor time that they have used.
    pub fn ticks(&self) -> io::Result<u64> {
        self.0.iter().map(|child| busy_ticks(&child.id().to_string())).sum()
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
