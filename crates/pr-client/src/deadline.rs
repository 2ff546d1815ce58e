//! The deadline of a call.

use std::time::{Duration, Instant};

/// The time by which a call must return; `None` if it may take for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Returns the deadline after `timeout`. Without a timeout, or if the clock cannot represent the time, there is
    /// none.
    pub(crate) fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Returns the remaining time, zero after the deadline; `None` if there is no deadline.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.map(|moment| moment.saturating_duration_since(Instant::now()))
    }

    /// Returns whether more time remains than `pause`.
    pub(crate) fn allows(self, pause: Duration) -> bool {
        self.remaining().is_none_or(|remaining| remaining > pause)
    }
}
