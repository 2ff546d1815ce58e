//! What can be known of the library that was loaded.

use std::{fmt, path::PathBuf};

/// What can be known of the library that was loaded: it has no version number to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The file that it was loaded from, as the dynamic loader names it.
    pub file: Option<PathBuf>,
    /// Which versions of multipath-tools have its symbols.
    pub generation: Generation,
}

/// Which versions of multipath-tools a library can be of, by the symbols that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// 0.9 or older.
    UpTo9,
    /// 0.10, 0.11 or 0.12.
    From10To12,
    /// 0.13 or newer: multipathd is asked who holds the reservation, and maps are suspended while it moves.
    From13,
}

impl Generation {
    pub(crate) const fn new(has_reserve_in__: bool, has_update_map_pr: bool) -> Self {
        match (has_reserve_in__, has_update_map_pr) {
            (false, _) => Self::UpTo9,
            (true, true) => Self::From10To12,
            (true, false) => Self::From13,
        }
    }
}

/// For example `/lib/libmpathpersist.so.0 (multipath-tools 0.9 or older)`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display())?,
            None => f.write_str(mpathpersist_sys::SONAME)?,
        }
        write!(f, " (multipath-tools {})", self.generation)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UpTo9 => "0.9 or older",
            Self::From10To12 => "0.10 to 0.12",
            Self::From13 => "0.13 or newer",
        })
    }
}
