//! SCSI disks and generic devices, by `SG_IO`.

use std::{io, os::fd::BorrowedFd, time::Duration};

use confinement::Rule;
use pr_proto::{Command, Data};
use scsi_sense::Status;
use sg_io::{Completion, Error, Verdict};

use crate::{
    descriptor::Descriptor,
    device::{Device, DeviceId},
    executor::{Backend, Target},
    kind::DescriptorKind,
    outcome::{Cause, Failure, NotServed, Outcome, Refusal},
    system_calls,
};

/// The backend of SCSI disks (`/dev/sdX`), SCSI generic devices (`/dev/sgN`), and any other block device whose driver
/// takes `SG_IO`.
#[derive(Debug, Clone)]
pub struct Scsi {
    timeout: Duration,
}

impl Scsi {
    /// Returns the backend. A device may take `timeout` for a command; then the kernel aborts it and recovers the device.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout }
    }

    /// Runs `command` on the device `id`.
    pub fn send(&self, descriptor: BorrowedFd<'_>, id: DeviceId, command: &mut Command<'_>) -> Outcome {
        let sg = sg_io::Command::new(command.cdb).sense(command.sense).timeout(self.timeout);
        let sg = match &mut command.data {
            Data::In(buffer) => sg.read(buffer),
            Data::Out(parameters) => sg.write(parameters),
        };
        match sg.execute(descriptor) {
            Ok(completion) => answered(completion, command.sense),
            Err(error) => ioctl_failed(&error, id),
        }
    }
}

impl Backend for Scsi {
    fn claim(&self, descriptor: &Descriptor<'_>) -> Option<Result<Device, NotServed>> {
        match descriptor.kind() {
            DescriptorKind::Disk(id) => Some(Ok(Device::new(id))),
            DescriptorKind::Character(id) if id.is_scsi_generic() => Some(Ok(Device::new(id))),
            _ => None,
        }
    }

    fn execute(&self, target: Target<'_>, command: &mut Command<'_>) -> Outcome {
        self.send(target.descriptor, target.device.id(), command)
    }

    fn refusal_labels(&self) -> &'static [&'static str] {
        &["not_scsi", "path_only"]
    }

    fn system_calls(&self) -> &'static [Rule] {
        system_calls::SCSI
    }
}

/// Returns the outcome of a command that the kernel took. `sense` is the command's buffer, as the device filled it.
fn answered(completion: Completion, sense: &[u8]) -> Outcome {
    let Completion { status, host_status, driver_status, sense_len, transferred, .. } = completion;
    match completion.verdict_with_sense(sense) {
        // Initiators take any other status for success. Only CONDITION MET has a meaning, for other commands (SAM-5 5.3).
        Verdict::Device(status) if status != Status::GOOD && !status.is_failure() => {
            let cause = Cause::new("status", format!("the device answered with the unknown {status}"));
            Outcome::Failed(Failure::new(status, None, cause))
        }
        Verdict::Device(status) => Outcome::Device { status, transferred, sense_len: sense_len.into() },
        Verdict::Host { status: reported, sense } => {
            let cause = Cause::new(
                "transport",
                format!(
                    "host_status {host_status:02X}h, driver_status {driver_status:02X}h, status {status:02X}h"
                ),
            );
            Outcome::Failed(Failure::new(reported, sense, cause))
        }
    }
}

/// Returns the outcome of a command whose ioctl failed.
fn ioctl_failed(error: &Error, id: DeviceId) -> Outcome {
    let not_scsi = || Outcome::Refused(Refusal::new("not_scsi", format!("{id} takes no SCSI commands")));
    // The kernel answers EINVAL to a malformed command.
    let errno = error.errno().unwrap_or(libc::EINVAL);
    match errno {
        libc::ENOTTY => not_scsi(),
        // Some drivers (loop) answer EINVAL to an unknown ioctl; from `sd` it is about the command.
        libc::EINVAL if !id.is_scsi() => not_scsi(),
        libc::EBADF => Outcome::Refused(Refusal::path_only()),
        errno => {
            let kernel_error = io::Error::from_raw_os_error(errno);
            // The other shortages do not exclude that the command was sent.
            if let Some(cause) = Cause::of_shortage(&kernel_error).filter(|_| errno == libc::ENOMEM) {
                return Outcome::Failed(Failure::busy(cause));
            }
            let cause = Cause::new("errno", format!("SG_IO: {kernel_error}"));
            let verdict = error.verdict();
            let sense = match verdict {
                Verdict::Host { sense, .. } => sense,
                Verdict::Device(_) => None,
            };
            Outcome::Failed(Failure::new(verdict.status(), sense, cause))
        }
    }
}

#[cfg(test)]
mod tests {
    use scsi_sense::SenseCode;

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
    fn no_transport_error_is_good() {
        for number in 1..=u16::MAX {
            for completion in [completion(0, number, 0, 0), completion(0, 0, number, 0)] {
                let mut sense = [0; 96];
                let completion = answered(completion, &[]).completion(&mut sense);
                assert_ne!(completion.status, Status::GOOD, "{number:#x}");
                assert_eq!(completion.transferred, 0);
                if completion.status == Status::CHECK_CONDITION {
                    assert_eq!((completion.sense_len, sense[0]), (18, 0x70), "{number:#x}");
                }
            }
        }
    }

    #[test]
    fn no_errno_is_good() {
        for number in -1..=4096 {
            assert_ne!(errno(number, ID).status(), Status::GOOD, "{number}");
        }
    }

    /// Clients take the other statuses for success.
    #[test]
    fn unknown_statuses_are_failures() {
        for status in 0..=u8::MAX {
            let mut sense = [0; 96];
            let reported = answered(completion(status, 0, 0, 0), &[]).completion(&mut sense);
            let expected = match status {
                0x00 | 0x08 | 0x18 | 0x28 | 0x30 | 0x40 => (Status(status), 0, 0),
                _ => (Status::CHECK_CONDITION, 0xb, 6),
            };
            assert_eq!((reported.status, sense[2], sense[13]), expected, "{status:02x}h");
        }
    }

    #[test]
    fn lack_of_memory_is_busy() {
        let outcome = errno(libc::ENOMEM, ID);
        assert_eq!(outcome.status(), Status::BUSY);
        assert!(matches!(outcome, Outcome::Failed(failure) if failure.cause().label() == "shortage"));
        // These may follow a command that was sent.
        for number in [libc::EINTR, libc::EAGAIN, libc::ENOBUFS] {
            assert_eq!(errno(number, ID).status(), Status::CHECK_CONDITION, "{number}");
        }
    }

    #[test]
    fn device_without_scsi_is_refused() {
        let label = |outcome| match outcome {
            Outcome::Refused(refusal) => refusal.label(),
            other => panic!("{other:?}"),
        };
        assert_eq!(label(errno(libc::ENOTTY, ID)), "not_scsi");
        let other = DeviceId::Block { major: 7, minor: 0 };
        assert_eq!(label(errno(libc::EINVAL, other)), "not_scsi");
        assert_eq!(label(errno(libc::EBADF, ID)), "path_only");
        assert!(matches!(errno(libc::EINVAL, ID), Outcome::Failed(_)));
    }

    #[test]
    fn malformed_sense_data_are_replaced() {
        let result = completion(2, 0, 8, 18);
        let fixed = SenseCode::RESERVATIONS_PREEMPTED.to_fixed();
        let expected = Outcome::Device { status: Status::CHECK_CONDITION, transferred: 24, sense_len: 18 };
        assert_eq!(answered(result, &fixed), expected, "the device's own are not touched");
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
