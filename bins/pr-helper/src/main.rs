//! pr-helper: runs SCSI PERSISTENT RESERVE commands on behalf of unprivileged virtual machine monitors.
//!
//! Composes the crates: `pr-backend` and `pr-multipath` run commands, `pr-server` serves clients,
//! `pr-metrics` counts and traces. This binary adds what concerns the whole process: the command line, the
//! order of start-up, privileges, daemon mode, the pidfile, socket activation and signals.
#![deny(unsafe_code)]

mod args;
mod confinement;
mod daemonize;
mod limits;
mod logging;
mod notify;
mod paths;
mod privileges;
mod signals;
mod sockets;
mod sys;

use std::{
    env,
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
use daemon_files::{Listener, Pidfile, SocketFile};
use pr_backend::{Block, Emulated, Executor, Scsi, with_sources};
use pr_metrics::{Counters, Page, Tracer, trace};
use pr_multipath::{Multipath, Role};
use pr_server::{DeviceLoad, Ended, LogEvents, Server, SharedNexus};

use args::{Args, DEFAULT_PIDFILE, SharedNexusPolicy};
use daemonize::{Background, Side};
use limits::ClientLimits;
use paths::absolute;
use privileges::Identity;
use signals::Signals;
use sockets::Sockets;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Time that the exit waits for the supervisor to remove the socket.
const REMOVAL: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    if let Some(role) = Role::from_args(env::args_os()) {
        return run_role(role);
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(help_or_error) => {
            // Fails if standard output or error is closed. The exit status is enough then.
            let _ = help_or_error.print();
            return if help_or_error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let passed = sys::passed_descriptors();
    ::confinement::close_inherited(passed.as_deref().unwrap_or_default());
    logging::start(&args);
    start(&args, passed).unwrap_or_else(|error| {
        log::error!("{}", with_sources(&*error));
        ExitCode::FAILURE
    })
}

/// Runs as a process of the multipath backend: the supervisor or a worker, started from this same binary.
fn run_role(role: Role) -> ExitCode {
    let mut socket = None;
    let (Role::Supervisor(arguments) | Role::Worker(arguments)) = &role;
    let program = env::args_os().next().unwrap_or_default();
    let words = std::iter::once(&program).chain(arguments);
    let Ok(args) = Args::try_parse_from(words) else { return ExitCode::FAILURE };
    if matches!(role, Role::Supervisor(_)) {
        logging::start(&args);
        socket = args.socket.as_deref().and_then(|path| SocketFile::of(path).ok());
    }
    role.run(confinement::settings(&args), || {
        if let Some(socket) = socket {
            socket.remove_if_left_behind();
        }
    })
}

/// Starts up, serves until a signal stops the helper, and cleans up. Each step checks what later steps rely
/// on, and is undone if a later one fails.
fn start(args: &Args, passed: io::Result<Vec<OwnedFd>>) -> Result<ExitCode, Box<dyn Error>> {
    // Must come first, so that no signal is lost: signals that arrive during start-up are read after it.
    let signals = Signals::block()?;
    let tracing = args.trace.as_deref().map(trace::Options::parse).transpose()?;
    if tracing.as_ref().is_some_and(trace::Options::is_help) {
        for (event, text) in trace::EVENTS {
            writeln!(io::stdout(), "{event}  {text}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let identity = Identity::find(args.user.as_deref(), args.group.as_deref())?;
    let access = sockets::access(args)?;
    if !args.unprivileged {
        match privileges::check(args.keep_sys_admin) {
            // Emulated disks need no privilege.
            Err(missing) if args.emulate.is_some() => log::info!("only files can be served: {missing}"),
            checked => checked?,
        }
    }
    let activated = sockets::activation(args, passed)?;
    // All paths are made absolute before daemon mode changes the working directory.
    let metrics_path = args.metrics_socket.as_deref().map(absolute).transpose()?;
    let state_directory = args.emulate.as_deref().map(absolute).transpose()?;
    let pidfile_path = match &args.pidfile {
        Some(path) => Some(absolute(path)?),
        None => args.daemon.then(|| DEFAULT_PIDFILE.into()),
    };
    let tracer =
        tracing.as_ref().map(|options| Tracer::open(options, logging::Stderr)).transpose()?.flatten();

    let background = if args.daemon {
        match daemonize::daemonize()? {
            Side::Starter(code) => return Ok(code),
            Side::Background(background) => Some(background),
        }
    } else {
        None
    };
    let pidfile = pidfile_path.as_deref().map(Pidfile::create).transpose()?;
    let sockets = Sockets::open(args, activated, &access)?;
    let metrics_socket = metrics_path.as_deref().map(sockets::bind_for_metrics).transpose()?;
    let limits = ClientLimits::raise(args.max_clients);
    let made = sockets.first_file();
    let multipath = Multipath::start(multipath_config(args, made.as_ref().map(SocketFile::path)));
    privileges::drop_to(identity, args.keep_sys_admin)?;
    let removed = sockets.paths().into_iter().chain(metrics_path.as_deref()).chain(pidfile_path.as_deref());
    let removed: Vec<PathBuf> = removed.map(Path::to_owned).collect();
    let opened =
        Opened { signals, tracer, sockets, metrics_socket, limits, state_directory, removed, background };
    let code = serve(args, opened, &multipath);
    drop(pidfile);
    if let Some(socket) = made {
        remove_by_supervisor(&socket, &multipath);
    }
    code
}

/// Resources that were opened at start-up, some of them with privileges that are gone since.
struct Opened<'a> {
    signals: Signals,
    tracer: Option<Tracer>,
    sockets: Sockets<'a>,
    metrics_socket: Option<Listener>,
    limits: ClientLimits,
    state_directory: Option<PathBuf>,
    /// Files that are removed at the end.
    removed: Vec<PathBuf>,
    background: Option<Background>,
}

/// Serves clients until a signal stops the helper.
fn serve(args: &Args, opened: Opened<'_>, multipath: &Multipath) -> Result<ExitCode, Box<dyn Error>> {
    let Opened { signals, tracer, sockets, metrics_socket, limits, state_directory, removed, background } =
        opened;
    // NVMe namespaces are disks, too: whatever is no NVMe namespace is left to SG_IO.
    let executor = Executor::new().with(Block::new(args.timeout)).with(Scsi::new(args.timeout));
    let mut executor = executor.with(multipath.clone());
    if let Some(directory) = &state_directory {
        // Opened after the privileges are dropped, as the user that writes there.
        let emulated = Emulated::open(directory, &sockets.initiators());
        executor = executor.with(emulated.map_err(|error| format!("--emulate: {}", with_sources(&error)))?);
    }
    let counters = Arc::new(Counters::new(&executor.refusal_labels()));
    let system_calls = executor.system_calls();
    let mut builder = Server::builder(executor)
        .limits(limits.with(args.slow))
        .shared_nexus(args.shared_nexus.into())
        .observer(Arc::clone(&counters));
    if let Some(tracer) = tracer {
        builder = builder.observer(tracer);
    }
    let (builder, names, socket_files) = sockets.listen(builder.observer(LogEvents::default()));
    let server = builder.build()?;
    // Before any thread is spawned: the threads inherit it.
    let files = confinement::Files {
        removed: removed.iter().map(PathBuf::as_path).collect(),
        states: state_directory.as_deref(),
    };
    confinement::restrict(args, &files, &system_calls)?;
    let handle = server.handle();
    let report = {
        let (handle, multipath) = (handle.clone(), multipath.clone());
        Arc::new(move || {
            let availability = multipath.availability().map_err(|why| why.to_string());
            pr_metrics::report(&handle.state(), VERSION, availability)
        })
    };
    // Kept until this function returns; dropping it removes the socket's file.
    let _metrics_file = match metrics_socket {
        Some(listener) => {
            let (handle, report, slow) = (handle.clone(), Arc::clone(&report), args.slow);
            let render = move |page| match page {
                Page::Metrics => counters.exposition(handle.state(), VERSION, slow),
                Page::State => report(),
            };
            pr_metrics::serve(
                listener.as_fd().try_clone_to_owned()?,
                confinement::restrict_metrics(args),
                render,
            )?;
            Some(listener)
        }
        None => None,
    };
    log::info!("version {}, listening on {}", VERSION, names.join(", "));
    if args.emulate.is_some() {
        log::warn!(
            "--emulate: reservations of files are shared among the clients of this daemon only, and do not prevent reads or writes"
        );
    }
    multipath.probe_library();
    let stop = signals.handle(handle, socket_files.clone(), args.stop_grace, move || report())?;
    if let Some(background) = background {
        background.ready()?;
    }
    notify::notify(notify::State::Ready);
    let ended = server.run();
    socket_files.remove();
    match ended? {
        Ended::Clean => Ok(ExitCode::SUCCESS),
        Ended::CutShort(devices) => {
            let reason = stop.reason();
            for (device, DeviceLoad { in_flight, waiting }) in devices {
                log::error!("{device}: {in_flight} commands in flight and {waiting} waiting {reason}");
            }
            log::error!("stopped with commands in flight: whether they take effect is up to the devices");
            Ok(ExitCode::FAILURE)
        }
    }
}

impl From<SharedNexusPolicy> for SharedNexus {
    fn from(policy: SharedNexusPolicy) -> Self {
        match policy {
            SharedNexusPolicy::Warn => Self::Warn,
            SharedNexusPolicy::Refuse => Self::Refuse,
            SharedNexusPolicy::Ignore => Self::Ignore,
        }
    }
}

fn multipath_config(args: &Args, socket: Option<&Path>) -> pr_multipath::Config {
    let mut arguments: Vec<_> = args.passed_on().into_iter().map(Into::into).collect();
    if let Some(path) = socket {
        arguments.extend(["--socket".into(), path.into()]);
    }
    pr_multipath::Config { timeout: args.timeout, arguments, discard_stderr: args.daemon }
}

/// Asks the supervisor to unlink the socket if this process, no longer root, may not: KubeVirt puts it into a
/// directory of another user. KubeVirt's watcher detects the helper's exit by the missing socket.
fn remove_by_supervisor(socket: &SocketFile, multipath: &Multipath) {
    if socket.is_there() && multipath.end() {
        // Takes about a millisecond. If this is the first process of a container, its exit kills the
        // supervisor, so wait.
        let begun = Instant::now();
        while socket.is_there() && begun.elapsed() < REMOVAL {
            thread::sleep(Duration::from_millis(1));
        }
    }
    if socket.is_there() {
        log::info!("{}: left behind: not permitted to remove it", socket.path().display());
    }
}
