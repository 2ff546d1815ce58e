//! The commands that a reservation allows to a nexus: SPC-4 clause 5.13.1, tables 65 and 66; SBC-4 clause 4.17, table
//! 13, which has the commands of SBC-3 and newer ones.

use scsi_sense::Cdb;
use scsi_sense::opcode;
use scsi_sense::pr::{OutServiceAction, PersistentReserveOut};

use crate::answer::INFORMATION_LOST;
use crate::out::is_permitted;
use crate::state::State;
use crate::{Answer, Nexus};

/// Whether a command may be performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Access {
    /// The command may be performed.
    Allowed,
    /// The command must not be performed and ends with RESERVATION CONFLICT.
    Conflict,
    /// The command must not be performed and ends with CHECK CONDITION, DATA PROTECT, PERSISTENT RESERVATION
    /// INFORMATION LOST (SPC-4 clause 5.13.5.3.2).
    InformationLost,
}

impl Access {
    /// Returns the answer to a command that must not be performed, or `None` if it may be.
    pub fn refusal(self) -> Option<Answer> {
        match self {
            Self::Allowed => None,
            Self::Conflict => Some(Answer::conflict()),
            Self::InformationLost => Some(Answer::check(INFORMATION_LOST)),
        }
    }
}

/// The row of a command in the standards' tables. For a nexus that is neither holder nor admitted as a registrant, the
/// columns differ only in whether the reservation is write exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// Allowed in all columns.
    Always,
    /// Allowed if the reservation is write exclusive, as reading is.
    IfWriteExclusive,
    /// Allowed in no column.
    Never,
}

/// Returns whether `nexus` may have the command performed.
pub(crate) fn access(state: &State, is_lost: bool, nexus: &Nexus, cdb: &[u8]) -> Access {
    let cdb = Cdb::new(cdb).ok();
    let out = cdb.and_then(|cdb| PersistentReserveOut::try_from(cdb).ok()).map(|command| command.action);
    if is_lost {
        let is_allowed = match out {
            Some(action) => action == OutServiceAction::ReplaceLostReservation,
            None => cdb.is_some_and(passes_while_lost),
        };
        return if is_allowed { Access::Allowed } else { Access::InformationLost };
    }
    let is_allowed = match (out, cdb) {
        (Some(action), _) => is_permitted(state, nexus, action),
        (None, Some(cdb)) if is_reserve_or_release(cdb) => state.registrations().is_empty(),
        (None, cdb) => state.reservation().is_none_or(|held| {
            let admits_registrants = held.kind.is_registrants_only() || held.kind.is_all_registrants();
            state.is_holder(nexus)
                || (admits_registrants && state.is_registered(nexus))
                || match cdb.map_or(Row::Never, row) {
                    Row::Always => true,
                    Row::IfWriteExclusive => !held.kind.is_exclusive_access(),
                    Row::Never => false,
                }
        }),
    };
    if is_allowed { Access::Allowed } else { Access::Conflict }
}

/// Returns whether the command is RESERVE or RELEASE, which conflict while any nexus is registered (SPC-2 clause 5.5.1,
/// to which SPC-4 table 65 refers: the unit reports CRH = 0).
fn is_reserve_or_release(cdb: Cdb<'_>) -> bool {
    matches!(cdb.opcode(), opcode::RESERVE_6 | opcode::RELEASE_6 | opcode::RESERVE_10 | opcode::RELEASE_10)
}

/// Returns whether the command is performed while reservation information is lost (SPC-4 clause 5.13.5.2).
fn passes_while_lost(cdb: Cdb<'_>) -> bool {
    match cdb.opcode() {
        opcode::INQUIRY
        | opcode::LOG_SENSE
        | opcode::READ_BUFFER_10
        | opcode::READ_BUFFER_16
        | opcode::REPORT_LUNS
        | opcode::REQUEST_SENSE
        | opcode::WRITE_BUFFER => true,
        opcode::MAINTENANCE_IN => cdb.service_action() == Some(REPORT_TARGET_PORT_GROUPS),
        opcode::START_STOP_UNIT => is_plain_start(cdb),
        _ => false,
    }
}

/// Returns the row of a command. A command that is in no table may do anything, so its row is [`Row::Never`].
fn row(cdb: Cdb<'_>) -> Row {
    match cdb.opcode() {
        opcode::TEST_UNIT_READY
        | opcode::REQUEST_SENSE
        | opcode::INQUIRY
        | opcode::READ_CAPACITY_10
        | opcode::LOG_SENSE
        | opcode::PERSISTENT_RESERVE_IN
        | opcode::REPORT_LUNS
        | ACCESS_CONTROL_IN
        | ACCESS_CONTROL_OUT => Row::Always,
        opcode::READ_6
        | opcode::READ_10
        | opcode::READ_12
        | opcode::READ_16
        | opcode::VERIFY_10
        | opcode::VERIFY_12
        | opcode::VERIFY_16
        | opcode::PRE_FETCH_10
        | opcode::PRE_FETCH_16
        | opcode::READ_DEFECT_DATA_10
        | opcode::READ_DEFECT_DATA_12
        | opcode::MODE_SENSE_6
        | opcode::MODE_SENSE_10
        | opcode::READ_ATTRIBUTE
        | opcode::READ_BUFFER_10
        | opcode::READ_BUFFER_16
        | opcode::RECEIVE_DIAGNOSTIC_RESULTS
        | opcode::SECURITY_PROTOCOL_IN => Row::IfWriteExclusive,
        opcode::START_STOP_UNIT => always_if(is_plain_start(cdb)),
        opcode::PREVENT_ALLOW_MEDIUM_REMOVAL => always_if(matches!(byte_4(cdb) & 0x03, 0)),
        opcode::VARIABLE_LENGTH_CDB => match cdb.variable_length_service_action() {
            // READ(32), VERIFY(32), GET LBA STATUS(32).
            Some(0x0009 | 0x000a | 0x0012) => Row::IfWriteExclusive,
            _ => Row::Never,
        },
        opcode => row_by_service_action(opcode, cdb.service_action()),
    }
}

fn row_by_service_action(opcode: u8, action: Option<u8>) -> Row {
    match (opcode, action) {
        // READ CAPACITY(16), REPORT REFERRALS.
        (opcode::SERVICE_ACTION_IN_16, Some(0x10 | 0x13))
        // READ MEDIA SERIAL NUMBER.
        | (opcode::SERVICE_ACTION_IN_12, Some(0x01))
        // RECEIVE COPY STATUS, DATA, OPERATING PARAMETERS, FAILURE DETAILS; RECEIVE ROD TOKEN INFORMATION; REPORT ALL
        // ROD TOKENS.
        | (opcode::THIRD_PARTY_COPY_IN, Some(0x00 | 0x01 | 0x03..=0x08))
        // REPORT IDENTIFYING INFORMATION, TARGET PORT GROUPS, ALIASES, PRIORITY, TIMESTAMP, PROVISIONING
        // INITIALIZATION PATTERN.
        | (opcode::MAINTENANCE_IN, Some(0x05 | REPORT_TARGET_PORT_GROUPS | 0x0b | 0x0e | 0x0f | 0x1d)) => Row::Always,
        // GET LBA STATUS(16), GET STREAM STATUS, GET PHYSICAL ELEMENT STATUS.
        (opcode::SERVICE_ACTION_IN_16, Some(0x12 | 0x16 | 0x17))
        // POPULATE TOKEN.
        | (opcode::THIRD_PARTY_COPY_OUT, Some(0x10))
        // REPORT SUPPORTED OPERATION CODES, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, MANAGEMENT PROTOCOL IN.
        | (opcode::MAINTENANCE_IN, Some(0x0c | 0x0d | 0x10)) => Row::IfWriteExclusive,
        _ => Row::Never,
    }
}

const ACCESS_CONTROL_IN: u8 = 0x86;
const ACCESS_CONTROL_OUT: u8 = 0x87;
/// Service action of MAINTENANCE IN.
const REPORT_TARGET_PORT_GROUPS: u8 = 0x0a;

fn always_if(condition: bool) -> Row {
    if condition { Row::Always } else { Row::Never }
}

/// Returns whether a START STOP UNIT has START = 1 and POWER CONDITION = 0h.
fn is_plain_start(cdb: Cdb<'_>) -> bool {
    byte_4(cdb) & 0xf1 == 0x01
}

fn byte_4(cdb: Cdb<'_>) -> u8 {
    // `Cdb` has checked the length, which the group code determines. A missing byte would count as FFh, so that the
    // command is not allowed.
    cdb.as_bytes().get(4).copied().unwrap_or(u8::MAX)
}
