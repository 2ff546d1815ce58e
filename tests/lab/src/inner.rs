//! What a virtual machine inside the lab's machine boots: the kernel that is there already, and a first file system
//! of a shell and `sg_persist` that takes commands on a port of virtio-serial.

use std::path::Path;

use tools::error::Result;

use crate::cpio::Archive;
use crate::modules::Kernel;
use crate::vmlinux;

/// Its first process.
const INIT: &str = include_str!("inner-init.sh");

/// Where the outer machine has them.
const KERNEL: &str = "lab/inner/kernel";
const INITRD: &str = "lab/inner/initrd";

/// What inner-init.sh loads.
const MODULES: [&str; 5] = ["sd_mod", "sg", "virtio_console", "virtio_pci", "virtio_scsi"];

/// How the paths of the packages begin that it has: a shell, and `sg_persist` with its libraries.
const CONTENT: [&str; 6] = [
    "usr/bin/busybox",
    "usr/bin/sg_persist",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libsgutils2",
    "usr/lib64",
];

/// Programs that the host must have to make it, beside those of the lab, and their Debian packages.
pub(crate) const PROGRAMS: [(&str, &str); 1] = [("zstd", "zstd")];

/// Adds them to the archive of the machine whose packages are unpacked under `root`.
pub(crate) fn add(root: &Path, kernel: &Kernel, archive: &mut Archive) -> Result<()> {
    archive.bytes(KERNEL, 0o644, vmlinux::extract(&kernel.image(root)?, root)?);
    let mut initrd = Vec::new();
    contents(root, kernel)?.write(&mut initrd)?;
    archive.bytes(INITRD, 0o644, initrd);
    Ok(())
}

/// All that decides what they are.
pub(crate) fn recipe() -> String {
    format!("{INIT}\n{MODULES:?}\n{CONTENT:?}\n")
}

fn contents(root: &Path, kernel: &Kernel) -> Result<Archive> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys"] {
        archive.directory(directory);
    }
    archive.tree(root, &|path| {
        CONTENT.iter().any(|wanted| path.starts_with(wanted) || is_above(path, wanted))
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

/// Whether `path` is a directory that `wanted` is in.
fn is_above(path: &str, wanted: &str) -> bool {
    wanted.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}
