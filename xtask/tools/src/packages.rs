//! Debian packages, downloaded and unpacked without being installed. apt works on a separate state in which
//! nothing is installed, so that the result depends neither on the user nor on the packages of the host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::error::{Context as _, Error, Result};
use crate::process;

/// The environment variable that names the mirror, for hosts whose apt configuration has none.
pub const MIRROR_VARIABLE: &str = "LAB_MIRROR";

/// The list of installed packages for apt. Its only package satisfies the dependencies of a kernel package
/// that the guest does not need.
const STATUS: &str = "\
Package: lab
Status: install ok installed
Version: 1
Architecture: all
Maintainer: nobody <nobody@localhost>
Provides: linux-initramfs-tool, initramfs-tools (= 999), linux-base (= 999), kmod (= 999)
Description: stands for what the guest does not need
";

/// The keys that sign Debian's archive; the name depends on the version of the package.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// An apt with a separate state.
#[derive(Debug)]
pub struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Creates the state in `directory`, for the packages of `suite`.
    pub fn new(directory: &Path, suite: &str) -> Result<Self> {
        let mirror = mirror()?;
        let keyring = keyring().ok_or_else(|| Error::new("no keyring of Debian's archive"))?;
        for sub in ["lists/partial", "archives/partial", "parts"] {
            let path = directory.join(sub);
            fs::create_dir_all(&path).context(|| format!("create {}", path.display()))?;
        }
        let apt = Self { directory: directory.to_owned() };
        // Fetches only the lists of packages: no translations, no metadata of applications.
        apt.write(
            "sources.list",
            &format!("deb [arch=amd64 signed-by={keyring} target=Packages] {mirror} {suite} main\n"),
        )?;
        apt.write("status", STATUS)?;
        apt.write("apt.conf", &apt.configuration()?)?;
        Ok(apt)
    }

    /// Fetches the lists of packages.
    pub fn update(&self) -> Result<()> {
        process::output(self.command().arg("update")).map_err(|error| {
            Error::new(format!(
                "{error}\nIf the mirror is wrong, set {MIRROR_VARIABLE} to the URL of another one."
            ))
        })?;
        Ok(())
    }

    /// Downloads `packages` and their dependencies. Returns the paths of all files.
    pub fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        process::output(
            self.command()
                .args(["install", "--download-only", "--yes", "--no-install-recommends"])
                .args(packages),
        )?;
        self.archives()
    }

    /// Downloads `package` without its dependencies. Returns the path of the file.
    pub fn download_alone(&self, package: &str) -> Result<PathBuf> {
        let archives = self.directory.join("archives");
        process::output(self.command().current_dir(&archives).arg("download").arg(package))?;
        self.archives()?.pop().ok_or_else(|| Error::new(format!("apt downloaded no {package}")))
    }

    /// Returns the paths of all downloaded packages.
    fn archives(&self) -> Result<Vec<PathBuf>> {
        let archives = self.directory.join("archives");
        let reading = || format!("read {}", archives.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(&archives).context(reading)? {
            let path = entry.context(reading)?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Returns apt's configuration. All paths are in the directory of this state. From the host's
    /// configuration it has only the network settings, in particular no hooks, which may need root.
    fn configuration(&self) -> Result<String> {
        let here = self.directory.display();
        let mut text = format!(
            "Dir::State \"{here}\";\n\
             Dir::State::status \"{here}/status\";\n\
             Dir::State::lists \"{here}/lists\";\n\
             Dir::State::extended_states \"{here}/extended_states\";\n\
             Dir::Cache \"{here}\";\n\
             Dir::Cache::archives \"{here}/archives\";\n\
             Dir::Etc::sourcelist \"{here}/sources.list\";\n\
             Dir::Etc::sourceparts \"{here}/parts\";\n\
             Dir::Etc::preferences \"{here}/preferences\";\n\
             Dir::Etc::preferencesparts \"{here}/parts\";\n\
             Dir::Etc::main \"{here}/main\";\n\
             Dir::Etc::parts \"{here}/parts\";\n\
             Dir::Log \"{here}\";\n\
             APT::Architecture \"amd64\";\n\
             APT::Architectures \"amd64\";\n\
             Acquire::Languages \"none\";\n\
             APT::Update::Error-Mode \"any\";\n"
        );
        // When run as root, apt downloads as another user, which may lack access to this directory.
        text.push_str("APT::Sandbox::User \"root\";\n");
        // Lists of a testing suite or of a mirror without daily updates may have expired. The signature is
        // still checked.
        text.push_str("Acquire::Check-Valid-Until \"false\";\n");
        let host = process::text(Command::new("apt-config").args(["dump", "--format", "%F \"%v\";%n"]))?;
        for line in host.lines() {
            let key = line.split_whitespace().next().unwrap_or_default();
            if ["Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::Force"]
                .iter()
                .any(|prefix| key.starts_with(prefix))
            {
                text.push_str(line);
                text.push('\n');
            }
        }
        Ok(text)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", self.directory.join("apt.conf")).env("LC_ALL", "C").arg("--quiet=2");
        command
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, text).context(|| format!("write {}", path.display()))
    }
}

/// Returns the path of the keys that sign Debian's archive.
pub fn keyring() -> Option<&'static str> {
    KEYRINGS.into_iter().find(|path| Path::new(path).exists())
}

/// Returns the version of the package in the file `package`.
pub fn version(package: &Path) -> Result<String> {
    let text = process::text(Command::new("dpkg-deb").arg("--field").arg(package).arg("Version"))?;
    Ok(text.trim().to_owned())
}

/// Unpacks the package in the file `package` under `root`.
pub fn unpack(package: &Path, root: &Path) -> Result<()> {
    process::output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(root))?;
    Ok(())
}

/// Returns the mirror of Debian's main archive: the one in [`MIRROR_VARIABLE`], else the one that the host
/// uses.
fn mirror() -> Result<String> {
    if let Ok(mirror) = env::var(MIRROR_VARIABLE) {
        return Ok(mirror);
    }
    let format = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)";
    let targets = process::text(Command::new("apt-get").args(["indextargets", "--format", format]))?;
    mirror_among(&targets).map(str::to_owned).ok_or_else(|| {
        Error::new(format!(
            "the host's apt configuration names no mirror of Debian's main archive; \
             set {MIRROR_VARIABLE} to the URL of one (or run apt-get update, if it has never run)"
        ))
    })
}

/// Returns the first mirror of Debian's main archive, as opposed to that of security updates, among apt's
/// index targets. If apt has never run, the targets have no origin, and the path in the URL decides.
fn mirror_among(targets: &str) -> Option<&str> {
    let rows = || {
        targets.lines().filter_map(|line| {
            let (rest, uri) = line.rsplit_once('|')?;
            Some((rest, uri))
        })
    };
    rows()
        .find(|(rest, _)| *rest == "Debian|Debian|main")
        .or_else(|| rows().find(|(_, uri)| uri.trim_end_matches('/').ends_with("/debian")))
        .map(|(_, uri)| uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_of_the_main_archive() {
        let targets = "Debian|Debian-Security|main|http://mirror.invalid/debian-security/\n\
                       Debian|Debian Backports|main|http://backports.invalid/debian/\n\
                       Debian|Debian|main|http://mirror.invalid/pub/debian/\n";
        assert_eq!(mirror_among(targets), Some("http://mirror.invalid/pub/debian/"));
    }

    #[test]
    fn mirror_is_found_by_path_without_origin() {
        let targets = "||main|http://mirror.invalid/debian-security/\n||main|http://mirror.invalid/debian/\n";
        assert_eq!(mirror_among(targets), Some("http://mirror.invalid/debian/"));
        assert_eq!(mirror_among("Other|Other|main|http://mirror.invalid/other/\n"), None);
    }
}
