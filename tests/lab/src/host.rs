//! Requirements on the host, and its capabilities.

use std::path::Path;
use std::{env, fs};

use tools::error::{Context as _, Error, Result};
use tools::{packages, process};

/// Programs that the lab runs, with their Debian packages.
const PROGRAMS: [(&str, &str); 7] = [
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("getconf", "libc-bin"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("strip", "binutils"),
    ("xz", "xz-utils"),
];

/// The package with the keys that sign Debian's archive.
const KEYRING_PACKAGE: &str = "debian-archive-keyring";

/// Checks that the host has all that the lab needs; the error lists all missing packages. `more_programs` has the form of
/// [`PROGRAMS`].
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
    if packages::keyring().is_none() {
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

/// Returns whether this user may open /dev/kvm. That does not mean that it can boot a machine: see [`KvmVerdict`].
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
    /// Returns the verdict that is stored in `file`.
    pub(crate) fn kept_in(file: &'a Path) -> Self {
        Self { file }
    }

    /// Returns whether KVM was found useless since the host booted.
    pub(crate) fn is_useless(&self) -> bool {
        let kept = fs::read_to_string(self.file).ok();
        kept.is_some() && kept == boot_id()
    }

    /// Stores that KVM was found useless.
    pub(crate) fn set_useless(&self) -> Result<()> {
        let text = boot_id().unwrap_or_default();
        fs::write(self.file, text).context(|| format!("write {}", self.file.display()))
    }
}

/// Returns the kernel's ID of the current boot, which differs after each boot.
fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}
