//! Operation codes: byte 0 of a CDB (SPC-4 clause 4.2.5.1).

macro_rules! opcodes {
    ($($code:literal $name:ident $text:literal),+ $(,)?) => {
        $(
            #[doc = concat!("`", $text, "`, operation code ", stringify!($code), ".")]
            pub const $name: u8 = $code;
        )+

        /// Returns the standard's name of an operation code, if this crate has it.
        ///
        /// The names are those of SPC-4 and of the block device command set. A code that other device types (tapes,
        /// changers) use for another command has the block device's name.
        pub const fn name(opcode: u8) -> Option<&'static str> {
            match opcode {
                $($code => Some($text),)+
                _ => None,
            }
        }
    };
}

opcodes! {
    0x00 TEST_UNIT_READY "TEST UNIT READY",
    0x01 REZERO_UNIT "REZERO UNIT",
    0x03 REQUEST_SENSE "REQUEST SENSE",
    0x04 FORMAT_UNIT "FORMAT UNIT",
    0x07 REASSIGN_BLOCKS "REASSIGN BLOCKS",
    0x08 READ_6 "READ(6)",
    0x0a WRITE_6 "WRITE(6)",
    0x12 INQUIRY "INQUIRY",
    0x15 MODE_SELECT_6 "MODE SELECT(6)",
    0x16 RESERVE_6 "RESERVE(6)",
    0x17 RELEASE_6 "RELEASE(6)",
    0x1a MODE_SENSE_6 "MODE SENSE(6)",
    0x1b START_STOP_UNIT "START STOP UNIT",
    0x1c RECEIVE_DIAGNOSTIC_RESULTS "RECEIVE DIAGNOSTIC RESULTS",
    0x1d SEND_DIAGNOSTIC "SEND DIAGNOSTIC",
    0x1e PREVENT_ALLOW_MEDIUM_REMOVAL "PREVENT ALLOW MEDIUM REMOVAL",
    0x25 READ_CAPACITY_10 "READ CAPACITY(10)",
    0x28 READ_10 "READ(10)",
    0x2a WRITE_10 "WRITE(10)",
    0x2e WRITE_AND_VERIFY_10 "WRITE AND VERIFY(10)",
    0x2f VERIFY_10 "VERIFY(10)",
    0x34 PRE_FETCH_10 "PRE-FETCH(10)",
    0x35 SYNCHRONIZE_CACHE_10 "SYNCHRONIZE CACHE(10)",
    0x37 READ_DEFECT_DATA_10 "READ DEFECT DATA(10)",
    0x3b WRITE_BUFFER "WRITE BUFFER",
    0x3c READ_BUFFER_10 "READ BUFFER(10)",
    0x41 WRITE_SAME_10 "WRITE SAME(10)",
    0x42 UNMAP "UNMAP",
    0x48 SANITIZE "SANITIZE",
    0x4c LOG_SELECT "LOG SELECT",
    0x4d LOG_SENSE "LOG SENSE",
    0x55 MODE_SELECT_10 "MODE SELECT(10)",
    0x56 RESERVE_10 "RESERVE(10)",
    0x57 RELEASE_10 "RELEASE(10)",
    0x5a MODE_SENSE_10 "MODE SENSE(10)",
    0x5e PERSISTENT_RESERVE_IN "PERSISTENT RESERVE IN",
    0x5f PERSISTENT_RESERVE_OUT "PERSISTENT RESERVE OUT",
    0x7e EXTENDED_CDB "extended CDB",
    0x7f VARIABLE_LENGTH_CDB "variable-length CDB",
    0x83 THIRD_PARTY_COPY_OUT "THIRD-PARTY COPY OUT",
    0x84 THIRD_PARTY_COPY_IN "THIRD-PARTY COPY IN",
    0x85 ATA_PASS_THROUGH_16 "ATA PASS-THROUGH(16)",
    0x88 READ_16 "READ(16)",
    0x89 COMPARE_AND_WRITE "COMPARE AND WRITE",
    0x8a WRITE_16 "WRITE(16)",
    0x8c READ_ATTRIBUTE "READ ATTRIBUTE",
    0x8d WRITE_ATTRIBUTE "WRITE ATTRIBUTE",
    0x8e WRITE_AND_VERIFY_16 "WRITE AND VERIFY(16)",
    0x8f VERIFY_16 "VERIFY(16)",
    0x90 PRE_FETCH_16 "PRE-FETCH(16)",
    0x91 SYNCHRONIZE_CACHE_16 "SYNCHRONIZE CACHE(16)",
    0x93 WRITE_SAME_16 "WRITE SAME(16)",
    0x94 ZBC_OUT "ZBC OUT",
    0x95 ZBC_IN "ZBC IN",
    0x9b READ_BUFFER_16 "READ BUFFER(16)",
    0x9d SERVICE_ACTION_BIDIRECTIONAL "SERVICE ACTION BIDIRECTIONAL",
    0x9e SERVICE_ACTION_IN_16 "SERVICE ACTION IN(16)",
    0x9f SERVICE_ACTION_OUT_16 "SERVICE ACTION OUT(16)",
    0xa0 REPORT_LUNS "REPORT LUNS",
    0xa1 ATA_PASS_THROUGH_12 "ATA PASS-THROUGH(12)",
    0xa2 SECURITY_PROTOCOL_IN "SECURITY PROTOCOL IN",
    0xa3 MAINTENANCE_IN "MAINTENANCE IN",
    0xa4 MAINTENANCE_OUT "MAINTENANCE OUT",
    0xa8 READ_12 "READ(12)",
    0xa9 SERVICE_ACTION_OUT_12 "SERVICE ACTION OUT(12)",
    0xaa WRITE_12 "WRITE(12)",
    0xab SERVICE_ACTION_IN_12 "SERVICE ACTION IN(12)",
    0xae WRITE_AND_VERIFY_12 "WRITE AND VERIFY(12)",
    0xaf VERIFY_12 "VERIFY(12)",
    0xb5 SECURITY_PROTOCOL_OUT "SECURITY PROTOCOL OUT",
    0xb7 READ_DEFECT_DATA_12 "READ DEFECT DATA(12)",
}

/// Returns whether byte 1 bits 4-0 of a command with this operation code are a SERVICE ACTION field.
///
/// They are not in a variable-length CDB (7Fh), whose service action is in bytes 8-9.
pub const fn has_service_action(opcode: u8) -> bool {
    matches!(
        opcode,
        SANITIZE
            | PERSISTENT_RESERVE_IN
            | PERSISTENT_RESERVE_OUT
            | THIRD_PARTY_COPY_OUT
            | THIRD_PARTY_COPY_IN
            | READ_ATTRIBUTE
            | ZBC_OUT
            | ZBC_IN
            | SERVICE_ACTION_BIDIRECTIONAL
            | SERVICE_ACTION_IN_16
            | SERVICE_ACTION_OUT_16
            | MAINTENANCE_IN
            | MAINTENANCE_OUT
            | SERVICE_ACTION_OUT_12
            | SERVICE_ACTION_IN_12
    )
}
