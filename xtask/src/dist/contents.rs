//! The files of the packages and the places where they are installed.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{ffi::OsStr, fs};

use tools::error::{Context as _, Result};
use tools::{process, workspace};

/// The names of the programs and of their packages in the workspace.
pub(super) const PROGRAMS: [&str; 2] = ["pr-ctl", "pr-helper"];

/// A package: files that are installed together.
pub(super) struct Package {
    pub(super) name: &'static str,
    files: &'static [(From, &'static str)],
}

/// Where a file comes from.
enum From {
    /// A program.
    Program(&'static str),
    /// A file of the workspace.
    File(&'static str),
    /// A file of the workspace that is installed compressed.
    Compressed(&'static str),
    /// A symbolic link to this target.
    Link(&'static str),
}

use From::{Compressed, File, Link, Program};

/// All packages. Files below `etc` are configuration: an update keeps the user's changes to them.
pub(super) const PACKAGES: [Package; 2] = [
    Package {
        name: "pr-helper",
        files: &[
            (Program("pr-ctl"), "usr/bin/pr-ctl"),
            (Program("pr-helper"), "usr/bin/pr-helper"),
            (Compressed("bins/pr-ctl/man/pr-ctl.1"), "usr/share/man/man1/pr-ctl.1.gz"),
            (Compressed("bins/pr-helper/man/pr-helper.8"), "usr/share/man/man8/pr-helper.8.gz"),
            (File("bins/pr-ctl/completions/pr-ctl.bash"), "usr/share/bash-completion/completions/pr-ctl"),
            (File("bins/pr-ctl/completions/pr-ctl.fish"), "usr/share/fish/vendor_completions.d/pr-ctl.fish"),
            (File("bins/pr-ctl/completions/_pr-ctl"), "usr/share/zsh/site-functions/_pr-ctl"),
            (
                File("bins/pr-helper/completions/pr-helper.bash"),
                "usr/share/bash-completion/completions/pr-helper",
            ),
            (
                File("bins/pr-helper/completions/pr-helper.fish"),
                "usr/share/fish/vendor_completions.d/pr-helper.fish",
            ),
            (File("bins/pr-helper/completions/_pr-helper"), "usr/share/zsh/site-functions/_pr-helper"),
            (
                File("bins/pr-helper/packaging/systemd/pr-helper.service"),
                "usr/lib/systemd/system/pr-helper.service",
            ),
            (
                File("bins/pr-helper/packaging/systemd/pr-helper.socket"),
                "usr/lib/systemd/system/pr-helper.socket",
            ),
            (File("bins/pr-helper/packaging/systemd/multipath.conf"), "usr/share/pr-helper/multipath.conf"),
            (File("bins/pr-helper/packaging/systemd/nvme.conf"), "usr/share/pr-helper/nvme.conf"),
            (File("bins/pr-helper/packaging/systemd/sysusers.conf"), "usr/lib/sysusers.d/pr-helper.conf"),
            (File("bins/pr-helper/packaging/apparmor/pr-helper"), "etc/apparmor.d/pr-helper"),
            (Compressed("CHANGELOG.md"), "usr/share/doc/pr-helper/CHANGELOG.md.gz"),
            (File("docs/operations.md"), "usr/share/doc/pr-helper/operations.md"),
            (File("LICENSE-APACHE"), "usr/share/licenses/pr-helper/LICENSE-APACHE"),
            (File("LICENSE-MIT"), "usr/share/licenses/pr-helper/LICENSE-MIT"),
        ],
    },
    Package { name: "pr-helper-qemu", files: &[(Link("pr-helper"), "usr/bin/qemu-pr-helper")] },
];

impl Package {
    /// Copies the files into a tree below `root`. The programs come from the directory `programs`.
    pub(super) fn stage(&self, programs: &Path, root: &Path) -> Result<()> {
        for (from, to) in self.files {
            let to = root.join(to);
            match from {
                Program(name) => {
                    write(&to, read(&programs.join(name))?)?;
                    set_mode(&to, 0o755)?;
                }
                File(path) => write(&to, read(&workspace::root().join(path))?)?,
                Compressed(path) => write(&to, compressed(&workspace::root().join(path))?)?,
                Link(target) => fs::create_dir_all(to.parent().unwrap_or(root))
                    .and_then(|()| symlink(target, &to))
                    .context(|| format!("make the link {}", to.display()))?,
            }
        }
        set_directory_modes(root)
    }

    /// Returns the paths of the installed files, without a leading slash.
    pub(super) fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.files.iter().map(|(_, to)| *to)
    }

    /// Returns the paths of configuration files.
    pub(super) fn configuration(&self) -> impl Iterator<Item = &'static str> {
        self.paths().filter(|path| path.starts_with("etc/"))
    }

    /// Returns the names of the programs in the package.
    pub(super) fn programs(&self) -> impl Iterator<Item = &'static str> {
        self.files.iter().filter_map(|(from, _)| if let Program(name) = from { Some(*name) } else { None })
    }
}

/// Sets the modes of all directories of the tree, which must not depend on the umask.
pub(super) fn set_directory_modes(directory: &Path) -> Result<()> {
    set_mode(directory, 0o755)?;
    let reading = || format!("read {}", directory.display());
    for entry in fs::read_dir(directory).context(reading)? {
        let entry = entry.context(reading)?;
        if entry.file_type().context(reading)?.is_dir() {
            set_directory_modes(&entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .context(|| format!("change the mode of {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).context(|| format!("read {}", path.display()))
}

/// Returns the file compressed by gzip, without name and time in its header.
pub(super) fn compressed(path: &Path) -> Result<Vec<u8>> {
    process::output(Command::new("gzip").args(["-9", "--no-name", "--stdout"]).arg(path))
}

/// Returns the files below `directory` with this extension.
pub(super) fn find(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let reading = || format!("read {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).context(reading)? {
        let path = entry.context(reading)?.path();
        if path.is_dir() {
            found.extend(find(&path, extension)?);
        } else if path.extension() == Some(OsStr::new(extension)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a file with mode 644 and creates the directories above it.
pub(super) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let writing = || format!("write {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).context(writing)?;
    fs::write(path, content).context(writing)?;
    set_mode(path, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_package_is_there() {
        let directory = tempfile::tempdir().unwrap();
        for program in PROGRAMS {
            fs::write(directory.path().join(program), "program").unwrap();
        }
        for package in PACKAGES {
            let root = directory.path().join("root").join(package.name);
            package.stage(directory.path(), &root).unwrap();
            for path in package.paths() {
                let metadata = fs::symlink_metadata(root.join(path)).unwrap();
                let expected = if path.starts_with("usr/bin/") { 0o755 } else { 0o644 };
                assert!(metadata.is_symlink() || metadata.permissions().mode() & 0o777 == expected, "{path}");
            }
        }
    }

    #[test]
    fn every_program_is_in_a_package() {
        let mut programs: Vec<&str> = PACKAGES.iter().flat_map(Package::programs).collect();
        programs.sort_unstable();
        let bins = fs::read_dir(workspace::root().join("bins")).unwrap();
        let mut bins: Vec<String> =
            bins.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        bins.sort_unstable();
        assert_eq!(programs, bins);
        assert_eq!(programs, PROGRAMS);
    }
}
