//! What a worker and its library print, as lines of the log.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{fs::OFlags, io::Errno, pipe::PipeFlags};

/// Longer lines are cut into several.
const LINE_MAX: usize = 400;

/// Lines that have been warned of, so that a guest that repeats itself does not fill the log.
static RECENT: Mutex<VecDeque<(Instant, String)>> = Mutex::new(VecDeque::new());

/// How many of them are remembered, and for how long.
const RECENT_MAX: usize = 64;
const MEMORY: Duration = Duration::from_secs(60);

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
        self.read(warn);
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

/// Logs a line as a warning, if it has not been there lately.
pub(super) fn warn(line: &str) {
    let level = if is_news(line, Instant::now()) { log::Level::Warn } else { log::Level::Debug };
    log::log!(level, "multipath: {line}");
}

/// Whether a line has not been there lately; it is then remembered.
fn is_news(line: &str, now: Instant) -> bool {
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    while recent.front().is_some_and(|(then, _)| now.saturating_duration_since(*then) >= MEMORY) {
        recent.pop_front();
    }
    if recent.iter().any(|(_, other)| other == line) {
        return false;
    }
    if recent.len() >= RECENT_MAX {
        recent.pop_front();
    }
    recent.push_back((now, line.to_owned()));
    true
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

    #[test]
    fn a_line_is_news_once_a_minute() {
        let now = Instant::now();
        assert!(is_news("a line of this test", now));
        assert!(!is_news("a line of this test", now + MEMORY / 2));
        assert!(is_news("a line of this test", now + MEMORY));
        for number in 0..RECENT_MAX * 2 {
            assert!(is_news(&format!("line {number} of this test"), now + MEMORY));
        }
        assert!(is_news("a line of this test", now + MEMORY), "only so many are remembered");
    }
}
