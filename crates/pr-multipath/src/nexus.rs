//! What is put to the paths of a map themselves, each of which is an I_T nexus to the disk.
//!
//! To a disk a registration belongs to a nexus. The library knows a key, the one that multipathd has on record: neither
//! that record nor READ KEYS says that this host is registered, since another host may have registered the same key, and a
//! record outlives a registration that was preempted. So the nexus is asked, by a REGISTER of the key that it would have
//! ([`has_key`]).

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
    /// Sends a change by this nexus alone. The command's length is that of `parameters`.
    fn change(&self, command: PersistentReserveOut, parameters: &[u8]) -> Answered;

    /// Returns the data of PERSISTENT RESERVE IN; `None` if this nexus does not get them.
    fn read(&self, action: InServiceAction) -> Option<Vec<u8>>;
}

/// A path's answer to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    Good,
    Sense(SenseCode),
    Status(Status),
    /// It did not answer.
    Nothing,
}

impl Answered {
    /// Returns the answer that is CHECK CONDITION with this sense.
    pub(crate) fn of(code: Option<SenseCode>) -> Self {
        match code {
            Some(code) if matches!(code.key, SenseKey::RECOVERED_ERROR | SenseKey::COMPLETED) => Self::Good,
            Some(code) if code.key.is_failure() => Self::Sense(code),
            // NO SENSE says nothing, and is no reason to give to a guest.
            _ => Self::Nothing,
        }
    }

    /// Returns whether a nexus that was registered is no longer.
    pub(crate) fn is_fenced(self) -> bool {
        // LIO says NOT READY to a nexus that is not registered.
        matches!(self, Self::Status(Status::RESERVATION_CONFLICT))
            || matches!(self, Self::Sense(code) if code.key == SenseKey::NOT_READY)
    }
}

/// The key of a nexus without a registration.
pub(crate) const NO_KEY: ReservationKey = ReservationKey(0);

/// REGISTER to a single nexus; the length is that of the parameters.
pub(crate) const REGISTER: PersistentReserveOut = PersistentReserveOut {
    action: OutServiceAction::Register,
    scope: Scope::LogicalUnit,
    kind: ReservationType::Other(0),
    parameter_list_length: 0,
};

const REGISTER_AND_IGNORE: PersistentReserveOut =
    PersistentReserveOut { action: OutServiceAction::RegisterAndIgnoreExistingKey, ..REGISTER };

/// How often a nexus is tried that multipathd registers in between.
const TRIES: usize = 3;

/// Returns whether one of these nexuses is registered with `key`, or, if that is [`NO_KEY`], is not registered; `None` if no
/// nexus says so.
///
/// The question is a REGISTER of that key in place of itself. A nexus that has another key, or none, answers RESERVATION
/// CONFLICT and is unchanged. One that has it answers GOOD, and keeps it: at most PRGENERATION is counted up (SPC-4 clause
/// 5.13.7, table "Register behaviors"; for key zero the table says "do nothing except return GOOD status"). So both answers
/// are the disk's own judgement of this nexus. READ FULL STATUS would have to be compared with this host's TransportIDs,
/// which Linux does not tell for all transports, and is optional; RELEASE with another type than the reservation's changes
/// nothing either, but LIO does not look at the key of a nexus that does not hold the reservation.
pub(crate) fn has_key(nexuses: &[impl Nexus], key: ReservationKey) -> Option<bool> {
    let mut said = None;
    for nexus in nexuses {
        match nexus.change(REGISTER, &register(key, key, key != NO_KEY && is_aptpl_active(nexus))) {
            Answered::Good => return Some(true),
            Answered::Status(Status::RESERVATION_CONFLICT) => said = Some(false),
            // It is away, or standing by.
            Answered::Status(_) | Answered::Sense(_) | Answered::Nothing => {}
        }
    }
    said
}

/// Returns whether all nexuses say that they do not have `key`; `false` if one of them is silent.
pub(crate) fn lack_key(nexuses: &[impl Nexus], key: ReservationKey) -> bool {
    !nexuses.is_empty()
        && nexuses.iter().all(|nexus| has_key(std::slice::from_ref(nexus), key) == Some(false))
}

/// Returns whether the disk keeps reservations over a loss of power, which each REGISTER decides anew.
pub(crate) fn is_aptpl_active(nexus: &impl Nexus) -> bool {
    nexus
        .read(InServiceAction::ReportCapabilities)
        .and_then(|data| Capabilities::parse(&data).ok())
        .is_some_and(|capabilities| capabilities.persist_through_power_loss_activated)
}

/// Registers by one nexus the TransportIDs of a REGISTER that has been made, without them, on all nexuses. `parameters` are
/// those of the REGISTER, and `list` the same.
///
/// The library cannot: its threads share the parameter list, and the first to be started takes SPEC_I_PT out of it
/// for all. The command then succeeds, and nobody else is registered. A disk takes TransportIDs only from a nexus that is
/// not registered yet, so the nexus is unregistered first; nothing is lost by that, as a moment ago it was not. Meanwhile
/// multipathd may register it, so that a registered nexus does not prove that the disk took the TransportIDs.
pub(crate) fn register_others(
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
                Answered::Good => {}
                // It may have been done all the same.
                Answered::Nothing if nexus.change(REGISTER, &redo) == Answered::Nothing => return failed,
                _ => break,
            }
            let answered = nexus.change(REGISTER, parameters);
            if answered == Answered::Good {
                return Ok(());
            }
            let again = nexus.change(REGISTER, &redo);
            let is_registered = again == Answered::Status(Status::RESERVATION_CONFLICT);
            match answered {
                // By the command that was not answered, or by multipathd.
                Answered::Nothing if is_registered && are_registered(nexus, list.transport_ids, key) => {
                    return Ok(());
                }
                Answered::Status(Status::RESERVATION_CONFLICT) if is_registered => {}
                Answered::Status(Status::RESERVATION_CONFLICT) => return Err(ChangeError::Conflict),
                Answered::Sense(code) if code.key == SenseKey::ILLEGAL_REQUEST => {
                    return Err(ChangeError::Rejected(code));
                }
                _ => return failed,
            }
        }
    }
    failed
}

/// Returns whether the disk has all these initiator ports registered with `key`. A disk without READ FULL STATUS cannot say so.
fn are_registered(nexus: &impl Nexus, ids: Option<TransportIds<'_>>, key: ReservationKey) -> bool {
    let data = nexus.read(InServiceAction::ReadFullStatus).unwrap_or_default();
    let Ok(status) = FullStatus::parse(&data) else { return false };
    ids.is_none_or(|ids| {
        ids.iter().all(|id| {
            status.iter().any(|other| other.key == key && other.transport_id().is_ok_and(|other| other == id))
        })
    })
}

/// Registers all nexuses again after a PREEMPT of the own key, by which the disk has unregistered all but the nexus that it
/// came by. That nexus must be registered still: another host may have preempted the key meanwhile.
///
/// Fails if that cannot be told, or if a nexus that answers does not have the key in the end. Nexuses that are away are
/// registered by multipathd when they come back.
pub(crate) fn complete_registration(nexuses: &[impl Nexus], key: ReservationKey) -> Result<(), ChangeError> {
    let failed = Err(ChangeError::Failed(Failure::Other));
    let aptpl = nexuses.iter().any(is_aptpl_active);
    let same = register(key, key, aptpl);
    let answers: Vec<_> = nexuses.iter().map(|nexus| (nexus, nexus.change(REGISTER, &same))).collect();
    let Some((first, _)) = answers.iter().find(|(_, answered)| *answered == Answered::Good) else {
        // One that is silent may be the one that is registered. If none is, then the disk has done what a PREEMPT of the own
        // key says where there is no reservation (LIO does), or another host has preempted this one since.
        let is_gone = !answers.is_empty() && answers.iter().all(|(_, answered)| answered.is_fenced());
        return if is_gone { Ok(()) } else { failed };
    };
    let others = answers.iter().filter(|(_, answered)| *answered != Answered::Good).map(|(nexus, _)| *nexus);
    let others: Vec<_> = others.collect();
    let unregistered = others.iter().filter(|nexus| !register_if_there(**nexus, key, aptpl)).count();
    if first.change(REGISTER, &same).is_fenced() {
        for nexus in others {
            nexus.change(REGISTER, &register(key, NO_KEY, aptpl));
        }
        return Err(ChangeError::Conflict);
    }
    if unregistered == 0 { Ok(()) } else { failed }
}

/// Registers a nexus; `false` if it is there and is not registered afterwards.
fn register_if_there(nexus: &impl Nexus, key: ReservationKey, aptpl: bool) -> bool {
    let parameters = register(NO_KEY, key, aptpl);
    (0..TRIES).any(|_| {
        nexus.change(REGISTER_AND_IGNORE, &parameters) == Answered::Good
            || nexus.read(InServiceAction::ReadKeys).is_none()
    })
}

/// The parameter list of a REGISTER without TransportIDs.
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
    /// Of the other host.
    const ELSEWHERE: u64 = 0xff;

    /// What happens to a change on its way.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Way {
        Open,
        /// The disk executes it, and the answer is lost.
        Unanswered,
        /// It does not reach the disk.
        Lost,
        /// multipathd registers this path with the key just before.
        Overtaken,
        /// And it does not reach the disk.
        OvertakenAndLost,
        /// The other host preempts the key just before.
        Preempted,
    }

    /// A path to a disk in software.
    struct FakePath<'a, S: Store = Volatile> {
        disk: &'a RefCell<LogicalUnit<S>>,
        nexus: pr_target::Nexus,
        /// Of the next changes; those after them go as the last does.
        ways: RefCell<VecDeque<Way>>,
        is_readable: bool,
    }

    fn nexus(address: u64) -> pr_target::Nexus {
        pr_target::Nexus::new(TransportId::Sas { address }, 1).unwrap()
    }

    impl<S: Store> FakePath<'_, S> {
        fn execute(&self, command: PersistentReserveOut, parameters: &[u8]) -> Answered {
            let parameter_list_length = parameters.len().try_into().unwrap();
            let cdb = PersistentReserveOut { parameter_list_length, ..command }.to_cdb();
            let mut disk = self.disk.borrow_mut();
            while disk.take_unit_attention(&self.nexus).is_some() {}
            let answer = disk.execute(&self.nexus, &cdb, parameters, &mut []);
            match (answer.status, answer.sense) {
                (Status::GOOD, _) => Answered::Good,
                (_, Some(code)) => Answered::Sense(code),
                (status, None) => Answered::Status(status),
            }
        }
    }

    impl<S: Store> Nexus for FakePath<'_, S> {
        fn change(&self, command: PersistentReserveOut, parameters: &[u8]) -> Answered {
            let way = {
                let mut ways = self.ways.borrow_mut();
                if ways.len() > 1 { ways.pop_front().unwrap() } else { ways[0] }
            };
            if matches!(way, Way::Overtaken | Way::OvertakenAndLost) {
                self.execute(REGISTER_AND_IGNORE, &register(NO_KEY, KEY, false));
            }
            if way == Way::Preempted {
                let other = FakePath { nexus: nexus(ELSEWHERE), ways: RefCell::default(), ..*self };
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
                assert_eq!(other.execute(preempt, &parameters.to_bytes()), Answered::Good);
            }
            if matches!(way, Way::Lost | Way::OvertakenAndLost) {
                return Answered::Nothing;
            }
            let answered = self.execute(command, parameters);
            if way == Way::Unanswered { Answered::Nothing } else { answered }
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
        FakePath { disk, nexus: nexus(address), ways: RefCell::new([Way::Open].into()), is_readable: true }
    }

    fn by_ways<'a>(disk: &'a RefCell<LogicalUnit>, address: u64, ways: &[Way]) -> FakePath<'a> {
        FakePath { ways: RefCell::new(ways.iter().copied().collect()), ..path(disk, address) }
    }

    fn no_paths() -> &'static [FakePath<'static>] {
        &[]
    }

    /// Registers a port, whatever happens to the paths of the test.
    fn has_registered(disk: &RefCell<LogicalUnit>, address: u64, key: ReservationKey) {
        let answered = path(disk, address).execute(REGISTER_AND_IGNORE, &register(NO_KEY, key, false));
        assert_eq!(answered, Answered::Good);
    }

    /// The addresses of the ports that have registered this key.
    fn registered(disk: &RefCell<LogicalUnit>, key: ReservationKey) -> Vec<u64> {
        let data = path(disk, 0).read(InServiceAction::ReadFullStatus).unwrap();
        let status = FullStatus::parse(&data).unwrap();
        let of_key = status.iter().filter(|one| one.key == key);
        let mut ports: Vec<u64> = of_key
            .map(|one| match one.transport_id() {
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
    fn sense_keys_of_done_commands_are_good() {
        for key in 0..=0xf {
            let code = SenseCode::new(SenseKey::new(key), 0x26, 0);
            let expected = match key {
                0x0 => Answered::Nothing,
                0x1 | 0xf => Answered::Good,
                _ => Answered::Sense(code),
            };
            assert_eq!(Answered::of(Some(code)), expected);
        }
        assert_eq!(Answered::of(None), Answered::Nothing);
    }

    #[test]
    fn keys_of_others_are_not_had() {
        let disk = disk();
        let paths = [path(&disk, 1), path(&disk, 2)];
        has_registered(&disk, ELSEWHERE, KEY);
        assert_eq!(has_key(&paths, KEY), Some(false));
        assert_eq!(has_key(&paths, NO_KEY), Some(true), "they are not registered");
        has_registered(&disk, 2, KEY);
        assert_eq!(has_key(&paths, KEY), Some(true));
        assert_eq!(has_key(&paths, NO_KEY), Some(true), "one is not");
        has_registered(&disk, 1, OTHER);
        assert_eq!(has_key(&paths, NO_KEY), Some(false));
        assert_eq!(has_key(&paths, KEY), Some(true));
        assert_eq!((registered(&disk, KEY), registered(&disk, OTHER)), (vec![2, ELSEWHERE], vec![1]));
    }

    #[test]
    fn silent_paths_say_nothing_of_keys() {
        let disk = disk();
        let silent = by_ways(&disk, 1, &[Way::Lost]);
        assert_eq!(has_key(&[silent], KEY), None);
        assert_eq!(has_key(no_paths(), KEY), None);
        let paths = [by_ways(&disk, 1, &[Way::Lost]), path(&disk, 2)];
        assert_eq!(has_key(&paths, KEY), Some(false));
        assert!(!lack_key(&paths, KEY), "the first may have it");
        assert!(lack_key(&paths[1..], KEY));
        assert!(!lack_key(no_paths(), KEY));
    }

    #[test]
    fn a_question_for_keys_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(directory.path().join("state"));
        let disk = RefCell::new(LogicalUnit::open(&[1], store).unwrap());
        let paths = [path(&disk, 1)];
        for aptpl in [true, false] {
            let parameters = register(NO_KEY, KEY, aptpl);
            assert_eq!(paths[0].execute(REGISTER_AND_IGNORE, &parameters), Answered::Good);
            for (key, expected) in [(KEY, true), (OTHER, false), (NO_KEY, false)] {
                assert_eq!(has_key(&paths, key), Some(expected));
                assert_eq!(is_aptpl_active(&paths[0]), aptpl, "key {key:?}");
                let keys = paths[0].read(InServiceAction::ReadKeys).unwrap();
                assert!(Keys::parse(&keys).unwrap().iter().eq([KEY]), "key {key:?}");
            }
        }
    }

    /// A REGISTER with the TransportID of the other host, of which both paths have been registered.
    fn register_elsewhere(disk: &RefCell<LogicalUnit>, ways: &[Way]) -> Result<(), ChangeError> {
        has_registered(disk, 1, KEY);
        has_registered(disk, 2, KEY);
        let mut buffer = [0; 64];
        let ids = TransportIds::build(&[TransportId::Sas { address: ELSEWHERE }], &mut buffer).unwrap();
        let list = BasicParameters {
            service_action_key: KEY,
            transport_ids: Some(ids),
            ..BasicParameters::default()
        };
        let mut parameters = [0; 128];
        let length = list.write(&mut parameters).unwrap();
        register_others(&[by_ways(disk, 1, ways), path(disk, 2)], &list, &parameters[..length])
    }

    #[test]
    fn others_are_registered_by_one_path() {
        for ways in
            [&[Way::Open][..], &[Way::Open, Way::Unanswered, Way::Open], &[Way::Unanswered, Way::Open]]
        {
            let disk = disk();
            let made = register_elsewhere(&disk, ways);
            assert!(made.is_ok(), "{ways:?}: {made:?}");
            assert_eq!(registered(&disk, KEY), [1, 2, ELSEWHERE], "{ways:?}");
        }
    }

    /// The path is registered, and not by the command that had no answer.
    #[test]
    fn multipathds_registration_is_not_that_of_others() {
        let disk = disk();
        let made = register_elsewhere(&disk, &[Way::Open, Way::OvertakenAndLost, Way::Open]);
        assert_eq!(registered(&disk, KEY), [1, 2]);
        assert!(failed(&made), "{made:?}");
    }

    #[test]
    fn overtaken_registration_of_others_is_repeated() {
        let disk = disk();
        let made = register_elsewhere(&disk, &[Way::Open, Way::Overtaken, Way::Open]);
        assert!(made.is_ok(), "{made:?}");
        assert_eq!(registered(&disk, KEY), [1, 2, ELSEWHERE]);
        // But not for ever.
        let disk = self::disk();
        let made = register_elsewhere(&disk, &[Way::Open, Way::Overtaken].repeat(9));
        assert!(made.is_ok() == registered(&disk, KEY).contains(&ELSEWHERE), "{made:?}");
    }

    #[test]
    fn registered_others_are_a_conflict() {
        let disk = disk();
        has_registered(&disk, ELSEWHERE, OTHER);
        let made = register_elsewhere(&disk, &[Way::Open]);
        assert!(made.is_err(), "{made:?}");
        assert_eq!(registered(&disk, KEY), [1, 2], "the path is registered again");
    }

    #[test]
    fn registration_is_completed_on_all_paths() {
        let disk = disk();
        has_registered(&disk, 2, KEY);
        let made = complete_registration(&[path(&disk, 1), path(&disk, 2), path(&disk, 3)], KEY);
        assert!(made.is_ok(), "{made:?}");
        assert_eq!(registered(&disk, KEY), [1, 2, 3]);
    }

    #[test]
    fn registration_with_silent_paths_is_not_complete() {
        let silent = [Way::Lost];
        let disk = disk();
        has_registered(&disk, 1, KEY);
        let made = complete_registration(&[by_ways(&disk, 1, &silent), by_ways(&disk, 2, &silent)], KEY);
        assert!(failed(&made), "all are silent: {made:?}");
        let made = complete_registration(&[by_ways(&disk, 1, &silent), path(&disk, 2)], KEY);
        assert!(failed(&made), "the registered one is silent: {made:?}");
        assert!(failed(&complete_registration(no_paths(), KEY)), "there is none");
        assert_eq!(registered(&disk, KEY), [1]);
    }

    #[test]
    fn paths_that_are_there_must_be_registered() {
        let disk = disk();
        has_registered(&disk, 1, KEY);
        let made = complete_registration(&[path(&disk, 1), by_ways(&disk, 2, &[Way::Lost])], KEY);
        assert!(failed(&made), "it answers to questions: {made:?}");
        let away = FakePath { is_readable: false, ..by_ways(&disk, 2, &[Way::Lost]) };
        let made = complete_registration(&[path(&disk, 1), away], KEY);
        assert!(made.is_ok(), "multipathd registers it when it is back: {made:?}");
        let made = complete_registration(
            &[path(&disk, 1), by_ways(&disk, 2, &[Way::Lost, Way::Lost, Way::Open])],
            KEY,
        );
        assert!(made.is_ok(), "it was tried again: {made:?}");
        assert_eq!(registered(&disk, KEY), [1, 2]);
    }

    #[test]
    fn fenced_hosts_are_not_registered_again() {
        let disk = disk();
        has_registered(&disk, ELSEWHERE, OTHER);
        let made = complete_registration(&[path(&disk, 1), path(&disk, 2)], KEY);
        assert!(made.is_ok(), "{made:?}");
        assert_eq!(registered(&disk, KEY), []);
    }

    #[test]
    fn hosts_fenced_meanwhile_meet_a_conflict() {
        let disk = disk();
        has_registered(&disk, ELSEWHERE, OTHER);
        has_registered(&disk, 1, KEY);
        // While the second path is registered, the first is preempted.
        let preempted = by_ways(&disk, 1, &[Way::Open, Way::Preempted, Way::Open]);
        let made = complete_registration(&[preempted, path(&disk, 2)], KEY);
        assert!(matches!(made, Err(ChangeError::Conflict)), "{made:?}");
        assert_eq!(registered(&disk, KEY), []);
    }
}
