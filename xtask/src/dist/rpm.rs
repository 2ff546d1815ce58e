//! Packages for RPM distributions, described by `packaging/rpm/pr-helper.spec`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contents::{PACKAGES, find, write};
use super::release::{VERSION, time};
use tools::error::{Context as _, Result};
use tools::{process, workspace};

/// The path of the spec file in the workspace.
const SPEC: &str = "bins/pr-helper/packaging/rpm/pr-helper.spec";

/// Builds the packages from the programs in `programs`. Returns their paths.
pub(super) fn make(programs: &Path, scratch: &Path, output: &Path) -> Result<Vec<PathBuf>> {
    let above = scratch.join("rpm");
    let root = above.join("root");
    for package in PACKAGES {
        package.stage(programs, &root)?;
        let mut list = "%defattr(-,root,root)\n".to_owned();
        for path in package.paths() {
            let (directory, _) = path.rsplit_once('/').unwrap_or_default();
            // A directory named after the package belongs to it and is removed with it.
            if directory.ends_with(&format!("/{}", package.name)) {
                let _ = writeln!(list, "%dir /{directory}");
            }
            let kind = match path.split('/').collect::<Vec<_>>().as_slice() {
                ["etc", ..] => "%config(noreplace) ",
                ["usr", "share", "doc", ..] => "%doc ",
                ["usr", "share", "licenses", ..] => "%license ",
                _ => "",
            };
            let _ = writeln!(list, "{kind}/{path}");
        }
        write(&above.join(format!("{}.files", package.name)), list)?;
    }
    let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
    process::output(
        Command::new("rpmbuild")
            .env("SOURCE_DATE_EPOCH", time())
            .arg("-bb")
            .args(define("_topdir", &above.display().to_string()))
            .args(define("project_version", VERSION))
            .args(define("project_tree", &root.display().to_string()))
            .args(define("project_lists", &above.display().to_string()))
            .arg(workspace::root().join(SPEC)),
    )?;
    let mut files = Vec::new();
    for built in find(&above.join("RPMS"), "rpm")? {
        let file = output.join(built.file_name().unwrap_or_default());
        fs::copy(&built, &file).context(|| format!("copy {}", built.display()))?;
        files.push(file);
    }
    Ok(files)
}
