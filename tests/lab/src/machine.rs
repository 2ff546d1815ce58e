//! Runs the guest in QEMU, with one console to a file and a second one to this program.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;
use std::{fmt, fmt::Write as _, fs, thread};

use tools::error::{Context as _, Result};

/// The implementation of the guest's processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// The host's processors.
    Kvm,
    /// Emulation.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "emulation",
        })
    }
}

/// The parts of a machine.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: &'a Path,
    /// Size of the guest's memory, which also contains its file system.
    pub(crate) mebibytes: u32,
    pub(crate) processors: u32,
    /// The file for the kernel's messages. QEMU's own messages go to a file in the same directory.
    pub(crate) console: &'a Path,
    /// Whether the guest's second console is the terminal.
    pub(crate) interactive: bool,
}

/// Result of reading the guest's second console.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A line, without its line end.
    Line(String),
    /// The deadline has passed.
    Late,
    /// QEMU has exited.
    Ended,
}

/// A running machine. Stopped when dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    child: Child,
    received: Receiver<Vec<u8>>,
    /// Bytes that were received and not yet returned.
    pending: Vec<u8>,
    console: PathBuf,
}

impl Machine {
    /// Starts QEMU.
    pub(crate) fn start(parts: &Parts, accelerator: Accelerator) -> Result<Self> {
        let messages = messages(parts.console);
        let stderr = fs::File::create(&messages).context(|| format!("create {}", messages.display()))?;
        // setpriv: QEMU is killed when this program exits, for whatever reason.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]);
        command.args(["-machine", "pc"]);
        command.args(["-smp", &parts.processors.to_string(), "-m", &parts.mebibytes.to_string()]);
        match accelerator {
            Accelerator::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
            Accelerator::Tcg => command.args(["-accel", "tcg,thread=multi", "-cpu", "max"]),
        };
        command.arg("-kernel").arg(parts.kernel).arg("-initrd").arg(parts.initrd);
        // oops=panic: an oops ends the run with a report, as the kernel is not reliable afterwards. no_timer_check: on a busy
        // host the timer may not tick in the few milliseconds in which the kernel checks it. tsc=reliable: the emulated clocks
        // disagree, and the emulation was seen to crash when the kernel switched to another clock for that reason.
        let parameters = "console=ttyS0 panic=-1 oops=panic mitigations=off no_timer_check tsc=reliable";
        command.args(["-append", parameters]);
        command.arg("-chardev").arg(format!("file,id=console,path={}", option_value(parts.console)));
        let signals = if parts.interactive { "off" } else { "on" };
        command.arg("-chardev").arg(format!("stdio,id=lab,signal={signals}"));
        command.args(["-serial", "chardev:console", "-serial", "chardev:lab"]);
        command.stdin(if parts.interactive { Stdio::inherit() } else { Stdio::null() });
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .context(|| "start qemu-system-x86_64".into())?;
        let (sender, received) = mpsc::channel();
        if let Some(mut stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                // An error also ends the loop. The receiver detects the end when the sender is dropped.
                while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                    let Some(bytes) = bytes.get(..count) else { break };
                    if sender.send(bytes.to_vec()).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { child, received, pending: Vec::new(), console: parts.console.to_owned() })
    }

    /// Blocks until the next line arrives or `deadline` passes. Without a deadline, blocks indefinitely.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> Output {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                return Output::Line(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            let received = match deadline {
                Some(deadline) => {
                    self.received.recv_timeout(deadline.saturating_duration_since(Instant::now()))
                }
                None => self.received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(bytes) => self.pending.extend(bytes),
                Err(RecvTimeoutError::Timeout) => return Output::Late,
                Err(RecvTimeoutError::Disconnected) => return Output::Ended,
            }
        }
    }

    /// Copies the guest's output to the terminal until QEMU exits.
    pub(crate) fn show(&mut self) -> Result<()> {
        let mut stdout = io::stdout();
        let mut bytes = std::mem::take(&mut self.pending);
        loop {
            stdout.write_all(&bytes).and_then(|()| stdout.flush()).context(|| "write to stdout".into())?;
            match self.received.recv() {
                Ok(more) => bytes = more,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Returns the last messages of QEMU and the kernel, for a report.
    pub(crate) fn last_messages(&self) -> String {
        let mut text = String::new();
        for (source, path) in [("QEMU", messages(&self.console)), ("the kernel", self.console.clone())] {
            let bytes = fs::read(&path).unwrap_or_default();
            let messages = String::from_utf8_lossy(&bytes);
            let lines = relevant(&messages);
            if !lines.is_empty() {
                let _ = writeln!(text, "--- messages of {source}");
                for line in lines {
                    let _ = writeln!(text, "{}", line.trim_end());
                }
            }
        }
        text
    }
}

/// Returns the lines from the kernel's first fault on, or the last lines if there is none; at most 30.
fn relevant(messages: &str) -> Vec<&str> {
    const FAULTS: [&str; 4] = ["BUG: ", "Oops: ", "general protection fault", "Kernel panic - "];
    const LINES_MAX: usize = 30;
    let lines: Vec<&str> = messages.lines().collect();
    let last = lines.len().saturating_sub(LINES_MAX);
    let fault = lines.iter().position(|line| FAULTS.iter().any(|fault| line.contains(fault)));
    lines.into_iter().skip(fault.unwrap_or(last)).take(LINES_MAX).collect()
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the path of the file for QEMU's own messages.
fn messages(console: &Path) -> PathBuf {
    console.with_extension("qemu")
}

/// Returns a path as a value in an option of QEMU, in which a comma must be doubled.
fn option_value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_fault_is_shown_from_its_start() {
        let many = "more\n".repeat(100);
        let messages = format!("{many}[ 1.0] BUG: unable to handle page fault\n{many}");
        let lines = relevant(&messages);
        assert_eq!(lines.first(), Some(&"[ 1.0] BUG: unable to handle page fault"));
        assert_eq!(lines.len(), 30);
    }

    #[test]
    fn end_is_shown_without_fault() {
        let messages = format!("{}the end\n", "more\n".repeat(100));
        assert_eq!(relevant(&messages).last(), Some(&"the end"));
        assert_eq!(relevant(&messages).len(), 30);
        assert_eq!(relevant("a\nb\n"), ["a", "b"]);
    }
}
