//! Whether the helper is there, as clients know it.

use std::{fmt, sync::Arc};

/// Whether the helper was there when last needed.
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

/// Who is told of changes.
pub(crate) type Listener = Arc<dyn Fn(State) + Send + Sync>;
