//! A tar archive of all files, to unpack at the root of a system:
//! `tar --extract --directory / --strip-components 1 --file ARCHIVE`.

use std::env::consts::ARCH;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contents::{PACKAGES, write};
use super::release::{VERSION, time};
use tools::error::Result;
use tools::process;

/// Builds the archive from the programs in `programs`. Returns its path.
pub(super) fn make(programs: &Path, scratch: &Path, output: &Path) -> Result<Vec<PathBuf>> {
    let above = scratch.join("tar");
    let root = above.join("root");
    let mut list = String::new();
    // The archive lacks the replacement of QEMU's helper, which users must choose by installing its package.
    let [package, ..] = &PACKAGES;
    package.stage(programs, &root)?;
    // Lists only files: entries of directories would change the modes of existing ones.
    for path in package.paths() {
        let _ = writeln!(list, "{path}");
    }
    let list_file = above.join("list");
    write(&list_file, list)?;
    let name = format!("pr-helper-{VERSION}-{ARCH}-linux-gnu");
    let file = output.join(format!("{name}.tar.gz"));
    process::output(
        Command::new("tar")
            .args(["--create", "--gzip", "--owner=root:0", "--group=root:0", "--sort=name"])
            .arg(format!("--mtime=@{}", time()))
            .arg(format!("--transform=flags=r;s,^,{name}/,"))
            .arg("--file")
            .arg(&file)
            .arg("--directory")
            .arg(&root)
            .arg("--files-from")
            .arg(&list_file),
    )?;
    Ok(vec![file])
}
