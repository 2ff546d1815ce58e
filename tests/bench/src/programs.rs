//! The measured programs and those needed to measure them. They are found or built.

use std::path::{self, Path, PathBuf};
use std::process::Command;

use tools::c_helper::{self, CHelper};
use tools::error::Result;
use tools::workspace;

use crate::kind::Kind;

/// Options that name programs.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The daemon [default: this workspace's, built for release]
    #[arg(long, value_name = "PATH", value_parser = file)]
    pr_helper: Option<PathBuf>,

    /// Another build of the daemon to compare with the first, under this name; may be repeated
    #[arg(long, value_name = "NAME=PATH", value_parser = Also::parse)]
    also: Vec<Also>,

    /// QEMU's qemu-pr-helper [default: the host's, else that of a Debian package]
    #[arg(long, value_name = "PATH", value_parser = file)]
    c_helper: Option<PathBuf>,

    /// pr-floor [default: built]
    #[arg(long, value_name = "PATH", hide = true, value_parser = file)]
    floor: Option<PathBuf>,

    /// The library that stands for a disk [default: built]
    #[arg(long, value_name = "PATH", hide = true, value_parser = file)]
    disk: Option<PathBuf>,
}

/// Another build of the daemon.
#[derive(Debug, Clone)]
struct Also {
    name: &'static str,
    program: PathBuf,
}

impl Also {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let (name, program) = text.split_once('=').ok_or("not of the form NAME=PATH")?;
        if name.is_empty() || [Kind::Floor, Kind::PrHelper, Kind::C].iter().any(|kind| kind.id() == name) {
            return Err(format!("the name {name:?} is not allowed"));
        }
        // Leaks the name, which lives as long as the process.
        Ok(Self { name: name.to_owned().leak(), program: file(program)? })
    }
}

/// Returns the absolute path of a file, because helpers are started in another directory.
fn file(path: &str) -> std::result::Result<PathBuf, String> {
    let absolute = path::absolute(path).map_err(|error| error.to_string())?;
    if absolute.is_file() { Ok(absolute) } else { Err("there is no such file".into()) }
}

/// All programs.
#[derive(Debug)]
pub struct Programs {
    pr_helper: PathBuf,
    also: Vec<Also>,
    floor: PathBuf,
    c_helper: Option<CHelper>,
    /// The library that stands for a disk.
    pub disk: PathBuf,
}

impl Programs {
    /// Finds programs where the options say, and builds the others.
    pub fn find(options: Options) -> Result<Self> {
        let Options { pr_helper, also, c_helper, floor, disk } = options;
        let or_built = |path: Option<PathBuf>, arguments: &[&str], file: &str| match path {
            Some(path) => Ok(path),
            None => workspace::build_release(arguments).map(|directory| directory.join(file)),
        };
        let c_helper = match c_helper {
            Some(program) => Ok(CHelper { program, libraries: None }),
            None => CHelper::find(),
        };
        if let Err(error) = &c_helper {
            eprintln!("bench: without {}: {error}", c_helper::NAME);
        }
        Ok(Self {
            // Built alone: together with other packages, it would get their features of shared crates.
            pr_helper: or_built(pr_helper, &["--package", "pr-helper"], "pr-helper")?,
            also,
            floor: or_built(floor, &["--package", env!("CARGO_PKG_NAME"), "--bin", "pr-floor"], "pr-floor")?,
            c_helper: c_helper.ok(),
            disk: or_built(disk, &["--package", "simulated-disk"], "libsimulated_disk.so")?,
        })
    }

    /// Returns the available helpers, in the order of the report.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Floor, Kind::PrHelper];
        kinds.extend(self.others());
        kinds.extend(self.c_helper.as_ref().map(|_| Kind::C));
        kinds
    }

    /// Returns the other builds of the daemon.
    pub fn others(&self) -> impl Iterator<Item = Kind> {
        self.also.iter().map(|also| Kind::Also(also.name))
    }

    /// Returns all builds of the daemon: those that have goals.
    pub fn daemons(&self) -> impl Iterator<Item = Kind> {
        std::iter::once(Kind::PrHelper).chain(self.others())
    }

    /// Returns the command that starts a helper on this socket.
    ///
    /// # Panics
    ///
    /// If the helper is not available.
    pub fn command(&self, kind: Kind, socket: &Path) -> Command {
        let daemon = |program: &Path| {
            let mut command = Command::new(program);
            command.env_remove("RUST_LOG").arg("-k");
            command
        };
        let mut command = match kind {
            Kind::Floor => Command::new(&self.floor),
            Kind::PrHelper => daemon(&self.pr_helper),
            Kind::Also(name) => {
                let also = self.also.iter().find(|also| also.name == name);
                daemon(&also.expect("one of kinds()").program)
            }
            Kind::C => {
                let mut command = self.c_helper.as_ref().expect("one of kinds()").command();
                command.arg("-k");
                command
            }
        };
        command.arg(socket);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_build_has_name_and_file() {
        let also = Also::parse("old=/proc/self/exe").unwrap();
        assert_eq!((also.name, also.program), ("old", "/proc/self/exe".into()));
        for wrong in ["/proc/self/exe", "=/proc/self/exe", "floor=/proc/self/exe", "old=/no/such/file"] {
            assert!(Also::parse(wrong).is_err(), "{wrong}");
        }
    }
}
