//! REGISTER AND MOVE: clauses 5.13.8 and 6.16.4, table 70.

use scsi_sense::pr::OutServiceAction;

use crate::bench::*;

const MOVE: OutServiceAction = OutServiceAction::RegisterAndMove;
const UNREG: u8 = 0x02;

/// Scope and type stay, and the destination is registered.
#[test]
fn reservation_moves_to_destination() {
    for kind in [1, 3, 5, 6] {
        // B is not registered, registered with the same key, or with another.
        for before in [None, Some(KB), Some(KD)] {
            for flags in [0, UNREG] {
                let mut bench = Bench::reserved(kind, &[(A, KA), (C, KC)]);
                if let Some(key) = before {
                    bench.register(B, key);
                }
                let generation = bench.view().generation;
                let list = moving_to(KA, KB, B.id(), 1, flags);
                assert_eq!(bench.end_of(A, MOVE, 0xff, &list), End::Good, "SCOPE and TYPE are ignored");
                let view = bench.view();
                let mut registered = vec![(B, KB), (C, KC)];
                if flags == 0 {
                    registered.insert(0, (A, KA));
                }
                assert_eq!(view.registered(), registered, "{kind} {before:?} {flags}");
                assert_eq!((view.holders(), view.reservation), (vec![B], Some((kind, KB))));
                assert_eq!(view.generation, generation + 1);
                assert_eq!(bench.attentions([A, B, C]), [[], [], []]);
                assert_eq!(bench.out(B, RELEASE, kind, KB, 0), End::Good);
                assert_eq!(bench.view().reservation, None, "B is the holder");
            }
        }
    }
}

#[test]
fn reservation_moves_to_another_target_port() {
    let mut bench = Bench::reserved(1, &[(B, KB)]);
    assert_eq!(bench.end_of(B, MOVE, 0, &moving_to(KB, KA, A.id(), 2, 0)), End::Good);
    assert_eq!(bench.view().holders(), [A2]);
}

/// Table 70, and the paragraphs after it.
#[test]
fn invalid_moves_are_refused() {
    let list = |key, new_key| moving_to(key, new_key, C.id(), 1, 0);
    for (case, sender, list, expected) in [
        ("unregistered", D, list(KD, KC), End::Conflict),
        ("not the holder", B, list(KB, KC), End::Conflict),
        ("another key", A, list(KB, KC), End::Conflict),
        ("another key, and zero", A, list(KB, 0), End::Conflict),
        ("zero", A, list(KA, 0), INVALID_LIST),
        ("itself", A, moving_to(KA, KC, A.id(), 1, 0), INVALID_LIST),
        ("the same initiator port", A, moving_to(KA, KC, A.id(), 2, 0), INVALID_LIST),
        ("no such target port", A, moving_to(KA, KC, C.id(), 3, 0), INVALID_LIST),
        ("persistence", A, moving_to(KA, KC, C.id(), 1, APTPL), INVALID_LIST),
        ("a basic list", A, basic(KA, KC), INVALID_LIST),
        ("a short list", A, basic(KA, KC)[..23].to_vec(), LIST_LENGTH),
        ("a list cut in the TransportID", A, list(KA, KC)[..47].to_vec(), INVALID_LIST),
        ("a byte too many", A, [list(KA, KC), vec![0]].concat(), INVALID_LIST),
    ] {
        let mut bench = Bench::reserved(1, &[(A, KA), (B, KB)]);
        let before = bench.view();
        assert_eq!(bench.end_of(sender, MOVE, 1, &list), expected, "{case}");
        assert_eq!(bench.view(), before, "{case}");
    }
}

#[test]
fn all_registrants_reservation_does_not_move() {
    for kind in [7, 8] {
        let mut bench = Bench::reserved(kind, &[(A, KA), (B, KB)]);
        let before = bench.view();
        for new_key in [KC, 0] {
            assert_eq!(bench.end_of(A, MOVE, kind, &moving_to(KA, new_key, C.id(), 1, 0)), End::Conflict);
        }
        assert_eq!(bench.end_of(A, MOVE, kind, &[]), End::Conflict, "also with a wrong list");
        assert_eq!(bench.view(), before);
    }
}

#[test]
fn move_needs_a_reservation() {
    let mut bench = Bench::new();
    bench.register(A, KA);
    let before = bench.view();
    assert_eq!(bench.end_of(A, MOVE, 1, &moving_to(KA, KB, B.id(), 1, 0)), INVALID_CDB);
    assert_eq!(bench.end_of(A, MOVE, 1, &moving_to(KB, KB, B.id(), 1, 0)), End::Conflict, "the wrong key");
    assert_eq!(bench.end_of(B, MOVE, 1, &moving_to(KB, KA, A.id(), 1, 0)), End::Conflict, "unregistered");
    assert_eq!(bench.view(), before);
}
