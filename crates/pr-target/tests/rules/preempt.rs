//! PREEMPT and PREEMPT AND ABORT: clauses 5.13.11.2.4 to 5.13.11.2.6, table 72, figure 9.

use scsi_sense::pr::OutServiceAction;

use crate::bench::*;

/// Both service actions have the same effect on registrations and reservation.
const BOTH: [OutServiceAction; 2] = [PREEMPT, PREEMPT_AND_ABORT];

/// Table 72: "reservation holder's reservation key"; clause 5.13.11.2.4.3.
#[test]
fn holders_key_takes_the_reservation() {
    for action in BOTH {
        for held in [1, 3, 5, 6] {
            for new in ALL_TYPES {
                let mut bench = Bench::reserved(held, &[(A, KA), (B, KB), (C, KC)]);
                let generation = bench.view().generation;
                assert_eq!(bench.out(B, action, new, KB, KA), End::Good, "{held} {new}");
                let view = bench.view();
                assert_eq!(view.registered(), [(B, KB), (C, KC)]);
                let (holders, key) = if new > 6 { (vec![B, C], 0) } else { (vec![B], KB) };
                assert_eq!((view.reservation, view.holders()), (Some((new, key)), holders));
                assert_eq!(view.generation, generation + 1);
                // e) for the removed; f) for the remaining registrants, if the type has changed.
                let released = if new == held { vec![] } else { vec![RESERVATIONS_RELEASED] };
                assert_eq!(
                    bench.attentions([A, B, C]),
                    [vec![REGISTRATIONS_PREEMPTED], vec![], released],
                    "{held} {new}"
                );
            }
        }
    }
}

/// Clause 5.13.11.2.4.3 b): all registrations with that key are removed, except the sender's.
#[test]
fn holders_key_removes_all_but_sender() {
    let mut bench = Bench::reserved(1, &[(A, KA), (B, KA), (C, KA), (D, KD)]);
    assert_eq!(bench.out(B, PREEMPT, 1, KA, KA), End::Good);
    let view = bench.view();
    assert_eq!(view.registered(), [(B, KA), (D, KD)]);
    assert_eq!((view.holders(), view.reservation), (vec![B], Some((1, KA))));
    let lost = vec![REGISTRATIONS_PREEMPTED];
    assert_eq!(bench.attentions([A, B, C, D]), [lost.clone(), vec![], lost, vec![]]);
}

/// Clause 5.13.11.2.4.3, last paragraph: this changes the type.
#[test]
fn holder_may_preempt_itself() {
    for action in BOTH {
        for new in ALL_TYPES {
            let mut bench = Bench::reserved(5, &[(A, KA), (B, KB)]);
            assert_eq!(bench.out(A, action, new, KA, KA), End::Good);
            let view = bench.view();
            assert_eq!(view.registered(), [(A, KA), (B, KB)], "the registration is maintained");
            assert_eq!(view.reservation, Some((new, if new > 6 { 0 } else { KA })));
            let told = if new == 5 { vec![] } else { vec![RESERVATIONS_RELEASED] };
            assert_eq!(bench.attentions([A, B]), [vec![], told]);
        }
    }
}

/// Table 72: "any other, non-zero reservation key"; clause 5.13.11.2.5: SCOPE and TYPE are ignored.
#[test]
fn other_key_removes_registrations_only() {
    for action in BOTH {
        for held in [1, 3, 5, 6] {
            let mut bench = Bench::reserved(held, &[(A, KA), (B, KB), (C, KC), (D, KC)]);
            let generation = bench.view().generation;
            assert_eq!(bench.out(B, action, 0xff, KB, KC), End::Good);
            let view = bench.view();
            assert_eq!(view.registered(), [(A, KA), (B, KB)]);
            assert_eq!((view.reservation, view.holders()), (Some((held, KA)), vec![A]));
            assert_eq!(view.generation, generation + 1);
            let lost = vec![REGISTRATIONS_PREEMPTED];
            assert_eq!(bench.attentions([A, B, C, D]), [vec![], vec![], lost.clone(), lost]);
        }
    }
}

/// Clause 5.13.11.2.5: "there is no persistent reservation".
#[test]
fn preempt_works_without_a_reservation() {
    let mut bench = Bench::new();
    bench.register(A, KA);
    bench.register(B, KB);
    assert_eq!(bench.out(A, PREEMPT, 0xff, KA, KB), End::Good);
    let view = bench.view();
    assert_eq!((view.registered(), view.reservation), (vec![(A, KA)], None));
    assert_eq!(bench.attentions([A, B]), [vec![], vec![REGISTRATIONS_PREEMPTED]]);
}

/// Clause 5.13.11.2.5, last paragraph: "The registration is removed", and its nexus is not told.
#[test]
fn registrant_may_preempt_itself() {
    let mut bench = Bench::reserved(1, &[(A, KA), (B, KB), (C, KB)]);
    assert_eq!(bench.out(B, PREEMPT, 0, KB, KB), End::Good);
    let view = bench.view();
    assert_eq!((view.registered(), view.reservation), (vec![(A, KA)], Some((1, KA))));
    assert_eq!(bench.attentions([A, B, C]), [vec![], vec![], vec![REGISTRATIONS_PREEMPTED]]);

    let mut bench = Bench::new();
    bench.register(A, KA);
    assert_eq!(bench.out(A, PREEMPT, 0, KA, KA), End::Good);
    assert_eq!(bench.view().registered(), []);
}

/// Clause 5.13.11.2.5.
#[test]
fn unregistered_victim_key_conflicts() {
    for action in BOTH {
        for held in [0, 1, 3, 5, 6, 7, 8] {
            let mut bench = Bench::new();
            bench.register(A, KA);
            if held != 0 {
                assert_eq!(bench.out(A, RESERVE, held, KA, 0), End::Good);
            }
            let before = bench.view();
            assert_eq!(bench.out(A, action, 1, KA, KB), End::Conflict, "type {held}");
            assert_eq!(bench.view(), before);
        }
    }
}

/// Table 72: zero preempts a reservation that all registrants hold.
#[test]
fn zero_key_preempts_all_registrants() {
    for action in BOTH {
        for held in [1, 3, 5, 6] {
            let mut bench = Bench::reserved(held, &[(A, KA), (B, KB)]);
            let before = bench.view();
            assert_eq!(bench.out(B, action, 1, KB, 0), INVALID_LIST, "type {held}");
            assert_eq!(bench.view(), before);
        }
        // Without a reservation, zero is an unregistered key.
        let mut bench = Bench::new();
        bench.register(A, KA);
        assert_eq!(bench.out(A, action, 1, KA, 0), End::Conflict);
        for held in [7, 8] {
            for new in ALL_TYPES {
                let mut bench = Bench::reserved(held, &[(A, KA), (B, KB), (C, KC)]);
                let generation = bench.view().generation;
                assert_eq!(bench.out(B, action, new, KB, 0), End::Good);
                let view = bench.view();
                assert_eq!(view.registered(), [(B, KB)], "all others are removed");
                assert_eq!(view.reservation, Some((new, if new > 6 { 0 } else { KB })));
                assert_eq!(view.generation, generation + 1);
                let lost = vec![REGISTRATIONS_PREEMPTED];
                assert_eq!(bench.attentions([A, B, C]), [lost.clone(), vec![], lost]);
            }
        }
    }
}

/// Table 72: a non-zero key removes registrations from a reservation that all registrants hold.
#[test]
fn key_removes_some_of_all_registrants() {
    for held in [7, 8] {
        let mut bench = Bench::reserved(held, &[(A, KA), (B, KB), (C, KC)]);
        assert_eq!(bench.out(B, PREEMPT, 0xff, KB, KA), End::Good, "A made it; the type is ignored");
        let view = bench.view();
        assert_eq!((view.registered(), view.reservation), (vec![(B, KB), (C, KC)], Some((held, 0))));
        assert_eq!(bench.attentions([A, B, C]), [vec![REGISTRATIONS_PREEMPTED], vec![], vec![]]);
        assert_eq!(bench.out(B, PREEMPT, held, KB, KB), End::Good, "the sender itself");
        let view = bench.view();
        assert_eq!((view.registered(), view.reservation), (vec![(C, KC)], Some((held, 0))));
        assert_eq!(bench.out(C, PREEMPT, held, KC, KC), End::Good, "the last registrant");
        let view = bench.view();
        assert_eq!((view.registered(), view.reservation), (vec![], None), "table 71");
        assert_eq!(bench.attentions([A, B, C]), [[], [], []]);
    }
}

/// Clauses 6.15.3.3 and 6.15.3.4, where SCOPE and TYPE are used.
#[test]
fn preempt_refuses_unknown_scope_and_type() {
    for byte in 0..=u8::MAX {
        if !ALL_TYPES.contains(&byte) {
            for (held, key) in [(1, KA), (7, 0)] {
                let mut bench = Bench::reserved(held, &[(A, KA), (B, KB)]);
                let before = bench.view();
                assert_eq!(bench.out(B, PREEMPT, byte, KB, key), INVALID_CDB, "{byte:02x}");
                assert_eq!(bench.view(), before);
                assert_eq!(bench.attentions([A, B]), [[], []]);
            }
        }
    }
}

/// Clause 5.13.11.2.6 c) and its last paragraph.
#[test]
fn abort_names_nexuses_with_the_key() {
    // Type, SERVICE ACTION RESERVATION KEY sent by B, nexuses whose commands are aborted.
    for (held, key, aborted) in [
        (1, KA, vec![A, C]),
        (1, KD, vec![D]),
        (1, KB, vec![B]),
        (7, KA, vec![A, C]),
        (7, 0, vec![A, B, C, D]),
    ] {
        let mut bench = Bench::reserved(held, &[(A, KA), (B, KB), (C, KA), (D, KD)]);
        let answer = bench.answer(B, PREEMPT_AND_ABORT, held, &basic(KB, key));
        let expected: Vec<_> = aborted.iter().map(|sender| sender.nexus()).collect();
        assert_eq!((end(&answer), answer.abort), (End::Good, expected), "type {held}, {key:#x}");
        let mut bench = Bench::reserved(held, &[(A, KA), (B, KB), (C, KA), (D, KD)]);
        assert_eq!(bench.answer(B, PREEMPT, held, &basic(KB, key)).abort, [], "PREEMPT aborts nothing");
    }
}
