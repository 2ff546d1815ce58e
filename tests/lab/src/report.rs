//! Messages from the guest, and the results of the tests.
//!
//! Lines that begin with `@lab ` are messages of init.sh: a word and its arguments. All other lines are the output of a failed
//! test, and are shown unchanged.

use std::time::{Duration, Instant};

/// A message of init.sh.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// The kernel has booted and init.sh has started.
    Up,
    /// The devices exist.
    Ready,
    /// Number of tests that will run.
    Count(usize),
    /// The test of this name starts.
    Test(&'a str),
    /// The running test has passed.
    Passed,
    /// The running test is marked as ignored and was skipped.
    Ignored,
    /// The running test has failed for this reason. Its output follows.
    Failed(&'a str),
    /// The guest is done.
    Done,
    /// From here on the guest has the terminal.
    Shell,
    /// The guest cannot continue, for this reason.
    Broken(&'a str),
}

impl<'a> Message<'a> {
    /// Parses a line; returns `None` if it is not a message of init.sh.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let line = line.strip_prefix("@lab ")?;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "up" => Self::Up,
            "ready" => Self::Ready,
            "count" => Self::Count(rest.parse().ok()?),
            "test" => Self::Test(rest),
            "passed" => Self::Passed,
            "ignored" => Self::Ignored,
            "failed" => Self::Failed(rest),
            "done" => Self::Done,
            "shell" => Self::Shell,
            "broken" => Self::Broken(rest),
            _ => return None,
        })
    }
}

/// The results of the tests so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    planned: usize,
    passed: usize,
    failed: usize,
    ignored: usize,
    running: Option<(String, Instant)>,
}

impl Tally {
    /// Counts a message; returns the line to show.
    pub(crate) fn take(&mut self, message: &Message) -> Option<String> {
        match message {
            Message::Count(planned) => {
                self.planned = *planned;
                None
            }
            Message::Test(name) => {
                self.running = Some(((*name).to_owned(), Instant::now()));
                None
            }
            Message::Passed => {
                self.passed += 1;
                self.end("ok")
            }
            Message::Ignored => {
                self.ignored += 1;
                self.end("ignored")
            }
            Message::Failed(why) => {
                self.failed += 1;
                self.end(&format!("FAILED ({why})"))
            }
            _ => None,
        }
    }

    /// Counts the running test as failed, because the machine has stopped early. Returns the lines to show.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.running.is_some() {
            lines.extend(self.take(&Message::Failed("the machine stopped")));
        }
        let missing = self.planned.saturating_sub(self.passed + self.failed + self.ignored);
        if missing > 0 {
            lines.push(format!("{missing} tests did not run"));
        }
        lines
    }

    /// Returns whether no test has run.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed == 0
    }

    /// Returns whether at least one test passed and none failed.
    pub(crate) fn is_success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// Returns the last line of a run.
    pub(crate) fn summary(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }

    fn end(&mut self, result: &str) -> Option<String> {
        let (name, since) = self.running.take()?;
        Some(format!("test {name} ... {result} in {}", seconds(since.elapsed())))
    }
}

/// Returns a duration in seconds with one decimal.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts these messages; returns the lines to show, without times.
    fn feed(tally: &mut Tally, lines: &[&str]) -> Vec<String> {
        let shown = lines.iter().filter_map(|line| tally.take(&Message::parse(line).unwrap()));
        shown.map(|line| line.split(" in ").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_test_result_is_shown_and_counted() {
        let mut tally = Tally::default();
        let shown = feed(
            &mut tally,
            &["@lab count 3", "@lab test a::b", "@lab passed", "@lab test c", "@lab failed exit status 101"],
        );
        assert_eq!(shown, ["test a::b ... ok", "test c ... FAILED (exit status 101)"]);
        assert_eq!(tally.summary(), "1 passed, 1 failed");
        assert!(!tally.is_success());
    }

    #[test]
    fn run_without_passed_test_fails() {
        let mut tally = Tally::default();
        assert!(!tally.is_success());
        feed(&mut tally, &["@lab count 1", "@lab test a", "@lab ignored"]);
        assert!(!tally.is_success());
        feed(&mut tally, &["@lab test b", "@lab passed"]);
        assert!(tally.is_success());
    }

    #[test]
    fn machine_stop_fails_running_test() {
        let mut tally = Tally::default();
        feed(&mut tally, &["@lab count 3", "@lab test a", "@lab passed", "@lab test b"]);
        let lines = tally.stop();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], "1 tests did not run");
        assert_eq!(tally.summary(), "1 passed, 1 failed");
    }

    #[test]
    fn other_lines_are_no_messages() {
        for line in ["", "test x ... ok", "@lab", "@lab unknown", "@lab count many", " @lab done"] {
            assert_eq!(Message::parse(line), None, "{line:?}");
        }
    }
}
