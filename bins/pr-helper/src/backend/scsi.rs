//! SCSI disks and generic devices, by `SG_IO`.

use std::time::Duration;

use pr_proto::{Command, Data};
use scsi_sense::{SenseCode, Status};
use sg_io::{Completion, Error, Verdict};

use super::{Backend, Cause, Outcome, Target};
use crate::device::{DeviceId, Refusal};

pub(crate) struct Scsi {
    timeout: Duration,
}

impl Scsi {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout }
    }
}

impl Backend for Scsi {
    fn execute(&self, Target { descriptor, device, .. }: Target<'_>, command: &mut Command<'_>) -> Outcome {
        let sg = sg_io::Command::new(command.cdb).sense(command.sense).timeout(self.timeout);
        let sg = match &mut command.data {
            Data::In(buffer) => sg.read(buffer),
            Data::Out(parameters) => sg.write(parameters),
        };
        match sg.execute(descriptor) {
            Ok(completion) => answered(completion, command.sense),
            Err(error) => ioctl_failed(&error, device.id),
        }
    }
}

/// Returns the outcome of a command that the kernel took. `sense` is the command's buffer, as the device filled it.
fn answered(completion: Completion, sense: &[u8]) -> Outcome {
    let Completion { status, host_status, driver_status, sense_len, transferred, .. } = completion;
    match completion.verdict_with_sense(sense) {
        Verdict::Device(status) => Outcome::Device { status, transferred, sense_len: sense_len.into() },
        verdict => failed(verdict, Cause::Transport { status, host_status, driver_status }),
    }
}

/// Returns the outcome of a command whose ioctl failed.
fn ioctl_failed(error: &Error, id: DeviceId) -> Outcome {
    // The kernel answers EINVAL to a malformed command.
    match error.errno().unwrap_or(libc::EINVAL) {
        libc::ENOTTY => Outcome::Refused(Refusal::NotScsi(id)),
        // Some drivers (loop) answer EINVAL to an unknown ioctl; from `sd` it is about the command.
        libc::EINVAL if !id.is_scsi() => Outcome::Refused(Refusal::NotScsi(id)),
        libc::EBADF => Outcome::Refused(Refusal::PathOnly),
        errno => failed(error.verdict(), Cause::Errno(errno)),
    }
}

/// Returns the outcome of a command without a usable answer of the device.
fn failed(verdict: Verdict, cause: Cause) -> Outcome {
    match verdict {
        Verdict::Host { status, sense } => Outcome::Failed { status, sense, cause },
        // CHECK CONDITION with malformed sense data, which the guest could not interpret.
        Verdict::Device(_) => {
            let sense = Some(SenseCode::IO_PROCESS_TERMINATED);
            Outcome::Failed { status: Status::CHECK_CONDITION, sense, cause }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const ID: DeviceId = DeviceId::Block { major: 8, minor: 0 };

    fn completion(status: u8, host_status: u16, driver_status: u16, sense_len: u8) -> Completion {
        let (transferred, duration) = (24, Duration::ZERO);
        Completion { status, host_status, driver_status, sense_len, transferred, duration }
    }

    fn errno(errno: i32, id: DeviceId) -> Outcome {
        ioctl_failed(&Error::Os(io::Error::from_raw_os_error(errno)), id)
    }

    /// Includes the nine values of `host_status` that QEMU's helper reports as GOOD.
    #[test]
    fn no_host_status_is_good() {
        for host_status in 1..=u16::MAX {
            let mut sense = [0; 96];
            let completion = answered(completion(0, host_status, 0, 0), &[]).completion(&mut sense);
            assert_ne!(completion.status, Status::GOOD, "host_status {host_status:#x}");
            assert_eq!(completion.transferred, 0);
            if completion.status == Status::CHECK_CONDITION {
                assert_eq!((completion.sense_len, sense[0]), (18, 0x70), "host_status {host_status:#x}");
            }
        }
    }

    #[test]
    fn no_driver_status_is_good() {
        for driver_status in 1..=u16::MAX {
            let completion = answered(completion(0, 0, driver_status, 0), &[]).completion(&mut [0; 96]);
            assert_ne!(completion.status, Status::GOOD, "driver_status {driver_status:#x}");
            assert_eq!(completion.transferred, 0);
        }
    }

    #[test]
    fn no_errno_is_good() {
        for number in -1..=4096 {
            let completion = errno(number, ID).completion(&mut [0; 96]);
            assert_ne!(completion.status, Status::GOOD, "{number}");
        }
    }

    #[test]
    fn commands_that_do_not_fit_are_not_good() {
        for error in [Error::CdbLength(0), Error::DataLength(usize::MAX)] {
            let expected = Outcome::Failed {
                status: Status::CHECK_CONDITION,
                sense: Some(SenseCode::INVALID_FIELD_IN_CDB),
                cause: Cause::Errno(libc::EINVAL),
            };
            assert_eq!(ioctl_failed(&error, ID), expected);
        }
    }

    #[test]
    fn devices_without_scsi_are_refused() {
        assert_eq!(errno(libc::ENOTTY, ID), Outcome::Refused(Refusal::NotScsi(ID)));
        let other = DeviceId::Block { major: 7, minor: 0 };
        assert_eq!(errno(libc::EINVAL, other), Outcome::Refused(Refusal::NotScsi(other)));
        assert_eq!(errno(libc::EBADF, ID), Outcome::Refused(Refusal::PathOnly));
        assert!(matches!(errno(libc::EINVAL, ID), Outcome::Failed { .. }));
    }

    #[test]
    fn malformed_sense_data_is_replaced() {
        let result = completion(2, 0, 8, 18);
        let fixed = SenseCode::RESERVATIONS_PREEMPTED.to_fixed();
        let expected = Outcome::Device { status: Status::CHECK_CONDITION, transferred: 24, sense_len: 18 };
        assert_eq!(answered(result, &fixed), expected, "the device's own is not touched");
        for junk in [&[0; 18][..], &[0xff; 18], &[0x70], &[]] {
            let mut sense = [0; 96];
            let completion = answered(result, junk).completion(&mut sense);
            assert_eq!(
                (completion.status, sense[2], sense[13]),
                (Status::CHECK_CONDITION, 0xb, 6),
                "{junk:02x?}"
            );
        }
    }
}
