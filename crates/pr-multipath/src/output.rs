//! What a worker and its library print, as lines of the log.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{fs::OFlags, io::Errno, pipe::PipeFlags};

use crate::logging;

/// Longer lines are cut into several.
const LINE_MAX: usize = 400;

/// The reading end of a worker's standard output and standard error.
pub(super) struct Output {
    pipe: OwnedFd,
    line: Vec<u8>,
    ended: bool,
}

impl Output {
    /// The end to read from, which never blocks, and the end for the worker.
    pub(super) fn pair() -> Result<(Self, OwnedFd), Errno> {
        let (pipe, its_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        Ok((Self { pipe, line: Vec::new(), ended: false }, its_end))
    }

    /// Logs all that is there.
    pub(super) fn log(&mut self) {
        self.read(|line| logging::warn_once(&format!("multipath: {line}")));
    }

    /// Whether nothing more can come.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn read(&mut self, mut log: impl FnMut(&str)) {
        let mut buffer = [0; 1024];
        // As much as a pipe holds: who prints without end must not keep us here.
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
            // What a device says of itself, its name say, may be in there.
            log(&text.replace(|character: char| character.is_control(), " "));
        }
        self.line.clear();
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// A line without the seconds since boot that the library puts in front: `12.174749 | text`.
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
    fn output_becomes_lines() {
        let (mut output, writer) = Output::pair().unwrap();
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
