//! pr-helper: runs SCSI PERSISTENT RESERVE commands for virtual machine monitors that may not.
//!
//! The way of a command: the main loop ([`server`]) sees that a client's socket has something to read and hands its
//! [`connection`] to a thread ([`workers`]); the session (`pr-proto`) says when a request is whole; [`device`] tells
//! what its descriptor is; a [`backend`] runs it, in the [lane](lanes) of its device; the reply goes out, and the
//! connection goes back to the loop ([`client`]).
#![deny(unsafe_code)]

mod activity;
mod args;
mod backend;
mod client;
mod connection;
mod daemonize;
mod device;
mod files;
mod lanes;
mod listen;
mod logging;
mod metrics;
mod notify;
mod pidfile;
mod place;
mod pool;
mod privileges;
mod server;
mod state;
mod sys;
mod trace;
mod workers;

use std::{
    error::Error,
    io::{self, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::Parser as _;
use nix::sys::{
    signal::SigSet,
    signalfd::{SfdFlags, SignalFd},
};

use args::{Args, DEFAULT_PIDFILE, DEFAULT_SOCKET};
use backend::{
    Backends,
    emulated::{self, Emulated},
    multipath::{Multipath, supervisor, worker},
};
use daemonize::Side;
use files::Allowance;
use listen::{Access, ListenError, Listener};
use metrics::server::Page;
use pidfile::Pidfile;
use privileges::Identity;
use server::{Limits, SIGNALS, Server};
use trace::Tracer;

/// How long the end waits for the supervisor to remove the socket.
const LEAVE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // The processes behind multipath are started by nobody but the daemon.
    let mut words = std::env::args_os();
    let program = words.next();
    let role = words.next();
    if role.as_ref().is_some_and(|role| role == supervisor::WORKER) {
        sys::close_inherited();
        return worker::main();
    }
    let is_supervisor = role.as_ref().is_some_and(|role| role == supervisor::SUPERVISOR);
    let words = program.into_iter().chain(role.filter(|_| !is_supervisor)).chain(words);
    let args = match Args::try_parse_from(words) {
        Ok(args) => args,
        Err(asked_or_wrong) => {
            // Standard output or error may be closed; the exit status says enough.
            let _ = asked_or_wrong.print();
            return if asked_or_wrong.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    if is_supervisor {
        sys::close_inherited();
        return supervisor::main(&args);
    }
    logging::start(&args);
    start(&args).unwrap_or_else(|error| {
        log::error!("{error}");
        ExitCode::FAILURE
    })
}

/// Everything from the command line to the end. Each step makes sure that what follows can rely on it, and what a step
/// has made goes away again if a later one fails.
fn start(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    // First of all, so that none is lost: the loop will read what has come until then.
    let signals = block_signals()?;
    let tracing = args.trace.as_deref().map(trace::Options::parse).transpose()?;
    if tracing.as_ref().is_some_and(trace::Options::is_help) {
        for (event, text) in trace::EVENTS {
            writeln!(io::stdout(), "{event}  {text}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let identity = Identity::find(args.user.as_deref(), args.group.as_deref())?;
    let access = access(args)?;
    if !args.unprivileged {
        match privileges::check() {
            // Files take no privilege.
            Err(missing) if args.emulate.is_some() => log::info!("only files can be served: {missing}"),
            checked => checked?,
        }
    }
    let activated = activation(args)?;
    let socket_path = absolute(args.socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)))?;
    let metrics_path = args.metrics_socket.as_deref().map(absolute).transpose()?;
    let state_directory = args.emulate.as_deref().map(absolute).transpose()?;
    let pidfile_path = match &args.pidfile {
        Some(path) => Some(absolute(path)?),
        None => args.daemon.then(|| DEFAULT_PIDFILE.into()),
    };
    let tracer = tracing.as_ref().map_or_else(|| Ok(Tracer::disabled()), Tracer::open)?;

    let background = if args.daemon {
        match daemonize::daemonize()? {
            Side::Starter(code) => return Ok(code),
            Side::Background(background) => Some(background),
        }
    } else {
        None
    };
    let pidfile = pidfile_path.as_deref().map(Pidfile::create).transpose()?;
    let sockets = listen(args, activated, &socket_path, &access)?;
    let metrics_listener = metrics_path.as_deref().map(listen_for_metrics).transpose()?;
    let allowance = Allowance::raise(args.max_clients);
    let made = sockets.iter().find_map(|socket| socket.listener.file().cloned());
    let multipath = Arc::new(Multipath::start(args, made.as_ref().map(listen::File::path)));
    privileges::drop_to(identity)?;
    // As the user that will write there.
    let initiators: Vec<_> = sockets.iter().map(|socket| socket.initiator).collect();
    let emulated = state_directory.as_deref().map(|path| Emulated::open(path, &initiators)).transpose()?;
    let backends = Backends::new(args.timeout, Arc::clone(&multipath), emulated);
    let limits = Limits { grace: args.stop_grace, allowance, slow: args.slow };
    let (listeners, names): (Vec<_>, Vec<_>) =
        sockets.into_iter().map(|socket| (socket.listener, socket.name)).unzip();
    let server = Server::new(listeners, signals, backends, tracer, limits)?;
    if let Some(listener) = &metrics_listener {
        let observer = server.observer();
        metrics::server::start(listener.as_fd().try_clone_to_owned()?, move |page| match page {
            Page::Metrics => observer.metrics(),
            Page::State => observer.state(),
        })?;
    }
    log::info!("version {}, listening on {}", env!("CARGO_PKG_VERSION"), names.join(", "));
    if args.emulate.is_some() {
        log::warn!(
            "--emulate: reservations of files are kept among the clients of this daemon only, and keep nobody from reading or writing"
        );
    }
    multipath.introduce();
    if let Some(background) = background {
        background.ready()?;
    }
    notify::notify(notify::State::Ready);
    let code = server.run();
    drop(pidfile);
    if let Some(socket) = made {
        leave(&socket, &multipath);
    }
    Ok(code?)
}

/// Has the socket removed, if this process could not: who has given up root's privileges may remove nothing from a directory of
/// somebody else's, as KubeVirt makes it. Who waits for the socket to go would never hear of the end.
fn leave(socket: &listen::File, multipath: &Multipath) {
    if socket.is_there() && multipath.end() {
        // It takes the supervisor a millisecond. Our end may be its end, too, if this is the first process of a container.
        let begun = Instant::now();
        while socket.is_there() && begun.elapsed() < LEAVE {
            thread::sleep(Duration::from_millis(1));
        }
    }
    if socket.is_there() {
        log::info!("{}: left behind: not permitted to remove it", socket.path().display());
    }
}

/// Blocks the signals that are for the helper, here and in all threads to come, and makes them something to read.
fn block_signals() -> nix::Result<SignalFd> {
    let signals: SigSet = SIGNALS.into_iter().collect();
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// The socket that systemd passed, if it passed any.
fn activation(args: &Args) -> Result<Option<OwnedFd>, ListenError> {
    let mut passed = sys::passed_descriptors().map_err(ListenError::Activation)?;
    match (passed.pop(), passed.len()) {
        (None, _) => Ok(None),
        (Some(_), 0) if args.socket.is_some() => Err(ListenError::Both),
        (Some(socket), 0) => Ok(Some(socket)),
        (Some(_), others) => Err(ListenError::Many(others.saturating_add(1))),
    }
}

/// A socket to listen on.
struct Socket<'a> {
    listener: Listener,
    /// For the log.
    name: String,
    initiator: &'a str,
}

/// All sockets: that of `--socket` or of systemd, and those of `--initiator`, which can be instead of it.
fn listen<'a>(
    args: &'a Args,
    activated: Option<OwnedFd>,
    path: &Path,
    access: &Access,
) -> Result<Vec<Socket<'a>>, Box<dyn Error>> {
    let initiator = emulated::DEFAULT_INITIATOR;
    let mut sockets = match activated {
        Some(socket) => vec![Socket {
            listener: Listener::from_activation(socket)?,
            name: "the socket that systemd passed".into(),
            initiator,
        }],
        None if args.socket.is_none() && !args.initiator.is_empty() => Vec::new(),
        None => {
            let name = path.display().to_string();
            vec![Socket { listener: Listener::bind(path, access)?, name, initiator }]
        }
    };
    for (initiator, path) in &args.initiator {
        let path = absolute(path)?;
        let name = format!("{} (initiator {initiator})", path.display());
        sockets.push(Socket { listener: Listener::bind(&path, access)?, name, initiator });
    }
    Ok(sockets)
}

/// The socket of `--metrics-socket`, its owner's alone: who may send commands need not see what others do.
fn listen_for_metrics(path: &Path) -> Result<Listener, String> {
    let access = Access { mode: Some(0o600), without_descriptors: true, ..Access::default() };
    Listener::bind(path, &access).map_err(|error| format!("--metrics-socket: {error}"))
}

fn access(args: &Args) -> Result<Access, privileges::PrivilegeError> {
    let owner = args.socket_owner.as_deref().map(privileges::find_user).transpose()?;
    let group = args.socket_group.as_deref().map(privileges::find_group).transpose()?;
    Ok(Access {
        mode: args.socket_mode,
        owner: owner.map(|(uid, _)| uid.as_raw()),
        group: group.map(nix::unistd::Gid::as_raw),
        without_descriptors: false,
    })
}

fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
