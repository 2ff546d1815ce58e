//! `cargo xtask bench`: how fast the daemon is, beside a bare helper and QEMU's own, with a simulated disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::error::{Context as _, Error, Result};
use crate::lab::packages::{self, Apt};
use crate::{process, workspace};

/// The C helper, as distributions name it.
const C_HELPER: &str = "qemu-pr-helper";

/// Where it is from, if the host has none: the oldest suite that is supported, so that its programs run with the C
/// library of any other.
const SUITE: &str = "bookworm";
const PACKAGE: &str = "qemu-system-common";

/// What is not unpacked beside it: programs use the C library of the host, whose loader starts them.
const C_LIBRARY: &str = "libc6_";

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Take less than a minute, for numbers that are only about right
    #[arg(long)]
    quick: bool,

    /// Run this scenario only (one-in, one-out, many-in, many-out, slow, hung, memory, start, syscalls, clients); may be
    /// repeated
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,

    /// Keep the processors from sleeping, which makes the figures of one client steadier
    #[arg(long)]
    awake: bool,

    /// QEMU's qemu-pr-helper [default: the host's, or else that of a Debian package]
    #[arg(long, value_name = "PATH")]
    c_helper: Option<PathBuf>,
}

/// Builds what is measured and what measures, and runs it.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // The daemon by itself: built together with others it would have what these ask of the crates they share.
    build(&["--package", "pr-helper"])?;
    build(&["--package", "simulated-disk"])?;
    build(&["--package", "tests", "--bin", "pr-bench", "--bin", "pr-floor"])?;
    let release = workspace::target().join("release");
    let output = workspace::target().join("bench");

    let mut bench = Command::new(release.join("pr-bench"));
    bench.arg("--pr-helper").arg(release.join("pr-helper"));
    bench.arg("--floor").arg(release.join("pr-floor"));
    bench.arg("--disk").arg(release.join("libsimulated_disk.so"));
    bench.arg("--output").arg(&output);
    match c_helper(options, &output.join("c-helper")) {
        Ok(CHelper { program, libraries }) => {
            bench.arg("--c-helper").arg(program);
            if let Some(libraries) = libraries {
                bench.arg("--c-libraries").arg(libraries);
            }
        }
        Err(error) => eprintln!("bench: without {C_HELPER}: {error}"),
    }
    if options.quick {
        bench.args(["--effort", "quick"]);
    }
    if options.awake {
        bench.arg("--awake");
    }
    for scenario in &options.only {
        bench.arg("--only").arg(scenario);
    }
    let status = bench.status().context(|| "run pr-bench".into())?;
    if !status.success() {
        return Err(Error::new("the benchmark stopped (see above)"));
    }
    eprintln!("bench: all numbers, and the plot if there is one, are in {}", output.display());
    Ok(ExitCode::SUCCESS)
}

fn build(what: &[&str]) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--locked"]).args(what);
    let status = cargo.status().context(|| "run cargo build".into())?;
    if status.success() { Ok(()) } else { Err(Error::new("cargo build failed (see above)")) }
}

/// QEMU's helper.
struct CHelper {
    program: PathBuf,
    /// Where its libraries are, if it is not the host's.
    libraries: Option<PathBuf>,
}

/// Finds the C helper, or downloads it once.
fn c_helper(options: &Options, directory: &Path) -> Result<CHelper> {
    if let Some(program) = options.c_helper.clone().or_else(|| process::find(C_HELPER)) {
        return Ok(CHelper { program, libraries: None });
    }
    let root = directory.join("root");
    let program = root.join("usr/bin").join(C_HELPER);
    if !program.exists() {
        download(directory, &root)?;
    }
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    process::output(Command::new(&program).arg("--version").env("LD_LIBRARY_PATH", &libraries))?;
    Ok(CHelper { program, libraries: Some(libraries) })
}

/// Unpacks the C helper and its libraries under `root`, in `directory`.
fn download(directory: &Path, root: &Path) -> Result<()> {
    eprintln!("bench: downloading {PACKAGE} of Debian {SUITE}");
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
