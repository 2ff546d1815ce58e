//! Runs a change, and finds out before a REGISTER whether another client process has registered a key through the same I_T
//! nexus.
//!
//! To a disk, all commands of one I_T nexus come from one registrant. Two guests of one host that share a logical unit are
//! therefore not kept apart by reservations: the second REGISTER replaces the first guest's key, and neither is fenced from
//! the other. No disk reports that, so the server does.
//!
//! A REGISTER is compared with the registrations of other client processes that this server has seen, and with those that
//! other servers of this host have announced. A match counts only if the other process still runs and its key is still
//! among the disk's keys. READ KEYS is sent only if there is a match.

use std::time::Instant;

use pr_backend::{Command, Data, DeviceId, Executor, Outcome, Target};
use scsi_sense::{
    Sense, SenseKey, Status, opcode,
    pr::{InServiceAction, Keys, OutServiceAction, PersistentReserveIn, ReservationKey},
};

use crate::{
    Client, Event, NexusShared,
    observers::Observers,
    registrations::{MEMORY, Match, Registrations},
};

/// What a connection's last REGISTER was, if no other client process had to do with it: the same REGISTER needs no look at
/// the registrations for as long as they are unchanged.
#[derive(Debug)]
pub(crate) struct LastRegister {
    device: DeviceId,
    key: ReservationKey,
    version: u64,
    since: Instant,
}

/// Length of READ KEYS data in bytes: room for 1023 keys.
const KEYS_LEN: u16 = 8192;

impl Registrations {
    /// Runs `command` on `target`. If it registers a key, does what the policy says.
    pub(crate) fn execute(
        &self,
        executor: &Executor,
        observers: &Observers,
        client: Client,
        target: Target<'_>,
        command: &mut Command<'_>,
        last: &mut Option<LastRegister>,
    ) -> Outcome {
        let Some(key) = self.registered_key(command) else { return executor.execute(target, command) };
        let (device, version, since) = (target.device.id(), self.version(), Instant::now());
        let is_same = |last: &LastRegister| {
            (last.device, last.key, last.version) == (device, key, version)
                && since.saturating_duration_since(last.since) < MEMORY
        };
        if last.as_ref().is_some_and(is_same) {
            return executor.execute(target, command);
        }
        *last = None;
        let nexuses = self.nexuses(executor, target);
        if key == ReservationKey(0) {
            let outcome = executor.execute(target, command);
            if outcome.status() == Status::GOOD {
                self.forget(&nexuses);
                *last = Some(LastRegister { device, key, version: self.version(), since });
            }
            return outcome;
        }
        let mut matches = self.find(client, &nexuses);
        if !matches.is_empty() {
            match read_keys(executor, target, command.sense) {
                Ok(keys) => matches = self.confirm(matches, &keys),
                // The guest must see it, and repeats the REGISTER.
                Err(outcome) if has_unit_attention(&outcome, command.sense) => return outcome,
                // It cannot be told. A warning too many does no harm, a conflict too many does.
                Err(_) => matches.iter_mut().for_each(|found| found.is_certain = false),
            }
            command.sense.fill(0);
        }
        let is_refused = self.is_refusing() && matches.iter().any(|found| found.is_certain);
        let outcome = if is_refused {
            Outcome::bare(Status::RESERVATION_CONFLICT)
        } else {
            executor.execute(target, command)
        };
        let is_good = outcome.status() == Status::GOOD;
        if is_good || outcome.status() == Status::RESERVATION_CONFLICT {
            for Match { registrant, nexuses, .. } in &matches {
                let registrant = *registrant;
                observers.notify(&Event::NexusShared(&NexusShared {
                    client,
                    device,
                    registrant,
                    nexuses,
                    is_refused,
                }));
            }
        }
        if is_good {
            self.register(client, &nexuses, key, &matches);
            if matches.is_empty() {
                *last = Some(LastRegister { device, key, version: self.version(), since });
            }
        }
        outcome
    }

    /// Returns the key that a command registers, 0 if it unregisters; `None` for any other command.
    ///
    /// A REGISTER that replaces a key by itself registers nothing: it asks whether the nexus has the key, as `pr-ctl probe`
    /// does on behalf of another process.
    fn registered_key(&self, command: &Command<'_>) -> Option<ReservationKey> {
        let [opcode::PERSISTENT_RESERVE_OUT, action, ..] = *command.cdb else { return None };
        let Data::Out(parameters) = &command.data else { return None };
        // RESERVATION KEY and SERVICE ACTION RESERVATION KEY (SPC-4 6.16.3).
        let (current, rest) = parameters.split_first_chunk::<8>()?;
        let new = rest.first_chunk::<8>()?;
        let is_register = match OutServiceAction::new(action & 0x1f) {
            OutServiceAction::Register => current != new || *new == [0; 8],
            OutServiceAction::RegisterAndIgnoreExistingKey => true,
            _ => false,
        };
        (is_register && self.is_watching()).then(|| ReservationKey(u64::from_be_bytes(*new)))
    }
}

/// Returns the keys that are registered with the device. Fails with the outcome of the command, whose sense data are in
/// `sense`.
fn read_keys(
    executor: &Executor,
    target: Target<'_>,
    sense: &mut [u8],
) -> Result<Vec<ReservationKey>, Outcome> {
    let cdb = PersistentReserveIn { action: InServiceAction::ReadKeys, allocation_length: KEYS_LEN }.to_cdb();
    // The data begin at an odd address: see `Data::In`.
    let mut buffer = vec![0; usize::from(KEYS_LEN).saturating_add(1)];
    let data = buffer.get_mut(1..).unwrap_or_default();
    let outcome = executor.execute(target, &mut Command { cdb: &cdb, data: Data::In(data), sense });
    let keys = match outcome {
        Outcome::Device { status: Status::GOOD, transferred, .. } => buffer
            .get(1..)
            .and_then(|data| data.get(..transferred))
            .and_then(|data| Keys::parse(data).ok())
            .map(|keys| keys.iter().collect()),
        _ => None,
    };
    keys.ok_or(outcome)
}

fn has_unit_attention(outcome: &Outcome, sense: &[u8]) -> bool {
    let Outcome::Device { status: Status::CHECK_CONDITION, sense_len, .. } = outcome else { return false };
    let sense = sense.get(..*sense_len).unwrap_or_default();
    Sense::parse(sense).ok().and_then(|sense| sense.key()) == Some(SenseKey::UNIT_ATTENTION)
}
