//! The signals that stop the helper, and SIGUSR1, which writes the state to the log. A separate thread reads
//! them, so that they are handled at once however busy the event loop is.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use pr_server::Handle;

use crate::{notify, sockets::SocketFiles};

/// SIGTERM, SIGINT and SIGHUP stop the helper; SIGUSR1 logs its state.
const SIGNALS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1];

/// Stop signals within this time after the first count as one: service managers and terminals send two at
/// once.
const TOGETHER: Duration = Duration::from_secs(1);

/// Stack size of the thread, in bytes.
const STACK: usize = 128 << 10;

/// The signals, blocked in all threads and read from a signalfd.
pub(crate) struct Signals(SignalFd);

/// Reason why the helper stopped with commands in flight, for the log.
#[derive(Clone)]
pub(crate) struct Stop(Arc<Mutex<String>>);

impl Stop {
    pub(crate) fn reason(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Signals {
    /// Blocks the signals in this thread and in all threads that it spawns later.
    pub(crate) fn block() -> nix::Result<Self> {
        let signals: SigSet = SIGNALS.into_iter().collect();
        signals.thread_block()?;
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).map(Self)
    }

    /// Spawns the thread. The first stop signal shuts the server down, with `grace` for commands in flight; a
    /// second one, later than [`TOGETHER`], ends it at once. `report` returns the state for SIGUSR1.
    pub(crate) fn handle(
        self,
        handle: Handle,
        files: SocketFiles,
        grace: Duration,
        report: impl Fn() -> String + Send + 'static,
    ) -> io::Result<Stop> {
        let late = format!("did not end within {} seconds", grace.as_secs());
        let stop = Stop(Arc::new(Mutex::new(late)));
        let reason = Arc::clone(&stop.0);
        let read = move || {
            let mut stopping: Option<Instant> = None;
            while let Ok(Some(info)) = self.0.read_signal() {
                let number = i32::try_from(info.ssi_signo).unwrap_or_default();
                let signal = Signal::try_from(number).ok();
                let name = signal.map_or("a signal", Signal::as_str);
                match stopping {
                    _ if signal == Some(Signal::SIGUSR1) => {
                        report().lines().for_each(|line| log::info!("state: {line}"));
                    }
                    None => {
                        stopping = Some(Instant::now());
                        let commands = handle.commands_in_flight();
                        log::info!("{name} received, stopping: {commands} commands in flight");
                        notify::notify(notify::State::Stopping);
                        // Before the socket stops listening: until then the file is known to be this
                        // helper's.
                        files.remove();
                        handle.shutdown(grace);
                    }
                    Some(since) if since.elapsed() >= TOGETHER => {
                        *reason.lock().unwrap_or_else(PoisonError::into_inner) =
                            format!("were cut short by {name}");
                        handle.shutdown(Duration::ZERO);
                    }
                    Some(_) => {}
                }
            }
        };
        thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(read)?;
        Ok(stop)
    }
}
