//! The three codes that summarize sense data.

use core::fmt;

use crate::{AdditionalSense, SenseKey};

/// Sense key, additional sense code and qualifier, often called "the sense".
///
/// ```
/// use scsi_sense::SenseCode;
///
/// let code = SenseCode::INVALID_FIELD_IN_PARAMETER_LIST;
/// assert_eq!(code.to_string(), "ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST (05/26/00)");
/// assert_eq!(code.to_fixed()[..3], [0x70, 0x00, 0x05]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SenseCode {
    /// The kind of event.
    pub key: SenseKey,
    /// The cause of the event.
    pub additional: AdditionalSense,
}

macro_rules! sense_codes {
    ($($name:ident = $key:ident $additional:ident,)+) => {
        impl SenseCode {
            $(
                #[doc = concat!(
                    "[`", stringify!($key), "`](SenseKey::", stringify!($key), "), [`",
                    stringify!($additional), "`](AdditionalSense::", stringify!($additional), ")."
                )]
                pub const $name: Self =
                    Self { key: SenseKey::$key, additional: AdditionalSense::$additional };
            )+
        }
    };
}

sense_codes! {
    NO_SENSE = NO_SENSE NO_ADDITIONAL_SENSE_INFORMATION,
    NOT_READY = NOT_READY NOT_READY_CAUSE_NOT_REPORTABLE,
    BECOMING_READY = NOT_READY BECOMING_READY,
    MEDIUM_NOT_PRESENT = NOT_READY MEDIUM_NOT_PRESENT,
    UNRECOVERED_READ_ERROR = MEDIUM_ERROR UNRECOVERED_READ_ERROR,
    INTERNAL_TARGET_FAILURE = HARDWARE_ERROR INTERNAL_TARGET_FAILURE,
    PARAMETER_LIST_LENGTH_ERROR = ILLEGAL_REQUEST PARAMETER_LIST_LENGTH_ERROR,
    INVALID_OPCODE = ILLEGAL_REQUEST INVALID_COMMAND_OPERATION_CODE,
    LBA_OUT_OF_RANGE = ILLEGAL_REQUEST LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE,
    INVALID_FIELD_IN_CDB = ILLEGAL_REQUEST INVALID_FIELD_IN_CDB,
    LOGICAL_UNIT_NOT_SUPPORTED = ILLEGAL_REQUEST LOGICAL_UNIT_NOT_SUPPORTED,
    INVALID_FIELD_IN_PARAMETER_LIST = ILLEGAL_REQUEST INVALID_FIELD_IN_PARAMETER_LIST,
    INVALID_RELEASE_OF_PERSISTENT_RESERVATION = ILLEGAL_REQUEST INVALID_RELEASE_OF_PERSISTENT_RESERVATION,
    INSUFFICIENT_RESERVATION_RESOURCES = ILLEGAL_REQUEST INSUFFICIENT_RESERVATION_RESOURCES,
    INSUFFICIENT_REGISTRATION_RESOURCES = ILLEGAL_REQUEST INSUFFICIENT_REGISTRATION_RESOURCES,
    POWER_ON_OR_RESET = UNIT_ATTENTION POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED,
    SCSI_BUS_RESET_OCCURRED = UNIT_ATTENTION SCSI_BUS_RESET_OCCURRED,
    RESERVATIONS_PREEMPTED = UNIT_ATTENTION RESERVATIONS_PREEMPTED,
    RESERVATIONS_RELEASED = UNIT_ATTENTION RESERVATIONS_RELEASED,
    REGISTRATIONS_PREEMPTED = UNIT_ATTENTION REGISTRATIONS_PREEMPTED,
    CAPACITY_DATA_HAS_CHANGED = UNIT_ATTENTION CAPACITY_DATA_HAS_CHANGED,
    PREVIOUS_RESERVATION_CONFLICT_STATUS = UNIT_ATTENTION PREVIOUS_RESERVATION_CONFLICT_STATUS,
    REPORTED_LUNS_DATA_HAS_CHANGED = UNIT_ATTENTION REPORTED_LUNS_DATA_HAS_CHANGED,
    WRITE_PROTECTED = DATA_PROTECT WRITE_PROTECTED,
    SPACE_ALLOCATION_FAILED = DATA_PROTECT SPACE_ALLOCATION_FAILED_WRITE_PROTECT,
    IO_PROCESS_TERMINATED = ABORTED_COMMAND IO_PROCESS_TERMINATED,
    LU_DOES_NOT_RESPOND_TO_SELECTION = ABORTED_COMMAND LU_DOES_NOT_RESPOND_TO_SELECTION,
    LU_COMMUNICATION_FAILURE = ABORTED_COMMAND LU_COMMUNICATION_FAILURE,
    I_T_NEXUS_LOSS_OCCURRED = ABORTED_COMMAND I_T_NEXUS_LOSS_OCCURRED,
    COMMAND_TIMEOUT_DURING_PROCESSING = ABORTED_COMMAND COMMAND_TIMEOUT_DURING_PROCESSING,
    COMMANDS_CLEARED_BY_DEVICE_SERVER = ABORTED_COMMAND COMMANDS_CLEARED_BY_DEVICE_SERVER,
}

impl SenseCode {
    /// Returns the sense code with these three codes.
    pub const fn new(key: SenseKey, asc: u8, ascq: u8) -> Self {
        Self { key, additional: AdditionalSense { asc, ascq } }
    }

    /// Returns sense data in fixed format (70h, a current error) with only these codes.
    ///
    /// ADDITIONAL SENSE LENGTH (byte 7) is 10, for eighteen bytes in total (SPC-4 clause 4.5.3).
    pub const fn to_fixed(self) -> [u8; 18] {
        let AdditionalSense { asc, ascq } = self.additional;
        [0x70, 0, self.key.code(), 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0]
    }
}

/// Shows, for example, `ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST (05/26/00)`.
impl fmt::Display for SenseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdditionalSense { asc, ascq } = self.additional;
        let text = self.additional.text_or_unknown();
        write!(f, "{}, {text} ({:02X}/{asc:02X}/{ascq:02X})", self.key, self.key.code())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn named_sense_codes_match_the_standard() {
        for (code, key, asc, ascq) in [
            (SenseCode::PARAMETER_LIST_LENGTH_ERROR, 0x5, 0x1a, 0x00),
            (SenseCode::INVALID_OPCODE, 0x5, 0x20, 0x00),
            (SenseCode::INVALID_FIELD_IN_CDB, 0x5, 0x24, 0x00),
            (SenseCode::INVALID_FIELD_IN_PARAMETER_LIST, 0x5, 0x26, 0x00),
            (SenseCode::INVALID_RELEASE_OF_PERSISTENT_RESERVATION, 0x5, 0x26, 0x04),
            (SenseCode::INSUFFICIENT_RESERVATION_RESOURCES, 0x5, 0x55, 0x02),
            (SenseCode::INSUFFICIENT_REGISTRATION_RESOURCES, 0x5, 0x55, 0x04),
            (SenseCode::RESERVATIONS_PREEMPTED, 0x6, 0x2a, 0x03),
            (SenseCode::RESERVATIONS_RELEASED, 0x6, 0x2a, 0x04),
            (SenseCode::REGISTRATIONS_PREEMPTED, 0x6, 0x2a, 0x05),
            (SenseCode::POWER_ON_OR_RESET, 0x6, 0x29, 0x00),
            (SenseCode::SCSI_BUS_RESET_OCCURRED, 0x6, 0x29, 0x02),
            (SenseCode::LU_COMMUNICATION_FAILURE, 0xb, 0x08, 0x00),
            (SenseCode::IO_PROCESS_TERMINATED, 0xb, 0x00, 0x06),
            (SenseCode::INTERNAL_TARGET_FAILURE, 0x4, 0x44, 0x00),
            (SenseCode::SPACE_ALLOCATION_FAILED, 0x7, 0x27, 0x07),
        ] {
            assert_eq!(code, SenseCode::new(SenseKey::new(key), asc, ascq));
        }
    }

    #[test]
    fn sense_code_is_shown_as_text() {
        for (code, text) in [
            (SenseCode::IO_PROCESS_TERMINATED, "ABORTED COMMAND, I/O PROCESS TERMINATED (0B/00/06)"),
            (
                SenseCode::new(SenseKey::NOT_READY, 0x04, 0xfe),
                "NOT READY, vendor specific additional sense (02/04/FE)",
            ),
        ] {
            assert_eq!(code.to_string(), text);
        }
    }

    #[test]
    fn fixed_format_has_eighteen_bytes() {
        assert_eq!(
            SenseCode::INVALID_OPCODE.to_fixed(),
            [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0]
        );
    }
}
