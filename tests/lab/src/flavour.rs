//! The two machines: the one that each test run boots, and a larger one with the programs that use the helper.

use crate::inner;
use crate::modules::MODULES;

/// The properties of a machine.
#[derive(Debug)]
pub(crate) struct Flavour {
    /// Name of its directory in that of the suite.
    pub(crate) name: &'static str,
    /// The test target of this package that runs in it.
    pub(crate) tests: &'static str,
    /// Debian packages in addition to [`PACKAGES`].
    more_packages: &'static [&'static str],
    /// Kernel modules in addition to [`MODULES`].
    more_modules: &'static [&'static str],
    /// Parts of [`OMITTED`] directories that it contains nevertheless.
    kept: &'static [&'static str],
    /// Whether the machine contains a kernel and a file system for virtual machines in it: see inner.rs.
    pub(crate) has_inner_guest: bool,
    /// Size of its memory, which also contains its file system.
    pub(crate) mebibytes: u32,
    /// Number of processors.
    pub(crate) processors: u32,
    /// Time limit of one test, in seconds.
    pub(crate) test_limit: u64,
    /// Time limit of a run, in seconds.
    pub(crate) time_limit: u64,
}

/// A machine with disks of all kinds and the programs for multipath maps.
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

/// The [`DEVICES`] machine with QEMU and libvirt, the helper's clients.
pub(crate) static CLIENTS: Flavour = Flavour {
    name: "clients",
    tests: "clients",
    // qemu-system-common contains the C helper.
    more_packages: &[
        "fence-agents-mpath",
        "fence-agents-scsi",
        "libvirt-clients",
        "libvirt-daemon",
        "libvirt-daemon-driver-qemu",
        "qemu-system-common",
        "qemu-system-x86",
    ],
    // QEMU's emulated processor has SVM, so that a virtual machine in it need not be emulated twice.
    more_modules: &["kvm_amd", "kvm_intel"],
    // The library of the fence agents, libvirt's processor models, and QEMU's firmware.
    kept: &[APPARMOR_FEATURES, "usr/share/fence", "usr/share/libvirt", "usr/share/qemu", "usr/share/seabios"],
    has_inner_guest: true,
    mebibytes: 3072,
    // The kernel patches its own code when the first virtual machine starts and when the last one ends. With several emulated
    // processors, one was seen to crash while another patched the code (an oops by int3).
    processors: 1,
    test_limit: 600,
    time_limit: 3600,
};

/// Packages of each machine. apt adds their dependencies.
///
/// linux-image-amd64 stands for the kernel, however a suite splits it into packages. Rust programs need libgcc-s1 and libc6.
/// apparmor, dpkg, systemd and tar are for tests of our own packages. Newer versions of systemd do not depend on libapparmor1
/// and libseccomp2, and without them lack the features that need them. dmsetup, nvme-cli, sg3-utils and strace are for tests and
/// for interactive use.
const PACKAGES: [&str; 17] = [
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
    "nvme-cli",
    "open-iscsi",
    "sg3-utils",
    "strace",
    "systemd",
    "tar",
    "udev",
];

/// The features of the kernel for which `apparmor_parser` compiles.
const APPARMOR_FEATURES: &str = "usr/share/apparmor-features/features";

/// Directories of the packages that the machines do not need. Those of systemd would slow the boot down.
const OMITTED: [&str; 8] = [
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
    /// Returns the additional programs that the host needs to build the image, with their Debian packages.
    pub(crate) fn more_programs(&self) -> &'static [(&'static str, &'static str)] {
        if self.has_inner_guest { &inner::PROGRAMS } else { &[] }
    }

    /// Returns all packages. apt adds their dependencies.
    pub(crate) fn packages(&self) -> Vec<&'static str> {
        [&PACKAGES, self.more_packages].concat()
    }

    /// Returns all modules, without their dependencies.
    pub(crate) fn modules(&self) -> Vec<&'static str> {
        [&MODULES, self.more_modules].concat()
    }

    /// Returns whether the machine contains this path of the packages.
    pub(crate) fn has(&self, path: &str) -> bool {
        let is_omitted = OMITTED.iter().any(|directory| is_in(path, directory));
        // The parents of a kept path are needed too.
        !is_omitted || self.kept.iter().any(|kept| is_in(path, kept) || is_in(kept, path))
    }

    /// Returns a description of everything that determines the content of the image.
    pub(crate) fn recipe(&self) -> String {
        let (packages, modules) = (self.packages(), self.modules());
        format!("{packages:?}\n{modules:?}\n{OMITTED:?}\n{:?}\n{}\n", self.kept, self.has_inner_guest)
    }
}

/// Returns whether `path` is `directory` or below it.
fn is_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn omitted_directory_keeps_listed_parts() {
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
