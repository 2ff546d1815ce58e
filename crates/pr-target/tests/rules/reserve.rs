//! RESERVE: clauses 5.13.9, 5.13.10 and 6.16.1.

use crate::bench::*;

#[test]
fn registered_nexus_reserves_by_each_type() {
    for kind in ALL_TYPES {
        let mut bench = Bench::new();
        bench.register(A, KA);
        bench.register(B, KB);
        let generation = bench.view().generation;
        assert_eq!(bench.out(A, RESERVE, kind, KA, 0xffff), End::Good, "the other key is ignored");
        let view = bench.view();
        let (holders, key) = if kind > 6 { (vec![A, B], 0) } else { (vec![A], KA) };
        assert_eq!(view.holders(), holders, "type {kind}");
        assert_eq!(view.reservation, Some((kind, key)), "type {kind}");
        assert_eq!(view.generation, generation, "clause 6.15.2: not incremented by RESERVE");
        assert_eq!(bench.attentions([A, B]), [[], []]);
    }
}

/// Clauses 5.13.7 and 6.16.3.
#[test]
fn unregistered_nexus_or_wrong_key_conflicts() {
    let mut bench = Bench::new();
    bench.register(A, KA);
    let before = bench.view();
    for (sender, key) in [(A, 0), (A, KB), (B, 0), (B, KA), (B, KB), (A2, KA)] {
        for action in [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT] {
            assert_eq!(bench.out(sender, action, 1, key, KA), End::Conflict, "{sender:?} {key:#x} {action}");
        }
    }
    // SAM-5 clause 5.3.3: the conflict takes precedence over CHECK CONDITION for other errors.
    assert_eq!(bench.out(B, RESERVE, 0, KA, 0), End::Conflict);
    assert_eq!(bench.end_of(B, RESERVE, 1, &[]), End::Conflict);
    assert_eq!(bench.view(), before);
}

/// Clause 6.15.3.3 and 6.15.3.4: obsolete and reserved codes.
#[test]
fn only_one_scope_and_six_types_exist() {
    let mut bench = Bench::new();
    bench.register(A, KA);
    let before = bench.view();
    for byte in 0..=u8::MAX {
        if !ALL_TYPES.contains(&byte) {
            assert_eq!(bench.out(A, RESERVE, byte, KA, 0), INVALID_CDB, "{byte:02x}");
            assert_eq!(bench.out(A, RELEASE, byte, KA, 0), INVALID_CDB, "{byte:02x}");
        }
    }
    assert_eq!(bench.view(), before);
}

/// Clause 5.13.9: there is one reservation, and reserving again by the same type is GOOD.
#[test]
fn only_the_holder_may_reserve_again() {
    for held in ALL_TYPES {
        for requested in ALL_TYPES {
            let mut bench = Bench::reserved(held, &[(A, KA), (B, KB)]);
            let before = bench.view();
            let same = if held == requested { End::Good } else { End::Conflict };
            assert_eq!(bench.out(A, RESERVE, requested, KA, 0), same, "{held} {requested}");
            // With the all registrants types, every registrant is a holder (clause 5.13.10).
            let others = if held > 6 { same } else { End::Conflict };
            assert_eq!(bench.out(B, RESERVE, requested, KB, 0), others, "{held} {requested}");
            assert_eq!(bench.out(C, RESERVE, requested, KC, 0), End::Conflict);
            assert_eq!(bench.view(), before);
        }
    }
}

/// Clause 5.13.10: the holder is an I_T nexus, not a key and not an initiator port.
#[test]
fn holder_is_a_nexus_not_a_key() {
    let mut bench = Bench::reserved(1, &[(A, KA), (B, KA), (A2, KA)]);
    assert_eq!(bench.view().holders(), [A]);
    assert_eq!(bench.out(B, RESERVE, 1, KA, 0), End::Conflict);
    assert_eq!(bench.out(A2, RESERVE, 1, KA, 0), End::Conflict);
    assert_eq!(bench.out(B, RELEASE, 1, KA, 0), End::Good);
    assert_eq!(bench.view().holders(), [A]);
}
