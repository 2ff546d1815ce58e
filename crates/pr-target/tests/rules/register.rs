//! REGISTER and REGISTER AND IGNORE EXISTING KEY: clauses 5.13.7 and 6.16.3.

use pr_target::{LogicalUnit, MAX_REGISTRATIONS, Nexus};
use scsi_sense::pr::TransportId;

use crate::bench::*;

/// Table 67, row by row, without SPEC_I_PT; and the notes on PRGENERATION of clause 6.15.2.
#[test]
fn register_follows_table_67() {
    // A's key before, RESERVATION KEY, SERVICE ACTION RESERVATION KEY; the result, A's key afterwards.
    for (before, key, new_key, expected, after) in [
        (None, 0, 0, End::Good, None),
        (None, 0, KA, End::Good, Some(KA)),
        (None, KA, 0, End::Conflict, None),
        (None, KA, KA, End::Conflict, None),
        (Some(KA), 0, 0, End::Conflict, Some(KA)),
        (Some(KA), 0, KB, End::Conflict, Some(KA)),
        (Some(KA), KB, 0, End::Conflict, Some(KA)),
        (Some(KA), KB, KB, End::Conflict, Some(KA)),
        (Some(KA), KA, 0, End::Good, None),
        (Some(KA), KA, KA, End::Good, Some(KA)),
        (Some(KA), KA, KB, End::Good, Some(KB)),
    ] {
        let case = format!("{before:?}, {key:#x}, {new_key:#x}");
        let mut bench = Bench::new();
        bench.register(B, KB);
        if let Some(before) = before {
            bench.register(A, before);
        }
        let generation = bench.view().generation;
        assert_eq!(bench.out(A, REGISTER, 0, key, new_key), expected, "{case}");
        let view = bench.view();
        let mut registered = vec![(B, KB)];
        registered.extend(after.map(|key| (A, key)));
        registered.sort_unstable();
        assert_eq!(view.registered(), registered, "{case}");
        let did_something = expected == End::Good && (before.is_some() || after.is_some());
        assert_eq!(view.generation, generation + u32::from(did_something), "{case}");
    }
}

/// Table 67: SPEC_I_PT.
#[test]
fn register_with_transport_ids_follows_table_67() {
    for (registered, key, new_key, expected, after) in [
        (false, 0, 0, End::Good, vec![]),
        (false, 0, KA, End::Good, vec![(A, KA), (B, KA), (C, KA)]),
        (false, KA, KA, End::Conflict, vec![]),
        (true, KB, KA, End::Conflict, vec![(A, KA)]),
        (true, KA, 0, INVALID_LIST, vec![(A, KA)]),
        (true, KA, KB, INVALID_LIST, vec![(A, KA)]),
    ] {
        let mut bench = Bench::new();
        if registered {
            bench.register(A, KA);
        }
        let before = bench.view();
        assert_eq!(bench.end_of(A, REGISTER, 0, &specifying(key, new_key, false, &[B, C])), expected);
        let view = bench.view();
        assert_eq!(view.registered(), after, "{registered} {key:#x} {new_key:#x}");
        let increment = u32::from(after.len() == 3);
        assert_eq!(view.generation, before.generation + increment, "once for all of them");
    }
}

/// Table 68.
#[test]
fn register_and_ignore_follows_table_68() {
    for (before, new_key, after) in
        [(None, 0, None), (None, KA, Some(KA)), (Some(KB), 0, None), (Some(KB), KA, Some(KA))]
    {
        for ignored in [0, KA, KB, KC] {
            let mut bench = Bench::new();
            if let Some(before) = before {
                bench.register(A, before);
            }
            let generation = bench.view().generation;
            assert_eq!(bench.out(A, REGISTER_AND_IGNORE, 0, ignored, new_key), End::Good);
            let view = bench.view();
            assert_eq!(view.registered(), after.map(|key| (A, key)).into_iter().collect::<Vec<_>>());
            let did_something = before.is_some() || after.is_some();
            assert_eq!(view.generation, generation + u32::from(did_something));
        }
    }
}

/// Clause 5.13.7: "regardless of any persistent reservations", "without changing any persistent reservation that may
/// exist", SCOPE and TYPE ignored, no effect on other registrations, and several nexuses may have one key.
#[test]
fn register_changes_only_the_registration() {
    for kind in ALL_TYPES {
        let mut bench = Bench::reserved(kind, &[(A, KA)]);
        assert_eq!(bench.out(B, REGISTER, 0xff, 0, KB), End::Good, "type {kind}");
        assert_eq!(bench.out(C, REGISTER, 0x2f, 0, KB), End::Good);
        assert_eq!(bench.out(A, REGISTER, 0, KA, KB), End::Good, "the holder's");
        assert_eq!(bench.out(C, REGISTER, 0, KB, KC), End::Good);
        let view = bench.view();
        assert_eq!(view.registered(), [(A, KB), (B, KB), (C, KC)]);
        let (holders, key) = if kind > 6 { (vec![A, B, C], 0) } else { (vec![A], KB) };
        assert_eq!(view.holders(), holders);
        assert_eq!(view.reservation, Some((kind, key)), "it is held under the new key");
        assert_eq!(bench.attentions([A, B, C]), [[], [], []]);
    }
}

/// Table 67, note b.
#[test]
fn named_initiator_ports_must_be_unregistered() {
    let mut bench = Bench::new();
    bench.register(B, KB);
    let before = bench.view();
    assert_eq!(bench.end_of(A, REGISTER, 0, &specifying(0, KA, false, &[C, B])), INVALID_LIST);
    assert_eq!(bench.view(), before, "none of the others is registered");
    assert_eq!(bench.end_of(A, REGISTER, 0, &specifying(0, KA, false, &[C, A, C])), End::Good);
    assert_eq!(
        bench.view().registered(),
        [(A, KA), (B, KB), (C, KA)],
        "the sender itself and repeated ports are allowed"
    );
    assert_eq!(bench.end_of(D, REGISTER, 0, &specifying(0, KD, false, &[])), End::Good);
    assert_eq!(bench.view().registered().last(), Some(&(D, KD)), "an empty list is valid, too");
}

/// Clause 6.16.3: SPEC_I_PT with any other service action, and lengths that do not agree.
#[test]
fn invalid_parameter_lists_are_refused() {
    let mut bench = Bench::new();
    bench.register(A, KA);
    for action in [REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT] {
        for length in [24, 25, 28, 48] {
            let mut list = basic_with(KB, KB, 0x08);
            list.resize(length, 0);
            let end = bench.end_of(A, action, 0xff, &list);
            assert_eq!(end, End::Conflict, "SAM-5 clause 5.3.3: a wrong key comes first, {action}, {length}");
        }
    }
    for action in [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE] {
        assert_eq!(bench.end_of(A, action, 1, &specifying(KA, KA, false, &[B])), INVALID_LIST, "{action}");
    }
    for action in [REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE] {
        for length in [0, 1, 8, 16, 23, 25, 28, 48, 4096] {
            let mut list = basic(KA, KB);
            list.resize(length, 0);
            assert_eq!(bench.end_of(A, action, 1, &list), LIST_LENGTH, "{action}, {length}");
        }
    }
    let list = specifying(0, KB, false, &[C, D]);
    for (length, expected) in [(27, LIST_LENGTH), (28, INVALID_LIST), (52, INVALID_LIST), (75, INVALID_LIST)]
    {
        assert_eq!(bench.end_of(B, REGISTER, 0, &list[..length]), expected, "{length}");
    }
    let mut truncating = list.clone();
    truncating[27] = 47;
    truncating.pop();
    assert_eq!(bench.end_of(B, REGISTER, 0, &truncating), INVALID_LIST, "a TransportID is cut");
    assert_eq!(bench.view().registered(), [(A, KA)]);
}

/// PARAMETER LIST LENGTH counts, not the number of bytes that the caller has.
#[test]
fn cdb_announces_parameter_list_length() {
    let mut unit = LogicalUnit::new(&[1]).unwrap();
    let mut list = basic(0, KA);
    list.extend([0xff; 100]);
    let mut register = |length: u32| {
        let [a, b, c, d] = length.to_be_bytes();
        end(&unit.execute(&A.nexus(), &[0x5f, 6, 0, 0, 0, a, b, c, d, 0], &list, &mut []))
    };
    assert_eq!(register(24), End::Good, "further bytes are ignored");
    assert_eq!(register(25), LIST_LENGTH);
    assert_eq!(register(125), LIST_LENGTH, "one byte is missing");
    assert_eq!(register(u32::MAX), LIST_LENGTH);
}

/// Table 69 and clause 6.16.3: "as if the same registration request had been received individually through each target
/// port".
#[test]
fn all_tg_pt_registers_all_or_none() {
    let mut bench = Bench::new();
    assert_eq!(bench.end_of(A, REGISTER, 0, &basic_with(0, KA, ALL_TG_PT)), End::Good);
    assert_eq!(bench.view().registered(), [(A, KA), (A2, KA)]);
    assert_eq!(bench.view().generation, 1);

    // Each is a registration of its own.
    assert_eq!(bench.out(A2, REGISTER, 0, KA, KB), End::Good);
    assert_eq!(bench.view().registered(), [(A, KA), (A2, KB)]);
    for new_key in [KC, 0] {
        let before = bench.view();
        let list = basic_with(KA, new_key, ALL_TG_PT);
        assert_eq!(bench.end_of(A, REGISTER, 0, &list), End::Conflict, "not the key of the other");
        assert_eq!(bench.view(), before);
    }
    assert_eq!(bench.end_of(A, REGISTER_AND_IGNORE, 0, &basic_with(0, KC, ALL_TG_PT)), End::Good);
    assert_eq!(bench.view().registered(), [(A, KC), (A2, KC)]);
    assert_eq!(bench.end_of(A2, REGISTER, 0, &basic_with(KC, 0, ALL_TG_PT)), End::Good);
    assert_eq!(bench.view().registered(), []);

    // From a port that is not registered, for one that is.
    bench.register(A2, KA);
    assert_eq!(bench.end_of(A, REGISTER, 0, &basic_with(0, KB, ALL_TG_PT)), End::Conflict);
    assert_eq!(bench.end_of(A, REGISTER, 0, &basic_with(KA, KB, ALL_TG_PT)), End::Conflict);
    assert_eq!(bench.end_of(A, REGISTER_AND_IGNORE, 0, &basic_with(0, 0, ALL_TG_PT)), End::Good);
    assert_eq!(bench.view().registered(), []);
    let generation = bench.view().generation;
    assert_eq!(bench.end_of(A, REGISTER_AND_IGNORE, 0, &basic_with(0, 0, ALL_TG_PT)), End::Good);
    assert_eq!(bench.view().generation, generation, "nothing to do");
}

/// Table 69, last row.
#[test]
fn transport_ids_combine_with_all_tg_pt() {
    let mut bench = Bench::new();
    assert_eq!(bench.end_of(B, REGISTER, 0, &specifying(0, KB, true, &[A])), End::Good);
    let b2 = Nexus::new(B.id(), 2).unwrap();
    let registered: Vec<Nexus> = [A.nexus(), A2.nexus(), B.nexus(), b2].into();
    let data = bench.read(scsi_sense::pr::InServiceAction::ReadFullStatus, 4096);
    let mut found: Vec<Nexus> = scsi_sense::pr::FullStatus::parse(&data)
        .unwrap()
        .iter()
        .map(|one| Nexus::new(one.transport_id().unwrap(), one.relative_port).unwrap())
        .collect();
    found.sort_unstable_by_key(ToString::to_string);
    assert_eq!(found, registered);
    // C names A, which is registered at the other target port only.
    let mut bench = Bench::new();
    bench.register(A2, KA);
    assert_eq!(bench.end_of(C, REGISTER, 0, &specifying(0, KC, true, &[A])), INVALID_LIST);
    assert_eq!(bench.end_of(C, REGISTER, 0, &specifying(0, KC, false, &[A])), End::Good);
}

/// Clauses 5.13.7 and 6.16.1: insufficient resources.
#[test]
fn too_many_registrations_are_refused_whole() {
    let mut unit = LogicalUnit::new(&[1]).unwrap();
    let nexus = |number: usize| {
        let address = u64::try_from(number).unwrap();
        Nexus::new(TransportId::Sas { address }, 1).unwrap()
    };
    let register_and_ignore = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0];
    for number in 0..MAX_REGISTRATIONS - 1 {
        let answer = unit.execute(&nexus(number), &register_and_ignore, &basic(0, KA), &mut []);
        assert_eq!(end(&answer), End::Good);
    }
    let mut bench = Bench(unit);
    let generation = |bench: &mut Bench| {
        let data = bench.read(scsi_sense::pr::InServiceAction::ReadKeys, 8);
        let keys = scsi_sense::pr::Keys::parse(&data).unwrap();
        (keys.generation(), keys.additional_length())
    };
    let before = generation(&mut bench);
    // Two more, where only one fits.
    assert_eq!(bench.end_of(A, REGISTER, 0, &specifying(0, KA, false, &[B])), NO_ROOM);
    assert_eq!(generation(&mut bench), before);
    assert_eq!(bench.out(A, REGISTER, 0, 0, KA), End::Good);
    let full = generation(&mut bench);
    assert_eq!(full, (before.0 + 1, before.1 + 8));
    assert_eq!(bench.out(B, REGISTER, 0, 0, KB), NO_ROOM);
    assert_eq!(bench.out(B, REGISTER_AND_IGNORE, 0, 0, KB), NO_ROOM);
    assert_eq!(bench.out(A, RESERVE, 1, KA, 0), End::Good);
    let list = moving_to(KA, KB, B.id(), 1, 0);
    assert_eq!(bench.end_of(A, scsi_sense::pr::OutServiceAction::RegisterAndMove, 0, &list), NO_ROOM);
    assert_eq!(generation(&mut bench), full);
    assert_eq!(bench.out(A, REGISTER, 0, KA, KC), End::Good, "a registered nexus can change its key");
}

/// Memory is bounded by the maximum number of registrations, not by the length of the list.
#[test]
fn too_many_transport_ids_are_refused() {
    let mut bench = Bench::new();
    let id = |number: u64| {
        let mut bytes = [0; 24];
        TransportId::Sas { address: number }.write(&mut bytes).unwrap();
        bytes
    };
    for (count, all_target_ports, expected) in
        [(1023, 0, End::Good), (1024, 0, NO_ROOM), (100_000, 0, NO_ROOM), (512, ALL_TG_PT, NO_ROOM)]
    {
        let ids: Vec<u8> = (1..=count).flat_map(id).collect();
        let mut list = basic_with(0, KA, 0x08 | all_target_ports);
        list.extend(u32::try_from(ids.len()).unwrap().to_be_bytes());
        list.extend(ids);
        assert_eq!(bench.end_of(A, REGISTER, 0, &list), expected, "{count}");
        bench = Bench::new();
    }
}

/// Clause 6.16.3: APTPL where it is not supported.
#[test]
fn aptpl_is_refused_without_a_store() {
    let mut bench = Bench::new();
    bench.register(A, KA);
    let before = bench.view();
    for (sender, action, key, new_key, expected) in [
        (B, REGISTER, 0, KB, INVALID_LIST),
        (B, REGISTER_AND_IGNORE, 0, KB, INVALID_LIST),
        (A, REGISTER, KA, 0, INVALID_LIST),
        (A, REGISTER, KB, KB, End::Conflict),
        (B, REGISTER, 0, 0, End::Good),
        // Ignored.
        (A, RELEASE, KA, 0, End::Good),
    ] {
        assert_eq!(bench.end_of(sender, action, 1, &basic_with(key, new_key, APTPL)), expected, "{action}");
        assert_eq!(bench.view(), before);
    }
}

/// Clause 6.16.2: service actions 09h to 1Fh.
#[test]
fn unknown_service_actions_are_refused() {
    let mut bench = Bench::new();
    bench.register(A, KA);
    let before = bench.view();
    for code in 9..0x20 {
        let action = scsi_sense::pr::OutServiceAction::new(code);
        assert_eq!(bench.out(A, action, 1, KA, KA), INVALID_CDB);
        assert_eq!(bench.out(B, action, 1, KA, KA), INVALID_CDB);
    }
    assert_eq!(bench.view(), before);
}
