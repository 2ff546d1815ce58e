//! Suppression of repeated log lines.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Number of lines that are remembered.
const LINES_MAX: usize = 64;

/// Time that a line is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// Remembers the lines of the last minute, so that a guest that repeats a command does not fill the log with the library's
/// messages.
#[derive(Debug, Default)]
pub(crate) struct RecentLines(Mutex<VecDeque<(Instant, String)>>);

impl RecentLines {
    /// Logs `line` as a warning, or at level debug if it was logged in the last minute.
    pub(crate) fn warn(&self, line: &str) {
        let level = if self.is_new(line, Instant::now()) { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "{line}");
    }

    /// Returns whether `line` was not logged lately, and remembers it.
    fn is_new(&self, line: &str, now: Instant) -> bool {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while lines.front().is_some_and(|(then, _)| now.saturating_duration_since(*then) >= MEMORY) {
            lines.pop_front();
        }
        if lines.iter().any(|(_, other)| other == line) {
            return false;
        }
        if lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        lines.push_back((now, line.to_owned()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_new_once_a_minute() {
        let (lines, now) = (RecentLines::default(), Instant::now());
        assert!(lines.is_new("a line", now));
        assert!(!lines.is_new("a line", now + MEMORY / 2));
        assert!(lines.is_new("a line", now + MEMORY));
        for number in 0..LINES_MAX * 2 {
            assert!(lines.is_new(&format!("line {number}"), now + MEMORY));
        }
        assert!(lines.is_new("a line", now + MEMORY), "only LINES_MAX lines are remembered");
    }
}
