//! The main loop: it waits, accepts clients, hands what is readable to the threads, and ends when told to. Nothing that
//! can block is done on it, no client's descriptor is touched on it, and no connection is closed on it (a message in
//! its queue may hold a descriptor whose close blocks).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker, unix::SourceFd};
use nix::sys::{
    signal::Signal,
    signalfd::SignalFd,
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use rustix::{io::Errno, net::SocketFlags};

use crate::{
    backend::Backends,
    client::{Clients, Job, WatchList},
    connection::Connection,
    files::Allowance,
    listen::Listener,
    notify,
    state::Observer,
    trace::Tracer,
    workers::Workers,
};

/// What the daemon is sent: three that stop it, and one to say what it is doing.
pub(crate) const SIGNALS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1];

const SIGNAL: Token = Token(0);
const WAKER: Token = Token(1);
const TIMER: Token = Token(2);
/// The token of the first listening socket; those of the others follow, and behind them those of clients.
const LISTENERS: usize = 3;

/// How long to wait before clients are accepted again, when there was no room for one.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How often it is said at most that clients wait.
const COMPLAINTS: Duration = Duration::from_secs(60);

/// Signals that come within so long are one: service managers and terminals send two at once.
const TOGETHER: Duration = Duration::from_secs(1);

/// How often overdue clients and slow commands are looked for, while there may be any.
const WATCH: Duration = Duration::from_secs(1);

/// What an operator may set.
pub(crate) struct Limits {
    /// For all commands in flight to end, once told to stop.
    pub(crate) grace: Duration,
    pub(crate) allowance: Allowance,
    /// From when on a command is slow.
    pub(crate) slow: Duration,
}

/// The running daemon.
pub(crate) struct Server {
    poll: Poll,
    /// Retired, once told to stop.
    listeners: Vec<Listener>,
    /// The token of a client is its key and this.
    first_client: usize,
    signals: SignalFd,
    clients: Arc<Clients>,
    workers: Workers<Job>,
    limits: Limits,
    /// When to try again to accept clients, if there was no room for one.
    paused: Option<Instant>,
    /// When the reason of a pause was logged.
    complained: Option<Instant>,
    /// When the first signal to stop came.
    stopping: Option<Instant>,
    /// When commands still in flight are given up.
    deadline: Option<Instant>,
    /// Rings when overdue clients and slow commands are to be looked for. Commands pay nothing for it, as they would for
    /// a timeout of each poll.
    timer: TimerFd,
    /// It will ring.
    watching: bool,
    started: Instant,
}

impl Server {
    /// Everything that is needed to run, among it the first thread. Privileges must have been dropped.
    pub(crate) fn new(
        listeners: Vec<Listener>,
        signals: SignalFd,
        backends: Backends,
        tracer: Tracer,
        limits: Limits,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let register =
            |fd: RawFd, token| poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE);
        register(signals.as_fd().as_raw_fd(), SIGNAL)?;
        let first_client = LISTENERS.saturating_add(listeners.len());
        for (listener, token) in listeners.iter().zip(LISTENERS..) {
            register(listener.as_fd().as_raw_fd(), Token(token))?;
        }
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        register(timer.as_fd().as_raw_fd(), TIMER)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let watch_list = WatchList { registry: poll.registry().try_clone()?, first: first_client };
        let clients = Arc::new(Clients::new(waker, watch_list, backends, tracer, &limits.allowance));
        let watcher = Arc::clone(&clients);
        let workers = Workers::start(limits.allowance.room, move || watcher.watch())?;
        Ok(Self {
            poll,
            listeners,
            first_client,
            signals,
            clients,
            workers,
            limits,
            paused: None,
            complained: None,
            stopping: None,
            deadline: None,
            timer,
            watching: false,
            started: Instant::now(),
        })
    }

    /// One who sees what is going on.
    pub(crate) fn observer(&self) -> Observer {
        Observer::new(Arc::clone(&self.clients), self.workers.clone(), self.started, self.limits.slow)
    }

    /// Runs until told to stop by a signal.
    pub(crate) fn run(mut self) -> io::Result<ExitCode> {
        let ended = self.serve();
        self.listeners.iter_mut().for_each(Listener::retire);
        self.clients.end();
        // What clients have sent is left to the end of the process: to close it here may block for as long as they like.
        std::mem::forget(self);
        ended
    }

    fn serve(&mut self) -> io::Result<ExitCode> {
        let mut events = Events::with_capacity(256);
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Err(_) => continue,
                Ok(()) => {}
            }
            for event in &events {
                match event.token() {
                    SIGNAL => {
                        if let Some(code) = self.signalled()? {
                            return Ok(code);
                        }
                    }
                    // Whoever woke us has changed what is looked at below, or when the timer rings.
                    WAKER => self.watch()?,
                    TIMER => self.look()?,
                    Token(token) => match token.checked_sub(self.first_client) {
                        None => self.accept(),
                        Some(key) => {
                            if let Some(job) = self.clients.readable(key) {
                                self.workers.submit(job);
                            }
                        }
                    },
                }
            }
            if self.paused.is_some_and(|until| until <= Instant::now()) {
                self.accept();
            }
            if let Some(deadline) = self.deadline {
                if self.clients.busy() == 0 {
                    return Ok(ExitCode::SUCCESS);
                }
                if deadline <= Instant::now() {
                    let reason = format!("did not end within {} seconds", self.limits.grace.as_secs());
                    return Ok(self.give_up(&reason));
                }
            }
        }
    }

    /// How long there is nothing to do but to wait for events.
    fn patience(&self) -> Option<Duration> {
        let next = [self.paused, self.deadline].into_iter().flatten().min();
        next.map(|instant| instant.saturating_duration_since(Instant::now()))
    }

    /// Sees to it that overdue clients and slow commands are looked for.
    fn watch(&mut self) -> io::Result<()> {
        if !self.watching {
            // This also takes back its last ring, so that it need not be read.
            let once = Expiration::OneShot(TimeSpec::from_duration(WATCH));
            self.timer.set(once, TimerSetTimeFlags::empty())?;
            self.watching = true;
        }
        Ok(())
    }

    /// Looks for overdue clients and slow commands.
    fn look(&mut self) -> io::Result<()> {
        self.watching = false;
        let (overdue, again) = self.clients.overdue();
        for job in overdue {
            self.workers.submit(job);
        }
        self.workers.look_after();
        for activity in self.clients.activities() {
            activity.warn_if_slow(self.limits.slow);
        }
        if again || self.clients.busy() > 0 || self.workers.is_wanted() { self.watch() } else { Ok(()) }
    }

    /// Accepts all clients that wait, as far as there is room.
    fn accept(&mut self) {
        self.paused = None;
        if self.stopping.is_some() {
            return;
        }
        for index in 0..self.listeners.len() {
            self.accept_from(index);
        }
    }

    fn accept_from(&mut self, index: usize) {
        loop {
            let Some(listener) = self.listeners.get(index) else { return };
            if self.clients.len() >= self.limits.allowance.clients {
                if !listener.has_waiting() {
                    return;
                }
                let reason = format!(
                    "{} clients are connected, which is the limit (--max-clients)",
                    self.limits.allowance.clients
                );
                return self.pause(&reason);
            }
            match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    let added = Connection::new(socket, index).map(|connection| {
                        log::debug!("{}: connected", connection.peer());
                        self.clients.insert(connection)
                    });
                    match added {
                        Ok(None) => {}
                        Ok(Some(job)) => self.workers.submit(job),
                        Err(error) => log::error!("a client cannot be served: {error}"),
                    }
                }
                Err(Errno::AGAIN) => return,
                // The client has gone before it was accepted.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::MFILE) => {
                    return self.pause("this process is at its limit of open files (RLIMIT_NOFILE)");
                }
                Err(error) => return self.pause(&format!("accept: {error}")),
            }
        }
    }

    fn pause(&mut self, reason: &str) {
        self.paused = Some(Instant::now() + BACK_OFF);
        if self.complained.is_none_or(|before| before.elapsed() >= COMPLAINTS) {
            self.complained = Some(Instant::now());
            log::warn!("new clients wait: {reason}");
        }
    }

    /// The first signal to stop begins the end, the second is the end.
    fn signalled(&mut self) -> io::Result<Option<ExitCode>> {
        while let Some(info) = self.signals.read_signal()? {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            if signal == Some(Signal::SIGUSR1) {
                self.observer().log();
                continue;
            }
            let name = signal.map_or("a signal", Signal::as_str);
            if let Some(since) = self.stopping {
                if self.clients.busy() == 0 {
                    return Ok(Some(ExitCode::SUCCESS));
                }
                if since.elapsed() < TOGETHER {
                    continue;
                }
                return Ok(Some(self.give_up(&format!("were cut short by {name}"))));
            }
            let commands = self.clients.busy();
            log::info!("{name} received, stopping: {commands} commands in flight");
            notify::notify(notify::State::Stopping);
            self.clients.stop();
            for listener in &mut self.listeners {
                self.poll.registry().deregister(&mut SourceFd(&listener.as_fd().as_raw_fd()))?;
                listener.retire();
            }
            let now = Instant::now();
            self.stopping = Some(now);
            self.deadline = Some(now + self.limits.grace);
        }
        Ok(None)
    }

    fn give_up(&self, reason: &str) -> ExitCode {
        for (device, (running, waiting)) in self.observer().devices() {
            log::error!("{device}: {running} commands under way and {waiting} waiting {reason}");
        }
        log::error!("stopped with commands in flight: whether they take effect is up to the devices");
        ExitCode::FAILURE
    }
}
