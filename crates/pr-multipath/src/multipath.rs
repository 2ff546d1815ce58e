//! The backend, as the daemon uses it.

use std::{
    io,
    process::Child,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use confinement::Rule;
use pr_backend::{
    Backend, Cause, Descriptor, DescriptorKind, Device, DeviceId, Failure, NotServed, Outcome, Target,
    with_sources,
};
use pr_proto::Command;

use crate::{
    capabilities,
    config::Config,
    pool::Pool,
    recent_lines::RecentLines,
    refusal,
    supervisor_client::SupervisorClient,
    system_calls,
    unavailable::Unavailable,
    worker_error::{WorkerError, WorkerFault},
};

/// Stack size of the thread that waits for the supervisor, in bytes.
const STACK: usize = 128 << 10;

/// The backend of multipath maps. Clones share one backend.
#[derive(Clone)]
pub struct Multipath {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Mutex<Result<Arc<Pool>, Unavailable>>,
    /// The supervisor process; `None` once a thread waits for it.
    process: Mutex<Option<Child>>,
    timeout: Duration,
    recent: Arc<RecentLines>,
}

impl Multipath {
    /// Starts the supervisor. If that fails, maps are not served, and [`availability`](Self::availability) returns the
    /// reason. Must be called while the process is root and has the capabilities of a worker.
    ///
    /// The supervisor is this program, started again: its `main` must check for a [`Role`](crate::Role) first.
    pub fn start(config: Config) -> Self {
        let Config { timeout, arguments, discard_stderr } = config;
        let supervisor = match capabilities::can_keep() {
            Ok(true) => SupervisorClient::start(arguments, discard_stderr).map_err(|error| {
                log::warn!("multipath: the supervisor process cannot be started: {error}");
                Unavailable::NotStarted
            }),
            Ok(false) => Err(Unavailable::NotRoot),
            Err(error) => {
                log::warn!("multipath: {}", with_sources(&error));
                Err(Unavailable::NotRoot)
            }
        };
        Self::new(supervisor, timeout)
    }

    fn new(supervisor: Result<(SupervisorClient, Child), Unavailable>, timeout: Duration) -> Self {
        let recent = Arc::<RecentLines>::default();
        let (pool, process) = match supervisor {
            Ok((supervisor, process)) => {
                (Ok(Arc::new(Pool::new(supervisor, Arc::clone(&recent)))), Some(process))
            }
            Err(why) => (Err(why), None),
        };
        let inner = Inner { pool: Mutex::new(pool), process: Mutex::new(process), timeout, recent };
        Self { inner: Arc::new(inner) }
    }

    /// Spawns a thread that checks whether the library can be used, and logs the result. If the library is not installed, the
    /// thread dismisses the supervisor; otherwise it waits for the supervisor and logs its exit.
    pub fn probe_library(&self) {
        let this = self.clone();
        let watch = move || {
            this.probe();
            let process = this.inner.process.lock().unwrap_or_else(PoisonError::into_inner).take();
            let ended = process.map(|mut process| process.wait());
            if let (Some(ended), Ok(_)) = (ended, this.pool()) {
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                log::error!("multipath: {} ({how})", WorkerFault::NoSupervisor);
            }
        };
        let started = thread::Builder::new().name("multipath".into()).stack_size(STACK).spawn(watch);
        if let Err(error) = started {
            log::warn!("multipath: cannot start a thread to check whether it is available: {error}");
        }
    }

    fn probe(&self) {
        let pool = match self.pool() {
            Ok(pool) => pool,
            Err(why) => return log::info!("multipath maps are not served: {why}"),
        };
        match pool.probe() {
            Ok(version) => log::info!("multipath maps are served by {version}"),
            Err(WorkerError::Never(why)) => {
                drop(self.replace_pool(Unavailable::NoLibrary));
                pool.dismiss();
                drop(pool);
                log::info!("multipath maps are not served: {why} (restart pr-helper once it is installed)");
            }
            Err(WorkerError::Unfit(why)) => log::warn!("multipath maps are not served for now: {why}"),
            Err(WorkerError::Fault(fault)) => log::warn!("multipath: {fault}"),
        }
    }

    /// Returns `Ok` if maps are served, as far as is known.
    ///
    /// # Errors
    ///
    /// The reason why maps are not served.
    pub fn availability(&self) -> Result<(), Unavailable> {
        if self.pool()?.is_unfit() { Err(Unavailable::Unfit) } else { Ok(()) }
    }

    /// Ends the supervisor, as the exit of this process does: it calls the function that was passed to
    /// [`Role::run`](crate::Role::run). Returns whether there was a supervisor. Maps are not served afterwards.
    pub fn end(&self) -> bool {
        // Replaced first, so that the supervisor's exit is not logged as an error.
        self.replace_pool(Unavailable::NotStarted).is_ok_and(|pool| pool.end())
    }

    fn pool(&self) -> Result<Arc<Pool>, Unavailable> {
        self.inner.pool.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace_pool(&self, why: Unavailable) -> Result<Arc<Pool>, Unavailable> {
        std::mem::replace(&mut *self.inner.pool.lock().unwrap_or_else(PoisonError::into_inner), Err(why))
    }

    fn run(&self, target: Target<'_>, command: &mut Command<'_>) -> Result<Outcome, NotServed> {
        let id = target.device.id();
        let pool = self.pool().map_err(|why| refusal::no_multipath(id, why))?;
        let unfit = |why: String, unavailable| {
            self.inner.recent.warn(&format!("multipath: {why}"));
            refusal::no_multipath(id, unavailable)
        };
        pool.execute(id, target.descriptor, self.inner.timeout, command).map_err(|error| match error {
            WorkerError::Never(why) => unfit(why, Unavailable::NoLibrary).into(),
            WorkerError::Unfit(why) => unfit(why, Unavailable::Unfit).into(),
            WorkerError::Fault(fault) => Failure::from(fault).into(),
        })
    }
}

impl Backend for Multipath {
    fn claim(&self, descriptor: &Descriptor<'_>) -> Option<Result<Device, NotServed>> {
        match descriptor.kind() {
            DescriptorKind::Map(id) => Some(
                // Also if the last worker could not work: the next command starts another, which may be able to.
                self.pool()
                    .map_err(|why| refusal::no_multipath(id, why).into())
                    .and_then(|_| claim_map(id, read_uuid(id))),
            ),
            _ => None,
        }
    }

    fn execute(&self, target: Target<'_>, command: &mut Command<'_>) -> Outcome {
        self.run(target, command).unwrap_or_else(Outcome::from)
    }

    fn refusal_labels(&self) -> &'static [&'static str] {
        refusal::LABELS
    }

    fn system_calls(&self) -> &'static [Rule] {
        system_calls::DAEMON
    }
}

/// Claims a map if its UUID, which every user can read, says that multipath-tools made it. A worker checks its table, which
/// decides.
fn claim_map(id: DeviceId, uuid: io::Result<Vec<u8>>) -> Result<Device, NotServed> {
    match uuid {
        Ok(uuid) if uuid.starts_with(b"mpath-") => {
            Ok(Device::new(id).one_command_at_a_time().with_read_check())
        }
        Ok(_) => Err(refusal::other_map(id).into()),
        Err(error) => Err(Cause::of_shortage(&error)
            .map_or_else(|| NotServed::from(refusal::not_in_sysfs(id)), |cause| Failure::busy(cause).into())),
    }
}

fn read_uuid(id: DeviceId) -> io::Result<Vec<u8>> {
    let DeviceId::Block { major, minor } = id else { return Err(io::ErrorKind::NotFound.into()) };
    std::fs::read(format!("/sys/dev/block/{major}:{minor}/dm/uuid"))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use pr_backend::{Disks, Executor};
    use scsi_sense::Status;

    use super::*;

    const MAP: DeviceId = DeviceId::Block { major: 253, minor: 1 };

    fn unavailable() -> Multipath {
        Multipath::new(Err(Unavailable::NotRoot), Duration::from_secs(1))
    }

    #[test]
    fn map_is_claimed_by_uuid() {
        let device = claim_map(MAP, Ok(b"mpath-360014051\n".to_vec())).unwrap();
        assert_eq!((device.id(), device.is_serial(), device.close_may_block()), (MAP, true, false));
        for (uuid, label) in [
            (Ok(b"LVM-0123\n".to_vec()), "other_map"),
            (Ok(Vec::new()), "other_map"),
            (Err(io::ErrorKind::NotFound.into()), "not_in_sysfs"),
            (Err(io::Error::from_raw_os_error(libc::EACCES)), "not_in_sysfs"),
        ] {
            match claim_map(MAP, uuid) {
                Err(NotServed::Refused(refusal)) => assert_eq!(refusal.label(), label),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn shortage_while_claiming_is_busy() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR] {
            match claim_map(MAP, Err(io::Error::from_raw_os_error(errno))) {
                Err(NotServed::Failed(failure)) => assert_eq!(failure.status(), Status::BUSY, "{errno}"),
                other => panic!("{errno}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_maps_are_claimed() {
        let null = File::open("/dev/null").unwrap();
        let descriptor = Descriptor::examine(null.as_fd(), &Disks::default()).unwrap();
        assert!(unavailable().claim(&descriptor).is_none());
    }

    #[test]
    fn unavailable_backend_refuses_and_ends() {
        let multipath = unavailable();
        let same = multipath.clone();
        assert_eq!(same.availability(), Err(Unavailable::NotRoot));
        let null = File::open("/dev/null").unwrap();
        let target = Target { descriptor: null.as_fd(), device: &Device::new(MAP), listener: 0 };
        let mut command =
            Command { cdb: &[0x5e; 10], data: pr_proto::Data::In(&mut []), sense: &mut [0; 96] };
        match multipath.execute(target, &mut command) {
            Outcome::Refused(refusal) => {
                assert_eq!(refusal.label(), "no_multipath");
                assert!(refusal.to_string().contains("CAP_SYS_ADMIN"), "{refusal}");
            }
            other => panic!("{other:?}"),
        }
        assert!(!multipath.end(), "there is no supervisor");
        assert_eq!(same.availability(), Err(Unavailable::NotStarted), "clones share one backend");
    }

    #[test]
    fn executor_has_labels_of_maps() {
        let labels = Executor::new().with(unavailable()).refusal_labels();
        for label in ["other_map", "no_multipath", "no_multipathd"] {
            assert!(labels.contains(&label), "{label}");
        }
    }
}
