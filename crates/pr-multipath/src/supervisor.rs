//! The supervisor: the one process that keeps root when the daemon gives it up, so that workers can be started later.
//!
//! It listens to the daemon alone, over a channel that no client ever sees, and does two things: it starts workers and
//! kills them. It never answers, so nobody waits for it. When the daemon's end of the channel closes, for whatever
//! reason, it ends too, and all workers with it; and it removes the daemon's socket, if that was left behind.

use std::{
    collections::HashMap,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, setrlimit},
};

use super::{
    channel::{self, Channel, Received},
    wire::Order,
};
use crate::{args::Args, listen, logging, privileges, sys};

/// What the process is started with, as its first argument.
pub(crate) const SUPERVISOR: &str = "--multipath-supervisor";
/// The same of a worker.
pub(crate) const WORKER: &str = "--multipath-worker";

/// This very binary, also if its file has been replaced meanwhile.
const THIS: &str = "/proc/self/exe";

/// A map has one worker at most, and no host has more maps that hang at the same time.
const WORKERS_MAX: usize = 1024;

/// How long commands in flight may go on when the daemon has ended: a change that is cut short may leave some paths
/// unregistered, or the map suspended.
const GRACE: Duration = Duration::from_secs(30);

/// What a service manager tells a process about itself, and would misunderstand from another.
const NOT_PASSED_ON: [&str; 6] =
    ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// The daemon's end of the supervisor.
#[derive(Debug)]
pub(super) struct Supervisor {
    channel: Channel,
    next: AtomicU64,
}

impl Supervisor {
    /// Starts it; returns also the process, to wait for. To be called while there are all privileges that a worker
    /// needs. `socket` is removed after the daemon's end, if the daemon could not.
    pub(super) fn start(args: &Args, socket: Option<&Path>) -> io::Result<(Self, Child)> {
        let (channel, its_end) = Channel::pair()?;
        let mut command = Command::new(THIS);
        command.arg0("pr-helper").arg(SUPERVISOR).args(args.logging());
        if let Some(path) = socket {
            command.arg("--socket").arg(path);
        }
        for name in NOT_PASSED_ON {
            command.env_remove(name);
        }
        // Nothing of where the daemon was started is to be kept in use.
        command.current_dir("/").stdin(OwnedFd::from(its_end)).stdout(Stdio::null());
        if args.daemon {
            // Whoever waits for the end of the starter's output must not wait for this.
            command.stderr(Stdio::null());
        }
        let child = command.spawn()?;
        Ok((Self { channel, next: AtomicU64::new(1) }, child))
    }

    /// Has a worker started, with these as its standard input and output; returns its number. That it could not be
    /// started shows by the end of its channel.
    pub(super) fn launch(&self, channel: &Channel, output: &OwnedFd) -> Result<u64, Errno> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.channel.send(&[&Order::Start(number).encode()], &[channel.as_fd(), output.as_fd()])?;
        Ok(number)
    }

    /// Has it leave: there is nothing that it could do.
    pub(super) fn dismiss(&self) {
        // One that has gone already need not be told.
        let _ = self.channel.send(&[&Order::Leave.encode()], &[]);
    }

    /// Closes the channel; returns whether it was open.
    pub(super) fn end(&self) -> bool {
        self.channel.close().is_ok()
    }

    /// Has a worker killed.
    pub(super) fn kill(&self, number: u64) {
        if let Err(error) = self.channel.send(&[&Order::Kill(number).encode()], &[]) {
            log::error!("multipath worker {number} cannot be killed: {error}");
        }
    }
}

/// The supervisor process.
pub(crate) fn main(args: &Args) -> ExitCode {
    logging::start(args);
    match supervise(args.socket.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = logging::with_sources(&*error);
            log::error!("multipath supervisor: {error}; multipath maps will not be served");
            ExitCode::FAILURE
        }
    }
}

fn supervise(socket: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    let mut socket = socket.and_then(|path| listen::File::of(path).ok());
    nix::sys::prctl::set_name(c"pr-helper-super")?;
    // Whoever stops the service stops the daemon, which ends this.
    super::ignore_the_daemons_signals()?;
    sys::hear_of_children()?;
    let children: SigSet = [Signal::SIGCHLD].into_iter().collect();
    children.thread_block()?;
    let ended = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    allow_open_files();
    privileges::confine(&super::CAPABILITIES)?;
    let channel = Channel::stdin()?;
    let mut workers = Workers(HashMap::new());
    let mut buffer = [0; Order::LENGTH];
    loop {
        channel::wait(&[channel.as_fd(), ended.as_fd()], None)?;
        while ended.read_signal()?.is_some() {}
        workers.reap();
        match channel.receive(&mut buffer)? {
            Received::Nothing => {}
            Received::End => break,
            Received::Message(length, descriptors) => {
                let order = buffer.get(..length).and_then(Order::decode);
                match (order, <[OwnedFd; 2]>::try_from(descriptors)) {
                    (Some(Order::Start(number)), Ok([channel, output]))
                        if !workers.0.contains_key(&number) =>
                    {
                        workers.start(number, channel, output);
                    }
                    (Some(Order::Kill(number)), Err(none)) if none.is_empty() => workers.kill(number),
                    (Some(Order::Leave), Err(none)) if none.is_empty() => {
                        socket = None;
                        break;
                    }
                    _ => return Err("the daemon sent what is no order".into()),
                }
            }
        }
    }
    // The daemon was killed, or is not permitted to.
    if let Some(socket) = socket {
        socket.remove_if_left_behind();
    }
    // The daemon has gone: idle workers see that themselves.
    let deadline = Instant::now() + GRACE;
    while !workers.0.is_empty() && Instant::now() < deadline {
        channel::wait(&[ended.as_fd()], Some(deadline))?;
        while ended.read_signal()?.is_some() {}
        workers.reap();
    }
    workers.kill_all();
    Ok(())
}

/// Raises the limit of open files as far as the kernel has it: the library wants that in each worker, where it is not
/// possible any more, and complains.
fn allow_open_files() {
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    if most.is_some() {
        // Where that is not permitted, the complaint is all that comes of it.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    }
}

/// The workers that have not been seen to end.
struct Workers(HashMap<u64, Child>);

impl Workers {
    fn start(&mut self, number: u64, channel: OwnedFd, output: OwnedFd) {
        if self.0.len() >= WORKERS_MAX {
            return log::error!("multipath: {WORKERS_MAX} workers are running, which is the limit");
        }
        let started = output.try_clone().and_then(|errors| {
            Command::new(THIS)
                .arg0("pr-helper")
                .arg(WORKER)
                .stdin(channel)
                .stdout(output)
                .stderr(errors)
                .spawn()
        });
        match started {
            Ok(child) => {
                self.0.insert(number, child);
            }
            Err(error) => log::error!("multipath: a worker cannot be started: {error}"),
        }
    }

    fn kill(&mut self, number: u64) {
        // One that has ended meanwhile is no longer there.
        if let Some(Err(error)) = self.0.get_mut(&number).map(Child::kill) {
            log::error!("multipath worker {number} cannot be killed: {error}");
        }
    }

    fn kill_all(&mut self) {
        for (number, child) in &mut self.0 {
            log::error!("multipath worker {number} is killed in mid-command; {}", super::SUSPENDED);
            let _ = child.kill();
        }
    }

    /// Forgets those that have ended.
    fn reap(&mut self) {
        self.0.retain(|number, child| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                report(*number, child.id(), status);
                false
            }
            Err(error) => {
                log::error!("multipath worker {number} cannot be waited for: {error}");
                false
            }
        });
    }
}

fn report(number: u64, pid: u32, status: ExitStatus) {
    match status.signal() {
        None if status.success() => log::debug!("multipath worker {number} (pid {pid}) has left"),
        None => log::warn!("multipath worker {number} (pid {pid}) has failed: {status}"),
        Some(_) => log::warn!("multipath worker {number} (pid {pid}) has been ended by {status}"),
    }
}
