//! An observer that writes what an operator should know to the `log` crate.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use log::Level;
use pr_backend::Outcome;
use scsi_sense::Sense;

use crate::{Client, CommandName, Completed, DisconnectReason, Event, NexusShared, Observer, Peer};

/// How many warnings about one client process are written in a [`WINDOW`].
const LINES_PER_WINDOW: u32 = 100;

/// How long warnings are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// How many client processes are counted apart in a [`WINDOW`]; the others share one count.
const PROCESSES_MAX: usize = 32;

/// How many different warnings about one connection are written.
const WARNINGS_PER_CONNECTION: usize = 16;

/// Writes events as log lines.
///
/// A guest that repeats itself is reported once, and a client process gets a limited number of warnings a minute; a line
/// says how many were left out. What is left out is written at level debug.
#[derive(Debug, Default)]
pub struct LogEvents {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Hashes of the warnings about each connection, by the number of the connection.
    warned: HashMap<u64, HashSet<u64>>,
    /// Recent warnings, counted by client process. The key `None` counts all further processes once [`PROCESSES_MAX`] are counted.
    windows: HashMap<Option<Peer>, Window>,
}

/// Displays the sense code of an answer behind its status, if it has one.
struct Code<'a>(&'a [u8]);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Sense::parse(self.0).ok().and_then(|sense| sense.code()) {
            Some(code) => write!(f, ", {code}"),
            None => Ok(()),
        }
    }
}

/// Warnings about one client process.
#[derive(Debug)]
struct Window {
    begun: Instant,
    lines: u32,
    left_out: u64,
    /// Its rejected connections were reported.
    is_rejected: bool,
}

impl LogEvents {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No operation under this lock leaves the maps half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replied(&self, completed: &Completed<'_>) {
        let Completed { client, device, cdb, outcome, sense, .. } = *completed;
        let command = CommandName(cdb);
        let text = match (outcome, device) {
            (Outcome::Refused(refusal), _) => format!("refused {command}: {refusal}"),
            (Outcome::Failed(failure), device) => {
                let answer =
                    failure.sense().map_or_else(|| failure.status().to_string(), |code| code.to_string());
                let cause = failure.cause();
                match device {
                    Some(id) => format!("{id} did not answer {command}: {cause}; reported as {answer}"),
                    None => format!("{command} cannot be run now: {cause}; reported as {answer}"),
                }
            }
            _ if !log::log_enabled!(Level::Debug) => return,
            (Outcome::Rejected(code), _) => {
                return log::debug!("{client}: rejected {command}: {code}");
            }
            (Outcome::Device { status, .. }, Some(id)) => {
                return log::debug!("{client}: {id}: {command}: {status}{}", Code(sense));
            }
            (Outcome::Device { status, .. }, None) => {
                return log::debug!("{client}: {command}: {status}{}", Code(sense));
            }
        };
        self.warn_once(client, &text);
    }

    fn nexus_shared(&self, shared: &NexusShared<'_>) {
        let NexusShared { client, device, registrant, is_refused, .. } = *shared;
        let answer = if is_refused { ", refused (see --shared-nexus)" } else { "" };
        let text = format!(
            "REGISTER on {device} through the I_T nexus of {registrant}{answer}: to the disk they are one host and cannot fence each other; run these guests on different hosts (anti-affinity), or give each an initiator of its own (NPIV, iSCSI in the guest)"
        );
        self.warn_once(client, &text);
    }

    /// Writes a warning about a client, unless it was written about this connection before.
    fn warn_once(&self, client: Client, text: &str) {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        let is_new = {
            let mut inner = self.lock();
            let warned = inner.warned.entry(client.connection).or_default();
            warned.len() < WARNINGS_PER_CONNECTION && warned.insert(hash)
        };
        if is_new {
            self.warn(client.peer, text);
        } else {
            log::debug!("{client}: {text}");
        }
    }

    fn disconnected(&self, client: Client, reason: &DisconnectReason) {
        self.lock().warned.remove(&client.connection);
        match reason {
            DisconnectReason::Client | DisconnectReason::Shutdown | DisconnectReason::Panic => {
                log::debug!("{client}: connection closed");
            }
            DisconnectReason::TooManyConnections => {
                let is_first = {
                    let mut inner = self.lock();
                    let (window, _) = inner.window(client.peer, Instant::now());
                    !std::mem::replace(&mut window.is_rejected, true)
                };
                if is_first {
                    self.warn(client.peer, &format!("{reason}; closing further ones"));
                }
            }
            reason => self.warn(client.peer, &format!("{reason}; closing its connection")),
        }
    }

    /// Writes a warning about a client, unless its process has had too many.
    fn warn(&self, peer: Peer, text: &str) {
        // The lines are written without the lock: a slow log must not hold up other threads.
        let (is_written, finished) = self.lock().admit(peer, Instant::now());
        report(finished);
        if is_written {
            log::warn!("{peer}: {text}");
        } else {
            log::debug!("{peer}: {text}");
        }
    }
}

/// A client process whose window is over, and how many of its lines were left out.
type Finished = Vec<(Option<Peer>, u64)>;

impl Inner {
    /// Counts a warning. Returns whether it is written, and the windows that are over.
    fn admit(&mut self, peer: Peer, now: Instant) -> (bool, Finished) {
        let (window, finished) = self.window(peer, now);
        if window.lines < LINES_PER_WINDOW {
            window.lines = window.lines.saturating_add(1);
            (true, finished)
        } else {
            window.left_out = window.left_out.saturating_add(1);
            (false, finished)
        }
    }

    fn window(&mut self, peer: Peer, now: Instant) -> (&mut Window, Finished) {
        let finished = self.finish(now);
        let is_full = self.windows.len() >= PROCESSES_MAX && !self.windows.contains_key(&Some(peer));
        let key = (!is_full).then_some(peer);
        let new = || Window { begun: now, lines: 0, left_out: 0, is_rejected: false };
        (self.windows.entry(key).or_insert_with(new), finished)
    }

    /// Forgets the windows that are over, and returns those with lines that were left out.
    fn finish(&mut self, now: Instant) -> Finished {
        let mut finished = Vec::new();
        self.windows.retain(|peer, window| {
            let is_over = now.saturating_duration_since(window.begun) >= WINDOW;
            if is_over && window.left_out > 0 {
                finished.push((*peer, window.left_out));
            }
            !is_over
        });
        finished
    }
}

fn report(finished: Finished) {
    for (peer, left_out) in finished {
        let seconds = WINDOW.as_secs();
        match peer {
            Some(peer) => {
                log::warn!("{peer}: {left_out} more lines were left out in {seconds} seconds (-v shows all)");
            }
            None => {
                log::warn!(
                    "other clients: {left_out} more lines were left out in {seconds} seconds (-v shows all)"
                );
            }
        }
    }
}

impl Observer for LogEvents {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Connected(client) => log::debug!("{client}: connected"),
            Event::Replied(completed) => self.replied(completed),
            Event::Abandoned(client, _) => {
                self.warn(client.peer, "disconnected before its command started; command skipped");
            }
            Event::NexusShared(shared) => self.nexus_shared(shared),
            Event::Slow(started, age) => log::warn!(
                "{}: {} has not answered {} for {} seconds",
                started.client,
                started.device,
                CommandName(started.cdb),
                age.as_secs()
            ),
            Event::SlowEnded(started, age) => log::info!(
                "{}: {} took {:.1} seconds for {}",
                started.client,
                started.device,
                age.as_secs_f64(),
                CommandName(started.cdb)
            ),
            Event::Disconnected(client, reason) => self.disconnected(client, reason),
            Event::AcceptPaused(reason) => log::warn!("new clients wait: {reason}"),
            Event::ThreadsExhausted { threads, error } => log::warn!(
                "no more than {threads} threads can be started ({error}): clients wait for each other; raise the limit of processes (RLIMIT_NPROC, TasksMax)"
            ),
            Event::Stopped => {
                let windows = std::mem::take(&mut self.lock().windows);
                let all = windows.into_iter().map(|(peer, window)| (peer, window.left_out));
                report(all.filter(|(_, left_out)| *left_out > 0).collect());
            }
            Event::Started(_) | Event::Completed(_) | Event::Panicked => {}
        }
    }

    fn tick(&self) -> bool {
        let (finished, is_any_left) = {
            let mut inner = self.lock();
            let finished = inner.finish(Instant::now());
            (finished, inner.windows.values().any(|window| window.left_out > 0))
        };
        report(finished);
        is_any_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(pid: i32) -> Peer {
        Peer { pid, uid: 107, process: None }
    }

    #[test]
    fn warnings_are_limited_per_process() {
        let (mut inner, now) = (Inner::default(), Instant::now());
        let written = (0..1000).filter(|_| inner.admit(peer(1), now).0).count();
        assert_eq!(written, 100);
        assert!(inner.admit(peer(2), now).0, "another process has its own limit");
        assert_eq!(inner.finish(now + WINDOW / 2), []);
        assert_eq!(inner.finish(now + WINDOW), [(Some(peer(1)), 900)]);
        assert!(inner.admit(peer(1), now + WINDOW).0);
    }

    #[test]
    fn many_processes_share_a_limit() {
        let (mut inner, now) = (Inner::default(), Instant::now());
        let written = (0..10_000).filter(|pid| inner.admit(peer(*pid), now).0).count();
        assert_eq!(written, PROCESSES_MAX + 100);
        assert_eq!(inner.windows.len(), PROCESSES_MAX + 1);
    }
}
