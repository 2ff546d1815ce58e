//! Any implementation of the helper, as a process.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::Client;

/// A helper that does not serve within this time is broken.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A running helper, in a temporary directory of its own. It is killed on drop.
#[derive(Debug)]
pub struct Helper {
    directory: TempDir,
    child: Child,
}

impl Helper {
    /// Starts a helper without waiting for it. `command` gets the path at which the helper must listen.
    pub fn spawn(command: impl FnOnce(&Path) -> Command) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = command(&directory.path().join("socket"));
        let log = fs::File::create(directory.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
        let child = command.spawn()?;
        Ok(Self { directory, child })
    }

    /// Connects as soon as the helper listens.
    pub fn first_client(&mut self) -> io::Result<Client> {
        let begun = Instant::now();
        loop {
            let error = match Client::connect(&self.socket()) {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            if begun.elapsed() > TIMEOUT || self.ended()?.is_some() {
                return Err(io::Error::other(format!("the helper does not serve: {error}\n{}", self.log()?)));
            }
            thread::sleep(Duration::from_micros(50));
        }
    }

    /// Returns the path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Returns all that the helper has written to its standard output and error.
    pub fn log(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.directory.path().join("log"))?).into_owned())
    }

    /// Returns the process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status, if the helper has exited.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
