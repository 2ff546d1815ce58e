//! The clients that check each answer: of an emulated disk, whose state follows each change, and of a simulated one, whose
//! answers never change.

use std::{
    fs::File,
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use pr_target::{LogicalUnit, Nexus, test_utils::MemoryStore};
use scsi_sense::{
    Status,
    pr::{
        BasicParameters, InServiceAction, OutServiceAction, PersistentReserveIn, PersistentReserveOut,
        ReservationKey, ReservationType, Scope, TransportId,
    },
};
use test_support::{Client, Reply};

use crate::watch::{PROMPT, Watch};

/// The pause between two commands, in milliseconds: at most a little longer than a thread of the daemon lingers.
const PAUSE: std::ops::Range<u64> = 0..80;

/// A command and its parameter list.
type Request = ([u8; 10], Vec<u8>);

/// Compares the answers of the emulated disk with those of a model, until the test is over.
pub(crate) fn emulated(watch: &Watch, socket: &Path, disk: &File) {
    let (mut model, mut client) = (Model::new(None), None);
    let mut known = watch.epoch();
    while !watch.is_over() {
        let epoch = watch.epoch();
        let saved = model.store.content();
        let mut is_certain = epoch == known && epoch % 2 == 0;
        if is_certain {
            let (cdb, parameters) = random_request();
            let expected = model.answer(&cdb, &parameters);
            match exchange(watch, &mut client, socket, disk, &cdb, &parameters) {
                Ok(reply) if is_same(&reply, &expected) => {}
                // Another daemon may have answered.
                Ok(_) | Err(_) if watch.was_restarted(epoch) => is_certain = false,
                Ok(reply) => {
                    watch.fault(format!("{cdb:02x?} {parameters:02x?}: {reply:02x?}, not {expected:02x?}"));
                    return;
                }
                Err(error) => {
                    watch.fault(format!("{cdb:02x?}: {error}, although the daemon runs"));
                    return;
                }
            }
        }
        if !is_certain {
            // The last command was performed, or it was not: the disk tells. What it tells must be one of the two.
            let candidates = [saved, model.store.content()].map(Model::new);
            let Some(found) = settle(watch, &mut client, socket, disk, candidates) else { return };
            (known, model) = found;
        }
        thread::sleep(Duration::from_millis(fastrand::u64(PAUSE)));
    }
}

/// Compares the answers of the simulated disk with its usual ones, until the test is over.
pub(crate) fn simulated(watch: &Watch, socket: &Path, disk: &File) {
    let mut client = None;
    while !watch.is_over() {
        let epoch = watch.epoch();
        let ((cdb, parameters), (status, payload)) = simulated_request();
        match exchange(watch, &mut client, socket, disk, &cdb, &parameters) {
            Ok(reply) if (reply.status, &reply.payload) == (status, &payload) => {}
            Ok(reply) => {
                watch.fault(format!("{cdb:02x?}: {reply:02x?} instead of {status}, {payload:02x?}"));
                return;
            }
            Err(_) if watch.was_restarted(epoch) => client = None,
            Err(error) => {
                watch.fault(format!("{cdb:02x?}: {error}, although the daemon runs"));
                return;
            }
        }
        thread::sleep(Duration::from_millis(fastrand::u64(PAUSE)));
    }
}

/// A connection, and the epoch in which it was made.
type Connection = (u64, Client);

/// Sends a command on the connection, or on a new one, and measures how long the answer takes.
fn exchange(
    watch: &Watch,
    client: &mut Option<Connection>,
    socket: &Path,
    disk: &File,
    cdb: &[u8; 10],
    parameters: &[u8],
) -> io::Result<Reply> {
    let (begun, epoch) = (Instant::now(), watch.epoch());
    // Some connections are new. A daemon can be killed and replaced between two commands.
    let kept = client.take().filter(|(of, _)| *of == epoch && fastrand::u8(..) >= 8);
    let mut connected = match kept {
        Some((_, client)) => client,
        None => Client::connect(socket)?,
    };
    connected.stream().set_read_timeout(Some(4 * PROMPT))?;
    let reply =
        if cdb[0] == 0x5e { connected.read(disk, cdb)? } else { connected.write(disk, cdb, parameters)? };
    watch.answered(begun.elapsed());
    *client = Some((epoch, connected));
    Ok(reply)
}

/// Waits for a daemon, and finds out which of the models it agrees with. Returns it with the epoch of that daemon.
fn settle(
    watch: &Watch,
    client: &mut Option<Connection>,
    socket: &Path,
    disk: &File,
    mut candidates: [Model; 2],
) -> Option<(u64, Model)> {
    while !watch.is_over() {
        let epoch = watch.epoch();
        let mut replies = Vec::new();
        for action in [InServiceAction::ReadKeys, InServiceAction::ReadReservation] {
            let cdb = PersistentReserveIn { action, allocation_length: 256 }.to_cdb();
            match exchange(watch, client, socket, disk, &cdb, &[]) {
                Ok(reply) => replies.push((cdb, reply)),
                Err(_) if watch.was_restarted(epoch) => break,
                Err(error) => {
                    watch.fault(format!("after a restart: {error}"));
                    return None;
                }
            }
        }
        if replies.len() < 2 || watch.was_restarted(epoch) {
            thread::sleep(Duration::from_millis(20));
            continue;
        }
        for candidate in &mut candidates {
            if replies.iter().all(|(cdb, reply)| is_same(reply, &candidate.answer(cdb, &[]))) {
                return Some((epoch, Model::new(candidate.store.content())));
            }
        }
        watch.fault(format!("after a restart the disk has neither state: {replies:02x?}"));
        break;
    }
    None
}

/// The state that the emulated disk must have.
struct Model {
    unit: LogicalUnit<MemoryStore>,
    store: MemoryStore,
    nexus: Nexus,
}

/// Status, sense and data.
type Answer = (Status, Option<(u8, u8, u8)>, Vec<u8>);

impl Model {
    /// Returns the state after power came back with this saved state.
    fn new(saved: Option<Vec<u8>>) -> Self {
        let store = MemoryStore::default();
        store.set_content(saved);
        let unit = LogicalUnit::open(&[1], store.clone()).expect("its own state");
        // Only its registration matters; no command of this client returns its name.
        let nexus = Nexus::new(TransportId::Sas { address: 1 }, 1).expect("a nexus");
        Self { unit, store, nexus }
    }

    fn answer(&mut self, cdb: &[u8; 10], parameters: &[u8]) -> Answer {
        let mut data = vec![0; 8192];
        let answer = self.unit.execute(&self.nexus, cdb, parameters, &mut data);
        data.truncate(answer.length);
        let sense = answer.sense.map(|code| (code.key.code(), code.additional.asc, code.additional.ascq));
        (answer.status, sense, data)
    }
}

fn is_same(reply: &Reply, (status, sense, data): &Answer) -> bool {
    (reply.status, &reply.sense_code(), &reply.payload) == (*status, sense, data)
}

/// Returns a command that this one host can send to its disk. All changes survive a restart.
fn random_request() -> Request {
    let key = || ReservationKey([0, 0xa11c_e001, 0xb0b2][fastrand::usize(..3)]);
    if fastrand::u8(..) < 100 {
        let actions = [
            InServiceAction::ReadKeys,
            InServiceAction::ReadReservation,
            InServiceAction::ReportCapabilities,
            InServiceAction::Other(0x1f),
        ];
        let action = actions[fastrand::usize(..actions.len())];
        return (PersistentReserveIn { action, allocation_length: fastrand::u16(..64) }.to_cdb(), Vec::new());
    }
    let action = OutServiceAction::new(fastrand::u8(..7));
    let kinds = [ReservationType::WriteExclusive, ReservationType::ExclusiveAccessAllRegistrants];
    let command = PersistentReserveOut {
        action,
        scope: Scope::LogicalUnit,
        kind: kinds[fastrand::usize(..kinds.len())],
        parameter_list_length: 24,
    };
    let list = BasicParameters {
        reservation_key: key(),
        service_action_key: key(),
        aptpl: true,
        ..BasicParameters::default()
    };
    (command.to_cdb(), list.to_bytes().to_vec())
}

/// Returns a command to the simulated disk, which has the keys 1 to 8, and its answer.
fn simulated_request() -> (Request, (Status, Vec<u8>)) {
    let length = fastrand::u8(..);
    if fastrand::bool() {
        let mut payload = vec![0, 0, 0, 7, 0, 0, 0, 64];
        payload.extend((1..=8_u64).flat_map(u64::to_be_bytes));
        payload.truncate(length.into());
        return (([0x5e, 0, 0, 0, 0, 0, 0, 0, length, 0], Vec::new()), (Status::GOOD, payload));
    }
    let mut parameters = vec![0; 24];
    parameters[7] = length % 16;
    let is_registered = (1..=8).contains(&parameters[7]);
    let status = if is_registered { Status::GOOD } else { Status::RESERVATION_CONFLICT };
    (([0x5f, 2, 5, 0, 0, 0, 0, 0, 24, 0], parameters), (status, Vec::new()))
}
