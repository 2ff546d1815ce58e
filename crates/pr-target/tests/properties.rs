//! Invariants after any sequence of commands from several nexuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail as tests do"
)]

use std::collections::BTreeMap;

use pr_target::test_utils::{KEYS, MemoryStore, RandomCommand, random_command};
use pr_target::{Access, Answer, LogicalUnit, Nexus};
use proptest::prelude::*;
use scsi_sense::pr::{
    FullStatus, InServiceAction, Keys, OutServiceAction, PersistentReserveIn, PersistentReserveOut,
    ReservationData, ReservationType, TransportId,
};
use scsi_sense::{Cdb, SenseCode, SenseKey, Status};

const TARGET_PORTS: [u16; 2] = [1, 2];

fn nexus(address: u64, port: u16) -> Nexus {
    Nexus::new(TransportId::Sas { address }, port).unwrap()
}

/// Returns the nexuses of two initiator ports at two target ports each.
fn cast() -> [Nexus; 4] {
    [nexus(0xa, 1), nexus(0xb, 1), nexus(0xa, 2), nexus(0xb, 2)]
}

/// Returns a nexus that is never registered and only reads.
fn observer() -> Nexus {
    nexus(0xe, 1)
}

/// The state of a unit as its commands report it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    generation: u32,
    /// For each nexus, by name: its key, and whether it holds the reservation.
    registrations: BTreeMap<String, (u64, bool)>,
    /// Type and key.
    reservation: Option<(ReservationType, u64)>,
    capabilities: Vec<u8>,
}

fn read(unit: &mut LogicalUnit<MemoryStore>, action: InServiceAction) -> Vec<u8> {
    let mut data = vec![0; 8192];
    let cdb = PersistentReserveIn { action, allocation_length: 8192 }.to_cdb();
    let answer = unit.execute(&observer(), &cdb, &[], &mut data);
    assert_eq!(answer.status, Status::GOOD);
    data.truncate(answer.length);
    data
}

/// Reads the whole state, and checks that its parts agree.
fn view(unit: &mut LogicalUnit<MemoryStore>) -> View {
    let data = read(unit, InServiceAction::ReadFullStatus);
    let status = FullStatus::parse(&data).unwrap();
    let data = read(unit, InServiceAction::ReadReservation);
    let reservation = ReservationData::parse(&data).unwrap();
    let data = read(unit, InServiceAction::ReadKeys);
    let keys = Keys::parse(&data).unwrap();
    assert_eq!(keys.generation(), status.generation());
    assert_eq!(reservation.generation(), status.generation());
    assert!(keys.iter().eq(status.iter().map(|one| one.key)), "the keys are those of the full status");

    let mut registrations = BTreeMap::new();
    for one in &status {
        let nexus = Nexus::new(one.transport_id().unwrap(), one.relative_port).unwrap();
        let before = registrations.insert(nexus.to_string(), (one.key.0, one.reservation_holder));
        assert_eq!(before, None, "a nexus is registered once");
        assert!(!one.key.is_zero());
    }
    let reservation = reservation.reservation().unwrap();
    let holders: Vec<_> = status.iter().filter(|one| one.reservation_holder).collect();
    match reservation {
        None => assert!(holders.is_empty()),
        Some(held) if held.kind.is_all_registrants() => {
            assert_eq!(holders.len(), registrations.len());
            assert!(!holders.is_empty() && held.key.is_zero());
        }
        Some(held) => {
            assert_eq!(holders.len(), 1, "one holder, and it is registered");
            assert_eq!(holders[0].key, held.key);
        }
    }
    if let Some(held) = reservation {
        assert!(holders.iter().all(|one| (one.kind, one.scope) == (held.kind, held.scope)));
        assert!(ReservationType::ALL.contains(&held.kind));
    }
    View {
        generation: status.generation(),
        registrations,
        reservation: reservation.map(|held| (held.kind, held.key.0)),
        capabilities: read(unit, InServiceAction::ReportCapabilities),
    }
}

/// Sends a command, and checks that the answer is consistent in itself.
fn send(unit: &mut LogicalUnit<MemoryStore>, cast: &[Nexus], command: &RandomCommand) -> Answer {
    let RandomCommand { sender, cdb, parameters } = command;
    let mut data = vec![0xee; 9000];
    let answer = unit.execute(&cast[*sender], cdb, parameters, &mut data);
    let allocation_length = match PersistentReserveIn::try_from(Cdb::new(cdb).unwrap()) {
        Ok(command) => usize::from(command.allocation_length),
        Err(_) => 0,
    };
    assert!(answer.length <= allocation_length);
    assert!(data[answer.length..].iter().all(|byte| *byte == 0xee), "nothing is written after the data");
    assert_eq!(answer.sense.is_some(), answer.status == Status::CHECK_CONDITION);
    assert!(answer.status == Status::GOOD || (answer.length == 0 && answer.abort.is_empty()));
    answer
}

fn out(command: &RandomCommand) -> Option<PersistentReserveOut> {
    Cdb::new(&command.cdb).unwrap().try_into().ok()
}

/// Returns whether SPEC_I_PT or ALL_TG_PT is set.
fn is_for_others(command: &RandomCommand) -> bool {
    command.parameters.get(20).is_some_and(|flags| flags & 0x0c != 0)
}

/// Checks the invariants of one step.
fn check_step(command: &RandomCommand, sender: &Nexus, answer: &Answer, before: &View, after: &View) {
    if answer.status != Status::GOOD {
        assert_eq!(before, after, "a failed command changes nothing: {answer:?}");
        return;
    }
    let Some(out) = out(command) else {
        assert_eq!(before, after, "an IN changes nothing");
        return;
    };
    let counted = after.generation - before.generation;
    let is_change = before.registrations != after.registrations;
    match out.action {
        OutServiceAction::Reserve | OutServiceAction::Release => {
            assert_eq!(counted, 0);
            let keys = |view: &View| view.registrations.values().map(|(key, _)| *key).collect::<Vec<_>>();
            assert_eq!(keys(before), keys(after));
        }
        OutServiceAction::Register | OutServiceAction::RegisterAndIgnoreExistingKey => {
            assert!(counted == 1 || (counted == 0 && !is_change));
            if !is_for_others(command) {
                let others = |view: &View| {
                    let mut all = view.registrations.clone();
                    all.remove(&sender.to_string());
                    all.into_iter().map(|(name, (key, _))| (name, key)).collect::<Vec<_>>()
                };
                assert_eq!(others(before), others(after), "no other registration is changed");
            }
        }
        _ => assert_eq!(counted, 1),
    }
    if out.action == OutServiceAction::Clear {
        assert!(after.registrations.is_empty() && after.reservation.is_none());
    }
    if before.reservation.is_some() && before.reservation != after.reservation {
        // It was taken, moved, released, or ended with its holder's registration: the sender must be permitted to.
        let name = sender.to_string();
        let is_own = before.registrations.get(&name).is_some_and(|(_, holds)| *holds);
        let preempts = matches!(
            out.action,
            OutServiceAction::Preempt | OutServiceAction::PreemptAndAbort | OutServiceAction::Clear
        );
        // ALL_TG_PT unregisters at the other target port, too.
        assert!(is_own || preempts || is_for_others(command), "{out}");
    }
}

proptest! {
    #[test]
    fn random_commands_keep_invariants(
        commands in prop::collection::vec(any::<u64>(), 0..120),
        nexuses in 2..=4_usize,
    ) {
        let cast = &cast()[..nexuses];
        let store = MemoryStore::default();
        let mut unit = LogicalUnit::open(&TARGET_PORTS, store.clone()).unwrap();
        let mut before = view(&mut unit);
        for entropy in commands {
            let command = random_command(entropy, cast);
            let sender = cast[command.sender];
            // Clears old conditions, so that the command is performed and only new conditions are seen.
            for nexus in cast {
                while unit.take_unit_attention(nexus).is_some() {}
            }
            let answer = send(&mut unit, cast, &command);
            let after = view(&mut unit);
            check_step(&command, &sender, &answer, &before, &after);

            prop_assert_eq!(unit.take_unit_attention(&sender), None, "the sender is told nothing");
            for nexus in cast {
                let told = std::iter::from_fn(|| unit.take_unit_attention(nexus)).count();
                prop_assert!(told <= 1);
                prop_assert!(told == 0 || before.registrations.contains_key(&nexus.to_string()));
                prop_assert!(told == 0 || answer.status == Status::GOOD);
                // A nexus whose registration another one removed is told.
                let name = nexus.to_string();
                let is_lost = before.registrations.contains_key(&name) && !after.registrations.contains_key(&name);
                let by_all_target_ports = nexus.initiator() == sender.initiator() && is_for_others(&command);
                prop_assert!(!is_lost || *nexus == sender || told == 1 || by_all_target_ports, "{}", name);
            }

            // After a power loss, either everything or nothing is restored.
            let is_kept = after.capabilities[3] & 0x01 != 0;
            let mut restored = LogicalUnit::open(&TARGET_PORTS, store.clone()).unwrap();
            let again = view(&mut restored);
            prop_assert_eq!(again.generation, 0);
            if is_kept {
                prop_assert_eq!(&again.registrations, &after.registrations);
                prop_assert_eq!(again.reservation, after.reservation);
                prop_assert_eq!(again.capabilities, after.capabilities.clone());
            } else {
                prop_assert!(again.registrations.is_empty() && again.reservation.is_none());
            }
            before = after;
        }
    }

    /// The unit and the store agree after every GOOD, whichever saves fail.
    #[test]
    fn failing_store_never_diverges_from_unit(
        commands in prop::collection::vec(any::<(u64, bool)>(), 0..120),
    ) {
        let cast = cast();
        let store = MemoryStore::default();
        let mut unit = LogicalUnit::open(&TARGET_PORTS, store.clone()).unwrap();
        let mut before = view(&mut unit);
        for (entropy, fails) in commands {
            let command = random_command(entropy, &cast);
            store.set_failing(fails);
            let answer = send(&mut unit, &cast, &command);
            store.set_failing(false);
            let is_save_error = answer.sense == Some(SenseCode::INTERNAL_TARGET_FAILURE);
            prop_assert_eq!(unit.take_save_error().is_some(), is_save_error);
            prop_assert!(fails || !is_save_error);
            let after = view(&mut unit);
            if answer.status != Status::GOOD {
                prop_assert_eq!(&before, &after);
            } else if after.capabilities[3] & 0x01 != 0 {
                let again = view(&mut LogicalUnit::open(&TARGET_PORTS, store.clone()).unwrap());
                prop_assert_eq!(&again.registrations, &after.registrations, "saved before GOOD");
                prop_assert_eq!(again.reservation, after.reservation);
            }
            before = after;
        }
    }

    /// A pending condition ends a command without effect, unless the command conflicts.
    #[test]
    fn pending_unit_attention_prevents_any_effect(
        commands in prop::collection::vec(any::<u64>(), 0..120),
    ) {
        let cast = cast();
        let mut unit = LogicalUnit::open(&TARGET_PORTS, MemoryStore::default()).unwrap();
        for entropy in commands {
            let command = random_command(entropy, &cast);
            let mut other = unit.clone();
            let pending: Vec<_> =
                std::iter::from_fn(|| other.take_unit_attention(&cast[command.sender])).collect();
            let before = view(&mut unit);
            let answer = send(&mut unit, &cast, &command);
            match answer.sense {
                Some(code) if code.key == SenseKey::UNIT_ATTENTION => {
                    prop_assert_eq!(Some(&code), pending.first());
                    prop_assert_eq!(view(&mut unit), before);
                }
                _ => prop_assert!(pending.is_empty() || answer.status == Status::RESERVATION_CONFLICT),
            }
        }
    }

    #[test]
    fn arbitrary_cdb_and_list_never_panic(
        setting in prop::collection::vec(any::<u64>(), 0..20),
        cdb in prop::collection::vec(any::<u8>(), 0..40),
        opcode in prop_oneof![Just(None), Just(Some(0x5e)), Just(Some(0x5f))],
        action in prop_oneof![Just(None), (0..9_u8).prop_map(Some)],
        parameters in prop::collection::vec(any::<u8>(), 0..100),
        data_len in 0..300_usize,
    ) {
        let cast = cast();
        let mut unit = LogicalUnit::new(&TARGET_PORTS).unwrap();
        for entropy in setting {
            let RandomCommand { sender, cdb, parameters } = random_command(entropy, &cast);
            let _ = unit.execute(&cast[sender], &cdb, &parameters, &mut [0; 8192]);
        }
        let mut cdb = cdb;
        if let (Some(opcode), Some(byte)) = (opcode, cdb.get_mut(0)) {
            *byte = opcode;
        }
        if let (Some(action), Some(byte)) = (action, cdb.get_mut(1)) {
            *byte = action;
        }
        if cdb.len() > 9 && opcode == Some(0x5f) {
            // The real length, otherwise hardly any list would be valid.
            cdb[5..9].copy_from_slice(&u32::try_from(parameters.len()).unwrap().to_be_bytes());
            cdb[9] = 0;
        }
        let mut data = vec![0xee; data_len];
        let answer = unit.execute(&cast[0], &cdb, &parameters, &mut data);
        prop_assert!(data[answer.length..].iter().all(|byte| *byte == 0xee));
        let access = unit.allows(&cast[1], &cdb);
        prop_assert_ne!(access, Access::InformationLost);
        let _ = unit.admit(&cast[1], &cdb);
    }

    #[test]
    fn arbitrary_saved_bytes_are_damaged(mut bytes in prop::collection::vec(any::<u8>(), 0..200), titled: bool) {
        if titled {
            bytes.splice(0..0, *b"pr-target state, version 1\naptpl 1\nregistration ");
        }
        let store = MemoryStore::default();
        store.set_content(Some(bytes));
        prop_assert!(LogicalUnit::open(&TARGET_PORTS, store).is_err());
    }
}

/// The random commands are useful only if they reach every service action, type and error.
#[test]
fn random_commands_reach_every_result() {
    let cast = cast();
    let mut unit = LogicalUnit::open(&TARGET_PORTS, MemoryStore::default()).unwrap();
    let mut ends: BTreeMap<(u8, u8, Option<SenseCode>), u32> = BTreeMap::new();
    let mut good: BTreeMap<(u8, u8), u32> = BTreeMap::new();
    let mut held: BTreeMap<Option<u8>, u32> = BTreeMap::new();
    for entropy in 0..20_000 {
        let command = random_command(entropy, &cast);
        let answer = send(&mut unit, &cast, &command);
        let action = (command.cdb[0], command.cdb[1]);
        *ends.entry((action.0, answer.status.0, answer.sense)).or_default() += 1;
        *good.entry(action).or_default() += u32::from(answer.status == Status::GOOD);
        let data = read(&mut unit, InServiceAction::ReadReservation);
        let reservation = ReservationData::parse(&data).unwrap().reservation().unwrap();
        *held.entry(reservation.map(|held| held.kind.code())).or_default() += 1;
    }
    for action in (0..4).map(|action| (0x5e, action)).chain((0..8).map(|action| (0x5f, action))) {
        assert!(good[&action] >= 50, "{action:02x?}: {good:?}");
    }
    for kind in [1, 3, 5, 6, 7, 8] {
        assert!(held[&Some(kind)] >= 1000, "type {kind}: {held:?}");
    }
    for code in [
        SenseCode::INVALID_FIELD_IN_CDB,
        SenseCode::INVALID_FIELD_IN_PARAMETER_LIST,
        SenseCode::PARAMETER_LIST_LENGTH_ERROR,
        SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION,
        SenseCode::RESERVATIONS_PREEMPTED,
        SenseCode::RESERVATIONS_RELEASED,
        SenseCode::REGISTRATIONS_PREEMPTED,
    ] {
        assert!(ends.keys().any(|(.., sense)| *sense == Some(code)), "{code}");
    }
    let total: u32 = good.values().sum();
    assert!(total > 20_000 / 3, "one of three commands succeeds: {total}");
}

#[test]
fn random_command_is_deterministic() {
    let cast = cast();
    for entropy in 0..1000 {
        let command = random_command(entropy, &cast);
        assert_eq!(command, random_command(entropy, &cast));
        assert!(command.sender < cast.len());
        if let Some(out) = out(&command) {
            assert_eq!(usize::try_from(out.parameter_list_length).unwrap(), command.parameters.len());
        }
    }
    assert_eq!(KEYS.iter().filter(|key| key.is_zero()).count(), 0);
}
