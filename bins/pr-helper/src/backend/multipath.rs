//! Multipath maps, by libmpathpersist.
//!
//! A reservation on a map must be registered with every path, also with paths that come back later. Only multipathd
//! keeps that promise, and the library is the way to it; but the library takes root, may wait for long, keeps state
//! between calls, and is written for a command line. So it is called in [worker] processes of this same
//! binary, one for each map with a command under way. The [supervisor] starts them, since this process has given up
//! the right to. This file is what the daemon does: it hands a command to a worker and waits for the answer.

/// Prints a line for the daemon's log, from a worker. The daemon may have gone: that is no reason to panic.
macro_rules! say {
    ($($argument:tt)*) => {{
        let _ = ::std::io::Write::write_fmt(&mut ::std::io::stderr(), format_args!("{}\n", format_args!($($argument)*)));
    }};
}

mod change;
mod channel;
mod map;
mod output;
mod path;
pub(crate) mod supervisor;
mod wire;
pub(crate) mod worker;

use std::{
    collections::HashSet,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    process::Child,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use caps::Capability;
use nix::sys::signal::SigSet;
use pr_proto::{Command, Data};
use rustix::io::Errno;
use scsi_sense::{SenseCode, Status};

pub(crate) use map::advice;

use self::{
    channel::{Channel, Received},
    output::Output,
    supervisor::Supervisor,
    wire::{Errand, Hello, Reply},
};
use super::{Backend, Cause, Outcome, Target, WorkerFault};
use crate::{
    args::Args,
    device::{DeviceId, Refusal, Unavailable},
    logging, privileges,
    server::SIGNALS,
};

/// What a worker needs: to ask the device-mapper, to send commands to the paths, and to open paths that somebody else
/// owns, as libvirt makes them for its guests.
const CAPABILITIES: [Capability; 3] =
    [Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_RAWIO, Capability::CAP_DAC_OVERRIDE];

/// How long a worker may take to load the library and read its configuration.
const START: Duration = Duration::from_secs(30);

/// The library may try one path after the other: a command on a map may take so many times what it may on a disk.
const PATHS: u32 = 6;

/// How long a command waits for a worker that was lost before it.
const END: Duration = Duration::from_secs(5);

/// What cannot be ruled out of a worker that was lost in mid-command.
const SUSPENDED: &str = "a map whose worker was lost may have been left suspended: see \"dmsetup info\", and \"dmsetup resume MAP\"";

/// When nobody can wait for the end of such a worker.
const NEVER_MENDED: &str =
    "a worker was lost and cannot be waited for: the map is not served until pr-helper is restarted";

/// The stack of the thread that watches.
const STACK: usize = 128 << 10;

/// The backend.
pub(crate) struct Multipath {
    pool: Mutex<Result<Arc<Pool>, Unavailable>>,
    /// The supervisor process, until there is a thread that waits for it.
    process: Mutex<Option<Child>>,
    timeout: Duration,
}

impl Multipath {
    /// Starts the supervisor, if that is possible. To be called before privileges are given up. `socket` is what was made
    /// and is to be gone after the daemon's end.
    pub(crate) fn start(args: &Args, socket: Option<&Path>) -> Self {
        let pool = match privileges::can_keep(&CAPABILITIES) {
            Ok(true) => Supervisor::start(args, socket).map_err(|error| {
                log::warn!("multipath: the supervisor process cannot be started: {error}");
                Unavailable::NotStarted
            }),
            Ok(false) => Err(Unavailable::NotRoot),
            Err(error) => {
                log::warn!("multipath: {error}");
                Err(Unavailable::NotRoot)
            }
        };
        let (pool, process) = match pool {
            Ok((supervisor, child)) => (Ok(Arc::new(Pool::new(supervisor))), Some(child)),
            Err(why) => (Err(why), None),
        };
        Self { pool: Mutex::new(pool), process: Mutex::new(process), timeout: args.timeout }
    }

    /// Finds out, on a thread, whether the library can be used, and says so. If it cannot, the supervisor leaves; else
    /// the thread says so if it ever does.
    pub(crate) fn introduce(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let watch = move || {
            this.look();
            let process = this.process.lock().unwrap_or_else(PoisonError::into_inner).take();
            let ended = process.map(|mut process| process.wait());
            if let (Some(ended), Ok(_)) = (ended, this.pool()) {
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                log::error!("multipath: {} ({how})", Cause::Worker(WorkerFault::NoSupervisor));
            }
        };
        let started = thread::Builder::new().name("multipath".into()).stack_size(STACK).spawn(watch);
        if let Err(error) = started {
            log::warn!("multipath: no thread to find out whether it is available: {error}");
        }
    }

    fn look(&self) {
        let pool = match self.pool() {
            Ok(pool) => pool,
            Err(why) => return log::info!("multipath maps are not served: {why}"),
        };
        match pool.launch() {
            Ok((worker, version)) => {
                log::info!("multipath maps are served by {version}");
                pool.put(worker);
            }
            Err(NoAnswer::Never(why)) => {
                *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = Err(Unavailable::NoLibrary);
                pool.supervisor.dismiss();
                drop(pool);
                log::info!("multipath maps are not served: {why} (restart pr-helper once it is there)");
            }
            Err(NoAnswer::Unfit(why)) => log::warn!("multipath maps are not served for now: {why}"),
            Err(NoAnswer::Fault(fault)) => log::warn!("multipath: {}", Cause::Worker(fault)),
        }
    }

    /// Has the supervisor end, as it does when this process ends; returns whether there is one.
    pub(crate) fn end(&self) -> bool {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        // Its end is no accident then.
        let pool = std::mem::replace(&mut *pool, Err(Unavailable::NotStarted));
        pool.is_ok_and(|pool| pool.supervisor.end())
    }

    /// Whether maps are served, as far as is known.
    pub(super) fn availability(&self) -> Result<(), Unavailable> {
        let is_unfit = self.pool()?.is_unfit.load(Ordering::Relaxed);
        if is_unfit { Err(Unavailable::Unfit) } else { Ok(()) }
    }

    fn pool(&self) -> Result<Arc<Pool>, Unavailable> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Backend for Multipath {
    fn execute(&self, Target { descriptor, device, .. }: Target<'_>, command: &mut Command<'_>) -> Outcome {
        let id = device.id;
        let pool = match self.pool() {
            Ok(pool) => pool,
            Err(why) => return Outcome::Refused(Refusal::NoMultipath(id, why)),
        };
        if !is_multipath(id) {
            // For this no worker need be started.
            return Outcome::Refused(Refusal::DeviceMapper(id));
        }
        let unfit = |why: String, unavailable| {
            logging::warn_once(&format!("multipath: {why}"));
            Outcome::Refused(Refusal::NoMultipath(id, unavailable))
        };
        match pool.execute(id, descriptor, self.timeout, command) {
            Ok(outcome) => outcome,
            Err(NoAnswer::Never(why)) => unfit(why, Unavailable::NoLibrary),
            Err(NoAnswer::Unfit(why)) => unfit(why, Unavailable::Unfit),
            Err(NoAnswer::Fault(WorkerFault::Unfinished)) => Outcome::Failed {
                status: Status::BUSY,
                sense: None,
                cause: Cause::Worker(WorkerFault::Unfinished),
            },
            Err(NoAnswer::Fault(fault)) => Outcome::Failed {
                status: Status::CHECK_CONDITION,
                sense: Some(SenseCode::IO_PROCESS_TERMINATED),
                cause: Cause::Worker(fault),
            },
        }
    }
}

/// Whether multipath-tools made the map, as its UUID tells to anybody. Its table is what counts; a worker looks at that.
fn is_multipath(id: DeviceId) -> bool {
    let DeviceId::Block { major, minor } = id else { return false };
    std::fs::read(format!("/sys/dev/block/{major}:{minor}/dm/uuid"))
        .is_ok_and(|uuid| uuid.starts_with(b"mpath-"))
}

/// The workers.
struct Pool {
    supervisor: Supervisor,
    /// Those without a command; some may have left. The last is the youngest.
    idle: Mutex<Vec<Worker>>,
    /// The maps whose worker was lost and has not ended yet.
    unfinished: Mutex<HashSet<DeviceId>>,
    /// One of them has.
    mended: Condvar,
    /// The last worker that was started could not work.
    is_unfit: AtomicBool,
}

/// The daemon's end of a worker.
struct Worker {
    number: u64,
    channel: Channel,
    output: Output,
}

/// Why no worker answered.
enum NoAnswer {
    /// It has started, and cannot work for now.
    Unfit(String),
    /// It has started, and none can work on this host.
    Never(String),
    Fault(WorkerFault),
}

impl From<WorkerFault> for NoAnswer {
    fn from(fault: WorkerFault) -> Self {
        Self::Fault(fault)
    }
}

impl Pool {
    fn new(supervisor: Supervisor) -> Self {
        let (idle, unfinished) = (Mutex::new(Vec::new()), Mutex::new(HashSet::new()));
        let is_unfit = AtomicBool::new(false);
        Self { supervisor, idle, unfinished, mended: Condvar::new(), is_unfit }
    }

    fn execute(
        self: &Arc<Self>,
        id: DeviceId,
        map: BorrowedFd<'_>,
        timeout: Duration,
        command: &mut Command<'_>,
    ) -> Result<Outcome, NoAnswer> {
        let (unfinished, _) = self
            .mended
            .wait_timeout_while(self.unfinished(), END, |unfinished| unfinished.contains(&id))
            .unwrap_or_else(PoisonError::into_inner);
        if unfinished.contains(&id) {
            return Err(WorkerFault::Unfinished.into());
        }
        drop(unfinished);
        let parameters = match &command.data {
            Data::In(_) => &[][..],
            Data::Out(parameters) => parameters,
        };
        let mut worker = self.begin(map, &Errand::Run { timeout, cdb: command.cdb, parameters })?;
        match worker.finish(Instant::now().checked_add(timeout.saturating_mul(PATHS)), command) {
            Ok(outcome) => {
                self.put(worker);
                Ok(outcome)
            }
            Err(fault) => {
                if fault != WorkerFault::Ended {
                    self.supervisor.kill(worker.number);
                }
                let is_change = matches!(command.data, Data::Out(_));
                self.lose(id, map, worker, is_change);
                Err(fault.into())
            }
        }
    }

    /// Sees to a map whose worker was lost in mid-command: nothing more is done with it until the worker has ended, which
    /// takes a process that waits for a disk as long as the disk likes, and then, after a change, it is looked whether it was
    /// left suspended.
    fn lose(self: &Arc<Self>, id: DeviceId, map: BorrowedFd<'_>, mut worker: Worker, is_change: bool) {
        self.unfinished().insert(id);
        let map = match map.try_clone_to_owned() {
            Ok(map) => map,
            Err(error) => return log::error!("multipath: {id}: {error}; {NEVER_MENDED}"),
        };
        let pool = Arc::clone(self);
        let watch = move || {
            let mut buffer = [0; Reply::LENGTH_MAX];
            while matches!(worker.wait(&mut buffer, None), Ok(_) | Err(WorkerFault::Nonsense)) {}
            drop(worker);
            if is_change {
                pool.resume(id, map.as_fd());
            }
            pool.unfinished().remove(&id);
            pool.mended.notify_all();
        };
        let started = thread::Builder::new().name("multipath-lost".into()).stack_size(STACK).spawn(watch);
        if let Err(error) = started {
            log::error!("multipath: {id}: {error}; {NEVER_MENDED}");
        }
    }

    /// Has a map go on, if it is suspended.
    fn resume(&self, id: DeviceId, map: BorrowedFd<'_>) {
        let mut nothing = Command { cdb: &[0; 10], data: Data::Out(&[]), sense: &mut [] };
        let resumed = self.begin(map, &Errand::Resume).and_then(|mut worker| {
            match worker.finish(Some(Instant::now() + START), &mut nothing) {
                Ok(outcome) => {
                    self.put(worker);
                    Ok(outcome)
                }
                Err(fault) => {
                    self.supervisor.kill(worker.number);
                    Err(fault.into())
                }
            }
        });
        match resumed {
            Ok(Outcome::Device { status: Status::GOOD, .. }) => {}
            Ok(Outcome::Failed { cause, .. }) => log::error!("multipath: {id}: {cause}; {SUSPENDED}"),
            Ok(_) | Err(_) => log::error!("multipath: {id}: {SUSPENDED}"),
        }
    }

    fn unfinished(&self) -> MutexGuard<'_, HashSet<DeviceId>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an errand to a worker, which from then on may have run it.
    fn begin(&self, map: BorrowedFd<'_>, errand: &Errand<'_>) -> Result<Worker, NoAnswer> {
        let head = errand.encode_head();
        loop {
            let (worker, is_new) = match self.take() {
                Some(worker) => (worker, false),
                None => (self.launch()?.0, true),
            };
            match worker.channel.send(&[&head, errand.parameters()], &[map]) {
                Ok(()) => return Ok(worker),
                // It had been there for long enough, and has left without the errand.
                Err(Errno::PIPE | Errno::CONNRESET) if !is_new => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(WorkerFault::NotStarted.into()),
                Err(error) => return Err(WorkerFault::System(error.raw_os_error()).into()),
            }
        }
    }

    fn take(&self) -> Option<Worker> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, worker: Worker) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have left hold two descriptors each.
        idle.retain_mut(Worker::is_there);
        idle.push(worker);
    }

    /// Starts a worker and waits until it is ready; returns it, and what library it has.
    fn launch(&self) -> Result<(Worker, String), NoAnswer> {
        let system = |error: Errno| WorkerFault::System(error.raw_os_error());
        let (channel, its_channel) =
            Channel::pair().map_err(|error| WorkerFault::System(error.raw_os_error().unwrap_or_default()))?;
        let (output, its_output) = Output::pair().map_err(system)?;
        let number = self.supervisor.launch(&its_channel, &its_output).map_err(|error| match error {
            Errno::PIPE | Errno::CONNRESET => WorkerFault::NoSupervisor,
            error => system(error),
        })?;
        // Else its end would never show.
        drop((its_channel, its_output));
        let mut worker = Worker { number, channel, output };
        let mut buffer = [0; Hello::LENGTH_MAX];
        let answer = worker.wait(&mut buffer, Some(Instant::now() + START)).map(|length| {
            match buffer.get(..length).and_then(Hello::decode) {
                Some(Hello::Ready(version)) => Ok(version.to_owned()),
                Some(Hello::Unfit(why)) => Err(NoAnswer::Unfit(why.to_owned())),
                Some(Hello::Never(why)) => Err(NoAnswer::Never(why.to_owned())),
                None => Err(WorkerFault::Nonsense.into()),
            }
        });
        if let Ok(said) = &answer {
            self.is_unfit.store(matches!(said, Err(NoAnswer::Unfit(_))), Ordering::Relaxed);
        }
        match answer {
            Ok(Ok(version)) => Ok((worker, version)),
            Ok(Err(why)) => Err(why),
            Err(WorkerFault::Ended) => Err(WorkerFault::NotStarted.into()),
            Err(fault) => {
                self.supervisor.kill(number);
                Err(fault.into())
            }
        }
    }
}

impl Worker {
    /// Waits for the answer to an errand, and takes it over into `command`.
    fn finish(
        &mut self,
        deadline: Option<Instant>,
        command: &mut Command<'_>,
    ) -> Result<Outcome, WorkerFault> {
        let mut buffer = [0; Reply::LENGTH_MAX];
        let length = self.wait(&mut buffer, deadline)?;
        take_reply(buffer.get(..length).unwrap_or_default(), command).ok_or(WorkerFault::Nonsense)
    }

    /// Waits for the next message, and logs meanwhile what the worker prints.
    fn wait(&mut self, buffer: &mut [u8], deadline: Option<Instant>) -> Result<usize, WorkerFault> {
        let system = |error: Errno| WorkerFault::System(error.raw_os_error());
        loop {
            let received = self.channel.receive(buffer);
            // What it printed before it answered belongs to the answer.
            self.output.log();
            match received {
                Ok(Received::Message(length, none)) if none.is_empty() => return Ok(length),
                Ok(Received::Message(..)) | Err(Errno::MSGSIZE) => return Err(WorkerFault::Nonsense),
                Ok(Received::End) => return Err(WorkerFault::Ended),
                Ok(Received::Nothing) => {}
                Err(error) => return Err(system(error)),
            }
            let both = [self.channel.as_fd(), self.output.as_fd()];
            // Only its channel tells of its end.
            let open = if self.output.has_ended() { both.get(..1) } else { both.get(..) };
            if !channel::wait(open.unwrap_or_default(), deadline).map_err(system)? {
                return Err(WorkerFault::Late);
            }
        }
    }

    /// Whether it has not left yet. It says nothing while nobody asks, so anything to read is its end.
    fn is_there(&mut self) -> bool {
        let has_ended = channel::wait(&[self.channel.as_fd()], Some(Instant::now()));
        let is_there = matches!(has_ended, Ok(false));
        if !is_there {
            self.output.log();
        }
        is_there
    }
}

/// Takes over what a worker answered. `None` if that is no answer to this command.
fn take_reply(message: &[u8], command: &mut Command<'_>) -> Option<Outcome> {
    let room = match &command.data {
        Data::In(buffer) => buffer.len(),
        Data::Out(_) => 0,
    };
    let (Reply(outcome), sense, data) = Reply::decode(message, room)?;
    command.sense.get_mut(..sense.len())?.copy_from_slice(sense);
    if let Data::In(buffer) = &mut command.data {
        buffer.get_mut(..data.len())?.copy_from_slice(data);
    }
    Some(outcome)
}

/// For supervisor and workers: what is sent to all processes of a service is for the daemon.
fn ignore_the_daemons_signals() -> nix::Result<()> {
    SIGNALS.into_iter().collect::<SigSet>().thread_block()
}
