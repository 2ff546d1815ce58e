//! State kept through a power loss: clause 5.13.5.1.

use std::fmt::Write as _;
use std::{fs, io};

use pr_target::test_utils::MemoryStore;
use pr_target::{Error, FileStore, LogicalUnit, Store};
use scsi_sense::SenseCode;

use crate::bench::*;

/// Returns a unit with the same store, after a power loss.
fn reopened(store: &MemoryStore) -> Bench<MemoryStore> {
    Bench(LogicalUnit::open(&[1, 2], store.clone()).unwrap())
}

/// Returns a unit on which A and B are registered and A holds a reservation, with or without APTPL.
fn reserved(store: &MemoryStore, kind: u8, flags: u8) -> Bench<MemoryStore> {
    let mut bench = reopened(store);
    assert_eq!(bench.end_of(A, REGISTER, 0, &basic_with(0, KA, flags)), End::Good);
    assert_eq!(bench.end_of(B, REGISTER, 0, &basic_with(0, KB, flags)), End::Good);
    assert_eq!(bench.out(A, RESERVE, kind, KA, 0), End::Good);
    bench
}

/// Everything but the generation and unit attention conditions.
#[test]
fn aptpl_keeps_state_through_power_loss() {
    for kind in ALL_TYPES {
        let store = MemoryStore::default();
        let mut bench = reserved(&store, kind, APTPL);
        let before = bench.view();
        let mut bench = reopened(&store);
        let view = bench.view();
        assert_eq!(view.generation, 0, "clause 6.15.2");
        assert_eq!((view.registrations, view.reservation), (before.registrations, before.reservation));
        assert_eq!(bench.out(B, PREEMPT, kind, KB, if kind > 6 { 0 } else { KA }), End::Good);
        let mut bench = reopened(&store);
        assert_eq!(bench.view().registered(), [(B, KB)]);
        assert_eq!(bench.attentions([A]), [[]], "unit attentions are lost with the power");
    }
}

#[test]
fn nothing_is_saved_without_aptpl() {
    let store = MemoryStore::default();
    reserved(&store, 1, 0);
    assert_eq!(store.saves(), 0);
    assert_eq!(reopened(&store).view().registered(), []);
}

/// "The APTPL value from the most recent successfully completed" command that has the bit.
#[test]
fn last_aptpl_counts_for_all() {
    for (sender, action, list, is_kept) in [
        (C, REGISTER, basic_with(0, KC, 0), false),
        (C, REGISTER_AND_IGNORE, basic_with(0, KC, 0), false),
        (A, REGISTER, basic_with(KA, KC, 0), false),
        (B, REGISTER, basic_with(KB, 0, 0), false),
        (A, scsi_sense::pr::OutServiceAction::RegisterAndMove, moving_to(KA, KC, C.id(), 1, 0), false),
        (A, scsi_sense::pr::OutServiceAction::RegisterAndMove, moving_to(KA, KC, C.id(), 1, APTPL), true),
        // Not successful, does nothing, or has no such bit.
        (A, REGISTER, basic_with(KB, KC, 0), true),
        (C, REGISTER, basic_with(0, 0, 0), true),
        (A, RELEASE, basic_with(KA, 0, 0), true),
        (A, PREEMPT, basic_with(KA, KB, 0), true),
    ] {
        let store = MemoryStore::default();
        let mut bench = reserved(&store, 1, APTPL);
        let case = format!("{sender:?} {action} {list:02x?}");
        let _ = bench.end_of(sender, action, 1, &list);
        let before = bench.view();
        let view = reopened(&store).view();
        if is_kept {
            assert_eq!(view.registrations, before.registrations, "{case}");
            assert_eq!(view.reservation, before.reservation, "{case}");
        } else {
            assert_eq!((view.registered(), view.reservation), (vec![], None), "{case}");
        }
    }
}

#[test]
fn later_aptpl_saves_earlier_registrations() {
    let store = MemoryStore::default();
    let mut bench = reserved(&store, 5, 0);
    assert_eq!(bench.end_of(C, REGISTER, 0, &basic_with(0, KC, APTPL)), End::Good);
    let before = bench.view();
    let view = reopened(&store).view();
    assert_eq!((view.registrations, view.reservation), (before.registrations, before.reservation));
}

#[test]
fn unchanged_state_is_not_saved_again() {
    let store = MemoryStore::default();
    let mut bench = reserved(&store, 1, APTPL);
    let saves = store.saves();
    assert_eq!(bench.out(A, RESERVE, 1, KA, 0), End::Good);
    assert_eq!(bench.out(B, RELEASE, 1, KB, 0), End::Good);
    assert_eq!(bench.out(B, RESERVE, 1, KB, 0), End::Conflict);
    assert_eq!(bench.out(C, REGISTER, 0, 0, 0), End::Good);
    bench.view();
    assert_eq!(store.saves(), saves);
    assert_eq!(bench.out(A, RELEASE, 1, KA, 0), End::Good);
    assert_eq!(store.saves(), saves + 1);
}

#[test]
fn failed_save_changes_nothing() {
    let failed = End::Check(SenseCode::INTERNAL_TARGET_FAILURE);
    let moving = moving_to(KA, KC, C.id(), 1, APTPL);
    for (sender, action, list) in [
        (C, REGISTER, basic_with(0, KC, APTPL)),
        (B, REGISTER, basic_with(KB, 0, 0)),
        (A, RELEASE, basic(KA, 0)),
        (B, CLEAR, basic(KB, 0)),
        (B, PREEMPT_AND_ABORT, basic(KB, KA)),
        (A, scsi_sense::pr::OutServiceAction::RegisterAndMove, moving),
    ] {
        let store = MemoryStore::default();
        let mut bench = reserved(&store, 5, APTPL);
        let (before, content) = (bench.view(), store.content());
        store.set_failing(true);
        let answer = bench.answer(sender, action, 5, &list);
        assert_eq!((end(&answer), answer.abort), (failed, vec![]), "{action}");
        assert!(bench.0.take_save_error().is_some());
        assert!(bench.0.take_save_error().is_none());
        assert_eq!(bench.view(), before, "{action}");
        assert_eq!(bench.attentions([A, B, C]), [[], [], []]);
        assert_eq!(store.content(), content);
        store.set_failing(false);
        assert_eq!(bench.end_of(sender, action, 5, &list), End::Good, "{action}");
    }
}

#[test]
fn saved_state_is_a_text() {
    let store = MemoryStore::default();
    let mut bench = reserved(&store, 6, APTPL);
    let text = String::from_utf8(store.content().unwrap()).unwrap();
    let (body, checksum) = text.split_at(text.rfind("crc32").unwrap());
    assert_eq!(
        body,
        "pr-target state, version 1\n\
         aptpl 1\n\
         reservation 6 0\n\
         registration a 1 06000000500000000000000a000000000000000000000000\n\
         registration b 1 06000000500000000000000b000000000000000000000000\n"
    );
    // The checksum that zlib computes.
    assert_eq!(checksum, "crc32 85e5dbdb\n");
    assert_eq!(bench.end_of(A, REGISTER_AND_IGNORE, 0, &basic_with(0, KA, 0)), End::Good);
    assert!(store.content().unwrap().starts_with(b"pr-target state, version 1\naptpl 0\ncrc32 "));
}

#[test]
fn damage_is_never_an_empty_state() {
    let store = MemoryStore::default();
    reserved(&store, 7, APTPL);
    let whole = store.content().unwrap();
    let open = |bytes: &[u8]| {
        store.set_content(Some(bytes.to_vec()));
        LogicalUnit::open(&[1, 2], store.clone())
    };
    assert!(open(&whole).is_ok());
    let body = String::from_utf8(whole.clone()).unwrap().rfind("crc32").unwrap();
    for cut in 0..whole.len() {
        assert!(matches!(open(&whole[..cut]), Err(Error::Damaged(_))), "cut at {cut}");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let error = open(&bytes).expect_err("damaged");
            assert!(matches!(error, Error::Damaged(_)), "byte {at}, bit {bit}");
            if (30..body).contains(&at) && bytes.is_ascii() {
                assert!(error.to_string().contains("checksum"), "byte {at}, bit {bit}: {error}");
            }
        }
    }
    for suffix in [&b"\n"[..], b"\0", b"crc32 00000000\n"] {
        assert!(matches!(open(&[&whole, suffix].concat()), Err(Error::Damaged(_))));
    }
    assert!(matches!(open(&[0; 4096]), Err(Error::Damaged(_))));
    assert!(matches!(open(&[]), Err(Error::Damaged(_))), "an empty file is not a missing file");
    store.set_failing(true);
    assert!(matches!(open(&whole), Err(Error::Load(_))));
}

/// Damage with a valid checksum: written by another program.
#[test]
fn foreign_state_is_damaged() {
    const TITLE: &str = "pr-target state, version 1\n";
    const ID_A: &str = "06000000500000000000000a000000000000000000000000";
    let open = |body: &str| {
        let store = MemoryStore::default();
        let checksum = crc32(body.as_bytes());
        store.set_content(Some(format!("{body}crc32 {checksum:08x}\n").into_bytes()));
        LogicalUnit::open(&[1, 2], store).map(|_| ()).map_err(|error| error.to_string())
    };
    let registration = format!("registration a 1 {ID_A}\n");
    assert_eq!(open(&format!("{TITLE}aptpl 1\nreservation 1 0\n{registration}")), Ok(()));
    assert_eq!(open(&format!("{TITLE}aptpl 1\nreservation 7 all\n{registration}")), Ok(()));
    assert_eq!(open(&format!("{TITLE}aptpl 1\n")), Ok(()));
    assert_eq!(open(&format!("{TITLE}aptpl 0\n")), Ok(()));
    for (body, why) in [
        (TITLE.replace('1', "2") + "aptpl 1\n", "version"),
        (format!("{TITLE}{registration}"), "no aptpl"),
        (format!("{TITLE}aptpl 0\n{registration}"), "registrations that are not kept"),
        (format!("{TITLE}aptpl 2\n"), "neither 0 nor 1"),
        (format!("{TITLE}aptpl 1\naptpl 1\n"), "twice"),
        (format!("{TITLE}aptpl 1\n\n"), "an empty line"),
        (format!("{TITLE}aptpl 1\n{registration}{registration}"), "twice the same nexus"),
        (format!("{TITLE}aptpl 1\n{registration}reservation 1 0\n"), "in another order"),
        (format!("{TITLE}aptpl 1\nreservation 1 1\n{registration}"), "a holder that is not registered"),
        (format!("{TITLE}aptpl 1\nreservation 1 -1\n{registration}"), "not a number"),
        (format!("{TITLE}aptpl 1\nreservation 1 +0\n{registration}"), "a number with a sign"),
        (format!("{TITLE}aptpl 1\nreservation 1 all\n{registration}"), "one holder"),
        (format!("{TITLE}aptpl 1\nreservation 7 0\n{registration}"), "all are holders"),
        (format!("{TITLE}aptpl 1\nreservation 7 all\n"), "a reservation without a holder"),
        (format!("{TITLE}aptpl 1\nreservation 2 0\n{registration}"), "a type that does not exist"),
        (format!("{TITLE}aptpl 1\nreservation 11 0\n{registration}"), "a type of two digits"),
        (format!("{TITLE}aptpl 1\nregistration 0 1 {ID_A}\n"), "no key"),
        (format!("{TITLE}aptpl 1\nregistration 0a 1 {ID_A}\n"), "a leading zero"),
        (format!("{TITLE}aptpl 1\nregistration A 1 {ID_A}\n"), "an upper-case digit"),
        (format!("{TITLE}aptpl 1\nregistration a 10000 {ID_A}\n"), "a port of 17 bits"),
        (format!("{TITLE}aptpl 1\nregistration a 1 {}\n", &ID_A[2..]), "a TransportID that is cut"),
        (format!("{TITLE}aptpl 1\nregistration a 1 {}\n", &ID_A[1..]), "half a byte"),
        (format!("{TITLE}aptpl 1\nregistration a 1 {ID_A}00\n"), "a byte too many"),
        (format!("{TITLE}aptpl 1\nregistration a 1 {}1\n", &ID_A[..47]), "a reserved bit"),
        (format!("{TITLE}aptpl 1\nregistration a 1 \u{e9}\n"), "not a digit"),
        (format!("{TITLE}aptpl 1\r\n"), "a carriage return"),
        (format!("{TITLE}aptpl 1\nsomething else\n"), "a line of an unknown kind"),
    ] {
        let error = open(&body).expect_err(why);
        assert!(error.starts_with("the saved reservations are damaged ("), "{error}");
    }
    let mut too_many = format!("{TITLE}aptpl 1\n");
    for port in 1..=1025 {
        writeln!(too_many, "registration a {port:x} {ID_A}").unwrap();
    }
    assert!(open(&too_many).expect_err("too many").contains("too many"));
}

/// Computes the checksum by a table, unlike the crate's own implementation.
fn crc32(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256)
        .map(|index| {
            (0..8).fold(index, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        })
        .collect();
    !bytes.iter().fold(!0, |crc, byte| table[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ crc >> 8)
}

#[test]
fn checksum_matches_known_value() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn file_store_keeps_state() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("unit");
    let open = || LogicalUnit::open(&[1, 2], FileStore::new(&path)).map(Bench);
    let mut bench = open().unwrap();
    assert!(!path.exists(), "nothing has been saved yet");
    assert_eq!(bench.end_of(A, REGISTER, 0, &basic_with(0, KA, APTPL)), End::Good);
    assert_eq!(bench.out(A, RESERVE, 8, KA, 0), End::Good);
    drop(bench);
    // A file left by a crash is ignored.
    fs::write(directory.path().join("unit.new"), "half of someth").unwrap();
    let mut bench = open().unwrap();
    let view = bench.view();
    assert_eq!((view.registered(), view.reservation), (vec![(A, KA)], Some((8, 0))));
    assert_eq!(bench.out(A, RELEASE, 8, KA, 0), End::Good);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "the file alone");
    assert_eq!(open().unwrap().view().reservation, None);
    assert_eq!(bench.end_of(A, REGISTER, 0, &basic_with(KA, KA, 0)), End::Good);
    assert_eq!(open().unwrap().view().registered(), [], "no longer kept");

    fs::write(&path, "").unwrap();
    assert!(matches!(open().map(|_| ()), Err(Error::Damaged(_))));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(open().map(|_| ()), Err(Error::Load(_))));
}

#[test]
fn oversized_file_is_not_read_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("unit");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(LogicalUnit::open(&[1], FileStore::new(&path)).map(|_| ()), Err(Error::Damaged(_))));
}

/// It is an error of `load`; if it is removed later, of `save`.
#[test]
fn missing_directory_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("folder").join("unit");
    let error = FileStore::new(&path).load().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot find the directory {}", directory.path().join("folder").display())
    );
    fs::create_dir(path.parent().unwrap()).unwrap();
    let mut bench = Bench(LogicalUnit::open(&[1], FileStore::new(&path)).unwrap());
    fs::remove_dir(path.parent().unwrap()).unwrap();
    let failed = End::Check(SenseCode::INTERNAL_TARGET_FAILURE);
    assert_eq!(bench.end_of(A, REGISTER, 0, &basic_with(0, KA, APTPL)), failed);
    let error = bench.0.take_save_error().unwrap();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
    assert_eq!(bench.view().registered(), []);
    assert_eq!(
        bench.end_of(A, REGISTER, 0, &basic_with(0, KA, 0)),
        failed,
        "the content of the disk is uncertain"
    );
}
