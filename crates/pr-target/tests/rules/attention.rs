//! When unit attention conditions are reported: SAM-5 clauses 5.3.3 and 5.14.

use scsi_sense::{SenseCode, Status};

use crate::bench::*;

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0];

/// A has REGISTRATIONS PREEMPTED pending, B holds WRITE EXCLUSIVE, REGISTRANTS ONLY.
fn preempted() -> Bench {
    let mut bench = Bench::reserved(5, &[(A, KA), (B, KB)]);
    assert_eq!(bench.out(B, PREEMPT, 5, KB, KA), End::Good);
    bench
}

#[test]
fn a_command_ends_with_what_is_pending_is_not_performed_and_clears_it() {
    let mut bench = preempted();
    let told = End::Check(SenseCode::REGISTRATIONS_PREEMPTED);
    let before = bench.view();
    assert_eq!(bench.out(A, REGISTER, 0, 0, KA), told);
    assert_eq!(bench.view(), before);
    assert_eq!(bench.out(A, REGISTER, 0, 0, KA), End::Good);

    let mut bench = preempted();
    let mut data = [0xee; 64];
    let answer = bench.0.execute(&A.nexus(), &READ_KEYS, &[], &mut data);
    assert_eq!((end(&answer), answer.length, data), (told, 0, [0xee; 64]));
    let answer = bench.0.execute(&A.nexus(), &READ_KEYS, &[], &mut data);
    assert_eq!((end(&answer), answer.length), (End::Good, 16));
}

#[test]
fn it_comes_before_what_is_wrong_with_the_command() {
    let mut bench = preempted();
    let nonsense = [0x5e, 0x1f, 0, 0, 0, 0, 0, 0, 8, 0];
    let answer = bench.0.execute(&A.nexus(), &nonsense, &[], &mut [0; 8]);
    assert_eq!(end(&answer), End::Check(SenseCode::REGISTRATIONS_PREEMPTED));
    assert_eq!(end(&bench.0.execute(&A.nexus(), &nonsense, &[], &mut [0; 8])), INVALID_CDB);
}

#[test]
fn a_reservation_conflict_comes_first_and_leaves_it_pending() {
    let mut bench = preempted();
    assert_eq!(bench.out(A, RESERVE, 5, KA, 0), End::Conflict);
    assert_eq!(bench.out(A, REGISTER, 0, KA, KA), End::Conflict, "table 67");
    let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(bench.0.admit(&A.nexus(), &write).unwrap().status, Status::RESERVATION_CONFLICT);
    assert_eq!(bench.attentions([A]), [[REGISTRATIONS_PREEMPTED]]);
}

#[test]
fn other_commands_report_it_but_for_three() {
    let (a, observer) = (A.nexus(), Observer.nexus());
    let mut bench = preempted();
    for silent in [[0x12, 0, 0, 0, 36, 0].as_slice(), &[0xa0; 12], &[0x03, 0, 0, 0, 18, 0]] {
        assert_eq!(bench.0.admit(&a, silent), None, "{silent:02x?}");
    }
    assert_eq!(bench.0.admit(&observer, &TEST_UNIT_READY), None, "it is not the observer's");
    let answer = bench.0.admit(&a, &TEST_UNIT_READY).unwrap();
    assert_eq!(end(&answer), End::Check(SenseCode::REGISTRATIONS_PREEMPTED));
    assert_eq!(bench.0.admit(&a, &TEST_UNIT_READY), None);
}

#[test]
fn each_pending_condition_is_reported_by_itself_and_once() {
    // Released twice, then cleared: three events, two conditions.
    let mut bench = Bench::reserved(5, &[(A, KA), (B, KB)]);
    assert_eq!(bench.out(A, RELEASE, 5, KA, 0), End::Good);
    assert_eq!(bench.out(A, RESERVE, 5, KA, 0), End::Good);
    assert_eq!(bench.out(A, RELEASE, 5, KA, 0), End::Good);
    assert_eq!(bench.out(A, CLEAR, 0, KA, 0), End::Good);
    for code in [SenseCode::RESERVATIONS_RELEASED, SenseCode::RESERVATIONS_PREEMPTED] {
        assert_eq!(end(&bench.0.admit(&B.nexus(), &TEST_UNIT_READY).unwrap()), End::Check(code));
    }
    assert_eq!(bench.0.admit(&B.nexus(), &TEST_UNIT_READY), None);
}

#[test]
fn it_is_for_the_nexus_and_not_for_its_initiator_port() {
    let mut bench = Bench::reserved(1, &[(B, KB), (A, KA), (A2, KC)]);
    assert_eq!(bench.out(B, PREEMPT, 1, KB, KC), End::Good);
    assert_eq!(bench.attentions([A, A2]), [vec![], vec![REGISTRATIONS_PREEMPTED]]);
}
