//! Multipath maps, by libmpathpersist.
//!
//! A reservation on a map must be registered with every path, also with paths that come back later. Only multipathd
//! keeps that promise, and the library is the way to it; but the library takes root, may wait for long, keeps state
//! between calls, and is written for a command line. So it is called in [worker](worker) processes of this same
//! binary, one for each map with a command under way. The [supervisor] starts them, since this process has given up
//! the right to. This file is what the daemon does: it hands a command to a worker and waits for the answer.

mod channel;
mod map;
mod output;
mod path;
pub(crate) mod supervisor;
mod wire;
pub(crate) mod worker;

use std::{
    os::fd::{AsFd, BorrowedFd},
    process::Child,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use caps::Capability;
use nix::sys::signal::{SigSet, Signal};
use pr_proto::{Command, Data};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
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
    device::{Refusal, Unavailable},
    privileges,
};

/// What a worker needs: to ask the device-mapper, to send commands to the paths, and to open paths that somebody else
/// owns, as libvirt makes them for its guests.
const CAPABILITIES: [Capability; 3] =
    [Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_RAWIO, Capability::CAP_DAC_OVERRIDE];

/// How long a worker may take to load the library and read its configuration.
const START: Duration = Duration::from_secs(30);

/// The library may try one path after the other: a command on a map may take so many times what it may on a disk.
const PATHS: u32 = 6;

/// How long a worker may take to end when it has been killed.
const END: Duration = Duration::from_secs(5);

/// What cannot be ruled out then.
const SUSPENDED: &str = "a map whose worker was lost may have been left suspended: see \"dmsetup info\", and \"dmsetup resume MAP\"";

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
    /// Starts the supervisor, if that is possible. To be called before privileges are given up.
    pub(crate) fn start(args: &Args) -> Self {
        let pool = match privileges::can_keep(&CAPABILITIES) {
            Ok(true) => Supervisor::start(args).map_err(|error| {
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
            Ok((supervisor, child)) => {
                (Ok(Arc::new(Pool { supervisor, idle: Mutex::new(Vec::new()) })), Some(child))
            }
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
            Err(NoAnswer::Unfit(why)) => {
                log::info!("multipath maps are not served: {why}; {}", Unavailable::NoLibrary);
                *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = Err(Unavailable::NoLibrary);
            }
            Err(NoAnswer::Fault(fault)) => log::warn!("multipath: {}", Cause::Worker(fault)),
        }
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
        match pool.execute(descriptor, self.timeout, command) {
            Ok(outcome) => outcome,
            Err(NoAnswer::Unfit(why)) => {
                log::warn!("multipath: {why}");
                Outcome::Refused(Refusal::NoMultipath(id, Unavailable::NoLibrary))
            }
            Err(NoAnswer::Fault(fault)) => Outcome::Failed {
                status: Status::CHECK_CONDITION,
                sense: Some(SenseCode::IO_PROCESS_TERMINATED),
                cause: Cause::Worker(fault),
            },
        }
    }
}

/// The workers.
struct Pool {
    supervisor: Supervisor,
    /// Those without a command; some may have left. The last is the youngest.
    idle: Mutex<Vec<Worker>>,
}

/// The daemon's end of a worker.
struct Worker {
    number: u64,
    channel: Channel,
    output: Output,
}

/// Why no worker answered.
enum NoAnswer {
    /// It has started, and cannot work on this host.
    Unfit(String),
    Fault(WorkerFault),
}

impl From<WorkerFault> for NoAnswer {
    fn from(fault: WorkerFault) -> Self {
        Self::Fault(fault)
    }
}

impl Pool {
    fn execute(
        &self,
        map: BorrowedFd<'_>,
        timeout: Duration,
        command: &mut Command<'_>,
    ) -> Result<Outcome, NoAnswer> {
        let parameters = match &command.data {
            Data::In(_) => &[][..],
            Data::Out(parameters) => parameters,
        };
        let mut worker = self.begin(map, &Errand::Run { timeout, cdb: command.cdb, parameters })?;
        match worker.finish(Instant::now() + timeout.saturating_mul(PATHS), command) {
            Ok(outcome) => {
                self.put(worker);
                Ok(outcome)
            }
            Err(fault) => {
                if fault != WorkerFault::Ended {
                    self.supervisor.kill(worker.number);
                }
                if matches!(command.data, Data::Out(_)) {
                    self.mend(map, worker);
                }
                Err(fault.into())
            }
        }
    }

    /// Sees to it that a map goes on whose worker was lost while it made a change.
    fn mend(&self, map: BorrowedFd<'_>, mut lost: Worker) {
        // As long as it is there, it may still do something. If it hangs, so does its map.
        let deadline = Instant::now() + END;
        while lost.wait(&mut [0; Reply::LENGTH_MAX], deadline).is_ok() {}
        drop(lost);
        let mut nothing = Command { cdb: &[0; 10], data: Data::Out(&[]), sense: &mut [] };
        let mended = self.begin(map, &Errand::Resume).and_then(|mut worker| {
            let outcome = worker.finish(Instant::now() + START, &mut nothing)?;
            self.put(worker);
            Ok(outcome)
        });
        match mended {
            Ok(Outcome::Device { status: Status::GOOD, .. }) => {}
            Ok(Outcome::Failed { cause, .. }) => log::error!("multipath: {cause}; {SUSPENDED}"),
            Ok(_) | Err(_) => log::error!("multipath: {SUSPENDED}"),
        }
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
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
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
        let answer = worker.wait(&mut buffer, Instant::now() + START).map(|length| {
            match buffer.get(..length).and_then(Hello::decode) {
                Some(Hello::Ready(version)) => Ok(version.to_owned()),
                Some(Hello::Unfit(why)) => Err(NoAnswer::Unfit(why.to_owned())),
                None => Err(WorkerFault::Nonsense.into()),
            }
        });
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
    fn finish(&mut self, deadline: Instant, command: &mut Command<'_>) -> Result<Outcome, WorkerFault> {
        let mut buffer = [0; Reply::LENGTH_MAX];
        let length = self.wait(&mut buffer, deadline)?;
        take_reply(buffer.get(..length).unwrap_or_default(), command).ok_or(WorkerFault::Nonsense)
    }

    /// Waits for the next message, and logs meanwhile what the worker prints.
    fn wait(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<usize, WorkerFault> {
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
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WorkerFault::Late);
            }
            let mut events = [
                PollFd::from_borrowed_fd(self.channel.as_fd(), PollFlags::IN),
                // Only its channel tells of its end.
                PollFd::from_borrowed_fd(self.output.as_fd(), PollFlags::IN),
            ];
            let [channel, _] = &mut events;
            let open = if self.output.has_ended() { std::slice::from_mut(channel) } else { &mut events };
            match rustix::event::poll(open, Timespec::try_from(left).ok().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(system(error)),
            }
        }
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

/// For supervisor and workers: what stops a service, and is sent to all its processes, is for the daemon.
fn ignore_stop_signals() -> nix::Result<()> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()
}
