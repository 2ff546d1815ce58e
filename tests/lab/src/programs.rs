//! The archive that a run adds to the image: programs of this workspace, and the guest's task.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tools::error::{Context as _, Error, Result};
use tools::{process, workspace};

use crate::cpio::Archive;
use crate::flavour::Flavour;

/// The guest's first process.
const INIT: &str = include_str!("init.sh");

/// Programs of the workspace for each guest. Each name is that of a package and its program.
const PROGRAMS: [&str; 2] = ["pr-ctl", "pr-helper"];

/// The guest's task once its devices exist.
#[derive(Debug)]
pub(crate) enum Task<'a> {
    /// Run the tests of `program` that libtest selects by `arguments`, each for at most `seconds`.
    Tests { program: &'static str, arguments: &'a [String], seconds: u64 },
    /// Run a shell on the terminal.
    Shell,
}

/// Returns the archive of one run. With `keep`, a shell starts after the task.
pub(crate) fn archive(flavour: &Flavour, task: &Task, keep: bool) -> Result<Archive> {
    let mut archive = Archive::default();
    let programs = build(flavour.tests)?;
    add_packages(&programs, &mut archive)?;
    for (name, file) in programs {
        archive.file(&format!("lab/bin/{name}"), 0o755, &file);
    }
    archive.bytes("init", 0o755, INIT);
    let mut arguments = String::new();
    let mut settings = match task {
        Task::Tests { program, arguments: given, seconds } => {
            for argument in *given {
                let _ = writeln!(arguments, "{argument}");
            }
            format!("task=tests\nprogram={program}\nseconds={seconds}\n")
        }
        Task::Shell => "task=shell\n".to_owned(),
    };
    let _ = writeln!(settings, "keep={}", if keep { "yes" } else { "no" });
    archive.bytes("lab/settings", 0o644, settings);
    archive.bytes("lab/arguments", 0o644, arguments);
    Ok(archive)
}

/// Adds the project's own Debian packages, built from these programs, for tests that install them.
fn add_packages(programs: &[(&str, PathBuf)], archive: &mut Archive) -> Result<()> {
    let directory = programs
        .iter()
        .find_map(|(name, file)| PROGRAMS.contains(name).then(|| file.parent()).flatten())
        .ok_or_else(|| Error::new("no program for the Debian packages was built"))?;
    let output = tempfile::tempdir().context(|| "create a temporary directory".into())?;
    let mut dist = workspace::cargo();
    dist.args(["xtask", "dist", "deb", "--programs"]).arg(directory).arg("--output").arg(output.path());
    for package in process::text(&mut dist)?.lines().map(Path::new) {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split('_').next().unwrap_or_default();
        let bytes = fs::read(package).context(|| format!("read {}", package.display()))?;
        archive.bytes(&format!("lab/packages/{name}.deb"), 0o644, bytes);
    }
    Ok(())
}

/// Builds the programs and the test suite; returns their names and files.
fn build(suite: &'static str) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut command = workspace::cargo();
    command.args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    for program in PROGRAMS {
        command.args(["--package", program, "--bin", program]);
    }
    command.args(["--package", env!("CARGO_PKG_NAME"), "--test", suite]);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context(|| "run cargo to build the guest's programs".into())?;
    if !output.status.success() {
        return Err(Error::new("cargo could not build the guest's programs (see above)"));
    }
    let messages = String::from_utf8(output.stdout).context(|| "read cargo's messages".into())?;
    let built: Vec<(String, PathBuf)> = messages.lines().filter_map(executable).collect();
    PROGRAMS
        .into_iter()
        .chain([suite])
        .map(|name| {
            let (_, file) = built.iter().find(|(built, _)| built == name).ok_or_else(|| {
                Error::new(format!("cargo did not say where it put the program {name}; is it a target?"))
            })?;
            Ok((name, file.clone()))
        })
        .collect()
}

/// Returns name and file of a program from one of cargo's messages; `None` for other messages.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    let file = message.get("executable")?.as_str()?;
    Some((name.to_owned(), PathBuf::from(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_comes_from_cargos_message() {
        let message = r#"{"reason":"compiler-artifact","target":{"name":"devices","kind":["test"]},
            "executable":"/t/debug/deps/devices-0123456789abcdef","fresh":true}"#;
        let file = PathBuf::from("/t/debug/deps/devices-0123456789abcdef");
        assert_eq!(executable(message), Some(("devices".to_owned(), file)));
        for other in
            [r#"{"target":{"name":"fixtures"},"executable":null}"#, r#"{"reason":"build-finished"}"#, ""]
        {
            assert_eq!(executable(other), None, "{other}");
        }
    }
}
