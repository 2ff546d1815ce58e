//! The two machines: the one that every test run boots, and the larger one with the programs that use the helper.

use crate::inner;
use crate::modules::MODULES;

/// What tells one machine from the other.
#[derive(Debug)]
pub(crate) struct Flavour {
    /// Its directory below that of the suite.
    pub(crate) name: &'static str,
    /// The target of this package with the tests that run in it.
    pub(crate) tests: &'static str,
    /// Debian packages beside [`PACKAGES`].
    more_packages: &'static [&'static str],
    /// Kernel modules beside [`MODULES`].
    more_modules: &'static [&'static str],
    /// What of [`LEFT_OUT`] it has after all.
    kept: &'static [&'static str],
    /// Whether the machine has what virtual machines in it boot: see inner.rs.
    pub(crate) has_inner_guest: bool,
    /// Its memory, in which its file system is.
    pub(crate) mebibytes: u32,
    /// How many processors it has.
    pub(crate) processors: u32,
    /// How long one test may take, in seconds.
    pub(crate) test_limit: u64,
    /// How long a run may take, in seconds.
    pub(crate) time_limit: u64,
}

/// Disks of all kinds, and what a host of multipath maps has.
pub(crate) static DEVICES: Flavour = Flavour {
    name: "image",
    tests: "devices",
    more_packages: &[],
    more_modules: &[],
    kept: &[APPARMOR_FEATURES],
    has_inner_guest: false,
    mebibytes: 1536,
    processors: 2,
    test_limit: 90,
    time_limit: 1200,
};

/// The same, with the programs of others that are the helper's clients.
pub(crate) static CLIENTS: Flavour = Flavour {
    name: "clients",
    tests: "clients",
    // QEMU: qemu-system-common is where the C helper is.
    more_packages: &[
        "libvirt-clients",
        "libvirt-daemon",
        "libvirt-daemon-driver-qemu",
        "qemu-system-common",
        "qemu-system-x86",
    ],
    // An emulated processor has SVM, so that a virtual machine in it need not be emulated twice.
    more_modules: &["kvm_amd", "kvm_intel"],
    // What libvirt knows of processors, and QEMU's firmware.
    kept: &[APPARMOR_FEATURES, "usr/share/libvirt", "usr/share/qemu", "usr/share/seabios"],
    has_inner_guest: true,
    mebibytes: 3072,
    // The kernel changes its own code whenever the first virtual machine begins and the last one ends. An emulated
    // processor was seen to stumble over that while another one did it (an oops by int3).
    processors: 1,
    test_limit: 600,
    time_limit: 3600,
};

/// What the guest has. apt adds what these depend on.
///
/// linux-image-amd64 is the kernel, by whatever names a suite splits it into packages. libgcc-s1 is what every Rust
/// program wants beside libc6. apparmor, dpkg, systemd and tar are for tests of our own packages; newer versions of
/// systemd do without libapparmor1 and libseccomp2, and what these are for, where they are not. dmsetup, sg3-utils and
/// strace are for tests and for people.
const PACKAGES: [&str; 16] = [
    "linux-image-amd64",
    "busybox-static",
    "libc6",
    "libgcc-s1",
    "apparmor",
    "dmsetup",
    "dpkg",
    "libapparmor1",
    "libseccomp2",
    "multipath-tools",
    "open-iscsi",
    "sg3-utils",
    "strace",
    "systemd",
    "tar",
    "udev",
];

/// `apparmor_parser` compiles for the rules that are named here.
const APPARMOR_FEATURES: &str = "usr/share/apparmor-features/features";

/// Directories of the packages that the machines have no use for; those of systemd are what takes time at boot.
const LEFT_OUT: [&str; 8] = [
    "boot",
    "usr/lib/modules",
    "usr/lib/systemd/system-generators",
    "usr/lib/systemd/system/sysinit.target.wants",
    "usr/lib/udev/hwdb.d",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/libexec",
    "usr/share",
];

impl Flavour {
    /// Programs that the host must have to make its image, and their Debian packages.
    pub(crate) fn more_programs(&self) -> &'static [(&'static str, &'static str)] {
        if self.has_inner_guest { &inner::PROGRAMS } else { &[] }
    }

    /// All packages; apt adds what these depend on.
    pub(crate) fn packages(&self) -> Vec<&'static str> {
        [&PACKAGES, self.more_packages].concat()
    }

    /// All modules; those that these depend on are added.
    pub(crate) fn modules(&self) -> Vec<&'static str> {
        [&MODULES, self.more_modules].concat()
    }

    /// Whether the machine has this path of the packages.
    pub(crate) fn has(&self, path: &str) -> bool {
        let is_left_out = LEFT_OUT.iter().any(|directory| is_in(path, directory));
        // What is above something that is kept has to be there, too.
        !is_left_out || self.kept.iter().any(|kept| is_in(path, kept) || is_in(kept, path))
    }

    /// All that decides what is in its image.
    pub(crate) fn recipe(&self) -> String {
        let (packages, modules) = (self.packages(), self.modules());
        format!("{packages:?}\n{modules:?}\n{LEFT_OUT:?}\n{:?}\n{}\n", self.kept, self.has_inner_guest)
    }
}

/// Whether `path` is `directory` or below it.
fn is_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_left_out_can_have_a_part_that_is_kept() {
        for path in ["usr/share", "usr/share/qemu", "usr/share/qemu/bios-256k.bin", "usr/bin/udevadm"] {
            assert!(CLIENTS.has(path), "{path}");
        }
        for path in ["usr/share/doc", "usr/share/qemu-kvm", "boot", "usr/libexec/x"] {
            assert!(!CLIENTS.has(path), "{path}");
        }
        for path in ["usr/share", APPARMOR_FEATURES, "usr/sharenot"] {
            assert!(DEVICES.has(path), "{path}");
        }
        assert!(!DEVICES.has("usr/share/qemu"));
    }
}
