//! SCSI disks and generic devices, by `SG_IO`.

use std::time::Duration;

use pr_proto::{Command, Data};
use rustix::io::Errno;
use scsi_sense::{
    Sense, SenseCode, Status,
    sg::{SgResult, Verdict, verdict},
};

use crate::{
    Backend, Cause, Descriptor, DescriptorKind, Device, DeviceId, Failure, NotServed, Outcome, Refusal,
    Target,
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
    pub fn send(
        &self,
        descriptor: std::os::fd::BorrowedFd<'_>,
        id: DeviceId,
        command: &mut Command<'_>,
    ) -> Outcome {
        let sg = sg_io::Command::new(command.cdb).sense(command.sense).timeout(self.timeout);
        let sg = match &mut command.data {
            Data::In(buffer) => sg.read(buffer),
            Data::Out(parameters) => sg.write(parameters),
        };
        let (result, transferred) = match sg.execute(descriptor) {
            Ok(sg_io::Completion { status, host_status, driver_status, sense_len, transferred, .. }) => {
                (SgResult::Done { status, host_status, driver_status, sense_len }, transferred)
            }
            // A command that could not be formed is as good as one the kernel finds invalid.
            Err(error) => (SgResult::Errno(error.errno().unwrap_or(Errno::INVAL.raw_os_error())), 0),
        };
        judge(result, transferred, command.sense, id)
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
}

/// Returns what the reply says. `sense` is the command's buffer, with what the device wrote into it.
fn judge(result: SgResult, transferred: usize, sense: &[u8], id: DeviceId) -> Outcome {
    let not_scsi = || Outcome::Refused(Refusal::new("not_scsi", format!("{id} takes no SCSI commands")));
    let cause = match result {
        SgResult::Errno(errno) => match Errno::from_raw_os_error(errno) {
            Errno::NOTTY => return not_scsi(),
            // Some drivers (loop) answer so to an ioctl that they do not know; from `sd` it is about the command.
            Errno::INVAL if !id.is_scsi() => return not_scsi(),
            Errno::BADF => return Outcome::Refused(Refusal::path_only()),
            error => Cause::new("errno", format!("SG_IO: {error}")),
        },
        SgResult::Done { status, host_status, driver_status, .. } => Cause::new(
            "transport",
            format!(
                "host_status {host_status:02X}h, driver_status {driver_status:02X}h, status {status:02X}h"
            ),
        ),
    };
    match (verdict(result), result) {
        (Verdict::Device(status), SgResult::Done { sense_len, .. })
            if status != Status::CHECK_CONDITION || is_sense(sense, sense_len) =>
        {
            Outcome::Device { status, transferred, sense_len: sense_len.into() }
        }
        // Malformed sense data would leave the guest to guess.
        (Verdict::Device(_), _) => {
            Outcome::Failed(Failure::check_condition(SenseCode::IO_PROCESS_TERMINATED, cause))
        }
        (Verdict::Host { status, sense }, _) => Outcome::Failed(Failure::new(status, sense, cause)),
    }
}

fn is_sense(buffer: &[u8], length: u8) -> bool {
    buffer.get(..length.into()).is_some_and(|sense| Sense::parse(sense).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DeviceId = DeviceId::Block { major: 8, minor: 0 };

    /// Nine values of `host_status` are reported as GOOD by QEMU's helper.
    #[test]
    fn no_host_status_is_good() {
        for host_status in 1..=u16::MAX {
            let result = SgResult::Done { status: 0, host_status, driver_status: 0, sense_len: 0 };
            let mut sense = [0; 96];
            let completion = judge(result, 24, &[], ID).completion(&mut sense);
            assert_ne!(completion.status, Status::GOOD, "host_status {host_status:#x}");
            assert_eq!(completion.transferred, 0);
            if completion.status == Status::CHECK_CONDITION {
                assert_eq!((completion.sense_len, sense[0]), (18, 0x70), "host_status {host_status:#x}");
            }
        }
    }

    #[test]
    fn no_errno_is_good() {
        for errno in 1..=4095 {
            assert_ne!(judge(SgResult::Errno(errno), 0, &[], ID).status(), Status::GOOD, "{errno}");
        }
    }

    #[test]
    fn device_without_scsi_is_refused() {
        let label = |outcome| match outcome {
            Outcome::Refused(refusal) => refusal.label(),
            other => panic!("{other:?}"),
        };
        assert_eq!(label(judge(SgResult::Errno(25), 0, &[], ID)), "not_scsi");
        let other = DeviceId::Block { major: 7, minor: 0 };
        assert_eq!(label(judge(SgResult::Errno(22), 0, &[], other)), "not_scsi");
        assert_eq!(label(judge(SgResult::Errno(9), 0, &[], ID)), "path_only");
        assert!(matches!(judge(SgResult::Errno(22), 0, &[], ID), Outcome::Failed(_)));
    }

    #[test]
    fn malformed_sense_data_are_replaced() {
        let result = SgResult::Done { status: 2, host_status: 0, driver_status: 8, sense_len: 18 };
        let fixed = SenseCode::RESERVATIONS_PREEMPTED.to_fixed();
        let expected = Outcome::Device { status: Status::CHECK_CONDITION, transferred: 0, sense_len: 18 };
        assert_eq!(judge(result, 0, &fixed, ID), expected, "the device's own are not touched");
        for junk in [&[0; 18][..], &[0xff; 18], &[0x70], &[]] {
            let mut sense = [0; 96];
            let completion = judge(result, 0, junk, ID).completion(&mut sense);
            assert_eq!(
                (completion.status, sense[2], sense[13]),
                (Status::CHECK_CONDITION, 0xb, 6),
                "{junk:02x?}"
            );
        }
    }
}
