//! One moment until which everything that a call does must be done.

use std::time::{Duration, Instant};

/// The moment, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// This much time from now; none is for ever. What the clock cannot count is for ever, too.
    pub(crate) fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// What is left, zero when it has passed. `None`: there is no end.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.map(|moment| moment.saturating_duration_since(Instant::now()))
    }

    /// Whether there is time for a pause and something after it.
    pub(crate) fn allows(self, pause: Duration) -> bool {
        self.remaining().is_none_or(|remaining| remaining > pause)
    }
}
