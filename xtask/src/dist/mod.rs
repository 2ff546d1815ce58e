//! `cargo xtask dist`: builds packages for Debian and RPM distributions and a tar archive, all with the same
//! files.
//!
//! The distributions' own programs (dpkg-deb, rpmbuild) build the packages from a tree of the installed
//! files. So the list of files exists once, in `contents.rs`, and nothing has to be downloaded.

mod contents;
mod debian;
mod release;
mod rpm;
mod tarball;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use tools::error::{Context as _, Error, Result};
use tools::{process, workspace};

use self::contents::PROGRAMS;

/// A format of packages.
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
    /// The formats to build [default: all]
    formats: Vec<Format>,

    /// Package the programs in this directory instead of a release build, for tests; Debian packages are then
    /// built quickly, without debugging information and without compression
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,

    /// The directory for the packages [default: target/dist]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// Builds the programs and the packages.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let formats = match options.formats.as_slice() {
        [] => &[Format::Deb, Format::Rpm, Format::Tar],
        chosen => chosen,
    };
    if formats.contains(&Format::Rpm) && process::find("rpmbuild").is_none() {
        return Err(Error::new(
            "rpmbuild is missing. Install it (Debian: apt-get install --no-install-recommends rpm; \
             RPM distributions: dnf install rpm-build), or choose other formats: cargo xtask dist deb tar",
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

/// Builds the programs for release and returns their directory.
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
