//! The pool of workers, and the quarantine of maps whose worker was lost.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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

/// Time limit for a worker to load the library and read its configuration.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Factor between the time limit of a command on a map and that on a path: the library may try one path after the other.
const TIMEOUT_FACTOR: u32 = 6;

/// Time that a command waits for its map to leave the quarantine.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Consequence if no thread can be spawned to wait for a lost worker.
const RECOVERY_DELAYED: &str =
    "a worker was lost and cannot be waited for now: the next command on the map tries again";

/// Stack size of the thread that waits for a lost worker, in bytes.
const STACK: usize = 128 << 10;

/// What must happen before a map is served again.
struct Lost {
    /// The worker, if it may be running.
    worker: Option<WorkerClient>,
    /// Whether the worker may have left the map suspended.
    may_be_suspended: bool,
    /// The map, to resume it. `None` if there was no descriptor for it: the next command on the map has one.
    map: Option<OwnedFd>,
}

/// The workers: one for each map with a command in flight, and idle ones.
pub(crate) struct Pool {
    supervisor: SupervisorClient,
    /// Idle workers, the youngest last. Some may have exited.
    idle: Mutex<Vec<WorkerClient>>,
    /// Maps whose worker was lost, until they are recovered. `None` while a thread recovers the map.
    quarantined: Mutex<HashMap<DeviceId, Option<Lost>>>,
    /// Notified when a map leaves the quarantine.
    recovered: Condvar,
    /// The lines that workers printed recently, to log each only once a minute.
    recent: Arc<RecentLines>,
    /// Whether the last worker that was started could not work.
    unfit: AtomicBool,
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
            unfit: AtomicBool::new(false),
        }
    }

    /// Returns whether the last worker that was started could not work. The next one may.
    pub(crate) fn is_unfit(&self) -> bool {
        self.unfit.load(Ordering::Relaxed)
    }

    /// Starts a worker and keeps it idle; returns name and version of its library.
    pub(crate) fn probe(&self) -> Result<String, WorkerError> {
        let (worker, version) = self.launch()?;
        self.put(worker);
        Ok(version)
    }

    /// Dismisses the supervisor, which has nothing to do without the library.
    pub(crate) fn dismiss(&self) {
        self.supervisor.dismiss();
    }

    /// Ends the supervisor, as the exit of this process does; returns whether it was running.
    pub(crate) fn end(&self) -> bool {
        self.supervisor.end()
    }

    /// Runs `command` on `map` in a worker, with time limit `timeout` on each path.
    pub(crate) fn execute(
        self: &Arc<Self>,
        id: DeviceId,
        map: BorrowedFd<'_>,
        timeout: Duration,
        command: &mut Command<'_>,
    ) -> Result<Outcome, WorkerError> {
        self.wait_for_recovery(id, map, RECOVERY_TIMEOUT)?;
        let parameters = match &command.data {
            Data::In(_) => &[][..],
            Data::Out(parameters) => parameters,
        };
        let mut worker = self.begin(map, &WorkerRequest::Run { timeout, cdb: command.cdb, parameters })?;
        match worker
            .receive_reply(Instant::now().checked_add(timeout.saturating_mul(TIMEOUT_FACTOR)), command)
        {
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

    /// Blocks until the map has left the quarantine. Continues a recovery that a shortage has stopped.
    fn wait_for_recovery(
        self: &Arc<Self>,
        id: DeviceId,
        map: BorrowedFd<'_>,
        timeout: Duration,
    ) -> Result<(), WorkerFault> {
        let stopped = match self.quarantined().get_mut(&id) {
            None => return Ok(()),
            Some(quarantine) => quarantine.take(),
        };
        if let Some(mut lost) = stopped {
            lost.map = lost.map.or_else(|| map.try_clone_to_owned().ok());
            self.recover(id, lost);
        }
        let is_recovering =
            |quarantined: &mut HashMap<_, Option<Lost>>| matches!(quarantined.get(&id), Some(None));
        let (quarantined, _) = self
            .recovered
            .wait_timeout_while(self.quarantined(), timeout, is_recovering)
            .unwrap_or_else(PoisonError::into_inner);
        if quarantined.contains_key(&id) { Err(WorkerFault::Unfinished) } else { Ok(()) }
    }

    /// Puts a map into quarantine after its worker was lost during a command. No command is sent to it until the worker has
    /// exited. A killed process that waits for a disk exits only when the disk has answered, however long that takes. After a
    /// change the map is then resumed if it was left suspended.
    fn quarantine(
        self: &Arc<Self>,
        id: DeviceId,
        map: BorrowedFd<'_>,
        worker: WorkerClient,
        is_change: bool,
    ) {
        // A command that only reads does not change the map.
        let map = if is_change { map.try_clone_to_owned().ok() } else { None };
        self.recover(id, Lost { worker: Some(worker), may_be_suspended: is_change, map });
    }

    /// Spawns a thread that takes a map out of quarantine. A shortage stops the recovery: the next command continues it.
    fn recover(self: &Arc<Self>, id: DeviceId, lost: Lost) {
        self.quarantined().insert(id, None);
        // Shared, because a thread that cannot be spawned drops what it was to own.
        let shared = Arc::new(Mutex::new(Some(lost)));
        let take =
            |shared: &Mutex<Option<Lost>>| shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (pool, of_thread) = (Arc::clone(self), Arc::clone(&shared));
        let started =
            thread::Builder::new().name("multipath-lost".into()).stack_size(STACK).spawn(move || {
                if let Some(lost) = take(&of_thread) {
                    pool.finish_recovery(id, lost);
                }
            });
        if let Err(error) = started {
            self.recent.warn(&format!("multipath: {id}: {error}; {RECOVERY_DELAYED}"));
            self.quarantined().insert(id, take(&shared));
            self.recovered.notify_all();
        }
    }

    /// Blocks until the lost worker has exited, and resumes the map if that worker may have left it suspended.
    fn finish_recovery(&self, id: DeviceId, mut lost: Lost) {
        if let Some(worker) = lost.worker.take() {
            worker.wait_for_end();
        }
        let is_recovered =
            !lost.may_be_suspended || lost.map.as_ref().is_some_and(|map| self.resume(id, map.as_fd()));
        let mut quarantined = self.quarantined();
        if is_recovered {
            quarantined.remove(&id);
        } else {
            quarantined.insert(id, Some(lost));
        }
        drop(quarantined);
        self.recovered.notify_all();
    }

    /// Resumes a map if it is suspended. Returns whether nothing is left to do: `false` after a shortage, which may be over
    /// soon. Another failure is logged.
    fn resume(&self, id: DeviceId, map: BorrowedFd<'_>) -> bool {
        let mut nothing = Command { cdb: &[0; 10], data: Data::Out(&[]), sense: &mut [] };
        let resumed = self.begin(map, &WorkerRequest::Resume).and_then(|mut worker| {
            match worker.receive_reply(Instant::now().checked_add(START_TIMEOUT), &mut nothing) {
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
            Ok(Outcome::Device { status: Status::GOOD, .. }) => true,
            Ok(Outcome::Failed(failure)) => {
                let is_shortage = failure.status() == Status::BUSY;
                self.recent.warn(&format!("multipath: {id}: {}; {MAY_BE_SUSPENDED}", failure.cause()));
                !is_shortage
            }
            Err(WorkerError::Fault(fault)) => {
                self.recent.warn(&format!("multipath: {id}: {fault}; {MAY_BE_SUSPENDED}"));
                !fault.is_before_command()
            }
            Ok(_) | Err(_) => {
                log::error!("multipath: {id}: {MAY_BE_SUSPENDED}");
                true
            }
        }
    }

    /// Sends a request to an idle or new worker. From then on the worker may have run it.
    fn begin(&self, map: BorrowedFd<'_>, request: &WorkerRequest<'_>) -> Result<WorkerClient, WorkerError> {
        loop {
            let (worker, is_new) = match self.take() {
                Some(worker) => (worker, false),
                None => (self.launch()?.0, true),
            };
            match worker.send(request, map) {
                Ok(()) => return Ok(worker),
                // The worker's lifetime was over, and it has exited without the request.
                Err(Errno::PIPE | Errno::CONNRESET) if !is_new => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(WorkerFault::NotStarted.into()),
                Err(error) => return Err(WorkerFault::before_command(error).into()),
            }
        }
    }

    fn launch(&self) -> Result<(WorkerClient, String), WorkerError> {
        let deadline = Instant::now().checked_add(START_TIMEOUT);
        let launched = WorkerClient::launch(&self.supervisor, Arc::clone(&self.recent), deadline);
        match &launched {
            Ok(_) => self.unfit.store(false, Ordering::Relaxed),
            Err(WorkerError::Unfit(_)) => self.unfit.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
        launched
    }

    fn take(&self) -> Option<WorkerClient> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, worker: WorkerClient) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The ends of a worker that has exited still hold two descriptors.
        idle.retain_mut(WorkerClient::is_running);
        idle.push(worker);
    }

    fn quarantined(&self) -> MutexGuard<'_, HashMap<DeviceId, Option<Lost>>> {
        // No operation under this lock leaves the map half changed.
        self.quarantined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::fd::{AsFd as _, OwnedFd},
    };

    use super::*;
    use crate::{
        channel::{self, Channel, Received},
        reply,
        wire::{Hello, SupervisorCommand},
    };

    const MAP: DeviceId = DeviceId::Block { major: 253, minor: 1 };
    const OTHER: DeviceId = DeviceId::Block { major: 253, minor: 2 };
    const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];

    /// The supervisor's end of the channel, played by the test.
    struct FakeSupervisor {
        supervisor: Channel,
    }

    /// A worker's ends of its channel and its output, played by the test.
    struct FakeWorker {
        channel: Channel,
        _output: OwnedFd,
    }

    fn pool() -> (Arc<Pool>, FakeSupervisor) {
        let (channel, supervisor) = Channel::pair().unwrap();
        (Arc::new(Pool::new(SupervisorClient::new(channel), Arc::default())), FakeSupervisor { supervisor })
    }

    /// Waits for the next message and returns it.
    fn receive(channel: &Channel) -> (Vec<u8>, Vec<OwnedFd>) {
        let deadline = Instant::now().checked_add(START_TIMEOUT);
        assert!(channel::wait(&[channel.as_fd()], deadline).unwrap(), "there is no message");
        let mut buffer = [0; WorkerRequest::LENGTH_MAX];
        match channel.receive(&mut buffer).unwrap() {
            Received::Message(length, descriptors) => (buffer[..length].to_vec(), descriptors),
            other => panic!("{other:?}"),
        }
    }

    impl FakeSupervisor {
        /// Receives the command to start a worker; returns the worker, which is ready.
        fn start_worker(&self) -> FakeWorker {
            let (message, descriptors) = receive(&self.supervisor);
            assert!(matches!(SupervisorCommand::decode(&message), Some(SupervisorCommand::Start(_))));
            let [channel, output] = <[OwnedFd; 2]>::try_from(descriptors).unwrap();
            let worker = FakeWorker { channel: channel.into(), _output: output };
            worker.channel.send(&[&Hello::Ready("a test").encode()], &[]).unwrap();
            worker
        }

        /// Receives the command to start a worker; the worker lacks a resource.
        fn fail_to_start_worker(&self) {
            let (_, descriptors) = receive(&self.supervisor);
            let [channel, _] = <[OwnedFd; 2]>::try_from(descriptors).unwrap();
            Channel::from(channel).send(&[&Hello::Shortage("no descriptors").encode()], &[]).unwrap();
        }

        fn is_asked_for_nothing(&self) -> bool {
            matches!(self.supervisor.receive(&mut [0; SupervisorCommand::LENGTH]).unwrap(), Received::Nothing)
        }
    }

    impl FakeWorker {
        /// Returns whether the next request is to resume a map.
        fn is_asked_to_resume(&self) -> bool {
            let (message, descriptors) = receive(&self.channel);
            assert_eq!(descriptors.len(), 1);
            WorkerRequest::decode(&message) == Some(WorkerRequest::Resume)
        }

        fn answer(&self, status: Status) {
            let head = reply::encode_head(&Outcome::bare(status)).unwrap();
            self.channel.send(&[&head], &[]).unwrap();
        }
    }

    /// Runs a command in a thread, with a worker's deadline of six times `timeout`.
    fn execute(
        pool: &Arc<Pool>,
        cdb: [u8; 10],
        timeout: Duration,
    ) -> thread::JoinHandle<Result<Outcome, WorkerError>> {
        let pool = Arc::clone(pool);
        thread::spawn(move || {
            let map = File::open("/dev/null").unwrap();
            let (mut data, mut sense) = ([0; 8], [0; 96]);
            let data = if cdb[0] == 0x5f { Data::Out(&[0; 24]) } else { Data::In(&mut data) };
            pool.execute(MAP, map.as_fd(), timeout, &mut Command { cdb: &cdb, data, sense: &mut sense })
        })
    }

    fn recovery(pool: &Arc<Pool>, id: DeviceId, timeout: Duration) -> Result<(), WorkerFault> {
        pool.wait_for_recovery(id, File::open("/dev/null").unwrap().as_fd(), timeout)
    }

    #[test]
    fn idle_worker_is_used_again() {
        let (pool, fake) = pool();
        let command = execute(&pool, REGISTER, START_TIMEOUT);
        let worker = fake.start_worker();
        assert!(!worker.is_asked_to_resume());
        worker.answer(Status::RESERVATION_CONFLICT);
        assert_eq!(command.join().unwrap(), Ok(Outcome::bare(Status::RESERVATION_CONFLICT)));
        let command = execute(&pool, REGISTER, START_TIMEOUT);
        assert!(!worker.is_asked_to_resume());
        worker.answer(Status::GOOD);
        assert_eq!(command.join().unwrap(), Ok(Outcome::bare(Status::GOOD)));
        assert!(fake.is_asked_for_nothing());
    }

    #[test]
    fn worker_that_exited_is_replaced() {
        let (pool, fake) = pool();
        for _ in 0..2 {
            let command = execute(&pool, REGISTER, START_TIMEOUT);
            let worker = fake.start_worker();
            assert!(!worker.is_asked_to_resume());
            worker.answer(Status::GOOD);
            assert_eq!(command.join().unwrap(), Ok(Outcome::bare(Status::GOOD)));
        }
        assert_eq!(pool.idle.lock().unwrap().len(), 1, "the first has exited");
    }

    /// A killed worker may wait for a disk: until it has exited it may still change the map.
    #[test]
    fn map_of_lost_worker_is_quarantined() {
        let (pool, fake) = pool();
        let command = execute(&pool, REGISTER, Duration::from_millis(1));
        let lost = fake.start_worker();
        assert!(!lost.is_asked_to_resume());
        assert_eq!(command.join().unwrap(), Err(WorkerFault::Late.into()));
        let (message, _) = receive(&fake.supervisor);
        assert_eq!(SupervisorCommand::decode(&message), Some(SupervisorCommand::Kill(1)));
        assert_eq!(recovery(&pool, MAP, Duration::ZERO), Err(WorkerFault::Unfinished));
        assert_eq!(recovery(&pool, OTHER, Duration::ZERO), Ok(()), "other maps are served");
        // An answer that comes too late does not end the quarantine.
        lost.answer(Status::GOOD);
        assert_eq!(recovery(&pool, MAP, Duration::from_millis(50)), Err(WorkerFault::Unfinished));
        drop(lost);
        let next = fake.start_worker();
        assert!(next.is_asked_to_resume());
        assert_eq!(recovery(&pool, MAP, Duration::ZERO), Err(WorkerFault::Unfinished));
        next.answer(Status::GOOD);
        assert_eq!(recovery(&pool, MAP, START_TIMEOUT), Ok(()));
    }

    /// The map is not served before it was resumed, and not lost for ever because that was impossible once.
    #[test]
    fn recovery_continues_after_shortage() {
        let (pool, fake) = pool();
        let command = execute(&pool, REGISTER, START_TIMEOUT);
        let worker = fake.start_worker();
        assert!(!worker.is_asked_to_resume());
        drop(worker);
        assert_eq!(command.join().unwrap(), Err(WorkerFault::Ended.into()));
        for _ in 0..2 {
            fake.fail_to_start_worker();
            while !matches!(pool.quarantined().get(&MAP), Some(Some(_))) {
                thread::yield_now();
            }
            // This continues the recovery.
            assert_eq!(recovery(&pool, MAP, Duration::ZERO), Err(WorkerFault::Unfinished));
        }
        let next = fake.start_worker();
        assert!(next.is_asked_to_resume());
        next.answer(Status::GOOD);
        assert_eq!(recovery(&pool, MAP, START_TIMEOUT), Ok(()));
    }

    #[test]
    fn lost_read_needs_no_resume() {
        let (pool, fake) = pool();
        let command = execute(&pool, READ_KEYS, START_TIMEOUT);
        let worker = fake.start_worker();
        assert!(!worker.is_asked_to_resume());
        // The worker crashes.
        drop(worker);
        assert_eq!(command.join().unwrap(), Err(WorkerFault::Ended.into()));
        assert_eq!(recovery(&pool, MAP, START_TIMEOUT), Ok(()));
        assert!(fake.is_asked_for_nothing());
    }

    #[test]
    fn missing_supervisor_is_a_fault() {
        let (pool, fake) = pool();
        drop(fake);
        let command = execute(&pool, REGISTER, START_TIMEOUT);
        assert_eq!(command.join().unwrap(), Err(WorkerFault::NoSupervisor.into()));
        assert_eq!(recovery(&pool, MAP, Duration::ZERO), Ok(()), "nothing was lost");
    }
}
