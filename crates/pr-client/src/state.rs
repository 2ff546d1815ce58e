//! The state of the helper, as last observed by a client.

use std::{fmt, sync::Arc};

/// Whether the last use of the helper found it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// A connection was made.
    Connected,
    /// A connection was lost, or none could be made.
    Disconnected,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
        })
    }
}

/// The callback for changes of the state.
pub(crate) type Listener = Arc<dyn Fn(State) + Send + Sync>;
