//! Logs the lines that a worker and its library print.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{fs::OFlags, io::Errno, pipe::PipeFlags};

use crate::{recent_lines::RecentLines, text};

/// Maximum length of a line, in bytes. A longer line is split.
const LINE_MAX: usize = 400;

/// The reading end of a worker's standard output and standard error.
pub(crate) struct Output {
    pipe: OwnedFd,
    line: Vec<u8>,
    recent: Arc<RecentLines>,
    ended: bool,
}

impl Output {
    /// Creates a pipe; returns the reading end, which never blocks, and the end for the worker.
    pub(crate) fn pair(recent: Arc<RecentLines>) -> Result<(Self, OwnedFd), Errno> {
        let (pipe, worker_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        Ok((Self { pipe, line: Vec::new(), recent, ended: false }, worker_end))
    }

    /// Logs all complete lines that are in the pipe.
    pub(crate) fn log(&mut self) {
        let recent = Arc::clone(&self.recent);
        self.read(|line| recent.warn(&format!("multipath: {line}")));
    }

    /// Returns whether the worker has closed its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    fn read(&mut self, mut log: impl FnMut(&str)) {
        let mut buffer = [0; 1024];
        // At most the capacity of a pipe: a worker that prints endlessly must not hold up this thread.
        for _ in 0..64 {
            let bytes = match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(length) => buffer.get(..length).unwrap_or_default(),
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            for &byte in bytes {
                if byte == b'\n' || self.line.len() >= LINE_MAX {
                    self.flush(&mut log);
                }
                if byte != b'\n' {
                    self.line.push(byte);
                }
            }
        }
        if self.ended {
            self.flush(&mut log);
        }
    }

    fn flush(&mut self, log: &mut impl FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.line);
        let text = without_time(text.trim());
        if !text.is_empty() {
            // The line may contain strings from a device, such as its name.
            log(&text::printable(text, text.len()));
        }
        self.line.clear();
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Strips the seconds since boot that the library puts before a line: `12.174749 | text`.
fn without_time(line: &str) -> &str {
    match line.split_once(" | ") {
        Some((time, text)) if time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => text,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_split_into_lines() {
        let (mut output, writer) = Output::pair(Arc::default()).unwrap();
        let mut lines = Vec::new();
        let write = |bytes: &[u8]| assert_eq!(rustix::io::write(&writer, bytes).unwrap(), bytes.len());
        write(b"12.174749 | one\n\n two\tx\x1b[1m\nthr");
        output.read(|line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two x [1m"]);
        write(b"ee\xff\n");
        write(&[b'y'; LINE_MAX + 1]);
        drop(writer);
        output.read(|line| lines.push(line.to_owned()));
        assert_eq!(lines[2], "three\u{fffd}");
        assert_eq!((lines[3].len(), &lines[4][..]), (LINE_MAX, "y"));
        assert!(output.has_ended());
    }
}
