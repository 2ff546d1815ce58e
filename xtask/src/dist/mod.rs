//! `cargo xtask dist`: packages for Debian and for RPM distributions, and a tar archive, all of the same files.
//!
//! They are made by the distributions' own programs (dpkg-deb, rpmbuild), from a tree with the files in their places:
//! so what is installed where is said once, in `contents.rs`, and nothing has to be downloaded.

mod contents;
mod debian;
mod rpm;
mod tarball;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use tools::error::{Context as _, Error, Result};
use tools::{process, workspace};

use self::contents::PROGRAMS;

/// The version of all that is in the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What packages are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Debian, Ubuntu
    Deb,
    /// Fedora, RHEL, SUSE
    Rpm,
    /// Any distribution with glibc
    Tar,
}

/// Options of `cargo xtask dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What to make [default: all]
    formats: Vec<Format>,

    /// Take the programs in this directory, as they are for tests, and make Debian packages of them quickly: without
    /// what is for debuggers and without compression
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,

    /// Where the packages go [default: target/dist]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// Builds the programs and makes the packages.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let formats = match options.formats.as_slice() {
        [] => &[Format::Deb, Format::Rpm, Format::Tar],
        chosen => chosen,
    };
    if formats.contains(&Format::Rpm) && process::find("rpmbuild").is_none() {
        return Err(Error::new(
            "there is no rpmbuild here. Install it (Debian: apt-get install --no-install-recommends rpm; \
             RPM distributions: dnf install rpm-build), or name the formats to make: cargo xtask dist deb tar",
        ));
    }
    let output = options.output.clone().unwrap_or_else(|| workspace::target().join("dist"));
    fs::create_dir_all(&output).context(|| format!("create {}", output.display()))?;
    let programs = options.programs.clone().map_or_else(build, Ok)?;
    let scratch = tempfile::tempdir_in(&output).context(|| "create a temporary directory".into())?;
    for format in formats {
        let make = match format {
            Format::Deb if options.programs.is_some() => debian::make_quickly,
            Format::Deb => debian::make,
            Format::Rpm => rpm::make,
            Format::Tar => tarball::make,
        };
        for package in make(&programs, scratch.path(), &output)? {
            println!("{}", package.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The directory with the programs, built as they are released.
fn build() -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--locked"]);
    for program in PROGRAMS {
        cargo.args(["--package", program]);
    }
    let status = cargo.status().context(|| "run cargo".into())?;
    if !status.success() {
        return Err(Error::new("cargo could not build the programs (see above)"));
    }
    Ok(workspace::target().join("release"))
}

/// The time that all files in packages bear, in seconds since 1970, so that the same sources give the same packages: that of
/// `SOURCE_DATE_EPOCH`, or of the last commit, or else none in particular.
fn time() -> String {
    let commit = || {
        let git = process::text(Command::new("git").current_dir(workspace::root()).args([
            "log",
            "-1",
            "--format=%ct",
        ]));
        git.ok().map(|time| time.trim().to_owned())
    };
    env::var("SOURCE_DATE_EPOCH").ok().or_else(commit).unwrap_or_else(|| "0".into())
}

/// Writes a file that everybody may read, and makes the directories above it.
fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let writing = || format!("write {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).context(writing)?;
    fs::write(path, content).context(writing)?;
    contents::set_mode(path, 0o644)
}
