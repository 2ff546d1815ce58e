//! Packages for RPM distributions, as `packaging/rpm/pr-helper.spec` describes them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contents::{PACKAGES, find, write};
use super::release::{VERSION, time};
use tools::error::{Context as _, Result};
use tools::{process, workspace};

/// The description, in the workspace.
const SPEC: &str = "bins/pr-helper/packaging/rpm/pr-helper.spec";

/// Makes the packages of the programs in `programs`; returns their files.
pub(super) fn make(programs: &Path, scratch: &Path, output: &Path) -> Result<Vec<PathBuf>> {
    let above = scratch.join("rpm");
    let root = above.join("root");
    for package in PACKAGES {
        package.stage(programs, &root)?;
        let mut list = "%defattr(-,root,root)\n".to_owned();
        for path in package.paths() {
            let (directory, _) = path.rsplit_once('/').unwrap_or_default();
            // Those that are the package's own go with it.
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
