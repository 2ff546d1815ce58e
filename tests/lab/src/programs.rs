//! What a run puts into the guest beside the image: programs of this workspace, and what to do with them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::cpio::Archive;
use crate::error::{Context as _, Error, Result};
use crate::{dist, workspace};

/// The guest's first process.
const INIT: &str = include_str!("init.sh");

/// A program to be built from the workspace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// `[[bin]]`: package, name.
    Bin(&'static str, &'static str),
    /// `[[test]]`: package, name.
    Test(&'static str, &'static str),
}

impl Target {
    fn package(self) -> &'static str {
        match self {
            Self::Bin(package, _) | Self::Test(package, _) => package,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bin(_, name) | Self::Test(_, name) => name,
        }
    }

    /// The option that selects it.
    fn option(self) -> &'static str {
        match self {
            Self::Bin(..) => "--bin",
            Self::Test(..) => "--test",
        }
    }
}

/// What the guest is to do once its devices are there.
#[derive(Debug)]
pub(crate) enum Task<'a> {
    /// Run the tests of this program, each for at most so many seconds, chosen by these arguments of libtest.
    Tests { program: &'static str, arguments: &'a [String], seconds: u64 },
    /// Only wait for somebody to type.
    Shell,
}

/// The archive of one run. `keep` asks for a shell at the end.
pub(crate) fn archive(targets: &[Target], task: &Task, keep: bool) -> Result<Archive> {
    let mut archive = Archive::default();
    let programs = build(targets)?;
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

/// Adds our own Debian packages, made of these programs, for tests to install.
fn add_packages(programs: &[(&'static str, PathBuf)], archive: &mut Archive) -> Result<()> {
    let directory = programs
        .iter()
        .find_map(|(name, file)| dist::PROGRAMS.contains(name).then(|| file.parent()).flatten())
        .ok_or_else(|| Error::new("packages are made of programs that the guest does not get"))?;
    let scratch = tempfile::tempdir().context(|| "create a temporary directory".into())?;
    for package in dist::debian::make_quickly(directory, scratch.path(), scratch.path())? {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split('_').next().unwrap_or_default();
        let bytes = fs::read(&package).context(|| format!("read {}", package.display()))?;
        archive.bytes(&format!("lab/packages/{name}.deb"), 0o644, bytes);
    }
    Ok(())
}

/// Builds the programs; returns each one's name and file.
fn build(targets: &[Target]) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut command = workspace::cargo();
    command.args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    for target in targets {
        command.args(["--package", target.package(), target.option(), target.name()]);
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context(|| "run cargo to build the guest's programs".into())?;
    if !output.status.success() {
        return Err(Error::new("cargo could not build the guest's programs (see above)"));
    }
    let messages = String::from_utf8(output.stdout).context(|| "read cargo's messages".into())?;
    let files: Vec<PathBuf> = messages.lines().filter_map(executable).collect();
    targets
        .iter()
        .map(|target| {
            let name = target.name();
            let file = files.iter().find(|file| is_named(file, name)).ok_or_else(|| {
                Error::new(format!("cargo did not say where it put the program {name}; is it a target?"))
            })?;
            Ok((name, file.clone()))
        })
        .collect()
}

/// The file of a program that cargo built, from one of cargo's messages. They are JSON, but for this one field a
/// parser would be much to depend on; cargo writes no space after a colon, and a path with something to escape
/// is not found (and reported as such).
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    let (path, _) = rest.split_once('"')?;
    (!path.contains('\\')).then(|| PathBuf::from(path))
}

/// Whether `file` is the program `name`: cargo puts a hash after the name of a test.
fn is_named(file: &Path, name: &str) -> bool {
    let Some(file) = file.file_name().and_then(|file| file.to_str()) else { return false };
    let rest = file.strip_prefix(name);
    rest.is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|hash| hash.chars().all(|c| c.is_ascii_hexdigit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_taken_from_cargos_message() {
        let message = r#"{"reason":"compiler-artifact","executable":"/t/debug/deps/lab-0123456789abcdef","fresh":true}"#;
        let file = executable(message).unwrap();
        assert!(is_named(&file, "lab"));
        assert!(!is_named(&file, "la"));
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
    }

    #[test]
    fn a_program_is_not_taken_for_another_that_begins_alike() {
        assert!(is_named(Path::new("/t/debug/pr-helper"), "pr-helper"));
        assert!(!is_named(Path::new("/t/debug/pr-helper"), "pr"));
        assert!(!is_named(Path::new("/t/debug/lab-session"), "lab"));
    }
}
