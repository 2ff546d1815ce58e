//! What the host must have, and what it can do.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use crate::error::{Context as _, Error, Result};
use crate::process;

/// Each program that is run, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 7] = [
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("getconf", "libc-bin"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("strip", "binutils"),
    ("xz", "xz-utils"),
];

/// The keys that sign Debian's archive; the name depends on the version of the package.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
const KEYRING_PACKAGE: &str = "debian-archive-keyring";

/// Says in one message all that is missing. `more_programs` are of the same form as [`PROGRAMS`].
pub(crate) fn check(more_programs: &[(&str, &'static str)]) -> Result<()> {
    if env::consts::ARCH != "x86_64" {
        return Err(Error::new(format!(
            "the lab's machine is an x86_64 one and runs the host's binaries, but this host is {}",
            env::consts::ARCH
        )));
    }
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .chain(more_programs)
        .filter(|(program, _)| process::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if keyring().is_none() {
        packages.push(KEYRING_PACKAGE);
    }
    if packages.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "the lab needs Debian packages that this host does not have; as root:\n  \
         apt-get install --no-install-recommends {}",
        packages.join(" ")
    )))
}

/// The file with the keys that sign Debian's archive.
pub(crate) fn keyring() -> Option<&'static str> {
    KEYRINGS.into_iter().find(|path| Path::new(path).exists())
}

/// A version of the C library, of which programs ask for at least the one that they were linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LibcVersion {
    major: u32,
    minor: u32,
}

impl LibcVersion {
    /// The host's, with which the test programs are linked.
    pub(crate) fn of_host() -> Result<Self> {
        let text = process::text(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
        text.strip_prefix("glibc ")
            .and_then(Self::parse)
            .ok_or_else(|| Error::new(format!("the host's C library is not glibc but {:?}", text.trim())))
    }

    /// The beginning of an upstream or Debian version, as in `2.41-12`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
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

/// Whether this user may open /dev/kvm. That it can boot a machine is another matter (see [`KvmVerdict`]).
pub(crate) fn kvm_can_be_opened() -> bool {
    fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Remembers until the host's next boot that KVM does not boot the lab's machine, so that only one run pays
/// for the attempt. KVM nested in some clouds opens, and then never runs a stock kernel.
#[derive(Debug)]
pub(crate) struct KvmVerdict<'a> {
    file: &'a Path,
}

impl<'a> KvmVerdict<'a> {
    /// The verdict that is kept in `file`.
    pub(crate) fn kept_in(file: &'a Path) -> Self {
        Self { file }
    }

    /// Whether it was found useless since the host booted.
    pub(crate) fn is_useless(&self) -> bool {
        let kept = fs::read_to_string(self.file).ok();
        kept.is_some() && kept == boot_id()
    }

    /// It was found useless.
    pub(crate) fn set_useless(&self) -> Result<()> {
        let text = boot_id().unwrap_or_default();
        fs::write(self.file, text).context(|| format!("write {}", self.file.display()))
    }
}

/// Differs after each boot of the host.
fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_c_library_compare_as_numbers() {
        let version = |text| LibcVersion::parse(text).unwrap();
        assert_eq!(version("2.41-12+deb13u5"), version("2.41\n"));
        assert!(version("2.9") < version("2.36"));
        assert!(LibcVersion::parse("musl").is_none());
    }
}
