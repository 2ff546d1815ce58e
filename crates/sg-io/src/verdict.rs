//! Results of `SG_IO` in SCSI terms.

use scsi_sense::{Sense, SenseCode, Status};

use crate::{Completion, Error};

/// The result of a command in SCSI terms: the device's own answer, or a status that represents a failure between the
/// program and the device.
///
/// A command sent by `SG_IO` can fail in four places: in the ioctl itself (`errno`), in the host adapter
/// (`host_status`), in the kernel's driver (`driver_status`) and in the device (`status`). A program that reports the
/// result as a SCSI status must take all four into account: a command that never reached the device has `status` 0,
/// which reads as GOOD. [`Completion::verdict`] and [`Error::verdict`] do so. Invariant: a verdict is GOOD only if
/// the ioctl succeeded and all three fields are zero.
///
/// ```
/// use std::time::Duration;
///
/// use scsi_sense::{SenseCode, Status};
/// use sg_io::{Completion, Verdict};
///
/// // The host adapter failed the command (DID_ERROR); the device never saw it.
/// let completion = Completion {
///     status: 0,
///     host_status: 0x07,
///     driver_status: 0,
///     sense_len: 0,
///     transferred: 0,
///     duration: Duration::ZERO,
/// };
/// assert_eq!(
///     completion.verdict(),
///     Verdict::Host {
///         status: Status::CHECK_CONDITION,
///         sense: Some(SenseCode::IO_PROCESS_TERMINATED),
///     },
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The device's own status. With CHECK CONDITION, its sense data is in the sense buffer; use
    /// [`Sense::parse`](scsi_sense::Sense::parse) to check that these bytes are sense data.
    Device(Status),
    /// The device did not answer; this status represents the failure. It is never GOOD.
    Host {
        /// The status to report.
        status: Status,
        /// The sense to report: `Some` exactly if the status is CHECK CONDITION.
        sense: Option<SenseCode>,
    },
}

impl Verdict {
    /// Returns the status to report.
    pub const fn status(self) -> Status {
        match self {
            Self::Device(status) | Self::Host { status, .. } => status,
        }
    }

    /// Returns whether the device executed the command successfully.
    pub const fn is_good(self) -> bool {
        self.status().0 == Status::GOOD.0
    }

    pub(crate) const fn check_condition(sense: SenseCode) -> Self {
        Self::Host { status: Status::CHECK_CONDITION, sense: Some(sense) }
    }

    /// Returns a verdict without sense. `status` must be neither GOOD nor CHECK CONDITION.
    pub(crate) const fn bare(status: Status) -> Self {
        Self::Host { status, sense: None }
    }
}

impl Completion {
    /// Returns the meaning of the four fields of this result.
    ///
    /// The device's own answer takes precedence, if there is one: RESERVATION CONFLICT always, CHECK CONDITION if
    /// its sense data was delivered, any other status if the host adapter reports no error. Otherwise `host_status` is
    /// translated, then `driver_status`. The result is GOOD only if all three are zero.
    pub const fn verdict(&self) -> Verdict {
        let &Self { host_status, driver_status, .. } = self;
        let (status, has_sense) = (Status(self.status), self.sense_len > 0);
        match status {
            Status::RESERVATION_CONFLICT => Verdict::Device(status),
            Status::CHECK_CONDITION if has_sense => Verdict::Device(status),
            _ if host_status != 0 => host_verdict(host_status),
            Status::CHECK_CONDITION => Verdict::check_condition(SenseCode::IO_PROCESS_TERMINATED),
            // Some initiators treat other statuses than GOOD as success.
            _ if driver_status != 0 && !status.is_failure() => driver_verdict(driver_status, has_sense),
            _ => Verdict::Device(status),
        }
    }

    /// Returns the meaning of this result and of the sense data that came with it. `sense` is the command's sense
    /// buffer.
    ///
    /// Differs from [`verdict`](Self::verdict) for CHECK CONDITION. With malformed sense data the verdict is ABORTED
    /// COMMAND, I/O PROCESS TERMINATED. The same applies to deferred sense data if initiators treat the sense key as
    /// success: the device did not execute the command (SPC-4 4.5.6). If the host adapter or the driver reports an error, and
    /// initiators treat the sense key as success, the error takes precedence: the sense data may be left over from an
    /// earlier command.
    pub fn verdict_with_sense(&self, sense: &[u8]) -> Verdict {
        match self.verdict() {
            Verdict::Device(Status::CHECK_CONDITION) => {
                let sense = sense.get(..self.sense_len.into()).unwrap_or_default();
                let sense =
                    Sense::parse(sense).ok().and_then(|sense| Some((sense.key()?, sense.is_deferred())));
                let not_executed = Verdict::check_condition(SenseCode::IO_PROCESS_TERMINATED);
                match sense {
                    None => not_executed,
                    Some((key, _)) if key.is_failure() => Verdict::Device(Status::CHECK_CONDITION),
                    Some((_, true)) => self.transport_verdict().unwrap_or(not_executed),
                    Some((_, false)) => {
                        self.transport_verdict().unwrap_or(Verdict::Device(Status::CHECK_CONDITION))
                    }
                }
            }
            verdict => verdict,
        }
    }

    /// Returns the meaning of `host_status` and `driver_status` alone; `None` if neither reports an error.
    const fn transport_verdict(&self) -> Option<Verdict> {
        match (self.host_status, self.driver_status & 0x0f) {
            // `DRIVER_SENSE` only means that sense data was delivered.
            (0, 0 | DRIVER_SENSE) => None,
            (0, _) => Some(driver_verdict(self.driver_status, false)),
            (host_status, _) => Some(host_verdict(host_status)),
        }
    }
}

impl Error {
    /// Returns the meaning of this error for the sender of the command. It is always a [`Verdict::Host`].
    ///
    /// Error numbers are read as [block I/O errors](Verdict::of_block_error). A command that does not fit the
    /// interface is reported as INVALID FIELD IN CDB, as the kernel does with `EINVAL`.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::CdbLength(_) | Self::DataLength(_) => Verdict::of_block_error(libc::EINVAL),
            // Errors of the kernel always have a number. 0 stands for a missing one: no number is translated to GOOD.
            Self::Os(error) => Verdict::of_block_error(error.raw_os_error().unwrap_or(0)),
        }
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
    Verdict::check_condition(match host_status {
        DID_BUS_BUSY => return Verdict::bare(Status::BUSY),
        DID_NEXUS_FAILURE => return Verdict::bare(Status::RESERVATION_CONFLICT),
        DID_NO_CONNECT => SenseCode::LU_DOES_NOT_RESPOND_TO_SELECTION,
        DID_TIME_OUT => SenseCode::COMMAND_TIMEOUT_DURING_PROCESSING,
        DID_BAD_TARGET => SenseCode::LU_COMMUNICATION_FAILURE,
        DID_ABORT => SenseCode::COMMANDS_CLEARED_BY_DEVICE_SERVER,
        DID_RESET => SenseCode::POWER_ON_OR_RESET,
        DID_TRANSPORT_DISRUPTED => SenseCode::I_T_NEXUS_LOSS_OCCURRED,
        DID_TARGET_FAILURE => SenseCode::INTERNAL_TARGET_FAILURE,
        DID_ALLOC_FAILURE => SenseCode::SPACE_ALLOCATION_FAILED,
        DID_MEDIUM_ERROR => SenseCode::UNRECOVERED_READ_ERROR,
        _ => SenseCode::IO_PROCESS_TERMINATED,
    })
}

// driver_status values, bits 3-0 (bits 7-4 are a suggestion): `scsi/sg.h`. Kernels from 5.14 on have only 08h.
const DRIVER_TIMEOUT: u16 = 0x06;
const DRIVER_SENSE: u16 = 0x08;

const fn driver_verdict(driver_status: u16, has_sense: bool) -> Verdict {
    match driver_status & 0x0f {
        DRIVER_SENSE if has_sense => Verdict::Device(Status::CHECK_CONDITION),
        DRIVER_TIMEOUT => host_verdict(DID_TIME_OUT),
        _ => Verdict::check_condition(SenseCode::IO_PROCESS_TERMINATED),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fmt, io, time::Duration};

    use scsi_sense::SenseKey;

    use super::*;

    const SENSE_LENGTHS: [u8; 2] = [0, 18];

    fn completion(status: u8, host_status: u16, driver_status: u16, sense_len: u8) -> Completion {
        let (transferred, duration) = (24, Duration::ZERO);
        Completion { status, host_status, driver_status, sense_len, transferred, duration }
    }

    fn done(status: u8, host_status: u16, driver_status: u16, sense_len: u8) -> Verdict {
        completion(status, host_status, driver_status, sense_len).verdict()
    }

    pub(crate) fn sense(key: u8, asc: u8, ascq: u8) -> Verdict {
        Verdict::check_condition(SenseCode::new(SenseKey::new(key), asc, ascq))
    }

    /// Asserts that no client can read the verdict as success, and that it has sense exactly with CHECK CONDITION.
    pub(crate) fn assert_is_failure(verdict: Verdict, context: fmt::Arguments<'_>) {
        let Verdict::Host { status, sense } = verdict else { panic!("{context}: {verdict:?}") };
        assert_ne!(status, Status::GOOD, "{context}");
        assert_eq!(sense.is_some(), status == Status::CHECK_CONDITION, "{context}: {verdict:?}");
        let reads_as_success = [SenseKey::NO_SENSE, SenseKey::RECOVERED_ERROR, SenseKey::COMPLETED];
        assert!(!sense.is_some_and(|sense| reads_as_success.contains(&sense.key)), "{context}: {verdict:?}");
    }

    fn assert_is_good_only_if_all_zero(status: u8, host_status: u16, driver_status: u16, sense_len: u8) {
        let verdict = done(status, host_status, driver_status, sense_len);
        let fields = format_args!(
            "{status:02X}h, host {host_status:X}h, driver {driver_status:X}h, sense {sense_len}"
        );
        assert_eq!(verdict.is_good(), (status, host_status, driver_status) == (0, 0, 0), "{fields}");
        if let Verdict::Host { .. } = verdict {
            assert_is_failure(verdict, fields);
        }
    }

    #[test]
    fn only_all_zeros_are_good() {
        for sense_len in SENSE_LENGTHS {
            for code in 0..=u16::MAX {
                for status in [0x00, 0x01, 0x02, 0x04, 0x08, 0x18, 0x28, 0x40, 0x80, 0xff] {
                    assert_is_good_only_if_all_zero(status, code, 0, sense_len);
                    assert_is_good_only_if_all_zero(status, 0, code, sense_len);
                }
                for other in [0x01, 0x06, 0x07, 0x08, 0x11, 0x0100, u16::MAX] {
                    assert_is_good_only_if_all_zero(0, code, other, sense_len);
                    assert_is_good_only_if_all_zero(0, other, code, sense_len);
                }
            }
        }
    }

    /// The combinations of small values of all fields.
    #[test]
    fn only_all_zeros_are_good_in_combination() {
        for status in 0..=u8::MAX {
            for host_status in (0..=0x20).chain([0xff, 0x100, 0x0700, 0x7fff, 0x8000, 0xff00, u16::MAX]) {
                for driver_status in (0..=0xff).chain([0x0100, 0x0800, u16::MAX]) {
                    for sense_len in SENSE_LENGTHS {
                        assert_is_good_only_if_all_zero(status, host_status, driver_status, sense_len);
                    }
                }
            }
        }
    }

    #[test]
    fn device_verdicts_carry_the_device_status() {
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
    fn every_device_status_is_kept() {
        for status in (0..=u8::MAX).filter(|status| *status != 0x02) {
            for sense_len in SENSE_LENGTHS {
                assert_eq!(done(status, 0, 0, sense_len), Verdict::Device(Status(status)));
            }
        }
    }

    #[test]
    fn check_condition_without_sense_is_replaced() {
        assert_eq!(done(0x02, 0, 0, 18), Verdict::Device(Status::CHECK_CONDITION));
        assert_eq!(done(0x02, 0, 0x08, 18), Verdict::Device(Status::CHECK_CONDITION));
        assert_eq!(done(0x02, 0, 0, 0), sense(0xb, 0x00, 0x06));
        assert_eq!(done(0x02, 0, 0x08, 0), sense(0xb, 0x00, 0x06));
    }

    #[test]
    fn host_status_is_translated() {
        for (host_status, expected) in [
            (0x01, sense(0xb, 0x05, 0x00)),
            (0x02, Verdict::bare(Status::BUSY)),
            (0x03, sense(0xb, 0x2e, 0x02)),
            (0x04, sense(0xb, 0x08, 0x00)),
            (0x05, sense(0xb, 0x2f, 0x02)),
            (0x08, sense(0x6, 0x29, 0x00)),
            (0x0e, sense(0xb, 0x29, 0x07)),
            (0x10, sense(0x4, 0x44, 0x00)),
            (0x11, Verdict::bare(Status::RESERVATION_CONFLICT)),
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
    fn device_answer_precedes_host_status() {
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
    fn driver_status_beside_good_is_an_error() {
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
    fn errors_are_read_as_block_errors() {
        for errno in -1..=4096 {
            let verdict = Error::Os(io::Error::from_raw_os_error(errno)).verdict();
            assert_eq!(verdict, Verdict::of_block_error(errno), "errno {errno}");
            assert_is_failure(verdict, format_args!("errno {errno}"));
        }
        let without_number = Error::Os(io::Error::other("none of the kernel's"));
        assert_eq!(without_number.verdict(), sense(0xb, 0x00, 0x06));
    }

    #[test]
    fn commands_that_do_not_fit_are_invalid() {
        for error in [Error::CdbLength(0), Error::CdbLength(253), Error::DataLength(usize::MAX)] {
            assert_eq!(error.verdict(), sense(0x5, 0x24, 0x00), "{error}");
        }
    }

    /// An error of the host adapter or the driver is a failure with any status and sense data, which may be left over.
    #[test]
    fn no_transport_error_reads_as_success() {
        for status in 0..=u8::MAX {
            for host_status in (0..=0x20).chain([0xff, 0x100, 0xffff]) {
                for driver_status in [0, 0x06, 0x08, 0x18, 0x80] {
                    for key in 0..=0xf {
                        let fixed = SenseCode::new(SenseKey::new(key), 0, 0).to_fixed();
                        let descriptor = [0x72, key, 0, 0, 0, 0, 0, 0];
                        for sense in [&[][..], &[0x70, 0], &fixed, &descriptor] {
                            let sense_len = sense.len().try_into().unwrap();
                            let result = completion(status, host_status, driver_status, sense_len);
                            let is_error = host_status != 0 || !matches!(driver_status & 0xf, 0 | 8);
                            let verdict = result.verdict_with_sense(sense);
                            let is_failure = match verdict {
                                Verdict::Device(Status::CHECK_CONDITION) => SenseKey::new(key).is_failure(),
                                Verdict::Device(status) => status.is_failure(),
                                Verdict::Host { status, sense } => {
                                    assert_eq!(sense.is_some(), status == Status::CHECK_CONDITION);
                                    status.is_failure() && sense.is_none_or(|code| code.key.is_failure())
                                }
                            };
                            let is_host = matches!(verdict, Verdict::Host { .. });
                            assert!(
                                is_failure || !(is_error || is_host),
                                "{result:?} {sense:02x?}: {verdict:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// Without a transport error, the device's sense data reaches the guest even if initiators treat its key as
    /// success.
    #[test]
    fn device_sense_data_is_passed_on() {
        for key in 0..=0xf {
            let sense = SenseCode::new(SenseKey::new(key), 0, 0).to_fixed();
            let verdict = completion(2, 0, 8, 18).verdict_with_sense(&sense);
            assert_eq!(verdict, Verdict::Device(Status::CHECK_CONDITION), "sense key {key:x}");
        }
        for junk in [&[0; 18][..], &[0xff; 18], &[0x70], &[0x70, 0], &[0x72], &[]] {
            let sense_len = junk.len().try_into().unwrap();
            let verdict = completion(2, 0, 8, sense_len).verdict_with_sense(junk);
            assert_eq!(verdict, Verdict::check_condition(SenseCode::IO_PROCESS_TERMINATED), "{junk:02x?}");
        }
    }

    /// A deferred error is about an earlier command; this one was not executed.
    #[test]
    fn deferred_sense_never_reads_as_success() {
        for key in 0..=0xf {
            let mut fixed = SenseCode::new(SenseKey::new(key), 0x18, 0).to_fixed();
            fixed[0] = 0x71;
            let descriptor = [0x73, key, 0x18, 0, 0, 0, 0, 0];
            let expected = if [0x0, 0x1, 0xf].contains(&key) {
                Verdict::check_condition(SenseCode::IO_PROCESS_TERMINATED)
            } else {
                Verdict::Device(Status::CHECK_CONDITION)
            };
            for deferred in [&fixed[..], &descriptor] {
                let sense_len = deferred.len().try_into().unwrap();
                assert_eq!(
                    completion(2, 0, 8, sense_len).verdict_with_sense(deferred),
                    expected,
                    "{deferred:02x?}"
                );
            }
        }
    }
}
