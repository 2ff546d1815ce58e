//! Commands in a guest of libvirt: see tests/lab/src/inner-init.sh.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// Time limit for each line from the guest. A guest that is emulated twice takes minutes to boot.
const READ_TIMEOUT: Duration = Duration::from_secs(500);

/// The connection to a guest's shell.
pub(crate) struct Console(BufReader<UnixStream>);

/// Output and exit status of a command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) output: String,
    pub(crate) status: i32,
}

impl Console {
    /// Connects to a guest. Its earlier output is lost.
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Reads up to the first line that begins with `word`; returns the text before it, and that line.
    pub(crate) fn wait_for(&mut self, word: &str) -> (String, String) {
        let mut before = String::new();
        loop {
            let mut line = String::new();
            let n = self.0.read_line(&mut line).unwrap();
            assert!(n > 0, "the guest has stopped: {before}");
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

    /// Runs a command that must succeed; returns its output.
    pub(crate) fn expect_success(&mut self, command: &str) -> String {
        let Done { output, status } = self.run(command);
        assert_eq!(status, 0, "{command}: {output}");
        output
    }
}
