//! What the guest says, and what that makes of the run.
//!
//! Lines that begin with `@lab ` are init.sh's, one word and its arguments; all others are the output of a failed
//! test, and are shown as they are.

use std::time::{Duration, Instant};

/// What init.sh says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// The kernel runs and init.sh has begun.
    Up,
    /// The devices are there.
    Ready,
    /// How many tests will run.
    Count(usize),
    /// A test begins.
    Test(&'a str),
    /// It has passed.
    Passed,
    /// It was skipped, being marked so.
    Ignored,
    /// It has failed, for this reason; its output follows.
    Failed(&'a str),
    /// All is done.
    Done,
    /// The terminal is the guest's from here.
    Shell,
    /// The guest cannot go on.
    Broken(&'a str),
}

impl<'a> Word<'a> {
    /// Tells init.sh's lines from the others.
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

/// The tests so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    planned: usize,
    passed: usize,
    failed: usize,
    ignored: usize,
    running: Option<(String, Instant)>,
}

impl Tally {
    /// Takes one word about tests; returns the line to show.
    pub(crate) fn take(&mut self, word: &Word) -> Option<String> {
        match word {
            Word::Count(planned) => {
                self.planned = *planned;
                None
            }
            Word::Test(name) => {
                self.running = Some(((*name).to_owned(), Instant::now()));
                None
            }
            Word::Passed => {
                self.passed += 1;
                self.end("ok")
            }
            Word::Ignored => {
                self.ignored += 1;
                self.end("ignored")
            }
            Word::Failed(why) => {
                self.failed += 1;
                self.end(&format!("FAILED ({why})"))
            }
            _ => None,
        }
    }

    /// The machine has stopped before its end: what it was running has failed, and the rest has not run.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.running.is_some() {
            lines.extend(self.take(&Word::Failed("the machine stopped")));
        }
        let missing = self.planned.saturating_sub(self.passed + self.failed + self.ignored);
        if missing > 0 {
            lines.push(format!("{missing} tests did not run"));
        }
        lines
    }

    /// Whether no test has run.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed == 0
    }

    /// Whether the tests that ran say yes: no failure, and at least one that passed.
    pub(crate) fn is_success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The last line of a run.
    pub(crate) fn summary(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }

    fn end(&mut self, result: &str) -> Option<String> {
        let (name, since) = self.running.take()?;
        Some(format!("test {name} ... {result} in {}", seconds(since.elapsed())))
    }
}

/// Seconds with as many digits as say something.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines about each test, without the time.
    fn feed(tally: &mut Tally, lines: &[&str]) -> Vec<String> {
        let shown = lines.iter().filter_map(|line| tally.take(&Word::parse(line).unwrap()));
        shown.map(|line| line.split(" in ").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_test_is_named_with_its_result_and_counted() {
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
    fn a_run_without_a_test_is_no_success() {
        let mut tally = Tally::default();
        assert!(!tally.is_success());
        feed(&mut tally, &["@lab count 1", "@lab test a", "@lab ignored"]);
        assert!(!tally.is_success());
        feed(&mut tally, &["@lab test b", "@lab passed"]);
        assert!(tally.is_success());
    }

    #[test]
    fn a_machine_that_stops_fails_the_test_it_was_running() {
        let mut tally = Tally::default();
        feed(&mut tally, &["@lab count 3", "@lab test a", "@lab passed", "@lab test b"]);
        let lines = tally.stop();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], "1 tests did not run");
        assert_eq!(tally.summary(), "1 passed, 1 failed");
    }

    #[test]
    fn other_lines_are_not_the_guests_words() {
        for line in ["", "test x ... ok", "@lab", "@lab unknown", "@lab count many", " @lab done"] {
            assert_eq!(Word::parse(line), None, "{line:?}");
        }
    }
}
