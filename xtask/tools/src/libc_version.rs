//! Versions of the C library.

use std::process::Command;

use crate::error::{Error, Result};
use crate::process;

/// A version of glibc. A program needs at least the version that it was linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LibcVersion {
    major: u32,
    minor: u32,
}

impl LibcVersion {
    /// Returns the version on the host, with which the test programs are linked.
    pub fn of_host() -> Result<Self> {
        let text = process::text(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
        text.strip_prefix("glibc ")
            .and_then(Self::parse)
            .ok_or_else(|| Error::new(format!("the host's C library is not glibc but {:?}", text.trim())))
    }

    /// Parses the beginning of an upstream or Debian version, as in `2.41-12`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self { major, minor })
    }
}

impl std::fmt::Display for LibcVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libc_versions_compare_as_numbers() {
        let version = |text| LibcVersion::parse(text).unwrap();
        assert_eq!(version("2.41-12+deb13u5"), version("2.41\n"));
        assert!(version("2.9") < version("2.36"));
        assert!(LibcVersion::parse("musl").is_none());
    }
}
