//! Debian packages.
//!
//! The metadata are in `packaging/debian`. The files have the names and the format of a Debian source
//! package: `control`, `PACKAGE.postinst` and similar scripts.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contents::{PACKAGES, PROGRAMS, Package, compressed, set_directory_modes, set_mode, write};
use super::release::{VERSION, time};
use tools::error::{Context as _, Error, Result};
use tools::libc_version::LibcVersion;
use tools::{process, workspace};

/// The directory with the metadata, in the workspace.
const DIRECTORY: &str = "bins/pr-helper/packaging/debian";

/// The maintainer scripts that dpkg runs.
const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];

/// The field Maintainer. The project has no mail address.
const MAINTAINER: &str = "pr-helper maintainers <maintainers@pr-helper.invalid>";

/// Builds the packages from the programs in `programs`. Returns their paths.
pub(super) fn make(programs: &Path, scratch: &Path, output: &Path) -> Result<Vec<PathBuf>> {
    compressed_by("xz", programs, scratch, output)
}

/// Builds the packages from programs that were built for tests. It strips debugging information, which is
/// most of their size, and does not compress, which would take most of the time.
pub(super) fn make_quickly(programs: &Path, scratch: &Path, output: &Path) -> Result<Vec<PathBuf>> {
    let stripped = scratch.join("stripped");
    fs::create_dir_all(&stripped).context(|| format!("create {}", stripped.display()))?;
    for program in PROGRAMS {
        process::output(
            Command::new("strip").arg("-o").arg(stripped.join(program)).arg(programs.join(program)),
        )?;
    }
    compressed_by("none", &stripped, scratch, output)
}

fn compressed_by(method: &str, programs: &Path, scratch: &Path, output: &Path) -> Result<Vec<PathBuf>> {
    let architecture = process::text(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let mut files = Vec::new();
    for package in PACKAGES {
        let root = scratch.join("deb").join(package.name);
        package.stage(programs, &root)?;
        adapt(&root, package.name)?;
        describe(&package, programs, &root, architecture)?;
        set_directory_modes(&root)?;
        let file = output.join(format!("{}_{VERSION}_{architecture}.deb", package.name));
        process::output(
            Command::new("dpkg-deb")
                .env("SOURCE_DATE_EPOCH", time())
                .args(["--root-owner-group", &format!("-Z{method}"), "--build"])
                .arg(&root)
                .arg(&file),
        )?;
        files.push(file);
    }
    Ok(files)
}

/// Adapts the tree to Debian: moves files that have another place there and adds files that only Debian has.
fn adapt(root: &Path, name: &str) -> Result<()> {
    let zsh = root.join("usr/share/zsh");
    let (generic, debian) = (zsh.join("site-functions"), zsh.join("vendor-completions"));
    if generic.exists() {
        fs::rename(&generic, &debian).context(|| format!("rename {}", generic.display()))?;
    }
    // In Debian the file `copyright` has the licences.
    let licences = root.join("usr/share/licenses");
    if licences.exists() {
        fs::remove_dir_all(&licences).context(|| format!("remove {}", licences.display()))?;
    }
    let doc = root.join("usr/share/doc").join(name);
    let copyright = workspace::root().join(DIRECTORY).join("copyright");
    write(&doc.join("copyright"), fs::read(&copyright).context(|| format!("read {}", copyright.display()))?)?;
    let date = format!("@{}", time());
    let date = process::text(Command::new("date").args(["--utc", "--rfc-email", "--date", &date]))?;
    let changelog = doc.join("changelog");
    write(
        &changelog,
        format!(
            "{name} ({VERSION}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- {MAINTAINER}  {date}"
        ),
    )?;
    write(&doc.join("changelog.gz"), compressed(&changelog)?)?;
    fs::remove_file(&changelog).context(|| format!("remove {}", changelog.display()))
}

/// Writes the metadata for dpkg into the directory `DEBIAN` of the tree.
fn describe(package: &Package, programs: &Path, root: &Path, architecture: &str) -> Result<()> {
    let directory = workspace::root().join(DIRECTORY);
    let path = directory.join("control");
    let control = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
    let stanza = stanza(&control, package.name)
        .ok_or_else(|| Error::new(format!("{} has no package {}", path.display(), package.name)))?;
    let mut libc = None;
    for program in package.programs() {
        let path = programs.join(program);
        let bytes = fs::read(&path).context(|| format!("read {}", path.display()))?;
        libc = libc.max(needed_libc(&bytes));
    }
    let depends = libc.map(|libc| format!("libc6 (>= {libc}), libgcc-s1 (>= 4.2)")).unwrap_or_default();
    let stanza = stanza.replace("${shlibs:Depends}", &depends).replace("${binary:Version}", VERSION);
    let size = process::text(
        Command::new("du").args(["--summarize", "--apparent-size", "--block-size=1024"]).arg(root),
    )?;
    let size = size.split_whitespace().next().unwrap_or_default();
    write(
        &root.join("DEBIAN/control"),
        format!(
            "{stanza}\nVersion: {VERSION}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\nInstalled-Size: {size}\n"
        ),
    )?;
    let sums = process::output(Command::new("sh").current_dir(root).args([
        "-c",
        "find . -path ./DEBIAN -prune -o -type f -printf '%P\\0' | sort --zero-terminated | xargs --null md5sum",
    ]))?;
    write(&root.join("DEBIAN/md5sums"), sums)?;
    let mut conffiles = String::new();
    for path in package.configuration() {
        let _ = writeln!(conffiles, "/{path}");
    }
    if !conffiles.is_empty() {
        write(&root.join("DEBIAN/conffiles"), conffiles)?;
    }
    for script in SCRIPTS {
        let from = directory.join(format!("{}.{script}", package.name));
        if from.exists() {
            let to = root.join("DEBIAN").join(script);
            fs::copy(&from, &to).context(|| format!("copy {}", from.display()))?;
            set_mode(&to, 0o755)?;
        }
    }
    Ok(())
}

/// Returns the paragraph of a control file about this package.
fn stanza<'a>(control: &'a str, package: &str) -> Option<&'a str> {
    let first = format!("Package: {package}");
    control.split("\n\n").map(str::trim_end).find(|stanza| stanza.lines().next() == Some(first.as_str()))
}

/// Returns the newest version of the C library from which a program needs symbols, by the version names in
/// the file.
fn needed_libc(program: &[u8]) -> Option<LibcVersion> {
    const NAME: &[u8] = b"GLIBC_";
    let names = program.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    names
        .filter_map(|(at, _)| {
            let rest = program.get(at + NAME.len()..)?;
            let version: Vec<u8> =
                rest.iter().copied().take_while(|b| b.is_ascii_digit() || *b == b'.').collect();
            LibcVersion::parse(std::str::from_utf8(&version).ok()?)
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libc_version_is_that_of_newest_symbol() {
        let needed = needed_libc(b"\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_PRIVATE\0GLIBC_").unwrap();
        assert_eq!(needed.to_string(), "2.34");
        assert_eq!(needed_libc(b"static"), None);
    }

    #[test]
    fn each_package_has_its_paragraph() {
        let control = fs::read_to_string(workspace::root().join(DIRECTORY).join("control")).unwrap();
        for package in PACKAGES {
            let stanza = stanza(&control, package.name).unwrap();
            assert!(stanza.contains("\nDescription: "), "{stanza}");
        }
    }
}
