//! Unregistering by a key of zero: clauses 5.13.10 and 5.13.11.2.3, table 71.

use crate::bench::*;

#[test]
fn reservation_ends_with_its_holder() {
    for action in [REGISTER, REGISTER_AND_IGNORE] {
        for kind in [1, 3, 5, 6] {
            let mut bench = Bench::reserved(kind, &[(A, KA), (B, KB), (C, KC)]);
            let generation = bench.view().generation;
            assert_eq!(bench.out(A, action, 0, KA, 0), End::Good);
            let view = bench.view();
            assert_eq!(view.reservation, None, "type {kind}");
            assert_eq!(view.registered(), [(B, KB), (C, KC)]);
            assert_eq!(view.generation, generation + 1);
            let told = if kind > 3 { vec![RESERVATIONS_RELEASED] } else { vec![] };
            assert_eq!(bench.attentions([A, B, C]), [vec![], told.clone(), told], "type {kind}");
        }
    }
}

#[test]
fn unregistering_others_leaves_the_reservation() {
    for kind in [1, 3, 5, 6] {
        let mut bench = Bench::reserved(kind, &[(A, KA), (B, KB), (C, KC)]);
        assert_eq!(bench.out(B, REGISTER, 0, KB, 0), End::Good);
        let view = bench.view();
        assert_eq!(view.reservation, Some((kind, KA)));
        assert_eq!(view.holders(), [A]);
        assert_eq!(bench.attentions([A, B, C]), [[], [], []]);
    }
}

#[test]
fn all_registrants_reservation_ends_with_last() {
    for kind in [7, 8] {
        let mut bench = Bench::reserved(kind, &[(A, KA), (B, KB)]);
        assert_eq!(bench.out(A, REGISTER, 0, KA, 0), End::Good, "the nexus that made it");
        let view = bench.view();
        assert_eq!((view.reservation, view.holders()), (Some((kind, 0)), vec![B]));
        bench.register(C, KC);
        assert_eq!(bench.view().holders(), [B, C], "a new registrant is a holder");
        for (sender, key) in [(B, KB), (C, KC)] {
            assert_eq!(bench.view().reservation, Some((kind, 0)));
            assert_eq!(bench.out(sender, REGISTER, 0, key, 0), End::Good);
        }
        assert_eq!(bench.view().reservation, None);
        assert_eq!(bench.attentions([A, B, C]), [[], [], []]);
        bench.register(A, KA);
        assert_eq!(bench.view().reservation, None, "it does not come back");
    }
}

/// ALL_TG_PT unregisters both of the initiator's nexuses; only remaining registrants are told.
#[test]
fn all_tg_pt_unregister_tells_only_others() {
    let mut bench = Bench::reserved(5, &[(A, KA), (A2, KA), (B, KB)]);
    assert_eq!(bench.end_of(A, REGISTER, 0, &basic_with(KA, 0, ALL_TG_PT)), End::Good);
    assert_eq!(bench.view().registered(), [(B, KB)]);
    assert_eq!(bench.attentions([A, A2, B]), [vec![], vec![], vec![RESERVATIONS_RELEASED]]);
}
