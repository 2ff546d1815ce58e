//! Running other programs.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fmt::Write as _};

use crate::error::{Context, Error, Result};

/// Runs `command`, waits for it and returns its standard output. If it fails, the error has the command and
/// the last lines of its standard error, so that the cause is visible without another run.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().context(|| format!("run {}", shown(command)))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut message = format!("{} ended with {}", shown(command), output.status);
    for line in lines.iter().skip(lines.len().saturating_sub(12)) {
        let _ = write!(message, "\n  {line}");
    }
    Err(Error::new(message))
}

/// Like [`output`], for a program whose output is text.
pub fn text(command: &mut Command) -> Result<String> {
    let bytes = output(command)?;
    String::from_utf8(bytes).context(|| format!("read the output of {}", shown(command)))
}

/// Returns the path of `program` in the search path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Returns the command line for error messages, without quoting.
fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
