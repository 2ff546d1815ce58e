//! The processes that a daemon has started, as /proc and signals reach them.

use std::fs;

use rustix::process::{Pid, Signal};

/// The processes that a daemon has started.
#[derive(Debug, Clone)]
pub(super) struct Processes {
    pub(super) supervisor: u32,
    pub(super) workers: Vec<u32>,
}

/// Those of the daemon `pid`, if there is a supervisor.
pub(super) fn of(pid: u32) -> Option<Processes> {
    let supervisor = children(pid, "--multipath-supervisor").pop()?;
    Some(Processes { supervisor, workers: children(supervisor, "--multipath-worker") })
}

/// The children of `parent` whose first argument is `argument`.
fn children(parent: u32, argument: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| field(*pid, "PPid").is_some_and(|ppid| ppid == parent.to_string()))
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(argument.as_bytes())
        })
        .collect()
}

impl Processes {
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        self.workers.iter().copied().chain([self.supervisor])
    }

    /// Whether they have ended. What init has not yet collected counts as ended.
    pub(super) fn have_ended(&self) -> bool {
        self.all().all(has_ended)
    }
}

pub(super) fn has_ended(pid: u32) -> bool {
    field(pid, "State").is_none_or(|state| state.starts_with('Z'))
}

/// A field of `/proc/PID/status`. None has ended.
pub(super) fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().replace('\t', " "))
}

pub(super) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
