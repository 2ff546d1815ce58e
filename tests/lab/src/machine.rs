//! QEMU, running the guest: a console to a file, a second one to here.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;
use std::{fmt, fmt::Write as _, fs, thread};

use tools::error::{Context as _, Result};

/// How the guest's processors are made.
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

/// What a machine consists of.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: &'a Path,
    /// The guest's memory; its file system is in it.
    pub(crate) mebibytes: u32,
    pub(crate) processors: u32,
    /// The file that gets what the kernel says; QEMU's own messages go to a file beside it.
    pub(crate) console: &'a Path,
    /// Whether the terminal is the guest's.
    pub(crate) interactive: bool,
}

/// What the guest's second console says next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A line, without its end.
    Line(String),
    /// Nothing until the deadline.
    Late,
    /// Nothing any more: QEMU has ended.
    Ended,
}

/// A machine that runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    child: Child,
    received: Receiver<Vec<u8>>,
    /// Received, and not yet returned.
    pending: Vec<u8>,
    console: PathBuf,
}

impl Machine {
    /// Starts QEMU.
    pub(crate) fn start(parts: &Parts, accelerator: Accelerator) -> Result<Self> {
        let messages = messages(parts.console);
        let stderr = fs::File::create(&messages).context(|| format!("create {}", messages.display()))?;
        // setpriv: QEMU goes when this program does, however that ends.
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
        // An oops ends the run with a report instead of leaving a kernel that cannot be believed any more. A busy host
        // may not let the timer tick in the few milliseconds in which the kernel looks whether it does; and its emulated clocks
        // disagree, which is no reason to change clocks: emulation was seen not to survive that.
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
                // An error is the end, too; the receiver learns of it when the sender is dropped.
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

    /// Waits until `deadline` (or for ever) for the next line.
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

    /// Shows all that comes, as it comes, until QEMU ends: the guest has the terminal.
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

    /// What QEMU and the kernel said last, for a report.
    pub(crate) fn last_words(&self) -> String {
        let mut text = String::new();
        for (speaker, path) in [("QEMU", messages(&self.console)), ("the kernel", self.console.clone())] {
            let bytes = fs::read(&path).unwrap_or_default();
            let said = String::from_utf8_lossy(&bytes);
            let lines = relevant(&said);
            if !lines.is_empty() {
                let _ = writeln!(text, "--- {speaker} said");
                for line in lines {
                    let _ = writeln!(text, "{}", line.trim_end());
                }
            }
        }
        text
    }
}

/// The lines from where the kernel found its own fault, or else the last ones.
fn relevant(said: &str) -> Vec<&str> {
    const FAULTS: [&str; 4] = ["BUG: ", "Oops: ", "general protection fault", "Kernel panic - "];
    const AT_MOST: usize = 30;
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.len().saturating_sub(AT_MOST);
    let fault = lines.iter().position(|line| FAULTS.iter().any(|fault| line.contains(fault)));
    lines.into_iter().skip(fault.unwrap_or(last)).take(AT_MOST).collect()
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where QEMU's own messages go.
fn messages(console: &Path) -> PathBuf {
    console.with_extension("qemu")
}

/// A path inside an option of QEMU, where a comma ends the value unless it is doubled.
fn option_value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_kernel_is_shown_from_its_beginning() {
        let many = "more\n".repeat(100);
        let said = format!("{many}[ 1.0] BUG: unable to handle page fault\n{many}");
        let lines = relevant(&said);
        assert_eq!(lines.first(), Some(&"[ 1.0] BUG: unable to handle page fault"));
        assert_eq!(lines.len(), 30);
    }

    #[test]
    fn without_a_fault_the_end_is_shown() {
        let said = format!("{}the end\n", "more\n".repeat(100));
        assert_eq!(relevant(&said).last(), Some(&"the end"));
        assert_eq!(relevant(&said).len(), 30);
        assert_eq!(relevant("a\nb\n"), ["a", "b"]);
    }
}
