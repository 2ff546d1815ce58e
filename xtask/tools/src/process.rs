//! Running other programs.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fmt::Write as _};

use crate::error::{Context, Error, Result};

/// Runs `command` to its end and returns what it wrote to stdout. When it fails, the error holds the command
/// and the end of its stderr: nobody has to run it again to see why.
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

/// The same for a program whose output is text.
pub fn text(command: &mut Command) -> Result<String> {
    let bytes = output(command)?;
    String::from_utf8(bytes).context(|| format!("read the output of {}", shown(command)))
}

/// Where `program` stands in the search path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// The command as one would type it (without quoting).
fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
