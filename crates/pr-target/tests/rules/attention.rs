//! Reporting of unit attention conditions: SAM-5 clauses 5.3.3 and 5.14.

use scsi_sense::{SenseCode, Status};

use crate::bench::*;

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0];

/// Returns a unit on which A has REGISTRATIONS PREEMPTED pending and B holds WRITE EXCLUSIVE, REGISTRANTS ONLY.
fn preempted() -> Bench {
    let mut bench = Bench::reserved(5, &[(A, KA), (B, KB)]);
    assert_eq!(bench.out(B, PREEMPT, 5, KB, KA), End::Good);
    bench
}

/// The command is not performed, and the condition is cleared.
#[test]
fn pending_unit_attention_ends_a_command() {
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
fn unit_attention_precedes_cdb_errors() {
    let mut bench = preempted();
    let nonsense = [0x5e, 0x1f, 0, 0, 0, 0, 0, 0, 8, 0];
    let answer = bench.0.execute(&A.nexus(), &nonsense, &[], &mut [0; 8]);
    assert_eq!(end(&answer), End::Check(SenseCode::REGISTRATIONS_PREEMPTED));
    assert_eq!(end(&bench.0.execute(&A.nexus(), &nonsense, &[], &mut [0; 8])), INVALID_CDB);
}

/// The condition stays pending.
#[test]
fn conflict_precedes_unit_attention() {
    let mut bench = preempted();
    assert_eq!(bench.out(A, RESERVE, 5, KA, 0), End::Conflict);
    assert_eq!(bench.out(A, REGISTER, 0, KA, KA), End::Conflict, "table 67");
    let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(bench.0.admit(&A.nexus(), &write).unwrap().status, Status::RESERVATION_CONFLICT);
    assert_eq!(bench.attentions([A]), [[REGISTRATIONS_PREEMPTED]]);
}

/// All but INQUIRY, REPORT LUNS and REQUEST SENSE.
#[test]
fn other_commands_report_unit_attention() {
    let (a, observer) = (A.nexus(), Observer.nexus());
    let mut bench = preempted();
    for silent in [[0x12, 0, 0, 0, 36, 0].as_slice(), &[0xa0; 12], &[0x03, 0, 0, 0, 18, 0]] {
        assert_eq!(bench.0.admit(&a, silent), None, "{silent:02x?}");
    }
    assert_eq!(bench.0.admit(&observer, &TEST_UNIT_READY), None, "it is not for the observer");
    let answer = bench.0.admit(&a, &TEST_UNIT_READY).unwrap();
    assert_eq!(end(&answer), End::Check(SenseCode::REGISTRATIONS_PREEMPTED));
    assert_eq!(bench.0.admit(&a, &TEST_UNIT_READY), None);
}

#[test]
fn each_unit_attention_is_reported_once() {
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
fn unit_attention_belongs_to_a_nexus() {
    let mut bench = Bench::reserved(1, &[(B, KB), (A, KA), (A2, KC)]);
    assert_eq!(bench.out(B, PREEMPT, 1, KB, KC), End::Good);
    assert_eq!(bench.attentions([A, A2]), [vec![], vec![REGISTRATIONS_PREEMPTED]]);
}
