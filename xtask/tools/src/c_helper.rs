//! QEMU's helper, for comparisons with pr-helper.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::error::{Context as _, Result};
use crate::packages::{self, Apt};
use crate::{process, workspace};

/// The program's name in distributions.
pub const NAME: &str = "qemu-pr-helper";

/// The source of the helper if the host has none. It is the oldest supported suite, so that the program runs
/// with the C library of any host.
const SUITE: &str = "bookworm";
const PACKAGE: &str = "qemu-system-common";

/// The package that is not unpacked: programs use the host's C library, since the host's loader starts them.
const C_LIBRARY: &str = "libc6_";

/// QEMU's helper.
#[derive(Debug, Clone)]
pub struct CHelper {
    /// The program.
    pub program: PathBuf,
    /// The directory of its libraries, if they are not the host's.
    pub libraries: Option<PathBuf>,
}

impl CHelper {
    /// Returns the helper that `C_HELPER` names, else the host's, else one that is downloaded at the first
    /// call.
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

    /// Returns a command that runs the program, without arguments.
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
    // A temporary directory, because apt's files are larger than the unpacked packages.
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
