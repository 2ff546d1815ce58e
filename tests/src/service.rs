//! Programs of others that tests in the lab need.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

/// A daemon of somebody else's, in the foreground. Dropped, it is stopped; and its log is shown, if the test has failed.
pub struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts it, by this command. What it says goes to /run/lab/NAME.log.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let log = Path::new("/run/lab").join(format!("{name}.log"));
        let output = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        // It is for who has no udevd.
        let child = command.env_remove("DM_DISABLE_UDEV").spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { child, log }
    }

    /// The process's ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let begun = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && begun.elapsed().as_secs() < 10 {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines.len().saturating_sub(30);
            eprintln!("--- {}\n{}", self.log.display(), lines[last..].join("\n"));
        }
    }
}
