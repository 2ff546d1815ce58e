//! `cargo xtask bench`: how fast the daemon is, beside a bare helper and QEMU's own, with a simulated disk.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::c_helper::{self, CHelper};
use crate::error::{Context as _, Error, Result};
use crate::workspace;

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
    match CHelper::find(options.c_helper.as_deref()) {
        Ok(CHelper { program, libraries }) => {
            bench.arg("--c-helper").arg(program);
            if let Some(libraries) = libraries {
                bench.arg("--c-libraries").arg(libraries);
            }
        }
        Err(error) => eprintln!("bench: without {}: {error}", c_helper::NAME),
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
