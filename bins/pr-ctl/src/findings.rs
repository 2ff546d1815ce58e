//! The findings of `probe` and `doctor`, as text, JSON and exit status.

use pr_client::CommandError;

use crate::{
    failure::{self, Chain, Failure},
    json::{Object, object, text},
    report::Report,
};

/// The exit status of a check that failed without a failed command: `SG_LIB_OK_FALSE` of `sg_lib.h`, a question
/// answered with no.
pub(crate) const ANSWER_IS_NO: u8 = 36;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// Something to look at that prevents nothing.
    Warning,
    /// A fault, with the exit status for it.
    Failed(u8),
    /// An optional feature is absent.
    Lacking,
    /// The check could not be made.
    Unknown,
}

impl Outcome {
    /// Returns the mark in front of a line of text.
    const fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "!!",
            Self::Failed(_) => "NO",
            Self::Lacking => "--",
            Self::Unknown => "??",
        }
    }

    /// Returns the name in JSON.
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed(_) => "no",
            Self::Lacking => "--",
            Self::Unknown => "unknown",
        }
    }
}

/// What a check has found.
#[derive(Debug)]
pub(crate) struct Finding {
    name: String,
    outcome: Outcome,
    detail: String,
    /// What the user can do, if that is known.
    advice: Option<String>,
}

impl Finding {
    pub(crate) fn new(name: impl Into<String>, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { name: name.into(), outcome, detail: detail.into(), advice: None }
    }

    pub(crate) fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Ok, detail)
    }

    /// Builds the finding of a check that a failure prevented from passing.
    pub(crate) fn failed(name: impl Into<String>, failure: &Failure) -> Self {
        let outcome = Outcome::Failed(failure.exit_status());
        Self::new(name, outcome, failure.text()).with_advice(failure.advice())
    }

    /// Builds the finding of a command that failed.
    pub(crate) fn refused(name: impl Into<String>, error: &CommandError) -> Self {
        let outcome = Outcome::Failed(failure::command_exit_status(error));
        Self::new(name, outcome, Chain(error).to_string())
    }

    pub(crate) fn with_advice(mut self, advice: impl Into<Option<String>>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Adds advice that is known beforehand.
    pub(crate) fn advise(self, advice: &str) -> Self {
        self.with_advice(advice.to_owned())
    }
}

/// The findings, in the order of the checks.
#[derive(Default)]
pub(crate) struct Findings {
    lines: Vec<String>,
    checks: Vec<Object>,
    subject: String,
    /// Exit status of the first check that failed, 0 if none has.
    exit_status: u8,
}

impl Findings {
    /// Sets the subject of the findings that follow.
    pub(crate) fn heading(&mut self, subject: String) {
        self.lines.push(subject.clone());
        self.subject = subject;
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        let Finding { name, outcome, detail, advice } = finding;
        if let (Outcome::Failed(exit_status), 0) = (outcome, self.exit_status) {
            self.exit_status = exit_status;
        }
        let colon = if detail.is_empty() { "" } else { ": " };
        self.lines.push(format!("  {}  {name}{colon}{detail}", outcome.mark()));
        self.lines.extend(advice.as_ref().map(|advice| format!("      {advice}")));
        self.checks.push(object([
            ("subject", text(&self.subject)),
            ("check", name.into()),
            ("result", text(outcome.name())),
            ("detail", detail.into()),
            ("advice", advice.into()),
        ]));
    }

    /// Returns whether no check has failed.
    pub(crate) fn is_good(&self) -> bool {
        self.exit_status == 0
    }

    pub(crate) fn report(self) -> Report {
        let (is_good, exit_status) = (self.is_good(), self.exit_status);
        let json = object([
            ("checks", self.checks.into()),
            ("ok", is_good.into()),
            ("exit_status", exit_status.into()),
        ]);
        Report::with_status(self.lines, json, exit_status)
    }
}

/// Returns the line of one finding, for tests.
#[cfg(test)]
pub(crate) fn line(finding: Finding) -> String {
    let mut findings = Findings::default();
    findings.add(finding);
    findings.report().lines.into_iter().next().unwrap_or_default().trim_start().to_owned()
}
