//! SCSI disks and generic devices, by `SG_IO`.

use std::time::Duration;

use pr_proto::{Command, Data};
use rustix::io::Errno;
use scsi_sense::{
    Sense, SenseCode, Status,
    sg::{SgResult, Verdict, verdict},
};

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
        let (result, transferred) = match sg.execute(descriptor) {
            Ok(sg_io::Completion { status, host_status, driver_status, sense_len, transferred, .. }) => {
                (SgResult::Done { status, host_status, driver_status, sense_len }, transferred)
            }
            // A command that could not be formed is as good as one the kernel finds invalid.
            Err(error) => (SgResult::Errno(error.errno().unwrap_or(Errno::INVAL.raw_os_error())), 0),
        };
        judge(result, transferred, command.sense, device.id)
    }
}

/// What the reply says. `sense` is the command's buffer, with what the device wrote into it.
fn judge(result: SgResult, transferred: usize, sense: &[u8], id: DeviceId) -> Outcome {
    let cause = match result {
        SgResult::Errno(errno) if errno == Errno::NOTTY.raw_os_error() => {
            return Outcome::Refused(Refusal::NotScsi(id));
        }
        // What some drivers (loop) say to an ioctl that they do not know; to `sd` it means the command.
        SgResult::Errno(errno) if errno == Errno::INVAL.raw_os_error() && !id.is_scsi() => {
            return Outcome::Refused(Refusal::NotScsi(id));
        }
        SgResult::Errno(errno) if errno == Errno::BADF.raw_os_error() => {
            return Outcome::Refused(Refusal::PathOnly);
        }
        SgResult::Errno(errno) => Cause::Errno(errno),
        SgResult::Done { status, host_status, driver_status, .. } => {
            Cause::Transport { status, host_status, driver_status }
        }
    };
    match (verdict(result), result) {
        (Verdict::Device(status), SgResult::Done { sense_len, .. })
            if status != Status::CHECK_CONDITION || is_sense(sense, sense_len) =>
        {
            Outcome::Device { status, transferred, sense_len: sense_len.into() }
        }
        // Sense data that is none would leave the guest to guess.
        (Verdict::Device(_), _) => {
            let sense = Some(SenseCode::IO_PROCESS_TERMINATED);
            Outcome::Failed { status: Status::CHECK_CONDITION, sense, cause }
        }
        (Verdict::Host { status, sense }, _) => Outcome::Failed { status, sense, cause },
    }
}

fn is_sense(buffer: &[u8], length: u8) -> bool {
    buffer.get(..length.into()).is_some_and(|sense| Sense::parse(sense).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DeviceId = DeviceId::Block { major: 8, minor: 0 };

    /// The nine values of `host_status` that QEMU's helper reports as GOOD, and all the others.
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
        for errno in -1..=4096 {
            let mut sense = [0; 96];
            assert_ne!(
                judge(SgResult::Errno(errno), 0, &[], ID).completion(&mut sense).status,
                Status::GOOD,
                "{errno}"
            );
        }
    }

    #[test]
    fn what_takes_no_scsi_commands_is_refused() {
        assert_eq!(judge(SgResult::Errno(25), 0, &[], ID), Outcome::Refused(Refusal::NotScsi(ID)));
        let other = DeviceId::Block { major: 7, minor: 0 };
        assert_eq!(judge(SgResult::Errno(22), 0, &[], other), Outcome::Refused(Refusal::NotScsi(other)));
        assert!(matches!(judge(SgResult::Errno(22), 0, &[], ID), Outcome::Failed { .. }));
    }

    #[test]
    fn sense_data_that_is_none_is_replaced() {
        let result = SgResult::Done { status: 2, host_status: 0, driver_status: 8, sense_len: 18 };
        let fixed = SenseCode::RESERVATIONS_PREEMPTED.to_fixed();
        let expected = Outcome::Device { status: Status::CHECK_CONDITION, transferred: 0, sense_len: 18 };
        assert_eq!(judge(result, 0, &fixed, ID), expected, "the device's own is not touched");
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
