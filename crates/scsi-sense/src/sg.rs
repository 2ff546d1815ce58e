//! What the outcome of a Linux `SG_IO` ioctl means in SCSI terms.
//!
//! A command sent by `SG_IO` can fail in four places: the ioctl itself (`errno`), the host adapter
//! (`host_status`), the kernel's driver (`driver_status`) and the device (`status`). Whoever passes the outcome
//! on as a SCSI status must look at all four: a command that never reached the device has `status` 0, which
//! reads as GOOD. [`verdict`] is that look, as one pure function: nothing non-zero is ever GOOD.
//!
//! ```
//! use scsi_sense::sg::{SgResult, Verdict, verdict};
//! use scsi_sense::{SenseCode, Status};
//!
//! // The host adapter failed the command (DID_ERROR); the device never saw it.
//! let result = SgResult::Done { status: 0, host_status: 0x07, driver_status: 0, sense_len: 0 };
//! assert_eq!(
//!     verdict(result),
//!     Verdict::Host {
//!         status: Status::CHECK_CONDITION,
//!         sense: Some(SenseCode::IO_PROCESS_TERMINATED),
//!     },
//! );
//! ```

use crate::{SenseCode, Status};

/// How an `SG_IO` ioctl ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SgResult {
    /// The ioctl returned -1 with this `errno` (Linux's numbers, `asm-generic/errno.h`).
    Errno(i32),
    /// The ioctl returned 0; these fields of `struct sg_io_hdr` (`scsi/sg.h`) say how the command fared.
    Done {
        /// The SCSI status byte.
        status: u8,
        /// The host adapter's code (`DID_...`).
        host_status: u16,
        /// The driver's code (`DRIVER_...`): bits 3-0 the error, bits 7-4 a suggestion.
        driver_status: u16,
        /// `sb_len_wr`: bytes written to the sense buffer.
        sense_len: u8,
    },
}

/// Whose answer it is, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The device's own status. If it is CHECK CONDITION, its sense data are in the sense buffer; whether those
    /// bytes are worth passing on, [`Sense::parse`](crate::Sense::parse) tells.
    Device(Status),
    /// The device did not answer; this status stands for what happened between.
    Host {
        /// The status to report: [a failure](Status::is_failure) to every client.
        status: Status,
        /// The sense to report: there is one exactly if the status is CHECK CONDITION, and its key is
        /// [a failure](crate::SenseKey::is_failure) to every client.
        sense: Option<SenseCode>,
    },
}

impl Verdict {
    /// The status to report.
    pub const fn status(self) -> Status {
        match self {
            Self::Device(status) | Self::Host { status, .. } => status,
        }
    }

    /// Whether the device did the command.
    pub const fn is_good(self) -> bool {
        self.status().0 == Status::GOOD.0
    }
}

/// What the outcome of an `SG_IO` means.
///
/// The device's own word counts where there is one: RESERVATION CONFLICT always, CHECK CONDITION if its sense was
/// delivered, any other status if the host adapter has no complaint. After that `host_status` is translated,
/// then `driver_status`. The result is GOOD only if all three are zero.
///
/// Sense data that came with a complaint of the host adapter may say less than the complaint: if their key is
/// [no failure](crate::SenseKey::is_failure), report [`without_device`] instead.
pub const fn verdict(result: SgResult) -> Verdict {
    match result {
        SgResult::Errno(errno) => errno_verdict(errno),
        SgResult::Done { status, host_status, driver_status, sense_len } => {
            done_verdict(Status(status), host_status, driver_status, sense_len > 0)
        }
    }
}

/// What the outcome of an `SG_IO` means if nothing that the device said counts: `None` if neither host adapter nor
/// driver has a complaint.
pub const fn without_device(result: SgResult) -> Option<Verdict> {
    match result {
        SgResult::Errno(errno) => Some(errno_verdict(errno)),
        SgResult::Done { host_status: 0, driver_status, .. } => match driver_status & 0x0f {
            // No complaint: the word for sense data that were delivered.
            0 | DRIVER_SENSE => None,
            _ => Some(driver_verdict(driver_status, false)),
        },
        SgResult::Done { host_status, .. } => Some(host_verdict(host_status)),
    }
}

const fn done_verdict(status: Status, host_status: u16, driver_status: u16, has_sense: bool) -> Verdict {
    match status {
        Status::RESERVATION_CONFLICT => Verdict::Device(status),
        Status::CHECK_CONDITION if has_sense => Verdict::Device(status),
        _ if host_status != 0 => host_verdict(host_status),
        Status::CHECK_CONDITION => check_condition(SenseCode::IO_PROCESS_TERMINATED),
        // Also a status that some clients take for GOOD.
        _ if driver_status != 0 && !status.is_failure() => driver_verdict(driver_status, has_sense),
        _ => Verdict::Device(status),
    }
}

const fn check_condition(sense: SenseCode) -> Verdict {
    Verdict::Host { status: Status::CHECK_CONDITION, sense: Some(sense) }
}

const fn bare(status: Status) -> Verdict {
    Verdict::Host { status, sense: None }
}

// errno values of Linux, as they are on every architecture but MIPS, SPARC, Alpha and PA-RISC.
const ENOMEM: i32 = 12;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EDOM: i32 = 33;
const EBADE: i32 = 52;
const ENODATA: i32 = 61;
const EILSEQ: i32 = 84;
const EREMOTEIO: i32 = 121;
const ENOMEDIUM: i32 = 123;

/// The block layer's own translation of a failed request, undone (`blk_errors` in the kernel).
const fn errno_verdict(errno: i32) -> Verdict {
    match errno {
        EDOM => bare(Status::TASK_SET_FULL),
        EBADE => bare(Status::RESERVATION_CONFLICT),
        EINVAL => check_condition(SenseCode::INVALID_FIELD_IN_CDB),
        ENOMEM | EREMOTEIO | ENODEV => check_condition(SenseCode::INTERNAL_TARGET_FAILURE),
        ENOMEDIUM => check_condition(SenseCode::MEDIUM_NOT_PRESENT),
        ENOSPC => check_condition(SenseCode::SPACE_ALLOCATION_FAILED),
        EILSEQ | ENODATA => check_condition(SenseCode::UNRECOVERED_READ_ERROR),
        _ => check_condition(SenseCode::IO_PROCESS_TERMINATED),
    }
}

// host_status values: `enum scsi_host_status` in the kernel's `scsi/scsi_status.h`.
const DID_NO_CONNECT: u16 = 0x01;
const DID_BUS_BUSY: u16 = 0x02;
const DID_TIME_OUT: u16 = 0x03;
const DID_BAD_TARGET: u16 = 0x04;
const DID_ABORT: u16 = 0x05;
const DID_RESET: u16 = 0x08;
const DID_TRANSPORT_DISRUPTED: u16 = 0x0e;
const DID_TARGET_FAILURE: u16 = 0x10;
const DID_NEXUS_FAILURE: u16 = 0x11;
const DID_ALLOC_FAILURE: u16 = 0x12;
const DID_MEDIUM_ERROR: u16 = 0x13;

const fn host_verdict(host_status: u16) -> Verdict {
    match host_status {
        DID_NO_CONNECT => check_condition(SenseCode::LU_DOES_NOT_RESPOND_TO_SELECTION),
        DID_BUS_BUSY => bare(Status::BUSY),
        DID_TIME_OUT => check_condition(SenseCode::COMMAND_TIMEOUT_DURING_PROCESSING),
        DID_BAD_TARGET => check_condition(SenseCode::LU_COMMUNICATION_FAILURE),
        DID_ABORT => check_condition(SenseCode::COMMANDS_CLEARED_BY_DEVICE_SERVER),
        DID_RESET => check_condition(SenseCode::POWER_ON_OR_RESET),
        DID_TRANSPORT_DISRUPTED => check_condition(SenseCode::I_T_NEXUS_LOSS_OCCURRED),
        DID_TARGET_FAILURE => check_condition(SenseCode::INTERNAL_TARGET_FAILURE),
        DID_NEXUS_FAILURE => bare(Status::RESERVATION_CONFLICT),
        DID_ALLOC_FAILURE => check_condition(SenseCode::SPACE_ALLOCATION_FAILED),
        DID_MEDIUM_ERROR => check_condition(SenseCode::UNRECOVERED_READ_ERROR),
        _ => check_condition(SenseCode::IO_PROCESS_TERMINATED),
    }
}

// driver_status values, bits 3-0: `scsi/sg.h`; kernels from 5.14 on know none but 08h.
const DRIVER_TIMEOUT: u16 = 0x06;
const DRIVER_SENSE: u16 = 0x08;

const fn driver_verdict(driver_status: u16, has_sense: bool) -> Verdict {
    match driver_status & 0x0f {
        DRIVER_SENSE if has_sense => Verdict::Device(Status::CHECK_CONDITION),
        DRIVER_TIMEOUT => host_verdict(DID_TIME_OUT),
        _ => check_condition(SenseCode::IO_PROCESS_TERMINATED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENSE_LENGTHS: [u8; 2] = [0, 18];

    fn done(status: u8, host_status: u16, driver_status: u16, sense_len: u8) -> Verdict {
        verdict(SgResult::Done { status, host_status, driver_status, sense_len })
    }

    fn sense(key: u8, asc: u8, ascq: u8) -> Verdict {
        check_condition(SenseCode::new(crate::SenseKey::new(key), asc, ascq))
    }

    /// What holds for every verdict: who answers for a status, and when there is sense.
    fn assert_consistent(verdict: Verdict) {
        if let Verdict::Host { status, sense } = verdict {
            assert!(status.is_failure(), "{verdict:?}");
            assert_eq!(sense.is_some(), status == Status::CHECK_CONDITION, "{verdict:?}");
            assert!(sense.is_none_or(|code| code.key.is_failure()), "{verdict:?}");
        }
    }

    #[test]
    fn nothing_but_all_zeros_is_good() {
        let host = (0..=0xff).chain([0x100, 0x0700, 0x7fff, 0x8000, 0xff00, u16::MAX]);
        for host_status in host {
            for driver_status in (0..=0x0f).chain([0x10, 0x18, 0x26, 0x80, 0xf0, 0x0100, 0x0800, u16::MAX]) {
                for status in 0..=u8::MAX {
                    for sense_len in SENSE_LENGTHS {
                        let verdict = done(status, host_status, driver_status, sense_len);
                        let all_zero = status == 0 && host_status == 0 && driver_status == 0;
                        assert_eq!(verdict.is_good(), all_zero);
                        assert_consistent(verdict);
                    }
                }
            }
        }
    }

    #[test]
    fn the_device_answers_with_its_own_status_or_is_not_named() {
        for status in 0..=u8::MAX {
            for host_status in 0..=0x20 {
                for driver_status in 0..=0xff {
                    for sense_len in SENSE_LENGTHS {
                        match done(status, host_status, driver_status, sense_len) {
                            Verdict::Device(Status::CHECK_CONDITION) => assert!(sense_len > 0),
                            Verdict::Device(answer) => assert_eq!(answer, Status(status)),
                            Verdict::Host { .. } => {
                                assert!(host_status != 0 || driver_status != 0 || status == 0x02);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_status_of_the_device_stays_what_it_is() {
        for status in (0..=u8::MAX).filter(|status| *status != 0x02) {
            for sense_len in SENSE_LENGTHS {
                assert_eq!(done(status, 0, 0, sense_len), Verdict::Device(Status(status)));
            }
        }
    }

    #[test]
    fn check_condition_without_sense_is_not_passed_on() {
        assert_eq!(done(0x02, 0, 0, 18), Verdict::Device(Status::CHECK_CONDITION));
        assert_eq!(done(0x02, 0, 0x08, 18), Verdict::Device(Status::CHECK_CONDITION));
        assert_eq!(done(0x02, 0, 0, 0), sense(0xb, 0x00, 0x06));
        assert_eq!(done(0x02, 0, 0x08, 0), sense(0xb, 0x00, 0x06));
    }

    #[test]
    fn a_host_status_is_translated() {
        for (host_status, expected) in [
            (0x01, sense(0xb, 0x05, 0x00)),
            (0x02, bare(Status::BUSY)),
            (0x03, sense(0xb, 0x2e, 0x02)),
            (0x04, sense(0xb, 0x08, 0x00)),
            (0x05, sense(0xb, 0x2f, 0x02)),
            (0x08, sense(0x6, 0x29, 0x00)),
            (0x0e, sense(0xb, 0x29, 0x07)),
            (0x10, sense(0x4, 0x44, 0x00)),
            (0x11, bare(Status::RESERVATION_CONFLICT)),
            (0x12, sense(0x7, 0x27, 0x07)),
            (0x13, sense(0x3, 0x11, 0x00)),
        ] {
            for status in [0x00, 0x08, 0x28] {
                for driver_status in [0x00, 0x06, 0x08] {
                    assert_eq!(done(status, host_status, driver_status, 0), expected, "{host_status:02X}h");
                }
            }
        }
        for host_status in [0x06, 0x07, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0f, 0x14, 0x15, 0xff, 0x100, 0xffff] {
            assert_eq!(done(0, host_status, 0, 0), sense(0xb, 0x00, 0x06), "{host_status:02X}h");
        }
    }

    #[test]
    fn the_devices_word_counts_beside_a_host_status() {
        for host_status in 1..=0x20 {
            for sense_len in SENSE_LENGTHS {
                assert_eq!(
                    done(0x18, host_status, 0, sense_len),
                    Verdict::Device(Status::RESERVATION_CONFLICT)
                );
            }
            assert_eq!(done(0x02, host_status, 0, 18), Verdict::Device(Status::CHECK_CONDITION));
            assert_eq!(done(0x02, host_status, 0, 0), host_verdict(host_status));
        }
    }

    #[test]
    fn a_driver_status_beside_a_zero_status_is_an_error() {
        for suggestion in (0x00..=0xf0).step_by(0x10) {
            assert_eq!(done(0, 0, suggestion | 0x06, 0), sense(0xb, 0x2e, 0x02));
            assert_eq!(done(0, 0, suggestion | 0x08, 18), Verdict::Device(Status::CHECK_CONDITION));
            assert_eq!(done(0, 0, suggestion | 0x08, 0), sense(0xb, 0x00, 0x06));
        }
        for driver_status in [0x01, 0x02, 0x03, 0x04, 0x05, 0x07, 0x09, 0x10, 0x80] {
            assert_eq!(done(0, 0, driver_status, 0), sense(0xb, 0x00, 0x06), "{driver_status:02X}h");
            assert_eq!(done(0x08, 0, driver_status, 0), Verdict::Device(Status::BUSY));
        }
    }

    #[test]
    fn a_complaint_beats_statuses_read_as_success() {
        for status in (0..=u8::MAX).filter(|status| !Status(*status).is_failure()) {
            assert_eq!(done(status, 0, 0x06, 0), sense(0xb, 0x2e, 0x02), "{status:02x}");
            assert_eq!(done(status, 0x07, 0, 0), sense(0xb, 0x00, 0x06), "{status:02x}");
        }
    }

    #[test]
    fn complaints_are_told_without_the_device() {
        for host_status in 0..=u16::MAX {
            for driver_status in [0, 0x01, 0x06, 0x08, 0x18, 0x80, 0xff] {
                let result = SgResult::Done { status: 0x02, host_status, driver_status, sense_len: 18 };
                let is_complaint = host_status != 0 || !matches!(driver_status & 0x0f, 0 | 0x08);
                let verdict = without_device(result);
                assert_eq!(verdict.is_some(), is_complaint, "{host_status:x} {driver_status:x}");
                assert!(!matches!(verdict, Some(Verdict::Device(_))), "{host_status:x} {driver_status:x}");
                verdict.into_iter().for_each(assert_consistent);
            }
        }
        assert_eq!(without_device(SgResult::Errno(5)), Some(sense(0xb, 0x00, 0x06)));
    }

    #[test]
    fn an_errno_is_translated() {
        for (errno, expected) in [
            (33, bare(Status::TASK_SET_FULL)),
            (52, bare(Status::RESERVATION_CONFLICT)),
            (22, sense(0x5, 0x24, 0x00)),
            (12, sense(0x4, 0x44, 0x00)),
            (121, sense(0x4, 0x44, 0x00)),
            (123, sense(0x2, 0x3a, 0x00)),
            (28, sense(0x7, 0x27, 0x07)),
            (84, sense(0x3, 0x11, 0x00)),
            (61, sense(0x3, 0x11, 0x00)),
            (19, sense(0x4, 0x44, 0x00)),
            (1, sense(0xb, 0x00, 0x06)),
            (5, sense(0xb, 0x00, 0x06)),
            (6, sense(0xb, 0x00, 0x06)),
            (11, sense(0xb, 0x00, 0x06)),
            (25, sense(0xb, 0x00, 0x06)),
        ] {
            assert_eq!(verdict(SgResult::Errno(errno)), expected, "errno {errno}");
        }
    }

    #[test]
    fn no_errno_is_good() {
        for errno in (-4096..=4096).chain([i32::MIN, i32::MAX]) {
            let verdict = verdict(SgResult::Errno(errno));
            assert!(!verdict.is_good(), "errno {errno}");
            assert!(matches!(verdict, Verdict::Host { .. }), "errno {errno}");
            assert_consistent(verdict);
        }
    }
}
