//! Kernel and first file system of a virtual machine inside the lab's machine. The kernel is that of the lab's machine; the
//! file system contains a shell, which takes commands on a port of virtio-serial, and `sg_persist`.

use std::path::Path;

use tools::error::Result;

use crate::cpio::Archive;
use crate::modules::Kernel;
use crate::vmlinux;

/// The inner machine's first process.
const INIT: &str = include_str!("inner-init.sh");

/// Paths of kernel and file system in the outer machine.
const KERNEL: &str = "lab/inner/kernel";
const INITRD: &str = "lab/inner/initrd";

/// Modules that inner-init.sh loads, and those with which a test mounts the file system of the outer machine.
const MODULES: [&str; 7] =
    ["9p", "9pnet_virtio", "sd_mod", "sg", "virtio_console", "virtio_pci", "virtio_scsi"];

/// Prefixes of the paths from the packages that the file system contains: a shell, and `sg_persist` with its libraries.
const CONTENT: [&str; 6] = [
    "usr/bin/busybox",
    "usr/bin/sg_persist",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libsgutils2",
    "usr/lib64",
];

/// Programs that the host needs in addition to those of the lab, with their Debian packages.
pub(crate) const PROGRAMS: [(&str, &str); 1] = [("zstd", "zstd")];

/// Adds kernel and file system to the archive of the machine whose packages are unpacked under `root`.
pub(crate) fn add(root: &Path, kernel: &Kernel, archive: &mut Archive) -> Result<()> {
    archive.bytes(KERNEL, 0o644, vmlinux::extract(&kernel.image(root)?, root)?);
    let mut initrd = Vec::new();
    contents(root, kernel)?.write(&mut initrd)?;
    archive.bytes(INITRD, 0o644, initrd);
    Ok(())
}

/// Returns a description of everything that determines the content of the file system.
pub(crate) fn recipe() -> String {
    format!("{INIT}\n{MODULES:?}\n{CONTENT:?}\n")
}

fn contents(root: &Path, kernel: &Kernel) -> Result<Archive> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys"] {
        archive.directory(directory);
    }
    archive.tree(root, &|path| {
        CONTENT.iter().any(|prefix| path.starts_with(prefix) || is_above(path, prefix))
    })?;
    for name in ["bin", "lib", "lib64", "sbin"] {
        archive.symlink(name, &format!("usr/{name}"));
    }
    archive.symlink("usr/bin/sh", "busybox");
    archive.character_device("dev/console", 5, 1);
    archive.bytes("init", 0o755, INIT);
    kernel.add_modules(&MODULES, &mut archive)?;
    Ok(archive)
}

/// Returns whether `path` is a directory above `other`.
fn is_above(path: &str, other: &str) -> bool {
    other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}
