//! The version of the interface.

use std::fmt;

/// The version of the ioctl interface, not of the kernel or of libdevmapper.
///
/// Versions with the same major number are compatible; a greater minor number adds features (`struct dm_ioctl` of
/// `<linux/dm-ioctl.h>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Differs between incompatible versions.
    pub major: u32,
    /// Grows with added features.
    pub minor: u32,
    /// Grows with changes that do not affect callers.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_printed_and_ordered_as_numbers() {
        let (old, new) =
            (Version { major: 4, minor: 9, patch: 1 }, Version { major: 4, minor: 50, patch: 0 });
        assert_eq!(new.to_string(), "4.50.0");
        assert!(old < new);
    }
}
