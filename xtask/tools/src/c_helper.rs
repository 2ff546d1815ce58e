//! QEMU's helper, which ours is compared with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::error::{Context as _, Result};
use crate::packages::{self, Apt};
use crate::{process, workspace};

/// As distributions name it.
pub const NAME: &str = "qemu-pr-helper";

/// Where it is from, if the host has none: the oldest suite that is supported, so that its programs run with the C
/// library of any other.
const SUITE: &str = "bookworm";
const PACKAGE: &str = "qemu-system-common";

/// What is not unpacked beside it: programs use the C library of the host, whose loader starts them.
const C_LIBRARY: &str = "libc6_";

/// QEMU's helper.
#[derive(Debug, Clone)]
pub struct CHelper {
    /// The program.
    pub program: PathBuf,
    /// Where its libraries are, if they are not the host's.
    pub libraries: Option<PathBuf>,
}

impl CHelper {
    /// Returns the one that `C_HELPER` names, or else the host's, or else one that is downloaded once.
    pub fn find() -> Result<Self> {
        let named = env::var_os("C_HELPER").map(PathBuf::from);
        if let Some(program) = named.or_else(|| process::find(NAME)) {
            return Ok(Self { program, libraries: None });
        }
        let directory = workspace::target().join("c-helper");
        let root = directory.join("root");
        let program = root.join("usr/bin").join(NAME);
        if !program.exists() {
            download(&directory, &root)?;
        }
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let helper = Self { program, libraries: Some(libraries) };
        process::output(helper.command().arg("--version"))?;
        Ok(helper)
    }

    /// Returns the program, without arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// Unpacks the C helper and its libraries under `root`, in `directory`.
fn download(directory: &Path, root: &Path) -> Result<()> {
    eprintln!("{NAME}: downloading {PACKAGE} of Debian {SUITE}");
    let scratch = || format!("create a directory in {}", directory.display());
    fs::create_dir_all(directory).context(scratch)?;
    // What apt leaves is larger than what is wanted of it.
    let parts = tempfile::tempdir_in(directory).context(scratch)?;
    let apt = Apt::new(&parts.path().join("apt"), SUITE)?;
    apt.update()?;
    let unpacked = parts.path().join("root");
    for package in apt.download(&[PACKAGE])? {
        let name = package.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with(C_LIBRARY)) {
            packages::unpack(&package, &unpacked)?;
        }
    }
    fs::rename(&unpacked, root).context(|| format!("rename {}", unpacked.display()))
}
