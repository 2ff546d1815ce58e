//! The version of the loaded library.

use std::{fmt, path::PathBuf};

/// The version of the loaded library, as far as it can be determined: the library does not export a version number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The file of the library, as the dynamic loader names it.
    pub file: Option<PathBuf>,
    /// The range of multipath-tools versions that have the library's symbols.
    pub generation: Generation,
}

/// A range of multipath-tools versions, determined by the symbols of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// 0.9 or older.
    UpTo9,
    /// 0.10, 0.11 or 0.12.
    From10To12,
    /// 0.13 or newer: the library asks multipathd for the holder of a reservation, and suspends maps while it moves.
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

/// Shows, for example, `/lib/libmpathpersist.so.0 (multipath-tools 0.9 or older)`.
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
