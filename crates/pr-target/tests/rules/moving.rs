//! REGISTER AND MOVE: clauses 5.13.8 and 6.16.4, table 70.

use scsi_sense::pr::OutServiceAction;

use crate::bench::*;

const MOVE: OutServiceAction = OutServiceAction::RegisterAndMove;
const UNREG: u8 = 0x02;

#[test]
fn the_reservation_moves_with_scope_and_type_and_the_destination_is_registered() {
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
                assert_eq!(bench.view().reservation, None, "B is the holder indeed");
            }
        }
    }
}

#[test]
fn it_moves_to_another_target_port_as_well() {
    let mut bench = Bench::reserved(1, &[(B, KB)]);
    assert_eq!(bench.end_of(B, MOVE, 0, &moving_to(KB, KA, A.id(), 2, 0)), End::Good);
    assert_eq!(bench.view().holders(), [A2]);
}

/// Table 70, and the paragraphs behind it.
#[test]
fn everybody_else_and_everything_else_is_refused() {
    let list = |key, new_key| moving_to(key, new_key, C.id(), 1, 0);
    for (what, who, list, expected) in [
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
        assert_eq!(bench.end_of(who, MOVE, 1, &list), expected, "{what}");
        assert_eq!(bench.view(), before, "{what}");
    }
}

#[test]
fn what_all_registrants_hold_does_not_move() {
    for kind in [7, 8] {
        let mut bench = Bench::reserved(kind, &[(A, KA), (B, KB)]);
        let before = bench.view();
        for new_key in [KC, 0] {
            assert_eq!(bench.end_of(A, MOVE, kind, &moving_to(KA, new_key, C.id(), 1, 0)), End::Conflict);
        }
        assert_eq!(bench.end_of(A, MOVE, kind, &[]), End::Conflict, "whatever else is wrong");
        assert_eq!(bench.view(), before);
    }
}

#[test]
fn where_there_is_no_reservation_there_is_nothing_to_move() {
    let mut bench = Bench::new();
    bench.register(A, KA);
    let before = bench.view();
    assert_eq!(bench.end_of(A, MOVE, 1, &moving_to(KA, KB, B.id(), 1, 0)), INVALID_CDB);
    assert_eq!(bench.end_of(A, MOVE, 1, &moving_to(KB, KB, B.id(), 1, 0)), End::Conflict, "the wrong key");
    assert_eq!(bench.end_of(B, MOVE, 1, &moving_to(KB, KA, A.id(), 1, 0)), End::Conflict, "unregistered");
    assert_eq!(bench.view(), before);
}
