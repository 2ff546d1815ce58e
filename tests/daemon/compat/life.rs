//! How helpers start, run and stop. Each scenario runs with both helpers and describes the outcome in words,
//! which are compared.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
            process::ExitStatusExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::OFlags,
    process::{Pid, Signal},
};
use tempfile::TempDir;
use test_support::{Client, eventually};

use crate::{contestant::DISK, corpus::PROBE};

/// The longest wait for an outcome.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a helper and returns the outcome in words.
pub(crate) type Scenario = fn(&Stage<'_>) -> io::Result<String>;

/// All scenarios, by name. In arguments, `@` stands for the directory in which the helper is started.
pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("help", |stage| stage.starts(&["--help"])),
    ("version", |stage| stage.starts(&["-V"])),
    ("unknown option", |stage| stage.starts(&["--bogus"])),
    ("option without its value", |stage| stage.starts(&["-k"])),
    ("value that an option does not take", |stage| stage.starts(&["--daemon=yes"])),
    ("all options", |stage| {
        stage.starts(&["-k", "@/s", "-f", "@/p", "-u", "root", "-g", "0", "-vq", "-T", "none"])
    }),
    ("long options", |stage| {
        stage.starts(&["--socket=@/s", "--user", "root", "--group=root", "--trace=none", "--quiet"])
    }),
    ("abbreviated options", |stage| stage.starts(&["--so", "@/s", "--us=root", "--tra=none", "--q"])),
    ("repeated options", |stage| stage.starts(&["-k", "@/a", "-k", "@/s", "-vv", "-v"])),
    ("words that are not options", |stage| stage.starts(&["word", "-k", "@/s", "word"])),
    ("relative socket path", |stage| stage.starts(&["-k", "s"])),
    ("no such user", |stage| stage.starts(&["-k", "@/s", "-u", "no-such-user"])),
    ("no such group", |stage| stage.starts(&["-k", "@/s", "-g", "no-such-group"])),
    ("no such directory for the socket", |stage| stage.starts(&["-k", "@/nowhere/s"])),
    ("no such directory for the pidfile", |stage| stage.starts(&["-k", "@/s", "-f", "@/nowhere/p"])),
    ("trace option that there is not", |stage| stage.starts(&["-k", "@/s", "-T", "bogus=yes"])),
    ("trace events of no file", |stage| stage.starts(&["-k", "@/s", "-T", "events=@/nowhere"])),
    ("SIGTERM", |stage| stage.signalled(Signal::TERM)),
    ("SIGINT", |stage| stage.signalled(Signal::INT)),
    ("SIGHUP", |stage| stage.signalled(Signal::HUP)),
    ("SIGPIPE", |stage| stage.signalled(Signal::PIPE)),
    ("pidfile", pidfile),
    ("second on the same pidfile", |stage| stage.second(&["-k", "@/other", "-f", "@/p"])),
    ("second on the same socket", |stage| stage.second(&["-k", "@/s"])),
    ("file at the socket's path", file_in_place),
    ("background", |stage| background(stage, "@/p")),
    ("background that fails", |stage| background(stage, "@/nowhere/p")),
    ("privileges", |stage| privileges(stage, &[])),
    ("privileges of a user", |stage| privileges(stage, &["-u", "nobody", "-g", "nogroup"])),
    ("command in flight at the end", in_flight),
    ("flags of the client's descriptor", flags),
    ("activation", |stage| activation(stage, 1, &[])),
    ("activation with two sockets", |stage| activation(stage, 2, &[])),
    ("activation and a socket path", |stage| activation(stage, 1, &["-k", "@/s"])),
];

/// Permitted differences: scenario, pr-helper's outcome, the C helper's outcome. The reasons are in
/// docs/compatibility.md.
pub(crate) const DIFFERENCES: [(&str, &str, &str); 10] = [
    ("all options", "serves, exit 0, leaves nothing", "serves, exit 0, leaves p"),
    ("relative socket path", "serves, exit 0, leaves nothing", "exit 1, leaves nothing"),
    ("no such directory for the pidfile", "exit 1, leaves nothing", "exit 1, leaves s"),
    (
        "pidfile",
        "its own pid: true, mode 600, locked: true; exit 0, leaves nothing",
        "its own pid: true, mode 600, locked: true; exit 0, leaves p",
    ),
    (
        "second on the same pidfile",
        "the second exit 1; the first serves; leaves p, s; exit 0",
        "the second exit 1; the first serves; leaves other, p, s; exit 0",
    ),
    (
        "second on the same socket",
        "the second exit 1; the first serves; leaves p, s; exit 0",
        "the second runs, exit 0; the first cannot be reached; leaves p; exit 0",
    ),
    ("file at the socket's path", "exit 1; the file is kept: true", "serves; the file is kept: false"),
    (
        "background",
        "the starter: exit 0; in /, stderr /dev/null, its own session: true; leaves nothing",
        "the starter: exit 0; in /, stderr /dev/null, its own session: true; leaves p",
    ),
    (
        "background that fails",
        "the starter: exit 1; no daemon; leaves nothing",
        "the starter: exit 0; no daemon; leaves s",
    ),
    ("flags of the client's descriptor", "O_NONBLOCK is kept: true", "O_NONBLOCK is kept: false"),
];

/// The command that starts a helper, and a temporary directory for its files.
pub(crate) struct Stage<'a> {
    command: &'a dyn Fn() -> Command,
    directory: TempDir,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(command: &'a dyn Fn() -> Command) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        // A helper that runs as another user must be able to use it, too.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
        Ok(Self { command, directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = (self.command)();
        let directory = self.directory.path().display().to_string();
        command.args(arguments.iter().map(|argument| argument.replace('@', &directory)));
        command.current_dir(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts the helper and waits until it serves on the socket `s` or has exited.
    fn start(&self, arguments: &[&str]) -> io::Result<(Running, String)> {
        let mut running = Running(self.command(arguments).spawn()?);
        let start_outcome = running.start_outcome(&self.path("s"))?;
        Ok((running, start_outcome))
    }

    /// Returns the names of the files in the directory.
    fn left(&self) -> io::Result<String> {
        let entries = fs::read_dir(self.directory.path())?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(if names.is_empty() { "leaves nothing".into() } else { format!("leaves {}", names.join(", ")) })
    }

    /// Starts the helper with these arguments, stops it, and returns the outcome.
    fn starts(&self, arguments: &[&str]) -> io::Result<String> {
        let (mut running, start_outcome) = self.start(arguments)?;
        let end = running.end(Signal::TERM)?;
        Ok(format!("{}, {}", join_outcomes(&start_outcome, &end), self.left()?))
    }

    /// Starts the helper, sends it a signal, and returns the outcome.
    fn signalled(&self, signal: Signal) -> io::Result<String> {
        let (mut running, _) = self.start(&["-k", "@/s"])?;
        let end = running.end(signal)?;
        Ok(format!("{end}, {}", self.left()?))
    }

    /// Starts a helper and then another with `arguments`, and returns the outcome for both.
    fn second(&self, arguments: &[&str]) -> io::Result<String> {
        let (mut first, _) = self.start(&["-k", "@/s", "-f", "@/p"])?;
        let mut second = Running(self.command(arguments).spawn()?);
        let start_outcome = second.start_outcome(&self.path("other"))?;
        let ended = second.end(Signal::TERM)?;
        let serves = if greets(&self.path("s")) { "serves" } else { "cannot be reached" };
        let second = join_outcomes(&start_outcome, &ended);
        Ok(format!("the second {second}; the first {serves}; {}; {}", self.left()?, first.end(Signal::TERM)?))
    }
}

/// A running helper. It is killed on drop.
struct Running(Child);

impl Running {
    /// Waits until the helper serves or exits, but not longer than five seconds.
    fn start_outcome(&mut self, socket: &Path) -> io::Result<String> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            if let Some(status) = self.0.try_wait()? {
                return Ok(shown(status));
            }
            if greets(socket) {
                return Ok("serves".into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok("runs".into())
    }

    /// Sends the helper a signal and returns its exit in words, or "goes on".
    fn end(&mut self, signal: Signal) -> io::Result<String> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(shown(status));
        }
        rustix::process::kill_process(Pid::from_child(&self.0), signal)?;
        let timeout = if signal == Signal::PIPE { Duration::from_millis(300) } else { TIMEOUT };
        let begun = Instant::now();
        while begun.elapsed() < timeout {
            if let Some(status) = self.0.try_wait()? {
                return Ok(shown(status));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok("goes on".into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn shown(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Joins the outcomes of start and stop. They are the same if the helper exited during its start.
fn join_outcomes(start_outcome: &str, end: &str) -> String {
    if start_outcome == end { start_outcome.to_owned() } else { format!("{start_outcome}, {end}") }
}

/// Returns whether a helper greets on this socket within a second.
fn greets(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let timed = stream.set_read_timeout(Some(Duration::from_secs(1)));
    timed.is_ok() && stream.read_exact(&mut [0; 4]).is_ok()
}

fn pidfile(stage: &Stage<'_>) -> io::Result<String> {
    let (mut running, _) = stage.start(&["-k", "@/s", "-f", "@/p"])?;
    let path = stage.path("p");
    let content = fs::read_to_string(&path)?;
    let own = content == format!("{}\n", running.0.id());
    let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
    let file = File::options().write(true).open(&path)?;
    let locked = rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err();
    drop(file);
    let end = running.end(Signal::TERM)?;
    Ok(format!("its own pid: {own}, mode {mode:o}, locked: {locked}; {end}, {}", stage.left()?))
}

fn file_in_place(stage: &Stage<'_>) -> io::Result<String> {
    fs::write(stage.path("s"), "precious")?;
    let (mut running, start_outcome) = stage.start(&["-k", "@/s"])?;
    running.end(Signal::TERM)?;
    let kept = fs::read_to_string(stage.path("s")).is_ok_and(|text| text == "precious");
    Ok(format!("{start_outcome}; the file is kept: {kept}"))
}

/// Starts a helper in the background and returns the outcome for the starter and the daemon.
fn background(stage: &Stage<'_>, pidfile: &str) -> io::Result<String> {
    let starter = stage.command(&["-d", "-k", "@/s", "-f", pidfile]).status()?;
    let starter_outcome = format!("the starter: {}", shown(starter));
    let path = stage.path("p");
    // Any other path is not writable, so there is nothing to wait for.
    let timeout = if pidfile == "@/p" { TIMEOUT } else { Duration::ZERO };
    let begun = Instant::now();
    let pid = loop {
        let pid =
            fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
        if pid.is_some() || begun.elapsed() > timeout {
            break pid;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let Some(pid) = pid else { return Ok(format!("{starter_outcome}; no daemon; {}", stage.left()?)) };
    // The C helper loses a signal that arrives earlier.
    eventually("the helper serves", || greets(&stage.path("s")));
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let directory = fs::read_link(format!("{process}/cwd"))?;
    let output = fs::read_link(format!("{process}/fd/2"))?;
    let leader = rustix::process::getsid(Some(pid))? == pid;
    rustix::process::kill_process(pid, Signal::TERM)?;
    eventually("the helper exits", || {
        fs::read_to_string(format!("{process}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
    let place = format!("in {}, stderr {}, its own session: {leader}", directory.display(), output.display());
    Ok(format!("{starter_outcome}; {place}; {}", stage.left()?))
}

fn privileges(stage: &Stage<'_>, arguments: &[&str]) -> io::Result<String> {
    let (running, _) = stage.start(&[&["-k", "@/s"], arguments].concat())?;
    let status = fs::read_to_string(format!("/proc/{}/status", running.0.id()))?;
    let fields = ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    let lines =
        status.lines().filter(|line| fields.iter().any(|field| line.starts_with(&format!("{field}:"))));
    Ok(lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", "))
}

/// Stops the helper while a slow disk executes a command.
fn in_flight(stage: &Stage<'_>) -> io::Result<String> {
    let mut command = stage.command(&["-k", "@/s"]);
    let mut running = Running(command.env("SIMULATED_DISK_DELAY", "500000").spawn()?);
    running.start_outcome(&stage.path("s"))?;
    let disk = File::options().read(true).write(true).open(DISK)?;
    let mut client = Client::connect(&stage.path("s"))?;
    let mut idle = Client::connect(&stage.path("s"))?;
    client.expect_reply_to(&PROBE[..10], &[]);
    client.send(&PROBE, &[disk.as_fd()])?;
    thread::sleep(Duration::from_millis(100));
    rustix::process::kill_process(Pid::from_child(&running.0), Signal::TERM)?;
    thread::sleep(Duration::from_millis(100));
    let new = if greets(&stage.path("s")) { "is served" } else { "is not" };
    let answered = client.reply().map_or_else(|error| error.to_string(), |reply| reply.status.to_string());
    let closed = idle.is_closed();
    let end = running.end(Signal::TERM)?;
    Ok(format!("answered {answered}, a new client {new}, an idle one is closed: {closed}, {end}"))
}

fn flags(stage: &Stage<'_>) -> io::Result<String> {
    let (_running, _) = stage.start(&["-k", "@/s"])?;
    let disk: OwnedFd = File::options().read(true).write(true).open(DISK)?.into();
    rustix::fs::fcntl_setfl(&disk, OFlags::NONBLOCK)?;
    Client::connect(&stage.path("s"))?.read(&disk, &PROBE[..10])?;
    let kept = rustix::fs::fcntl_getfl(&disk)?.contains(OFlags::NONBLOCK);
    Ok(format!("O_NONBLOCK is kept: {kept}"))
}

/// Passes `count` copies of a listening socket in the way of systemd.
fn activation(stage: &Stage<'_>, count: u32, arguments: &[&str]) -> io::Result<String> {
    let listener = UnixListener::bind(stage.path("s"))?;
    let helper = stage.command(arguments);
    let script = "exec 3<&0 4<&0 </dev/null; export LISTEN_PID=$$; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(helper.get_program()).args(helper.get_args());
    for (name, value) in helper.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("LISTEN_FDS", count.to_string()).stdin(OwnedFd::from(listener)).stderr(Stdio::null());
    let mut running = Running(command.spawn()?);
    // The command still holds a copy of the socket.
    drop(command);
    let start_outcome = running.start_outcome(&stage.path("s"))?;
    let end = running.end(Signal::TERM)?;
    Ok(format!("{}, {}", join_outcomes(&start_outcome, &end), stage.left()?))
}
