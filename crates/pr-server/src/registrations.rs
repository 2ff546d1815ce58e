//! The registrations that a server has seen.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pr_backend::{DeviceId, Executor, Nexus, Target};
use scsi_sense::pr::ReservationKey;

use crate::{
    Client, Registrant, SharedNexus,
    announcements::{self, Announced, Announcement, Subject},
    peer::{ClientProcess, Peer, is_running},
};

/// How long the nexuses of a device are remembered, and how long the announcements of other servers need not be read again
/// for a client process that is registered.
pub(crate) const MEMORY: Duration = Duration::from_secs(10);

/// How many devices are remembered.
const DEVICES_MAX: usize = 256;

/// How many nexuses can have registrations. Registrations beyond this are not compared.
const NEXUSES_MAX: usize = 4096;

/// How many keys of one client process are remembered with a nexus. Any of them may be the one that is registered: a
/// process can have several connections, and a preempted guest a new key.
const KEYS_MAX: usize = 64;

/// How many registrations are announced: each takes a descriptor.
const ANNOUNCEMENTS_MAX: usize = 1024;

/// How long after its disconnection a client process is checked: it may be about to exit.
const EXIT: Duration = Duration::from_secs(1);

/// Registrations of client processes, by I_T nexus.
pub(crate) struct Registrations {
    policy: SharedNexus,
    table: Mutex<Table>,
    /// Changes with each change of the registrations in the table.
    version: AtomicU64,
}

#[derive(Default)]
struct Table {
    by_nexus: HashMap<Nexus, Vec<Registration>>,
    devices: HashMap<(DeviceId, usize), Known>,
    /// Some registrations have `disconnected` set.
    is_any_disconnected: bool,
}

/// The nexuses of a device.
struct Known {
    nexuses: Arc<[Nexus]>,
    since: Instant,
}

/// A key that a client process has registered with a nexus.
struct Registration {
    process: ClientProcess,
    peer: Peer,
    subject: Subject,
    announcement: Option<Announcement>,
    /// Client processes of other servers that used the nexus when it was registered.
    others: Vec<Registrant>,
    /// When the announcements of other servers were read for it.
    compared: Instant,
    /// When a connection of its process ended.
    disconnected: Option<Instant>,
}

/// Another client process that has registered a key through some of the same nexuses.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) registrant: Registrant,
    pub(crate) nexuses: Vec<Nexus>,
    subjects: Vec<Subject>,
    /// Its key is among the disk's keys, and a process that is trusted says that it has registered it.
    pub(crate) is_certain: bool,
}

impl Registrations {
    pub(crate) fn new(policy: SharedNexus) -> Self {
        Self { policy, table: Mutex::default(), version: AtomicU64::new(0) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No operation under this lock leaves the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a number that is the same for as long as the registrations are.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Has [`version`](Self::version) return another number. The table is locked.
    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn is_watching(&self) -> bool {
        self.policy != SharedNexus::Ignore
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.policy == SharedNexus::Refuse
    }

    /// Returns the nexuses of a device.
    pub(crate) fn nexuses(&self, executor: &Executor, target: Target<'_>) -> Arc<[Nexus]> {
        let (device, now) = ((target.device.id(), target.listener), Instant::now());
        let is_fresh = |known: &Known| now.saturating_duration_since(known.since) < MEMORY;
        if let Some(known) = self.table().devices.get(&device).filter(|known| is_fresh(known)) {
            return Arc::clone(&known.nexuses);
        }
        let nexuses: Arc<[Nexus]> = executor.nexuses(target).into();
        let devices = &mut self.table().devices;
        if devices.len() >= DEVICES_MAX {
            devices.retain(|_, known| is_fresh(known));
        }
        if devices.len() < DEVICES_MAX {
            devices.insert(device, Known { nexuses: Arc::clone(&nexuses), since: now });
        }
        nexuses
    }

    /// Returns the other client processes that have registered keys through these nexuses and still run.
    pub(crate) fn find(&self, client: Client, nexuses: &[Nexus]) -> Vec<Match> {
        let process = ClientProcess::from(client);
        let mut matches = Vec::new();
        let mut is_compared = true;
        for nexus in nexuses {
            let mut table = self.table();
            let registrations = table.by_nexus.get_mut(nexus).map(Vec::as_mut_slice).unwrap_or_default();
            let mut is_nexus_compared = false;
            for registration in registrations {
                if registration.process != process {
                    if registration.is_running() {
                        add(&mut matches, registration.registrant(), nexus, registration.subject, true);
                    }
                } else if registration.compared.elapsed() < MEMORY {
                    is_nexus_compared = true;
                } else {
                    registration.compared = Instant::now();
                }
            }
            is_compared &= is_nexus_compared;
        }
        if !is_compared && nexuses.iter().any(Nexus::is_host_wide) {
            // Read without the lock.
            for announced in announcements::read() {
                self.compare(client.peer, nexuses, &announced, &mut matches);
            }
        }
        matches
    }

    /// Adds the announcement of another server to `matches`, if it is of one of these nexuses.
    fn compare(&self, peer: Peer, nexuses: &[Nexus], announced: &Announced, matches: &mut Vec<Match>) {
        let Announced { subject, registrant } = announced;
        let is_same_process = |peer: Peer| (peer.pid, peer.uid) == (registrant.pid, registrant.uid);
        let host_wide = nexuses.iter().filter(|nexus| nexus.is_host_wide());
        let same = |nexus: &&Nexus| subject.is_same_nexus(Subject::new(nexus, ReservationKey(0)));
        let Some(nexus) = host_wide.filter(|_| !is_same_process(peer)).find(same) else { return };
        let registrations = |table: &Table| {
            table
                .by_nexus
                .get(nexus)
                .map_or(0, |all| all.iter().filter(|registration| is_same_process(registration.peer)).count())
        };
        let is_own = registrations(&self.table()) > 0;
        let other = Peer { pid: registrant.pid, uid: registrant.uid, process: None };
        if !is_own && is_running(other) {
            let is_certain = self.is_refusing() && announcements::is_trusted(announced);
            add(matches, *registrant, nexus, *subject, is_certain);
        }
    }

    /// Returns the matches whose key is among the disk's keys. The others are forgotten: they were preempted.
    pub(crate) fn confirm(&self, mut matches: Vec<Match>, keys: &[ReservationKey]) -> Vec<Match> {
        let mut table = self.table();
        self.changed();
        for Match { nexuses, subjects, .. } in &mut matches {
            let is_registered = |nexus: &Nexus, subject: &Subject| {
                keys.iter().any(|key| Subject::new(nexus, *key) == *subject)
            };
            let pairs = std::mem::take(nexuses).into_iter().zip(std::mem::take(subjects));
            let (confirmed, gone): (Vec<_>, Vec<_>) =
                pairs.partition(|(nexus, subject)| is_registered(nexus, subject));
            (*nexuses, *subjects) = confirmed.into_iter().unzip();
            for (nexus, subject) in gone {
                let registrations = table.by_nexus.get_mut(&nexus).into_iter();
                registrations.for_each(|all| all.retain(|registration| registration.subject != subject));
            }
        }
        matches.retain(|found| !found.nexuses.is_empty());
        matches
    }

    /// Notes that a client process has registered `key` with these nexuses. `matches` are the other client processes.
    pub(crate) fn register(&self, client: Client, nexuses: &[Nexus], key: ReservationKey, matches: &[Match]) {
        let process = ClientProcess::from(client);
        let mut table = self.table();
        for nexus in nexuses {
            let subject = Subject::new(nexus, key);
            // A nexus has one key, so the other processes now share this one.
            let registrations = table.by_nexus.get_mut(nexus).map(Vec::as_mut_slice).unwrap_or_default();
            for registration in
                registrations.iter_mut().filter(|registration| registration.process != process)
            {
                registration.subject = subject;
            }
            let others = matches.iter().filter(|found| found.nexuses.contains(nexus));
            let others = others.map(|found| found.registrant).filter(|other| other.is_of_other_server);
            if let Some(own) = table.find(nexus, process, subject) {
                own.others = others.collect();
                own.disconnected = None;
                continue;
            }
            self.changed();
            table.make_room(nexus, process);
            if table.by_nexus.len() >= NEXUSES_MAX && !table.by_nexus.contains_key(nexus) {
                continue;
            }
            let may_announce = nexus.is_host_wide() && table.announcements() < ANNOUNCEMENTS_MAX;
            let registration = Registration {
                process,
                peer: client.peer,
                subject,
                announcement: may_announce.then(|| Announcement::new(subject, client.peer.into())).flatten(),
                others: others.collect(),
                compared: Instant::now(),
                disconnected: None,
            };
            table.by_nexus.entry(nexus.clone()).or_default().push(registration);
        }
    }

    /// Notes that no key is registered with these nexuses any more.
    pub(crate) fn forget(&self, nexuses: &[Nexus]) {
        let mut table = self.table();
        for nexus in nexuses {
            if table.by_nexus.remove(nexus).is_some() {
                self.changed();
            }
        }
    }

    /// Notes that a connection has ended.
    pub(crate) fn disconnected(&self, client: Client) {
        let process = ClientProcess::from(client);
        let mut table = self.table();
        let mut is_any = false;
        table.retain(|registration| {
            let is_its = registration.process == process;
            if is_its {
                registration.disconnected = Some(Instant::now());
                is_any = true;
            }
            // A process that is not known has no other connection.
            !(is_its && matches!(process, ClientProcess::Connection(_)))
        });
        table.is_any_disconnected |= is_any;
        if is_any {
            self.changed();
        }
    }

    /// Forgets the registrations of processes that have ended. Returns whether another look is needed in a second.
    pub(crate) fn sweep(&self) -> bool {
        let mut table = self.table();
        if !table.is_any_disconnected {
            return false;
        }
        let mut is_any_left = false;
        table.retain(|registration| {
            let Some(since) = registration.disconnected else { return true };
            if since.elapsed() < EXIT {
                is_any_left = true;
                return true;
            }
            registration.disconnected = None;
            registration.is_running()
        });
        table.is_any_disconnected = is_any_left;
        self.changed();
        is_any_left
    }

    /// Returns the nexuses with which several client processes that run have registered keys, and these.
    pub(crate) fn shared(&self) -> Vec<(Nexus, Vec<Registrant>)> {
        let table = self.table();
        let mut shared = Vec::new();
        for (nexus, registrations) in &table.by_nexus {
            let running = || registrations.iter().filter(|registration| registration.is_running());
            let others = running().flat_map(|registration| &registration.others).copied();
            let others =
                others.filter(|other| is_running(Peer { pid: other.pid, uid: other.uid, process: None }));
            let mut all: Vec<_> = running().map(Registration::registrant).chain(others).collect();
            all.sort_unstable();
            all.dedup();
            if all.len() > 1 {
                shared.push((nexus.clone(), all));
            }
        }
        shared.sort_by_key(|(nexus, _)| nexus.to_string());
        shared
    }
}

impl Table {
    fn find(&mut self, nexus: &Nexus, process: ClientProcess, subject: Subject) -> Option<&mut Registration> {
        let mut registrations = self.by_nexus.get_mut(nexus)?.iter_mut();
        registrations.find(|registration| (registration.process, registration.subject) == (process, subject))
    }

    /// Removes the oldest key of a process that has registered many, one instead of the other.
    fn make_room(&mut self, nexus: &Nexus, process: ClientProcess) {
        let Some(registrations) = self.by_nexus.get_mut(nexus) else { return };
        let is_its = |registration: &Registration| registration.process == process;
        if registrations.iter().filter(|registration| is_its(registration)).count() >= KEYS_MAX {
            if let Some(oldest) = registrations.iter().position(is_its) {
                registrations.remove(oldest);
            }
        }
    }

    fn announcements(&self) -> usize {
        let all = self.by_nexus.values().flatten();
        all.filter(|registration| registration.announcement.is_some()).count()
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut Registration) -> bool) {
        self.by_nexus.retain(|_, registrations| {
            registrations.retain_mut(&mut keep);
            !registrations.is_empty()
        });
    }
}

impl Registration {
    fn registrant(&self) -> Registrant {
        self.peer.into()
    }

    fn is_running(&self) -> bool {
        // Without a process, it lasts as long as its connection.
        matches!(self.process, ClientProcess::Connection(_)) || is_running(self.peer)
    }
}

impl From<Peer> for Registrant {
    fn from(Peer { pid, uid, .. }: Peer) -> Self {
        Self { pid, uid, is_of_other_server: false }
    }
}

fn add(matches: &mut Vec<Match>, registrant: Registrant, nexus: &Nexus, subject: Subject, is_certain: bool) {
    match matches.iter_mut().find(|found| found.registrant == registrant) {
        Some(found) => {
            found.nexuses.push(nexus.clone());
            found.subjects.push(subject);
            found.is_certain |= is_certain;
        }
        None => {
            matches.push(Match {
                registrant,
                nexuses: vec![nexus.clone()],
                subjects: vec![subject],
                is_certain,
            });
        }
    }
}
