//! RELEASE: clause 5.13.11.2.2.

use crate::bench::*;

/// Registrants whose access changes are told.
#[test]
fn holder_releases_the_reservation() {
    for kind in ALL_TYPES {
        let mut bench = Bench::reserved(kind, &[(A, KA), (B, KB), (C, KC)]);
        let before = bench.view();
        assert_eq!(bench.out(A, RELEASE, kind, KA, 0xffff), End::Good);
        let view = bench.view();
        assert_eq!(view.reservation, None, "type {kind}");
        assert_eq!(view.registered(), before.registered(), "no registration is removed");
        assert_eq!(view.generation, before.generation, "clause 6.15.2: not incremented by RELEASE");
        let told = if kind > 3 { vec![RESERVATIONS_RELEASED] } else { vec![] };
        assert_eq!(bench.attentions([A, B, C, D]), [vec![], told.clone(), told, vec![]], "type {kind}");
    }
}

#[test]
fn any_of_all_registrants_may_release() {
    for kind in [7, 8] {
        let mut bench = Bench::reserved(kind, &[(A, KA), (B, KB)]);
        assert_eq!(bench.out(B, RELEASE, kind, KB, 0), End::Good);
        assert_eq!(bench.view().reservation, None);
        assert_eq!(bench.attentions([A, B]), [vec![RESERVATIONS_RELEASED], vec![]]);
    }
}

#[test]
fn release_of_another_type_is_invalid() {
    for held in ALL_TYPES {
        for released in ALL_TYPES.into_iter().filter(|kind| *kind != held) {
            let mut bench = Bench::reserved(held, &[(A, KA), (B, KB)]);
            let before = bench.view();
            assert_eq!(bench.out(A, RELEASE, released, KA, 0), INVALID_RELEASE, "{held} {released}");
            let others = if held > 6 { INVALID_RELEASE } else { End::Good };
            assert_eq!(bench.out(B, RELEASE, released, KB, 0), others, "{held} {released}");
            assert_eq!(bench.view(), before);
            assert_eq!(bench.attentions([A, B]), [[], []]);
        }
    }
}

#[test]
fn release_of_nothing_is_good() {
    let mut bench = Bench::new();
    bench.register(A, KA);
    let before = bench.view();
    for kind in ALL_TYPES {
        assert_eq!(bench.out(A, RELEASE, kind, KA, 0), End::Good, "there is no reservation");
    }
    assert_eq!(bench.view(), before);
    for kind in [1, 3, 5, 6] {
        let mut bench = Bench::reserved(kind, &[(A, KA), (B, KB)]);
        let before = bench.view();
        assert_eq!(bench.out(B, RELEASE, kind, KB, 0), End::Good, "B is not the holder");
        assert_eq!(bench.view(), before);
    }
}
