//! Commands in a guest of libvirt: see tests/lab/src/inner-init.sh.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// No answer for this long is a failed test: a guest that is emulated twice takes minutes to boot.
const PATIENCE: Duration = Duration::from_secs(500);

/// A guest that takes commands.
pub(crate) struct Console(BufReader<UnixStream>);

/// What a command printed, and its exit status.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) output: String,
    pub(crate) status: i32,
}

impl Console {
    /// Connects. What a guest says before is lost.
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Reads up to the first line that begins with `word`; returns what came before, and that line.
    pub(crate) fn wait_for(&mut self, word: &str) -> (String, String) {
        let mut before = String::new();
        loop {
            let mut line = String::new();
            let n = self.0.read_line(&mut line).unwrap();
            assert!(n > 0, "the guest has ended: {before}");
            if line.starts_with(word) {
                return (before, line);
            }
            before.push_str(&line);
        }
    }

    /// Runs a command.
    pub(crate) fn run(&mut self, command: &str) -> Done {
        self.0.get_mut().write_all(format!("{command}\n").as_bytes()).unwrap();
        let (output, end) = self.wait_for("@exit");
        let status = end.trim().rsplit(' ').next().and_then(|status| status.parse().ok()).unwrap();
        Done { output, status }
    }

    /// Runs a command that succeeds.
    pub(crate) fn expect_success(&mut self, command: &str) -> String {
        let Done { output, status } = self.run(command);
        assert_eq!(status, 0, "{command}: {output}");
        output
    }
}
