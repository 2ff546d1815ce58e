//! Keeps the processors from sleeping. The time in which a processor wakes depends on the depth of its sleep,
//! and that on the other load of the host; it changes the figures of one client by a factor of four.
//! Processors that never sleep always have the same speed.

use std::{
    io,
    process::{Child, Command, Stdio},
};

use crate::process::busy_ticks;

/// Processes in an endless loop, one for each processor, that run only when the processor is otherwise idle
/// (`SCHED_IDLE`). They are killed on drop.
#[derive(Debug, Default)]
pub struct Awake(Vec<Child>);

impl Awake {
    /// Starts the processes.
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

    /// Returns the ticks of processor time that the processes have used.
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
