//! The commands that a reservation allows: tables 65 and 66, and table 13 of SBC-4.

use pr_target::Access;

use crate::bench::*;

/// A row of the tables. Columns: WRITE EXCLUSIVE and EXCLUSIVE ACCESS, for a nexus that is not the holder; the
/// registrants types of both, for a nexus that is not registered. (Registrants of those are allowed everything.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// Allowed, allowed, allowed, allowed.
    Always,
    /// Allowed, conflict, allowed, conflict.
    Reading,
    /// Conflict in all.
    Never,
}
use Row::{Always, Never, Reading};

/// Returns a CDB with this operation code and service action, other bytes zero.
fn cdb(opcode: u8, action: u8) -> Vec<u8> {
    let length = [6, 10, 10, 12, 16, 12, 10, 10][usize::from(opcode >> 5)];
    let mut bytes = vec![0; length];
    bytes[0] = opcode;
    bytes[1] = action;
    bytes
}

/// Returns a CDB with this operation code and byte 4, other bytes zero.
fn cdb_4(opcode: u8, byte_4: u8) -> Vec<u8> {
    let mut bytes = cdb(opcode, 0);
    bytes[4] = byte_4;
    bytes
}

/// Returns a variable-length CDB of 32 bytes with this service action.
fn cdb_32(action: u16) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[0] = 0x7f;
    bytes[7] = 24;
    bytes[8..10].copy_from_slice(&action.to_be_bytes());
    bytes
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn table() -> Vec<(&'static str, Vec<u8>, Row)> {
    vec![
        // SPC-4 table 65.
        ("ACCESS CONTROL IN", cdb(0x86, 0), Always),
        ("ACCESS CONTROL OUT", cdb(0x87, 0), Always),
        ("CHANGE ALIASES", cdb(0xa4, 0x0b), Never),
        ("COPY OPERATION ABORT", cdb(0x83, 0x1c), Never),
        ("EXTENDED COPY(LID4)", cdb(0x83, 0x01), Never),
        ("EXTENDED COPY(LID1)", cdb(0x83, 0x00), Never),
        ("INQUIRY", cdb(0x12, 0), Always),
        ("LOG SELECT", cdb(0x4c, 0), Never),
        ("LOG SENSE", cdb(0x4d, 0), Always),
        ("MANAGEMENT PROTOCOL IN", cdb(0xa3, 0x10), Reading),
        ("MANAGEMENT PROTOCOL OUT", cdb(0xa4, 0x10), Never),
        ("MODE SELECT(6)", cdb(0x15, 0), Never),
        ("MODE SELECT(10)", cdb(0x55, 0), Never),
        ("MODE SENSE(6)", cdb(0x1a, 0), Reading),
        ("MODE SENSE(10)", cdb(0x5a, 0), Reading),
        ("PERSISTENT RESERVE IN", cdb(0x5e, 0), Always),
        ("READ ATTRIBUTE", cdb(0x8c, 0), Reading),
        ("READ BUFFER(10)", cdb(0x3c, 0), Reading),
        ("READ BUFFER(16)", cdb(0x9b, 0), Reading),
        ("READ MEDIA SERIAL NUMBER", cdb(0xab, 0x01), Always),
        ("RECEIVE CREDENTIAL", cdb_32(0x1800), Never),
        ("RECEIVE COPY STATUS(LID1)", cdb(0x84, 0x00), Always),
        ("RECEIVE COPY DATA(LID1)", cdb(0x84, 0x01), Always),
        ("RECEIVE COPY OPERATING PARAMETERS", cdb(0x84, 0x03), Always),
        ("RECEIVE COPY FAILURE DETAILS(LID1)", cdb(0x84, 0x04), Always),
        ("RECEIVE COPY STATUS(LID4)", cdb(0x84, 0x05), Always),
        ("RECEIVE COPY DATA(LID4)", cdb(0x84, 0x06), Always),
        ("RECEIVE ROD TOKEN INFORMATION", cdb(0x84, 0x07), Always),
        ("REPORT ALL ROD TOKENS", cdb(0x84, 0x08), Always),
        ("RECEIVE DIAGNOSTIC RESULTS", cdb(0x1c, 0), Reading),
        ("REMOVE I_T NEXUS", cdb(0xa4, 0x0c), Never),
        ("REPORT ALIASES", cdb(0xa3, 0x0b), Always),
        ("REPORT IDENTIFYING INFORMATION", cdb(0xa3, 0x05), Always),
        ("REPORT LUNS", cdb(0xa0, 0), Always),
        ("REPORT PRIORITY", cdb(0xa3, 0x0e), Always),
        ("REPORT SUPPORTED OPERATION CODES", cdb(0xa3, 0x0c), Reading),
        ("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", cdb(0xa3, 0x0d), Reading),
        ("REPORT TARGET PORT GROUPS", cdb(0xa3, 0x0a), Always),
        ("REPORT TIMESTAMP", cdb(0xa3, 0x0f), Always),
        ("REQUEST SENSE", cdb(0x03, 0), Always),
        ("SECURITY PROTOCOL IN", cdb(0xa2, 0), Reading),
        ("SECURITY PROTOCOL OUT", cdb(0xb5, 0), Never),
        ("SEND DIAGNOSTIC", cdb(0x1d, 0), Never),
        ("SET IDENTIFYING INFORMATION", cdb(0xa4, 0x06), Never),
        ("SET PRIORITY", cdb(0xa4, 0x0e), Never),
        ("SET TARGET PORT GROUPS", cdb(0xa4, 0x0a), Never),
        ("SET TIMESTAMP", cdb(0xa4, 0x0f), Never),
        ("TEST UNIT READY", cdb(0x00, 0), Always),
        ("WRITE ATTRIBUTE", cdb(0x8d, 0), Never),
        ("WRITE BUFFER", cdb(0x3b, 0), Never),
        // SBC-4 table 13.
        ("BACKGROUND CONTROL", cdb(0x9e, 0x15), Never),
        ("COMPARE AND WRITE", cdb(0x89, 0), Never),
        ("FORMAT UNIT", cdb(0x04, 0), Never),
        ("FORMAT WITH PRESET", cdb(0x38, 0), Never),
        ("GET LBA STATUS(16)", cdb(0x9e, 0x12), Reading),
        ("GET LBA STATUS(32)", cdb_32(0x0012), Reading),
        ("GET PHYSICAL ELEMENT STATUS", cdb(0x9e, 0x17), Reading),
        ("GET STREAM STATUS", cdb(0x9e, 0x16), Reading),
        ("ORWRITE(16)", cdb(0x8b, 0), Never),
        ("ORWRITE(32)", cdb_32(0x000e), Never),
        ("POPULATE TOKEN", cdb(0x83, 0x10), Reading),
        ("PRE-FETCH(10)", cdb(0x34, 0), Reading),
        ("PRE-FETCH(16)", cdb(0x90, 0), Reading),
        ("PREVENT ALLOW MEDIUM REMOVAL, PREVENT = 0", cdb_4(0x1e, 0x00), Always),
        ("PREVENT ALLOW MEDIUM REMOVAL, PREVENT = 1", cdb_4(0x1e, 0x01), Never),
        ("PREVENT ALLOW MEDIUM REMOVAL, PREVENT = 2", cdb_4(0x1e, 0x02), Never),
        ("READ(6)", cdb(0x08, 0), Reading),
        ("READ(10)", cdb(0x28, 0), Reading),
        ("READ(12)", cdb(0xa8, 0), Reading),
        ("READ(16)", cdb(0x88, 0), Reading),
        ("READ(32)", cdb_32(0x0009), Reading),
        ("READ CAPACITY(10)", cdb(0x25, 0), Always),
        ("READ CAPACITY(16)", cdb(0x9e, 0x10), Always),
        ("READ DEFECT DATA(10)", cdb(0x37, 0), Reading),
        ("READ DEFECT DATA(12)", cdb(0xb7, 0), Reading),
        ("READ LONG(10) of SBC-3", cdb(0x3e, 0), Never),
        ("READ LONG(16) of SBC-3", cdb(0x9e, 0x11), Never),
        ("REASSIGN BLOCKS", cdb(0x07, 0), Never),
        ("REMOVE ELEMENT AND TRUNCATE", cdb(0x9e, 0x18), Never),
        ("REPORT PROVISIONING INITIALIZATION PATTERN", cdb(0xa3, 0x1d), Always),
        ("REPORT REFERRALS", cdb(0x9e, 0x13), Always),
        ("RESTORE ELEMENTS AND REBUILD", cdb(0x9e, 0x19), Never),
        ("SANITIZE", cdb(0x48, 0x03), Never),
        ("START STOP UNIT, START = 1, POWER CONDITION = 0h", cdb_4(0x1b, 0x01), Always),
        ("START STOP UNIT, START = 1, LOEJ = 1", cdb_4(0x1b, 0x03), Always),
        ("START STOP UNIT, START = 0", cdb_4(0x1b, 0x00), Never),
        ("START STOP UNIT, POWER CONDITION = 1h", cdb_4(0x1b, 0x11), Never),
        ("STREAM CONTROL", cdb(0x9e, 0x14), Never),
        ("SYNCHRONIZE CACHE(10)", cdb(0x35, 0), Never),
        ("SYNCHRONIZE CACHE(16)", cdb(0x91, 0), Never),
        ("UNMAP", cdb(0x42, 0), Never),
        ("VERIFY(10)", cdb(0x2f, 0), Reading),
        ("VERIFY(12)", cdb(0xaf, 0), Reading),
        ("VERIFY(16)", cdb(0x8f, 0), Reading),
        ("VERIFY(32)", cdb_32(0x000a), Reading),
        ("WRITE(6)", cdb(0x0a, 0), Never),
        ("WRITE(10)", cdb(0x2a, 0), Never),
        ("WRITE(12)", cdb(0xaa, 0), Never),
        ("WRITE(16)", cdb(0x8a, 0), Never),
        ("WRITE(32)", cdb_32(0x000b), Never),
        ("WRITE AND VERIFY(10)", cdb(0x2e, 0), Never),
        ("WRITE AND VERIFY(12)", cdb(0xae, 0), Never),
        ("WRITE AND VERIFY(16)", cdb(0x8e, 0), Never),
        ("WRITE AND VERIFY(32)", cdb_32(0x000c), Never),
        ("WRITE ATOMIC(16)", cdb(0x9c, 0), Never),
        ("WRITE LONG(10)", cdb(0x3f, 0), Never),
        ("WRITE LONG(16)", cdb(0x9f, 0x11), Never),
        ("WRITE SAME(10)", cdb(0x41, 0), Never),
        ("WRITE SAME(16)", cdb(0x93, 0), Never),
        ("WRITE SAME(32)", cdb_32(0x000d), Never),
        ("WRITE SCATTERED(16)", cdb(0x9f, 0x12), Never),
        ("WRITE STREAM(16)", cdb(0x9a, 0), Never),
        ("WRITE USING TOKEN", cdb(0x83, 0x11), Never),
        // Commands that are in no table.
        ("an unknown command", cdb(0xc5, 0), Never),
        ("MAINTENANCE IN of an unknown service action", cdb(0xa3, 0x1f), Never),
        ("SERVICE ACTION IN(16) of an unknown service action", cdb(0x9e, 0x1f), Never),
        ("THIRD-PARTY COPY IN of an unknown service action", cdb(0x84, 0x1f), Never),
        ("a variable-length command of an unknown service action", cdb_32(0x0042), Never),
        ("READ(10), cut", cdb(0x28, 0)[..9].to_vec(), Never),
        ("START STOP UNIT, cut", cdb_4(0x1b, 0x01)[..4].to_vec(), Never),
        ("a variable-length command, cut", cdb_32(0x0009)[..9].to_vec(), Never),
        ("nothing", vec![], Never),
    ]
}

#[test]
fn access_follows_the_standards_tables() {
    for kind in ALL_TYPES {
        let bench = Bench::reserved(kind, &[(A, KA), (B, KB)]);
        for (name, cdb, row) in table() {
            let reading = matches!(kind, 1 | 5 | 7);
            let to_others = row == Always || (row == Reading && reading);
            let registered = kind > 3 || to_others;
            for (sender, is_allowed) in [(A, true), (B, registered), (C, to_others), (A2, to_others)] {
                let expected = if is_allowed { Access::Allowed } else { Access::Conflict };
                assert_eq!(
                    bench.0.allows(&sender.nexus(), &cdb),
                    expected,
                    "{name}, type {kind}, {sender:?}"
                );
            }
        }
    }
}

#[test]
fn everything_is_allowed_without_a_reservation() {
    let mut bench = Bench::new();
    bench.register(B, KB);
    for (name, cdb, _) in table() {
        for sender in [A, B] {
            assert_eq!(bench.0.allows(&sender.nexus(), &cdb), Access::Allowed, "{name}");
            assert_eq!(bench.0.admit(&sender.nexus(), &cdb), None, "{name}");
        }
    }
}

/// RESERVE and RELEASE, (6) and (10): SPC-2 clause 5.5.1, the meaning of CRH = 0 (SPC-4 clauses 5.13.3 and 6.15.4).
#[test]
fn reserve_6_conflicts_with_any_registration() {
    let mut bench = Bench::new();
    for opcode in [0x16, 0x17, 0x56, 0x57] {
        assert_eq!(bench.0.allows(&A.nexus(), &cdb(opcode, 0)), Access::Allowed);
    }
    bench.register(A, KA);
    for kind in [0, 1, 5, 7] {
        if kind != 0 {
            bench = Bench::reserved(kind, &[(A, KA)]);
        }
        for opcode in [0x16, 0x17, 0x56, 0x57] {
            for sender in [A, B] {
                assert_eq!(bench.0.allows(&sender.nexus(), &cdb(opcode, 0)), Access::Conflict);
            }
        }
    }
}

/// Table 66.
#[test]
fn access_of_reserve_out_follows_table_66() {
    // The service action, and whether it is allowed to a registered nexus and to an unregistered one.
    for (action, registered, other) in [
        (CLEAR, true, false),
        (PREEMPT, true, false),
        (PREEMPT_AND_ABORT, true, false),
        (REGISTER, true, true),
        (REGISTER_AND_IGNORE, true, true),
        (scsi_sense::pr::OutServiceAction::RegisterAndMove, false, false),
        (RELEASE, true, false),
        (REPLACE_LOST, true, false),
        (RESERVE, false, false),
    ] {
        for kind in [1, 3, 5, 6] {
            let bench = Bench::reserved(kind, &[(A, KA), (B, KB)]);
            for (sender, is_allowed) in [(A, true), (B, registered), (C, other)] {
                let expected = if is_allowed { Access::Allowed } else { Access::Conflict };
                let cdb = cdb(0x5f, action.code());
                assert_eq!(
                    bench.0.allows(&sender.nexus(), &cdb),
                    expected,
                    "{action}, type {kind}, {sender:?}"
                );
            }
        }
        // All registrants are holders, but such a reservation cannot be moved (clause 5.13.8).
        for kind in [7, 8] {
            let bench = Bench::reserved(kind, &[(A, KA), (B, KB)]);
            let is_move = action == scsi_sense::pr::OutServiceAction::RegisterAndMove;
            for (sender, is_allowed) in [(A, !is_move), (B, !is_move), (C, other)] {
                let expected = if is_allowed { Access::Allowed } else { Access::Conflict };
                let cdb = cdb(0x5f, action.code());
                assert_eq!(
                    bench.0.allows(&sender.nexus(), &cdb),
                    expected,
                    "{action}, type {kind}, {sender:?}"
                );
            }
        }
    }
}
