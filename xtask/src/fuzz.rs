//! `cargo xtask fuzz`: runs the fuzz targets of tests/fuzz by libFuzzer.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use tools::error::{Context as _, Error, Result};
use tools::process;
use tools::workspace;

/// What cargo-fuzz passes to the compiler: libFuzzer learns which branches an input reaches, and what it is compared with.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];

/// The longest input in bytes. A request is 4 KiB at most in practice; longer inputs make the search slower, not better.
const LENGTH_MAX: u32 = 4096;

/// Options of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,

    /// With `AddressSanitizer`, at half the speed: for the unsafe code of dependencies
    #[arg(long)]
    address_sanitizer: bool,

    /// Do not fuzz, but replace the corpus by the fewest inputs that reach what was found
    #[arg(long)]
    minimise: bool,

    /// The targets to run [default: all]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Builds the targets and runs them one after the other. Stops at the first fault.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let known = targets()?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        return Err(Error::new(format!("there is no target {unknown}: there are {}", known.join(", "))));
    }
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };
    let programs = build(options.address_sanitizer)?;
    for name in chosen {
        if options.minimise {
            minimise(&programs, name)?;
        } else {
            fuzz(&programs, name, options.seconds)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn package() -> PathBuf {
    workspace::root().join("tests/fuzz")
}

/// Returns the names of all targets.
fn targets() -> Result<Vec<String>> {
    let directory = package().join("fuzz_targets");
    let entries = fs::read_dir(&directory).context(|| format!("read {}", directory.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut names: Vec<String> =
        paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Builds all targets, and returns the directory of the programs.
fn build(address_sanitizer: bool) -> Result<PathBuf> {
    let host = host()?;
    let mut flags = COVERAGE.to_vec();
    let mut cargo = workspace::cargo();
    if address_sanitizer {
        flags.push("-Zsanitizer=address");
        cargo.env("RUSTC_BOOTSTRAP", "1");
    }
    // With --target, build scripts and procedural macros are built without these flags.
    cargo.args(["build", "--locked", "--package", "fuzz", "--bins", "--features", "libfuzzer"]);
    cargo.args(["--profile", "fuzz", "--target", &host]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let status = cargo.status().context(|| "run cargo build".into())?;
    if !status.success() {
        return Err(Error::new(
            "the fuzz targets were not built (see above): they need a C++ compiler (g++)",
        ));
    }
    Ok(workspace::target().join(host).join("fuzz"))
}

/// Returns the platform of the compiler, such as x86_64-unknown-linux-gnu.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = process::text(Command::new(rustc).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Error::new("rustc -vV does not tell its host"))
}

/// Runs a target, and prints how far it came. What it finds stays in target/fuzz and is where the next run begins.
fn fuzz(programs: &Path, name: &str, seconds: u32) -> Result<()> {
    let found = directory(&format!("found/{name}"))?;
    let (faults, logs) = (directory("faults")?, directory("logs")?);
    let log = logs.join(name);
    let mut target = Command::new(programs.join(name));
    target.arg(found).arg(package().join("corpus").join(name));
    target.arg(format!("-artifact_prefix={}/{name}-", faults.display()));
    target.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={LENGTH_MAX}"));
    // Five seconds are a thousand times what an input takes.
    target.args(["-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    let file = fs::File::create(&log).context(|| format!("create {}", log.display()))?;
    let status = target.stderr(file).status().context(|| format!("run {name}"))?;
    let text = fs::read(&log).context(|| format!("read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    if status.success() {
        eprintln!("fuzz: {name}: {}", summary(&text).unwrap_or_default());
        return Ok(());
    }
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("{}", lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n"));
    Err(Error::new(format!(
        "{name} found a fault (see above and {}): mend it, and copy its input from {} to tests/fuzz/corpus/{name}",
        log.display(),
        faults.display()
    )))
}

/// Returns the executions and the reached branches from libFuzzer's output.
fn summary(log: &str) -> Option<String> {
    let field = |prefix: &str| {
        log.lines().rev().find_map(|line| line.split_once(prefix)?.1.split_whitespace().next())
    };
    let (executions, reached) = (field("number_of_executed_units:")?, field(" cov: ")?);
    let all = log.split_once("inline 8-bit counters)")?.0.rsplit('(').next()?.trim();
    Some(format!("{executions} executions, {reached} of {all} branches"))
}

/// Returns a directory in target/fuzz, which is created.
fn directory(name: &str) -> Result<PathBuf> {
    let directory = workspace::target().join("fuzz").join(name);
    fs::create_dir_all(&directory).context(|| format!("create {}", directory.display()))?;
    Ok(directory)
}

/// Replaces a target's corpus by a smallest set of the inputs of corpus and runs that reaches all code that they reach.
fn minimise(programs: &Path, name: &str) -> Result<()> {
    let corpus = package().join("corpus").join(name);
    let found = directory(&format!("found/{name}"))?;
    let _ = fs::remove_dir_all(directory("merged")?);
    let merged = directory("merged")?;
    let mut target = Command::new(programs.join(name));
    // Which branches are reached, not how often, so that a few dozen inputs are left.
    target.args(["-set_cover_merge=1", "-use_counters=0"]).arg(&merged).arg(&corpus).arg(found);
    process::output(&mut target)?;
    let replace = || {
        fs::remove_dir_all(&corpus)?;
        fs::create_dir_all(&corpus)?;
        let mut count = 0;
        for entry in fs::read_dir(&merged)? {
            let entry = entry?;
            fs::copy(entry.path(), corpus.join(entry.file_name()))?;
            count += 1;
        }
        Ok::<_, std::io::Error>(count)
    };
    let count = replace().context(|| format!("replace {}", corpus.display()))?;
    eprintln!("fuzz: the corpus of {name} has {count} inputs");
    Ok(())
}
