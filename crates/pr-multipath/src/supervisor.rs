//! The supervisor: the process that stays root when the daemon drops its privileges, so that workers can be started later.
//!
//! It accepts commands only from the daemon, over a channel that is never passed to a client. It starts workers and kills
//! them. It sends no answers, so the daemon never waits for it. When the daemon's end of the channel closes, for whatever
//! reason, the supervisor ends all workers and exits.

use std::{
    collections::HashMap,
    ffi::OsString,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::{Child, ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use confinement::Settings;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::process::{Resource, Rlimit, setrlimit};

use pr_backend::with_sources;

use crate::{
    capabilities,
    channel::{self, Channel, Received},
    role_process, signals, sys, system_calls,
    wire::SupervisorCommand,
};

/// Maximum number of workers at a time. A map has at most one worker, and no host has more maps that hang at once.
const WORKERS_MAX: usize = 1024;

/// Time for commands in flight to complete after the daemon has exited. A change that is cut short may leave some paths
/// unregistered, or the map suspended.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// Runs the supervisor process. Calls `on_daemon_end` if the daemon exits without having dismissed the supervisor.
pub(crate) fn run(
    arguments: Vec<OsString>,
    settings: Option<Settings>,
    on_daemon_end: impl FnOnce(),
) -> ExitCode {
    match supervise(arguments, settings, on_daemon_end) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = with_sources(&*error);
            log::error!("multipath supervisor: {error}; multipath maps will not be served");
            ExitCode::FAILURE
        }
    }
}

fn supervise(
    arguments: Vec<OsString>,
    settings: Option<Settings>,
    on_daemon_end: impl FnOnce(),
) -> Result<(), Box<dyn std::error::Error>> {
    nix::sys::prctl::set_name(c"pr-helper-super")?;
    signals::block_daemon_signals()?;
    sys::restore_sigchld()?;
    let children: SigSet = [Signal::SIGCHLD].into_iter().collect();
    children.thread_block()?;
    let ended = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    allow_open_files();
    capabilities::confine()?;
    confinement::harden()?;
    system_calls::restrict_supervisor(settings)?;
    let channel = Channel::stdin()?;
    let mut workers = Workers { running: HashMap::new(), arguments };
    let mut buffer = [0; SupervisorCommand::LENGTH];
    let is_dismissed = loop {
        channel::wait(&[channel.as_fd(), ended.as_fd()], None)?;
        while ended.read_signal()?.is_some() {}
        workers.reap();
        match channel.receive(&mut buffer)? {
            Received::Nothing => {}
            Received::End => break false,
            Received::Message(length, descriptors) => {
                let command = buffer.get(..length).and_then(SupervisorCommand::decode);
                match (command, <[OwnedFd; 2]>::try_from(descriptors)) {
                    (Some(SupervisorCommand::Start(number)), Ok([channel, output]))
                        if !workers.running.contains_key(&number) =>
                    {
                        workers.start(number, channel, output);
                    }
                    (Some(SupervisorCommand::Kill(number)), Err(none)) if none.is_empty() => {
                        workers.kill(number);
                    }
                    (Some(SupervisorCommand::Leave), Err(none)) if none.is_empty() => break true,
                    _ => return Err("the daemon sent a malformed command".into()),
                }
            }
        }
    };
    if !is_dismissed {
        on_daemon_end();
    }
    // Idle workers detect the daemon's exit themselves, by their channels.
    let deadline = Instant::now() + GRACE_PERIOD;
    while !workers.running.is_empty() && Instant::now() < deadline {
        channel::wait(&[ended.as_fd()], Some(deadline))?;
        while ended.read_signal()?.is_some() {}
        workers.reap();
    }
    workers.kill_all();
    Ok(())
}

/// Raises the limit of open files to the kernel's maximum. The library tries to do this in each worker, which no longer may,
/// and prints a complaint.
fn allow_open_files() {
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    if most.is_some() {
        // If that is not permitted, the library's complaint is the only consequence.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    }
}

/// The workers.
struct Workers {
    /// Those whose exit has not been seen yet, by number.
    running: HashMap<u64, Child>,
    /// Arguments of each, after its role word.
    arguments: Vec<OsString>,
}

impl Workers {
    fn start(&mut self, number: u64, channel: OwnedFd, output: OwnedFd) {
        if self.running.len() >= WORKERS_MAX {
            return log::error!("multipath: {WORKERS_MAX} workers are running, which is the limit");
        }
        let started = output.try_clone().and_then(|errors| {
            let mut command = role_process::worker(&self.arguments);
            command.stdin(channel).stdout(output).stderr(errors).spawn()
        });
        match started {
            Ok(child) => {
                self.running.insert(number, child);
            }
            Err(error) => log::error!("multipath: a worker cannot be started: {error}"),
        }
    }

    fn kill(&mut self, number: u64) {
        // A worker that has exited meanwhile is no longer in the map.
        if let Some(Err(error)) = self.running.get_mut(&number).map(Child::kill) {
            log::error!("multipath worker {number} cannot be killed: {error}");
        }
    }

    fn kill_all(&mut self) {
        for (number, child) in &mut self.running {
            log::error!(
                "multipath worker {number} is killed during a command; {}",
                role_process::MAY_BE_SUSPENDED
            );
            let _ = child.kill();
        }
    }

    /// Removes the workers that have exited, and logs each.
    fn reap(&mut self) {
        self.running.retain(|number, child| match child.try_wait() {
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
        None if status.success() => log::debug!("multipath worker {number} (pid {pid}) has exited"),
        None => log::warn!("multipath worker {number} (pid {pid}) has failed: {status}"),
        Some(_) => log::warn!("multipath worker {number} (pid {pid}) has been ended by {status}"),
    }
}
