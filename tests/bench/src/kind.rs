//! The kinds of helpers that are compared.

use std::fmt;

/// A kind of helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// pr-floor, the minimal helper.
    Floor,
    PrHelper,
    /// Another build of pr-helper, with this name.
    Also(&'static str),
    /// QEMU's helper.
    C,
}

impl Kind {
    /// Returns the name in JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::PrHelper => "pr-helper",
            Self::Also(name) => name,
            Self::C => "qemu-pr-helper",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Floor => "floor",
            Self::PrHelper => "pr-helper",
            Self::Also(name) => name,
            Self::C => "C helper",
        })
    }
}
