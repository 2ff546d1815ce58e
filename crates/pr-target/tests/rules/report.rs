//! PERSISTENT RESERVE IN: clause 6.15.

use pr_target::LogicalUnit;
use pr_target::test_utils::MemoryStore;
use scsi_sense::pr::{Capabilities, FullStatus, InServiceAction, Keys, ReservationType, TypeMask};

use crate::bench::*;

#[test]
fn reported_data_match_the_standard() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(InServiceAction::ReadKeys, 64), [0; 8]);
    assert_eq!(bench.read(InServiceAction::ReadReservation, 64), [0; 8]);
    assert_eq!(bench.read(InServiceAction::ReadFullStatus, 64), [0; 8]);
    bench.register(A2, 0x0102_0304_0506_0708);
    bench.register(B, KB);
    assert_eq!(bench.out(A2, RESERVE, 6, 0x0102_0304_0506_0708, 0), End::Good);

    let mut keys = vec![0, 0, 0, 2, 0, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8];
    keys.extend(KB.to_be_bytes());
    assert_eq!(bench.read(InServiceAction::ReadKeys, 64), keys);
    assert_eq!(
        bench.read(InServiceAction::ReadReservation, 64),
        [0, 0, 0, 2, 0, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0x06, 0, 0]
    );
    let mut status = vec![0, 0, 0, 2, 0, 0, 0, 96];
    // Key; R_HOLDER, scope and type; relative target port; length; TransportID.
    status.extend([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0x01, 0x06, 0, 0, 0, 0, 0, 2, 0, 0, 0, 24]);
    status.extend([6, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    status.extend([0, 0, 0, 0, 0, 0, 0, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 24]);
    status.extend([6, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bench.read(InServiceAction::ReadFullStatus, 4096), status);
}

/// Clause 5.13.6.2.
#[test]
fn shared_key_is_listed_repeatedly() {
    let mut bench = Bench::new();
    for sender in [A, B, C, A2] {
        bench.register(sender, KA);
    }
    let data = bench.read(InServiceAction::ReadKeys, 256);
    assert!(Keys::parse(&data).unwrap().iter().eq([KA; 4].map(Into::into)));
}

/// Clause 6.15.4. access.rs tests that ALLOW COMMANDS is true.
#[test]
fn capabilities_match_the_unit() {
    let expected = Capabilities {
        replace_lost_reservation: false,
        compatible_reservation_handling: false,
        specify_initiator_ports: true,
        all_target_ports: true,
        persist_through_power_loss_capable: false,
        persist_through_power_loss_activated: false,
        allow_commands: 4,
        types: Some(TypeMask::new(ReservationType::ALL)),
    };
    assert_eq!(Bench::new().read(InServiceAction::ReportCapabilities, 64), expected.to_bytes());
    assert_eq!(expected.to_bytes(), [0, 8, 0x0c, 0xc0, 0xea, 0x01, 0, 0]);

    let mut bench = Bench(LogicalUnit::open(&[1, 2], MemoryStore::default()).unwrap());
    let capable = |is_active| Capabilities {
        replace_lost_reservation: true,
        persist_through_power_loss_capable: true,
        persist_through_power_loss_activated: is_active,
        ..expected
    };
    let read = |bench: &mut Bench<MemoryStore>| bench.read(InServiceAction::ReportCapabilities, 64);
    assert_eq!(read(&mut bench), capable(false).to_bytes());
    assert_eq!(bench.end_of(A, REGISTER, 0, &basic_with(0, KA, APTPL)), End::Good);
    assert_eq!(read(&mut bench), capable(true).to_bytes());
    assert_eq!(bench.end_of(B, REGISTER, 0, &basic_with(0, KB, 0)), End::Good);
    assert_eq!(read(&mut bench), capable(false).to_bytes());
}

/// Clause 4.2.5.6: cut at the allocation length, without a change to ADDITIONAL LENGTH.
#[test]
fn data_is_truncated_to_allocation_length() {
    let mut bench = Bench::reserved(5, &[(A, KA), (B, KB), (C, KC)]);
    for action in [
        InServiceAction::ReadKeys,
        InServiceAction::ReadReservation,
        InServiceAction::ReportCapabilities,
        InServiceAction::ReadFullStatus,
    ] {
        let whole = bench.read(action, 4096);
        for length in 0..=whole.len() + 1 {
            let cut = bench.read(action, length.try_into().unwrap());
            assert_eq!(cut, whole[..length.min(whole.len())], "{action}, {length}");
        }
    }
    let data = bench.read(InServiceAction::ReadFullStatus, 8);
    assert_eq!(FullStatus::parse(&data).unwrap().full_length(), 8 + 3 * 48);
}

#[test]
fn data_is_truncated_to_the_buffer() {
    let mut bench = Bench::reserved(5, &[(A, KA)]);
    for buffer_len in [0, 1, 7, 8, 15] {
        let mut data = vec![0xee; buffer_len];
        let cdb = [0x5e, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0];
        let answer = bench.0.execute(&Observer.nexus(), &cdb, &[], &mut data);
        assert_eq!((end(&answer), answer.length), (End::Good, buffer_len));
    }
}

/// Clause 6.15.1: service actions 04h to 1Fh.
#[test]
fn unknown_service_actions_are_refused() {
    let mut bench = Bench::new();
    for action in 4..0x20 {
        let mut data = [0xee; 64];
        let answer = bench.0.execute(&A.nexus(), &[0x5e, action, 0, 0, 0, 0, 0, 0, 64, 0], &[], &mut data);
        assert_eq!((end(&answer), answer.length, data), (INVALID_CDB, 0, [0xee; 64]));
    }
}

/// Clause 6.15.2: "a 32-bit wrapping counter" that a refused command does not count; see also the service actions.
#[test]
fn generation_counts_successful_changes() {
    let mut bench = Bench::new();
    let mut generation = 0;
    for (sender, action, key, new_key, counts) in [
        (A, REGISTER, 0, KA, true),
        (A, REGISTER, KA, KA, true),
        (B, REGISTER_AND_IGNORE, KC, KB, true),
        (C, REGISTER_AND_IGNORE, 0, KC, true),
        (A, RESERVE, KA, 0, false),
        (A, RESERVE, KA, 0, false),
        (B, RESERVE, KB, 0, false),
        (A, RELEASE, KA, 0, false),
        (A, PREEMPT, KA, KC, true),
        (A, PREEMPT, KA, KC, false),
        (A, REPLACE_LOST, 0, KA, false),
        (B, REGISTER, KB, 0, true),
        (B, REGISTER, KB, 0, false),
        (A, CLEAR, KA, 0, true),
        (A, CLEAR, KA, 0, false),
    ] {
        let _ = bench.attentions([A, B, C]);
        bench.out(sender, action, 1, key, new_key);
        generation += u32::from(counts);
        assert_eq!(bench.view().generation, generation, "{sender:?} {action}");
    }
}
