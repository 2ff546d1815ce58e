//! The workers of a daemon, and the maps whose worker was lost.

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use pr_backend::{DeviceId, Outcome};
use pr_proto::{Command, Data};
use rustix::io::Errno;
use scsi_sense::Status;

use crate::{
    recent_lines::RecentLines,
    role_process::MAY_BE_SUSPENDED,
    supervisor_client::SupervisorClient,
    wire::WorkerRequest,
    worker_client::WorkerClient,
    worker_error::{WorkerError, WorkerFault},
};

/// How long a worker may take to load the library and read its configuration.
const START: Duration = Duration::from_secs(30);

/// The library may try one path after the other: a command on a map may take so many times as long as on a disk.
const PATHS: u32 = 6;

/// How long a command waits for the end of a worker that was lost before it.
const END: Duration = Duration::from_secs(5);

/// Consequence if no thread can wait for the end of such a worker.
const NEVER_RECOVERED: &str =
    "a worker was lost and cannot be waited for: the map is not served until pr-helper is restarted";

/// Size of the stack of the thread that waits for the end of a worker.
const STACK: usize = 128 << 10;

/// The workers. There is one for each map with a command in flight, and some without a command.
pub(crate) struct Pool {
    supervisor: SupervisorClient,
    /// Workers without a command; some may have left. The last is the youngest.
    idle: Mutex<Vec<WorkerClient>>,
    /// Maps in quarantine: their worker was lost and has not ended yet.
    quarantined: Mutex<HashSet<DeviceId>>,
    /// Notified when a map leaves the quarantine.
    recovered: Condvar,
    /// Lines of the workers.
    recent: Arc<RecentLines>,
}

impl Pool {
    /// Returns a pool without workers.
    pub(crate) fn new(supervisor: SupervisorClient, recent: Arc<RecentLines>) -> Self {
        Self {
            supervisor,
            idle: Mutex::default(),
            quarantined: Mutex::default(),
            recovered: Condvar::new(),
            recent,
        }
    }

    /// Starts a worker, to be used later; returns name and version of its library.
    pub(crate) fn probe(&self) -> Result<String, WorkerError> {
        let (worker, version) = self.launch()?;
        self.put(worker);
        Ok(version)
    }

    /// Has the supervisor leave, because there is nothing that it could do.
    pub(crate) fn dismiss(&self) {
        self.supervisor.dismiss();
    }

    /// Has the supervisor end, as it does when this process ends; returns whether it was there.
    pub(crate) fn end(&self) -> bool {
        self.supervisor.end()
    }

    /// Runs `command` on `map` in a worker. Each path has `timeout` for it.
    pub(crate) fn execute(
        self: &Arc<Self>,
        id: DeviceId,
        map: BorrowedFd<'_>,
        timeout: Duration,
        command: &mut Command<'_>,
    ) -> Result<Outcome, WorkerError> {
        self.wait_for_recovery(id, END)?;
        let parameters = match &command.data {
            Data::In(_) => &[][..],
            Data::Out(parameters) => parameters,
        };
        let mut worker = self.begin(map, &WorkerRequest::Run { timeout, cdb: command.cdb, parameters })?;
        match worker.finish(Instant::now().checked_add(timeout.saturating_mul(PATHS)), command) {
            Ok(outcome) => {
                self.put(worker);
                Ok(outcome)
            }
            Err(fault) => {
                if fault != WorkerFault::Ended {
                    self.supervisor.kill(worker.number());
                }
                let is_change = matches!(command.data, Data::Out(_));
                self.quarantine(id, map, worker, is_change);
                Err(fault.into())
            }
        }
    }

    /// Waits for the map to leave the quarantine.
    fn wait_for_recovery(&self, id: DeviceId, timeout: Duration) -> Result<(), WorkerFault> {
        let (quarantined, _) = self
            .recovered
            .wait_timeout_while(self.quarantined(), timeout, |quarantined| quarantined.contains(&id))
            .unwrap_or_else(PoisonError::into_inner);
        if quarantined.contains(&id) { Err(WorkerFault::Unfinished) } else { Ok(()) }
    }

    /// Puts a map into quarantine whose worker was lost during a command. Nothing is sent to it until the worker has ended,
    /// which takes a process that waits for a disk as long as the disk likes; after a change the map is then resumed if it
    /// was left suspended.
    fn quarantine(
        self: &Arc<Self>,
        id: DeviceId,
        map: BorrowedFd<'_>,
        worker: WorkerClient,
        is_change: bool,
    ) {
        self.quarantined().insert(id);
        // After a command that only reads, the map is as it was.
        let map = is_change.then(|| map.try_clone_to_owned());
        let pool = Arc::clone(self);
        let watch = move || {
            worker.wait_for_end();
            match map {
                Some(Ok(map)) => pool.resume(id, map.as_fd()),
                Some(Err(error)) => log::error!("multipath: {id}: {error}; {MAY_BE_SUSPENDED}"),
                None => {}
            }
            pool.quarantined().remove(&id);
            pool.recovered.notify_all();
        };
        let started = thread::Builder::new().name("multipath-lost".into()).stack_size(STACK).spawn(watch);
        if let Err(error) = started {
            log::error!("multipath: {id}: {error}; {NEVER_RECOVERED}");
        }
    }

    /// Resumes a map if it is suspended.
    fn resume(&self, id: DeviceId, map: BorrowedFd<'_>) {
        let mut nothing = Command { cdb: &[0; 10], data: Data::Out(&[]), sense: &mut [] };
        let resumed = self.begin(map, &WorkerRequest::Resume).and_then(|mut worker| {
            match worker.finish(Instant::now().checked_add(START), &mut nothing) {
                Ok(outcome) => {
                    self.put(worker);
                    Ok(outcome)
                }
                Err(fault) => {
                    self.supervisor.kill(worker.number());
                    Err(fault.into())
                }
            }
        });
        match resumed {
            Ok(Outcome::Device { status: Status::GOOD, .. }) => {}
            Ok(Outcome::Failed(failure)) => {
                log::error!("multipath: {id}: {}; {MAY_BE_SUSPENDED}", failure.cause());
            }
            Ok(_) | Err(_) => log::error!("multipath: {id}: {MAY_BE_SUSPENDED}"),
        }
    }

    /// Sends a request to a worker, which from then on may have run it.
    fn begin(&self, map: BorrowedFd<'_>, request: &WorkerRequest<'_>) -> Result<WorkerClient, WorkerError> {
        loop {
            let (worker, is_new) = match self.take() {
                Some(worker) => (worker, false),
                None => (self.launch()?.0, true),
            };
            match worker.send(request, map) {
                Ok(()) => return Ok(worker),
                // Its time was over, and it has left without the request.
                Err(Errno::PIPE | Errno::CONNRESET) if !is_new => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(WorkerFault::NotStarted.into()),
                Err(error) => return Err(WorkerFault::before_command(error).into()),
            }
        }
    }

    fn launch(&self) -> Result<(WorkerClient, String), WorkerError> {
        WorkerClient::launch(&self.supervisor, Arc::clone(&self.recent), Instant::now().checked_add(START))
    }

    fn take(&self) -> Option<WorkerClient> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, worker: WorkerClient) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // A worker that has left holds two descriptors.
        idle.retain_mut(WorkerClient::is_there);
        idle.push(worker);
    }

    fn quarantined(&self) -> MutexGuard<'_, HashSet<DeviceId>> {
        // No operation under this lock leaves the set half changed.
        self.quarantined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
