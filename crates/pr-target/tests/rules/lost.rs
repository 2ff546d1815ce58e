//! Lost information and REPLACE LOST RESERVATION: clauses 5.13.5.3 and 5.13.11.3.

use pr_target::test_utils::MemoryStore;
use pr_target::{Access, LogicalUnit};
use scsi_sense::{SenseCode, SenseKey};

use crate::bench::*;

fn lost() -> (Bench<MemoryStore>, MemoryStore) {
    let store = MemoryStore::default();
    store.set_content(Some(b"pr-target state, but burnt".into()));
    (Bench(LogicalUnit::lost(&[1, 2], store.clone()).unwrap()), store)
}

fn is_lost() -> SenseCode {
    SenseCode::new(SenseKey::DATA_PROTECT, 0x44, 0x01)
}

/// Clause 5.13.5.3.2 b).
#[test]
fn lost_unit_refuses_other_service_actions() {
    let (mut bench, store) = lost();
    for action in [REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE] {
        assert_eq!(bench.out(A, action, 1, 0, KA), End::Check(is_lost()), "{action}");
        assert_eq!(bench.end_of(A, action, 1, &[]), End::Check(is_lost()), "{action}");
    }
    for action in 0..4 {
        let answer = bench.0.execute(&A.nexus(), &[0x5e, action, 0, 0, 0, 0, 0, 0, 8, 0], &[], &mut [0; 8]);
        assert_eq!(end(&answer), End::Check(is_lost()));
    }
    assert_eq!(store.saves(), 0);
}

/// The commands of clause 5.13.5.2 are admitted, as while nonvolatile memory is not ready.
#[test]
fn lost_unit_admits_some_commands() {
    let (mut bench, _) = lost();
    let a = A.nexus();
    for (cdb, access) in [
        (&[0x12, 0, 0, 0, 36, 0][..], Access::Allowed),
        (&[0x4d; 10], Access::Allowed),
        (&[0x3c; 10], Access::Allowed),
        (&[0x9b; 16], Access::Allowed),
        (&[0x3b; 10], Access::Allowed),
        (&[0xa0; 12], Access::Allowed),
        (&[0x03; 6], Access::Allowed),
        (&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Access::Allowed),
        (&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Access::InformationLost),
        (&[0x1b, 0, 0, 0, 0x01, 0], Access::Allowed),
        (&[0x1b, 0, 0, 0, 0x00, 0], Access::InformationLost),
        (&[0x1b, 0, 0, 0, 0x11, 0], Access::InformationLost),
        (&[0x00; 6], Access::InformationLost),
        (&[0x28; 10], Access::InformationLost),
        (&[0x2a; 10], Access::InformationLost),
        (&[0x16; 6], Access::InformationLost),
        (&[0xff; 10], Access::InformationLost),
        (&[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], Access::InformationLost),
        (&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], Access::InformationLost),
        (&[0x5f, 8, 0, 0, 0, 0, 0, 0, 24, 0], Access::Allowed),
        (&[], Access::InformationLost),
    ] {
        assert_eq!(bench.0.allows(&a, cdb), access, "{cdb:02x?}");
        let refused = bench.0.admit(&a, cdb).map(|answer| end(&answer));
        assert_eq!(refused, (access != Access::Allowed).then_some(End::Check(is_lost())));
    }
}

/// Clause 5.13.11.3.
#[test]
fn replace_lost_starts_over() {
    for kind in ALL_TYPES {
        for flags in [0, APTPL, ALL_TG_PT] {
            let (mut bench, store) = lost();
            let list = basic_with(0, KB, flags);
            assert_eq!(bench.end_of(B, REPLACE_LOST, kind, &list), End::Good);
            let view = bench.view();
            assert_eq!(view.registered(), [(B, KB)]);
            assert_eq!(view.reservation, Some((kind, if kind > 6 { 0 } else { KB })));
            assert_eq!(view.generation, 0);
            assert_eq!(bench.attentions([A, B]), [[], []]);

            // The saved state is valid again, too.
            let mut reopened = Bench(LogicalUnit::open(&[1, 2], store).unwrap());
            let kept = if flags == APTPL { vec![(B, KB)] } else { vec![] };
            assert_eq!(reopened.view().registered(), kept);
            assert_eq!(bench.out(A, REGISTER, 0, 0, KA), End::Good, "commands are performed again");
        }
    }
}

/// It needs a new key and no old one; violations are errors, not conflicts.
#[test]
fn replace_lost_checks_its_arguments() {
    let (mut bench, store) = lost();
    for (kind, key, new_key, expected) in [
        (1, KA, KA, INVALID_LIST),
        (1, 0, 0, INVALID_LIST),
        (0, 0, KA, INVALID_CDB),
        (2, 0, KA, INVALID_CDB),
        (0x11, 0, KA, INVALID_CDB),
    ] {
        assert_eq!(bench.out(A, REPLACE_LOST, kind, key, new_key), expected);
    }
    assert_eq!(bench.end_of(A, REPLACE_LOST, 1, &basic(0, KA)[..23]), LIST_LENGTH);
    assert_eq!(store.saves(), 0);
    assert_eq!(bench.out(A, REPLACE_LOST, 1, 0, KA), End::Good);
}

#[test]
fn failed_save_leaves_unit_lost() {
    let (mut bench, store) = lost();
    store.set_failing(true);
    let failed = End::Check(SenseCode::INTERNAL_TARGET_FAILURE);
    assert_eq!(bench.out(A, REPLACE_LOST, 1, 0, KA), failed);
    assert_eq!(bench.out(A, REGISTER, 0, 0, KA), End::Check(is_lost()));
    store.set_failing(false);
    assert_eq!(bench.out(A, REPLACE_LOST, 1, 0, KA), End::Good);
}

/// Clause 5.13.11.3, second paragraph, and table 66.
#[test]
fn replace_lost_needs_a_loss() {
    let mut bench = Bench::reserved(1, &[(A, KA), (B, KB)]);
    let before = bench.view();
    assert_eq!(bench.out(A, REPLACE_LOST, 1, KA, KA), INVALID_RELEASE);
    assert_eq!(bench.out(B, REPLACE_LOST, 1, 0, KB), INVALID_RELEASE);
    assert_eq!(bench.out(C, REPLACE_LOST, 1, 0, KC), End::Conflict, "unregistered");
    assert_eq!(bench.view(), before);
}
