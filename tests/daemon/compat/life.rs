//! How helpers start, live and end: the same is done with both, and what comes of it is put into words and compared.

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

/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_secs(10);

/// Does something with a helper, and says what came of it.
pub(crate) type Scenario = fn(&Stage<'_>) -> io::Result<String>;

/// All of them, by name. `@` in arguments is a directory, which the helper is started in.
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

/// Where our answer is another than the C helper's: scenario, ours, theirs. The reasons are in docs/compatibility.md.
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
        "the starter: exit 1; nobody runs; leaves nothing",
        "the starter: exit 0; nobody runs; leaves s",
    ),
    ("flags of the client's descriptor", "O_NONBLOCK is kept: true", "O_NONBLOCK is kept: false"),
];

/// A helper and a directory for it.
pub(crate) struct Stage<'a> {
    command: &'a dyn Fn() -> Command,
    directory: TempDir,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(command: &'a dyn Fn() -> Command) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        // A helper that has become another user is to find it, too.
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

    /// Starts it, and waits until it serves on the socket `s`, or has ended.
    fn start(&self, arguments: &[&str]) -> io::Result<(Running, String)> {
        let mut running = Running(self.command(arguments).spawn()?);
        let fate = running.fate(&self.path("s"))?;
        Ok((running, fate))
    }

    /// What there is in the directory.
    fn left(&self) -> io::Result<String> {
        let entries = fs::read_dir(self.directory.path())?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(if names.is_empty() { "leaves nothing".into() } else { format!("leaves {}", names.join(", ")) })
    }

    /// What comes of these arguments.
    fn starts(&self, arguments: &[&str]) -> io::Result<String> {
        let (mut running, fate) = self.start(arguments)?;
        let end = running.end(Signal::TERM)?;
        Ok(format!("{}, {}", together(&fate, &end), self.left()?))
    }

    fn signalled(&self, signal: Signal) -> io::Result<String> {
        let (mut running, _) = self.start(&["-k", "@/s"])?;
        let end = running.end(signal)?;
        Ok(format!("{end}, {}", self.left()?))
    }

    /// Starts a helper, and beside it another with `arguments`.
    fn second(&self, arguments: &[&str]) -> io::Result<String> {
        let (mut first, _) = self.start(&["-k", "@/s", "-f", "@/p"])?;
        let mut second = Running(self.command(arguments).spawn()?);
        let fate = second.fate(&self.path("other"))?;
        let ended = second.end(Signal::TERM)?;
        let serves = if greets(&self.path("s")) { "serves" } else { "cannot be reached" };
        let second = together(&fate, &ended);
        Ok(format!("the second {second}; the first {serves}; {}; {}", self.left()?, first.end(Signal::TERM)?))
    }
}

/// A process. Dropped, it is killed.
struct Running(Child);

impl Running {
    /// Waits until it serves, or has ended, or has done neither for a while.
    fn fate(&mut self, socket: &Path) -> io::Result<String> {
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

    /// Sends it a signal and says what comes of it.
    fn end(&mut self, signal: Signal) -> io::Result<String> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(shown(status));
        }
        rustix::process::kill_process(Pid::from_child(&self.0), signal)?;
        let patience = if signal == Signal::PIPE { Duration::from_millis(300) } else { LIMIT };
        let begun = Instant::now();
        while begun.elapsed() < patience {
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

/// A life in words: what has ended has nothing to add.
fn together(fate: &str, end: &str) -> String {
    if fate == end { fate.to_owned() } else { format!("{fate}, {end}") }
}

/// Whether a helper greets on this socket, before long.
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
    let (mut running, fate) = stage.start(&["-k", "@/s"])?;
    running.end(Signal::TERM)?;
    let kept = fs::read_to_string(stage.path("s")).is_ok_and(|text| text == "precious");
    Ok(format!("{fate}; the file is kept: {kept}"))
}

/// In the background its starter tells what came of it.
fn background(stage: &Stage<'_>, pidfile: &str) -> io::Result<String> {
    let starter = stage.command(&["-d", "-k", "@/s", "-f", pidfile]).status()?;
    let told = format!("the starter: {}", shown(starter));
    let path = stage.path("p");
    // Where it cannot be written there is nothing to wait for.
    let patience = if pidfile == "@/p" { LIMIT } else { Duration::ZERO };
    let begun = Instant::now();
    let pid = loop {
        let pid =
            fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
        if pid.is_some() || begun.elapsed() > patience {
            break pid;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let Some(pid) = pid else { return Ok(format!("{told}; nobody runs; {}", stage.left()?)) };
    // A signal that comes earlier is lost on the C helper.
    eventually("it serves", || greets(&stage.path("s")));
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let directory = fs::read_link(format!("{process}/cwd"))?;
    let output = fs::read_link(format!("{process}/fd/2"))?;
    let leader = rustix::process::getsid(Some(pid))? == pid;
    rustix::process::kill_process(pid, Signal::TERM)?;
    eventually("it ends", || {
        fs::read_to_string(format!("{process}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
    let place = format!("in {}, stderr {}, its own session: {leader}", directory.display(), output.display());
    Ok(format!("{told}; {place}; {}", stage.left()?))
}

fn privileges(stage: &Stage<'_>, arguments: &[&str]) -> io::Result<String> {
    let (running, _) = stage.start(&[&["-k", "@/s"], arguments].concat())?;
    let status = fs::read_to_string(format!("/proc/{}/status", running.0.id()))?;
    let fields = ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    let lines =
        status.lines().filter(|line| fields.iter().any(|field| line.starts_with(&format!("{field}:"))));
    Ok(lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", "))
}

/// The disk takes its time, and the helper is told to end meanwhile.
fn in_flight(stage: &Stage<'_>) -> io::Result<String> {
    let mut command = stage.command(&["-k", "@/s"]);
    let mut running = Running(command.env("SIMULATED_DISK_DELAY", "500000").spawn()?);
    running.fate(&stage.path("s"))?;
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

/// Passes a listening socket as systemd does, `count` times.
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
    // It holds the socket, too.
    drop(command);
    let fate = running.fate(&stage.path("s"))?;
    let end = running.end(Signal::TERM)?;
    Ok(format!("{}, {}", together(&fate, &end), stage.left()?))
}
