//! CLEAR: clause 5.13.11.2.7.

use crate::bench::*;

/// All other registrants are told.
#[test]
fn clear_removes_everything() {
    for kind in ALL_TYPES {
        let mut bench = Bench::reserved(kind, &[(A, KA), (B, KB), (C, KC)]);
        let generation = bench.view().generation;
        // The sender is not the holder; scope and type are ignored.
        assert_eq!(bench.out(B, CLEAR, 0xff, KB, 0xffff), End::Good);
        let view = bench.view();
        assert_eq!((view.registered(), view.reservation), (vec![], None));
        assert_eq!(view.generation, generation + 1);
        let told = vec![RESERVATIONS_PREEMPTED];
        assert_eq!(bench.attentions([A, B, C, D]), [told.clone(), vec![], told, vec![]], "type {kind}");
    }
}

#[test]
fn clear_needs_a_registration_but_no_reservation() {
    let mut bench = Bench::new();
    assert_eq!(bench.out(A, CLEAR, 0, 0, 0), End::Conflict);
    bench.register(A, KA);
    bench.register(B, KB);
    assert_eq!(bench.out(A, CLEAR, 0, KB, 0), End::Conflict);
    assert_eq!(bench.view().generation, 2);
    assert_eq!(bench.out(A, CLEAR, 0, KA, 0), End::Good);
    assert_eq!(bench.view().generation, 3);
    assert_eq!(bench.attentions([A, B]), [vec![], vec![RESERVATIONS_PREEMPTED]]);
}
