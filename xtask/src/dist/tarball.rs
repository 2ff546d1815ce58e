//! A tar archive of all files, to be unpacked at the root of a system:
//! `tar --extract --directory / --strip-components 1 --file ARCHIVE`.

use std::env::consts::ARCH;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contents::{PACKAGES, write};
use super::release::{VERSION, time};
use tools::error::Result;
use tools::process;

/// Makes the archive with the programs in `programs`; returns its file.
pub(super) fn make(programs: &Path, scratch: &Path, output: &Path) -> Result<Vec<PathBuf>> {
    let above = scratch.join("tar");
    let root = above.join("root");
    let mut list = String::new();
    // What takes the place of QEMU's own is for those who ask for it, as a package.
    let [package, ..] = &PACKAGES;
    package.stage(programs, &root)?;
    // Only the files: directories would change those that are there.
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
