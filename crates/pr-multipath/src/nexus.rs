//! Commands to single paths of a map, each of which is an I_T nexus to the disk.
//!
//! A disk keeps registrations by nexus. The library only knows the key that multipathd has on record. Neither that record nor
//! READ KEYS proves that this host is registered: another host may have registered the same key, and a record outlives a
//! registration that was preempted. So [`has_key`] asks the nexus itself, by a REGISTER that replaces the key by itself.

use mpathpersist::Failure;
use scsi_sense::{
    SenseCode, SenseKey, Status,
    pr::{
        BasicParameters, Capabilities, FullStatus, InServiceAction, OutServiceAction, PersistentReserveOut,
        ReservationKey, ReservationType, Scope, TransportIds,
    },
};

use crate::change_error::ChangeError;

/// One I_T nexus.
pub(crate) trait Nexus {
    /// Sends a change by this nexus alone. The parameter list length of `command` is replaced by that of `parameters`.
    fn change(&self, command: PersistentReserveOut, parameters: &[u8]) -> Answer;

    /// Returns the data of PERSISTENT RESERVE IN; `None` if the command fails on this nexus.
    fn read(&self, action: InServiceAction) -> Option<Vec<u8>>;
}

/// A path's answer to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Good,
    Sense(SenseCode),
    Status(Status),
    /// The path did not answer.
    Missing,
}

impl Answer {
    /// Returns the meaning of CHECK CONDITION with this sense code.
    pub(crate) fn from_sense(code: Option<SenseCode>) -> Self {
        match code {
            Some(code) if matches!(code.key, SenseKey::RECOVERED_ERROR | SenseKey::COMPLETED) => Self::Good,
            Some(code) if code.key.is_failure() => Self::Sense(code),
            // NO SENSE carries no information, and must not be passed on as the reason of a failure.
            _ => Self::Missing,
        }
    }

    /// Returns whether this answer to a REGISTER of a key over itself says that the nexus does not have that key. LIO answers
    /// NOT READY to an unregistered nexus, but not to a REGISTER; from a path, NOT READY tells nothing about its key.
    fn is_fenced(self) -> bool {
        self == Self::Status(Status::RESERVATION_CONFLICT)
    }
}

/// The key of a nexus that is not registered.
pub(crate) const NO_KEY: ReservationKey = ReservationKey(0);

/// A REGISTER to a single nexus. [`Nexus::change`] sets its length.
pub(crate) const REGISTER: PersistentReserveOut = PersistentReserveOut {
    action: OutServiceAction::Register,
    scope: Scope::LogicalUnit,
    kind: ReservationType::Other(0),
    parameter_list_length: 0,
};

const REGISTER_AND_IGNORE: PersistentReserveOut =
    PersistentReserveOut { action: OutServiceAction::RegisterAndIgnoreExistingKey, ..REGISTER };

/// Number of attempts on a nexus that multipathd may register in between.
const TRIES: usize = 3;

/// Returns whether one of these nexuses is registered with `key`, or, if that is [`NO_KEY`], is not registered; `None` if no
/// nexus answers.
///
/// Sends a REGISTER that replaces `key` by itself. A nexus with another key, or none, answers RESERVATION CONFLICT and is
/// unchanged. A nexus with this key answers GOOD and keeps it; at most PRGENERATION is incremented (SPC-4 clause 5.13.7,
/// table "Register behaviors"; for key zero the table says "do nothing except return GOOD status"). So both answers are the
/// disk's own judgement of this nexus.
///
/// Two other commands do not serve. READ FULL STATUS is optional, and its result would have to be compared with this host's
/// TransportIDs, which Linux does not show for all transports. RELEASE with a type that differs from the reservation's changes
/// nothing either, but LIO does not check the key of a nexus that does not hold the reservation.
pub(crate) fn has_key(nexuses: &[impl Nexus], key: ReservationKey) -> Option<bool> {
    let mut answer = None;
    for nexus in nexuses {
        match answer_to_key(nexus, key) {
            Answer::Good => return Some(true),
            Answer::Status(Status::RESERVATION_CONFLICT) => answer = Some(false),
            // The path is away, or standing by.
            Answer::Status(_) | Answer::Sense(_) | Answer::Missing => {}
        }
    }
    answer
}

/// Sends a REGISTER that replaces `key` by itself. Each REGISTER sets APTPL anew, so this sends nothing if the disk does not
/// report how it is set.
fn answer_to_key(nexus: &impl Nexus, key: ReservationKey) -> Answer {
    // A REGISTER of key zero over key zero changes nothing.
    let aptpl = if key == NO_KEY { Some(false) } else { is_aptpl_active(nexus) };
    aptpl.map_or(Answer::Missing, |aptpl| nexus.change(REGISTER, &register(key, key, aptpl)))
}

/// Returns the number of nexuses that answer that they are registered with `key`.
pub(crate) fn count_with_key(nexuses: &[impl Nexus], key: ReservationKey) -> usize {
    nexuses.iter().filter(|nexus| answer_to_key(*nexus, key) == Answer::Good).count()
}

/// Returns whether all nexuses that answer are registered as a REGISTER with these parameters leaves them; `None` if no nexus
/// answers. The REGISTER is repeated with the new key as the current one, and all other parameters as they were.
pub(crate) fn are_registered(nexuses: &[impl Nexus], list: &BasicParameters<'_>) -> Option<bool> {
    let again =
        BasicParameters { reservation_key: list.service_action_key, transport_ids: None, ..*list }.to_bytes();
    have_all(nexuses.iter().map(|nexus| nexus.change(REGISTER, &again)))
}

/// Returns whether all nexuses that answer are not registered; `None` if no nexus answers.
pub(crate) fn are_unregistered(nexuses: &[impl Nexus]) -> Option<bool> {
    have_all(nexuses.iter().map(|nexus| answer_to_key(nexus, NO_KEY)))
}

/// Returns whether all nexuses have a key, from their answers to a REGISTER that replaces it by itself.
fn have_all(answers: impl Iterator<Item = Answer>) -> Option<bool> {
    answers
        .filter_map(|answer| match answer {
            Answer::Good => Some(true),
            Answer::Status(Status::RESERVATION_CONFLICT) => Some(false),
            Answer::Status(_) | Answer::Sense(_) | Answer::Missing => None,
        })
        .reduce(|all, has_key| all && has_key)
}

/// Returns whether all nexuses answer that they do not have `key`; `false` if one of them does not answer.
pub(crate) fn all_lack_key(nexuses: &[impl Nexus], key: ReservationKey) -> bool {
    !nexuses.is_empty()
        && nexuses.iter().all(|nexus| has_key(std::slice::from_ref(nexus), key) == Some(false))
}

/// Returns whether the disk keeps reservations through a loss of power; `None` if it does not report that. Each REGISTER sets
/// this anew, so a REGISTER that must change nothing has to repeat it.
pub(crate) fn is_aptpl_active(nexus: &impl Nexus) -> Option<bool> {
    let data = nexus.read(InServiceAction::ReportCapabilities)?;
    Some(Capabilities::parse(&data).ok()?.persist_through_power_loss_activated)
}

/// Registers, by one nexus, the TransportIDs of a REGISTER that has been made on all nexuses without them. `parameters` are
/// those of the REGISTER, `list` is their parsed form.
///
/// The library cannot do this: its threads share the parameter list, and the first thread clears SPEC_I_PT in it for all.
/// The command then succeeds, and no other port is registered. A disk accepts TransportIDs only from an unregistered nexus,
/// so the nexus is unregistered first; nothing is lost, as it was not registered before the REGISTER. Meanwhile multipathd
/// may register it again, so a registered nexus does not prove that the disk accepted the TransportIDs.
pub(crate) fn register_transport_ids(
    nexuses: &[impl Nexus],
    list: &BasicParameters<'_>,
    parameters: &[u8],
) -> Result<(), ChangeError> {
    let key = list.service_action_key;
    let plain = BasicParameters { transport_ids: None, ..*list };
    let undo = BasicParameters { reservation_key: key, service_action_key: NO_KEY, ..plain }.to_bytes();
    let redo = plain.to_bytes();
    let failed = Err(ChangeError::Failed(Failure::Other));
    for nexus in nexuses {
        for _ in 0..TRIES {
            match nexus.change(REGISTER, &undo) {
                Answer::Good => {}
                // The disk may have executed it all the same.
                Answer::Missing if nexus.change(REGISTER, &redo) == Answer::Missing => return failed,
                _ => break,
            }
            let answer = nexus.change(REGISTER, parameters);
            if answer == Answer::Good {
                return Ok(());
            }
            let again = nexus.change(REGISTER, &redo);
            let is_registered = again == Answer::Status(Status::RESERVATION_CONFLICT);
            match answer {
                // Registered by the command that was not answered, or by multipathd: the other ports tell which.
                Answer::Missing if is_registered && are_all_registered(nexus, list.transport_ids, key) => {
                    return Ok(());
                }
                Answer::Status(Status::RESERVATION_CONFLICT) if is_registered => {}
                Answer::Status(Status::RESERVATION_CONFLICT) => return Err(ChangeError::Conflict),
                Answer::Sense(code) if code.key == SenseKey::ILLEGAL_REQUEST => {
                    return Err(ChangeError::Rejected(code));
                }
                _ => return failed,
            }
        }
    }
    failed
}

/// Returns whether the disk has all these initiator ports registered with `key`; `false` if it has no READ FULL STATUS.
fn are_all_registered(nexus: &impl Nexus, ids: Option<TransportIds<'_>>, key: ReservationKey) -> bool {
    let data = nexus.read(InServiceAction::ReadFullStatus).unwrap_or_default();
    let Ok(status) = FullStatus::parse(&data) else { return false };
    ids.is_none_or(|ids| {
        ids.iter().all(|id| {
            status.iter().any(|other| other.key == key && other.transport_id().is_ok_and(|other| other == id))
        })
    })
}

/// Registers all nexuses again after a PREEMPT of the own key, which unregistered all nexuses but its sender. The sender
/// must still be registered at the end: another host may have preempted the key meanwhile.
///
/// Fails if no nexus answers that it is registered, or if a nexus that answers does not have the key in the end. multipathd
/// registers nexuses that are away when they come back.
pub(crate) fn complete_registration(nexuses: &[impl Nexus], key: ReservationKey) -> Result<(), ChangeError> {
    let failed = Err(ChangeError::Failed(Failure::Other));
    let Some(aptpl) = nexuses.iter().find_map(is_aptpl_active) else { return failed };
    let same = register(key, key, aptpl);
    let answers: Vec<_> = nexuses.iter().map(|nexus| (nexus, nexus.change(REGISTER, &same))).collect();
    let Some((first, _)) = answers.iter().find(|(_, answer)| *answer == Answer::Good) else {
        // A nexus that does not answer may be the registered one. If all answer that they are not registered, the disk has
        // removed all registrations, as LIO does for a PREEMPT of the own key without a reservation, or another host has
        // preempted this one since.
        let all_fenced = !answers.is_empty() && answers.iter().all(|(_, answer)| answer.is_fenced());
        return if all_fenced { Ok(()) } else { failed };
    };
    let others = answers.iter().filter(|(_, answer)| *answer != Answer::Good).map(|(nexus, _)| *nexus);
    let others: Vec<_> = others.collect();
    let unregistered = others.iter().filter(|nexus| !register_unless_away(**nexus, key, aptpl)).count();
    if first.change(REGISTER, &same).is_fenced() {
        for nexus in others {
            nexus.change(REGISTER, &register(key, NO_KEY, aptpl));
        }
        return Err(ChangeError::Conflict);
    }
    if unregistered == 0 { Ok(()) } else { failed }
}

/// Registers a nexus; returns `false` if it answers commands and is not registered afterwards.
fn register_unless_away(nexus: &impl Nexus, key: ReservationKey, aptpl: bool) -> bool {
    let parameters = register(NO_KEY, key, aptpl);
    (0..TRIES).any(|_| {
        nexus.change(REGISTER_AND_IGNORE, &parameters) == Answer::Good
            || nexus.read(InServiceAction::ReadKeys).is_none()
    })
}

/// Returns the parameter list of a REGISTER without TransportIDs.
fn register(reservation_key: ReservationKey, service_action_key: ReservationKey, aptpl: bool) -> [u8; 24] {
    BasicParameters { reservation_key, service_action_key, aptpl, ..BasicParameters::default() }.to_bytes()
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque};

    use pr_target::{FileStore, LogicalUnit, Store, Volatile};
    use scsi_sense::pr::{Keys, PersistentReserveIn, TransportId};

    use super::*;

    const KEY: ReservationKey = ReservationKey(0x1ab);
    const OTHER: ReservationKey = ReservationKey(0x07e);
    /// Address of the other host's port.
    const OTHER_HOST: u64 = 0xff;

    /// What happens to a change between the path and the disk.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Delivery {
        Normal,
        /// The disk executes it, and the answer is lost.
        ReplyLost,
        /// The change does not reach the disk.
        Lost,
        /// multipathd registers this path with the key just before.
        Overtaken,
        /// multipathd registers this path with the key, and the change does not reach the disk.
        OvertakenThenLost,
        /// The other host preempts the key just before.
        Preempted,
        /// The path answers NOT READY, and the change does not reach the disk.
        NotReady,
    }

    /// A path to a disk in software.
    struct FakePath<'a, S: Store = Volatile> {
        disk: &'a RefCell<LogicalUnit<S>>,
        nexus: pr_target::Nexus,
        /// The deliveries of the next changes. The last one also holds for all later changes.
        deliveries: RefCell<VecDeque<Delivery>>,
        is_readable: bool,
    }

    fn nexus(address: u64) -> pr_target::Nexus {
        pr_target::Nexus::new(TransportId::Sas { address }, 1).unwrap()
    }

    impl<S: Store> FakePath<'_, S> {
        fn execute(&self, command: PersistentReserveOut, parameters: &[u8]) -> Answer {
            let parameter_list_length = parameters.len().try_into().unwrap();
            let cdb = PersistentReserveOut { parameter_list_length, ..command }.to_cdb();
            let mut disk = self.disk.borrow_mut();
            while disk.take_unit_attention(&self.nexus).is_some() {}
            let answer = disk.execute(&self.nexus, &cdb, parameters, &mut []);
            match (answer.status, answer.sense) {
                (Status::GOOD, _) => Answer::Good,
                (_, Some(code)) => Answer::Sense(code),
                (status, None) => Answer::Status(status),
            }
        }
    }

    impl<S: Store> Nexus for FakePath<'_, S> {
        fn change(&self, command: PersistentReserveOut, parameters: &[u8]) -> Answer {
            let delivery = {
                let mut deliveries = self.deliveries.borrow_mut();
                if deliveries.len() > 1 { deliveries.pop_front().unwrap() } else { deliveries[0] }
            };
            if matches!(delivery, Delivery::Overtaken | Delivery::OvertakenThenLost) {
                self.execute(REGISTER_AND_IGNORE, &register(NO_KEY, KEY, false));
            }
            if delivery == Delivery::Preempted {
                let other = FakePath { nexus: nexus(OTHER_HOST), deliveries: RefCell::default(), ..*self };
                let preempt = PersistentReserveOut {
                    action: OutServiceAction::Preempt,
                    kind: ReservationType::WriteExclusive,
                    ..REGISTER
                };
                let parameters = BasicParameters {
                    reservation_key: OTHER,
                    service_action_key: KEY,
                    ..BasicParameters::default()
                };
                assert_eq!(other.execute(preempt, &parameters.to_bytes()), Answer::Good);
            }
            if matches!(delivery, Delivery::Lost | Delivery::OvertakenThenLost) {
                return Answer::Missing;
            }
            if delivery == Delivery::NotReady {
                return Answer::Sense(SenseCode::NOT_READY);
            }
            let answer = self.execute(command, parameters);
            if delivery == Delivery::ReplyLost { Answer::Missing } else { answer }
        }

        fn read(&self, action: InServiceAction) -> Option<Vec<u8>> {
            let cdb = PersistentReserveIn { action, allocation_length: 8192 }.to_cdb();
            let mut data = vec![0; 8192];
            let mut disk = self.disk.borrow_mut();
            while disk.take_unit_attention(&self.nexus).is_some() {}
            let answer = disk.execute(&self.nexus, &cdb, &[], &mut data);
            data.truncate(answer.length);
            (self.is_readable && answer.status == Status::GOOD).then_some(data)
        }
    }

    fn disk() -> RefCell<LogicalUnit> {
        RefCell::new(LogicalUnit::new(&[1]).unwrap())
    }

    fn path<S: Store>(disk: &RefCell<LogicalUnit<S>>, address: u64) -> FakePath<'_, S> {
        FakePath {
            disk,
            nexus: nexus(address),
            deliveries: RefCell::new([Delivery::Normal].into()),
            is_readable: true,
        }
    }

    fn path_with<'a>(disk: &'a RefCell<LogicalUnit>, address: u64, deliveries: &[Delivery]) -> FakePath<'a> {
        FakePath { deliveries: RefCell::new(deliveries.iter().copied().collect()), ..path(disk, address) }
    }

    fn no_paths() -> &'static [FakePath<'static>] {
        &[]
    }

    /// Registers a port by a path of its own, whose deliveries are normal.
    fn register_port(disk: &RefCell<LogicalUnit>, address: u64, key: ReservationKey) {
        let answer = path(disk, address).execute(REGISTER_AND_IGNORE, &register(NO_KEY, key, false));
        assert_eq!(answer, Answer::Good);
    }

    /// Returns the addresses of the ports that have registered this key.
    fn registered_ports(disk: &RefCell<LogicalUnit>, key: ReservationKey) -> Vec<u64> {
        let data = path(disk, 0).read(InServiceAction::ReadFullStatus).unwrap();
        let status = FullStatus::parse(&data).unwrap();
        let of_key = status.iter().filter(|descriptor| descriptor.key == key);
        let mut ports: Vec<u64> = of_key
            .map(|descriptor| match descriptor.transport_id() {
                Ok(TransportId::Sas { address }) => address,
                other => panic!("{other:?}"),
            })
            .collect();
        ports.sort_unstable();
        ports
    }

    fn failed(made: &Result<(), ChangeError>) -> bool {
        matches!(made, Err(ChangeError::Failed(Failure::Other)))
    }

    #[test]
    fn sense_keys_of_success_are_good() {
        for key in 0..=0xf {
            let code = SenseCode::new(SenseKey::new(key), 0x26, 0);
            let expected = match key {
                0x0 => Answer::Missing,
                0x1 | 0xf => Answer::Good,
                _ => Answer::Sense(code),
            };
            assert_eq!(Answer::from_sense(Some(code)), expected);
        }
        assert_eq!(Answer::from_sense(None), Answer::Missing);
    }

    #[test]
    fn key_of_another_host_is_not_own() {
        let disk = disk();
        let paths = [path(&disk, 1), path(&disk, 2)];
        register_port(&disk, OTHER_HOST, KEY);
        assert_eq!(has_key(&paths, KEY), Some(false));
        assert_eq!(has_key(&paths, NO_KEY), Some(true), "neither is registered");
        register_port(&disk, 2, KEY);
        assert_eq!(has_key(&paths, KEY), Some(true));
        assert_eq!(has_key(&paths, NO_KEY), Some(true), "the first is not registered");
        register_port(&disk, 1, OTHER);
        assert_eq!(has_key(&paths, NO_KEY), Some(false));
        assert_eq!(has_key(&paths, KEY), Some(true));
        assert_eq!(
            (registered_ports(&disk, KEY), registered_ports(&disk, OTHER)),
            (vec![2, OTHER_HOST], vec![1])
        );
    }

    #[test]
    fn silent_paths_prove_no_key() {
        let disk = disk();
        let silent = path_with(&disk, 1, &[Delivery::Lost]);
        assert_eq!(has_key(&[silent], KEY), None);
        assert_eq!(has_key(no_paths(), KEY), None);
        let paths = [path_with(&disk, 1, &[Delivery::Lost]), path(&disk, 2)];
        assert_eq!(has_key(&paths, KEY), Some(false));
        assert!(!all_lack_key(&paths, KEY), "the first may have the key");
        assert!(all_lack_key(&paths[1..], KEY));
        assert!(!all_lack_key(no_paths(), KEY));
    }

    #[test]
    fn asking_for_a_key_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(directory.path().join("state"));
        let disk = RefCell::new(LogicalUnit::open(&[1], store).unwrap());
        let paths = [path(&disk, 1)];
        for aptpl in [true, false] {
            let parameters = register(NO_KEY, KEY, aptpl);
            assert_eq!(paths[0].execute(REGISTER_AND_IGNORE, &parameters), Answer::Good);
            for (key, expected) in [(KEY, true), (OTHER, false), (NO_KEY, false)] {
                assert_eq!(has_key(&paths, key), Some(expected));
                assert_eq!(is_aptpl_active(&paths[0]), Some(aptpl), "key {key:?}");
                let keys = paths[0].read(InServiceAction::ReadKeys).unwrap();
                assert!(Keys::parse(&keys).unwrap().iter().eq([KEY]), "key {key:?}");
            }
        }
    }

    /// Without the current APTPL, the REGISTER that asks for the key would switch it off.
    #[test]
    fn unknown_aptpl_proves_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(directory.path().join("state"));
        let disk = RefCell::new(LogicalUnit::open(&[1], store).unwrap());
        let answer = path(&disk, 1).execute(REGISTER_AND_IGNORE, &register(NO_KEY, KEY, true));
        assert_eq!(answer, Answer::Good);
        let paths = [FakePath { is_readable: false, ..path(&disk, 1) }];
        assert_eq!(has_key(&paths, KEY), None);
        assert_eq!(has_key(&paths, NO_KEY), Some(false), "key zero needs no APTPL");
        assert!(failed(&complete_registration(&paths, KEY)));
        assert_eq!(is_aptpl_active(&path(&disk, 1)), Some(true));
    }

    /// LIO refuses a REGISTER without ALL_TG_PT of a key that was registered with it; other disks accept it.
    #[test]
    fn refused_query_proves_no_key() {
        let disk = disk();
        let refusing = path_with(&disk, 1, &[Delivery::NotReady]);
        assert_eq!(has_key(&[refusing], KEY), None);
        let all_ports =
            BasicParameters { service_action_key: KEY, all_target_ports: true, ..BasicParameters::default() };
        assert_eq!(path(&disk, 1).execute(REGISTER, &all_ports.to_bytes()), Answer::Good);
        assert_eq!(has_key(&[path(&disk, 1)], KEY), Some(true));
        assert_eq!(are_registered(&[path(&disk, 1)], &all_ports), Some(true));
    }

    #[test]
    fn key_of_another_host_is_no_registration() {
        let disk = disk();
        let paths = [path(&disk, 1), path(&disk, 2)];
        let list = BasicParameters { service_action_key: KEY, ..BasicParameters::default() };
        register_port(&disk, OTHER_HOST, KEY);
        assert_eq!(are_registered(&paths, &list), Some(false));
        assert_eq!(are_unregistered(&paths), Some(true));
        assert_eq!(count_with_key(&paths, KEY), 0);
        register_port(&disk, 2, KEY);
        assert_eq!(are_registered(&paths, &list), Some(false), "the first is not registered");
        assert_eq!(are_unregistered(&paths), Some(false), "the second is registered");
        assert_eq!(count_with_key(&paths, KEY), 1);
        register_port(&disk, 1, KEY);
        assert_eq!(are_registered(&paths, &list), Some(true));
        assert_eq!(count_with_key(&paths, KEY), 2);
        let away = [path_with(&disk, 1, &[Delivery::Lost]), path_with(&disk, 2, &[Delivery::NotReady])];
        assert_eq!((are_registered(&away, &list), are_unregistered(&away)), (None, None));
        assert_eq!(registered_ports(&disk, KEY), [1, 2, OTHER_HOST]);
    }

    /// Sends a REGISTER with the TransportID of the other host, after it has registered both paths of this host.
    fn register_other_host(disk: &RefCell<LogicalUnit>, deliveries: &[Delivery]) -> Result<(), ChangeError> {
        register_port(disk, 1, KEY);
        register_port(disk, 2, KEY);
        let mut buffer = [0; 64];
        let ids = TransportIds::build(&[TransportId::Sas { address: OTHER_HOST }], &mut buffer).unwrap();
        let list = BasicParameters {
            service_action_key: KEY,
            transport_ids: Some(ids),
            ..BasicParameters::default()
        };
        let mut parameters = [0; 128];
        let length = list.write(&mut parameters).unwrap();
        register_transport_ids(&[path_with(disk, 1, deliveries), path(disk, 2)], &list, &parameters[..length])
    }

    #[test]
    fn others_are_registered_by_one_path() {
        for deliveries in [
            &[Delivery::Normal][..],
            &[Delivery::Normal, Delivery::ReplyLost, Delivery::Normal],
            &[Delivery::ReplyLost, Delivery::Normal],
        ] {
            let disk = disk();
            let made = register_other_host(&disk, deliveries);
            assert!(made.is_ok(), "{deliveries:?}: {made:?}");
            assert_eq!(registered_ports(&disk, KEY), [1, 2, OTHER_HOST], "{deliveries:?}");
        }
    }

    /// The command without an answer did not register the path: multipathd did.
    #[test]
    fn registration_by_multipathd_proves_nothing() {
        let disk = disk();
        let made =
            register_other_host(&disk, &[Delivery::Normal, Delivery::OvertakenThenLost, Delivery::Normal]);
        assert_eq!(registered_ports(&disk, KEY), [1, 2]);
        assert!(failed(&made), "{made:?}");
    }

    #[test]
    fn overtaken_registration_of_others_is_repeated() {
        let disk = disk();
        let made = register_other_host(&disk, &[Delivery::Normal, Delivery::Overtaken, Delivery::Normal]);
        assert!(made.is_ok(), "{made:?}");
        assert_eq!(registered_ports(&disk, KEY), [1, 2, OTHER_HOST]);
        // The attempts are limited.
        let disk = self::disk();
        let made = register_other_host(&disk, &[Delivery::Normal, Delivery::Overtaken].repeat(9));
        assert!(made.is_ok() == registered_ports(&disk, KEY).contains(&OTHER_HOST), "{made:?}");
    }

    #[test]
    fn registered_port_of_others_is_a_conflict() {
        let disk = disk();
        register_port(&disk, OTHER_HOST, OTHER);
        let made = register_other_host(&disk, &[Delivery::Normal]);
        assert!(made.is_err(), "{made:?}");
        assert_eq!(registered_ports(&disk, KEY), [1, 2], "the path is registered again");
    }

    #[test]
    fn registration_is_completed_on_all_paths() {
        let disk = disk();
        register_port(&disk, 2, KEY);
        let made = complete_registration(&[path(&disk, 1), path(&disk, 2), path(&disk, 3)], KEY);
        assert!(made.is_ok(), "{made:?}");
        assert_eq!(registered_ports(&disk, KEY), [1, 2, 3]);
    }

    #[test]
    fn registration_with_silent_paths_is_not_complete() {
        let silent = [Delivery::Lost];
        let disk = disk();
        register_port(&disk, 1, KEY);
        let made = complete_registration(&[path_with(&disk, 1, &silent), path_with(&disk, 2, &silent)], KEY);
        assert!(failed(&made), "all are silent: {made:?}");
        let made = complete_registration(&[path_with(&disk, 1, &silent), path(&disk, 2)], KEY);
        assert!(failed(&made), "the registered one is silent: {made:?}");
        assert!(failed(&complete_registration(no_paths(), KEY)), "there is no path");
        let not_ready = [Delivery::NotReady];
        let made =
            complete_registration(&[path_with(&disk, 1, &not_ready), path_with(&disk, 2, &not_ready)], KEY);
        assert!(failed(&made), "NOT READY does not say that a path is not registered: {made:?}");
        assert_eq!(registered_ports(&disk, KEY), [1]);
    }

    #[test]
    fn answering_paths_must_be_registered() {
        let disk = disk();
        register_port(&disk, 1, KEY);
        let made = complete_registration(&[path(&disk, 1), path_with(&disk, 2, &[Delivery::Lost])], KEY);
        assert!(failed(&made), "the second path answers READ KEYS: {made:?}");
        let away = FakePath { is_readable: false, ..path_with(&disk, 2, &[Delivery::Lost]) };
        let made = complete_registration(&[path(&disk, 1), away], KEY);
        assert!(made.is_ok(), "multipathd registers the path when it comes back: {made:?}");
        let made = complete_registration(
            &[path(&disk, 1), path_with(&disk, 2, &[Delivery::Lost, Delivery::Lost, Delivery::Normal])],
            KEY,
        );
        assert!(made.is_ok(), "the registration is repeated: {made:?}");
        assert_eq!(registered_ports(&disk, KEY), [1, 2]);
    }

    #[test]
    fn fenced_host_is_not_registered_again() {
        let disk = disk();
        register_port(&disk, OTHER_HOST, OTHER);
        let made = complete_registration(&[path(&disk, 1), path(&disk, 2)], KEY);
        assert!(made.is_ok(), "{made:?}");
        assert_eq!(registered_ports(&disk, KEY), []);
    }

    #[test]
    fn host_fenced_meanwhile_meets_conflict() {
        let disk = disk();
        register_port(&disk, OTHER_HOST, OTHER);
        register_port(&disk, 1, KEY);
        // The other host preempts the key while the second path is being registered.
        let preempted = path_with(&disk, 1, &[Delivery::Normal, Delivery::Preempted, Delivery::Normal]);
        let made = complete_registration(&[preempted, path(&disk, 2)], KEY);
        assert!(matches!(made, Err(ChangeError::Conflict)), "{made:?}");
        assert_eq!(registered_ports(&disk, KEY), []);
    }
}
