//! All observers of a server.

use crate::{Event, Observer};

/// Passes each event to all observers, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Observers(pub(crate) Vec<Box<dyn Observer>>);

impl Observers {
    pub(crate) fn notify(&self, event: &Event<'_>) {
        self.0.iter().for_each(|observer| observer.event(event));
    }

    /// Returns whether an observer wants another tick.
    pub(crate) fn tick(&self) -> bool {
        self.0.iter().fold(false, |wanted, observer| observer.tick() | wanted)
    }
}
