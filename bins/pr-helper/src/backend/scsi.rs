//! SCSI disks and generic devices, by `SG_IO`.

use std::{os::fd::BorrowedFd, time::Duration};

use pr_proto::{Command, Data};
use rustix::io::Errno;
use scsi_sense::sg::{SgResult, Verdict, verdict};

use super::{Backend, Cause, Outcome};
use crate::device::{Device, Refusal};

pub(crate) struct Scsi {
    timeout: Duration,
}

impl Scsi {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout }
    }
}

impl Backend for Scsi {
    fn execute(
        &self,
        device: BorrowedFd<'_>,
        Device { id, .. }: Device,
        command: &mut Command<'_>,
    ) -> Outcome {
        let sg = sg_io::Command::new(command.cdb).sense(command.sense).timeout(self.timeout);
        let sg = match &mut command.data {
            Data::In(buffer) => sg.read(buffer),
            Data::Out(parameters) => sg.write(parameters),
        };
        let (result, transferred) = match sg.execute(device) {
            Ok(sg_io::Completion { status, host_status, driver_status, sense_len, transferred, .. }) => {
                (SgResult::Done { status, host_status, driver_status, sense_len }, transferred)
            }
            // A command that could not be formed is as good as one the kernel finds invalid.
            Err(error) => (SgResult::Errno(error.errno().unwrap_or(Errno::INVAL.raw_os_error())), 0),
        };
        judge(result, transferred, id)
    }
}

fn judge(result: SgResult, transferred: usize, id: crate::device::DeviceId) -> Outcome {
    let cause = match result {
        SgResult::Errno(errno) if errno == Errno::NOTTY.raw_os_error() => {
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
        (Verdict::Device(status), SgResult::Done { sense_len, .. }) => {
            Outcome::Device { status, transferred, sense_len: sense_len.into() }
        }
        // A device's answer without an answer cannot be: `verdict` says Host for every errno.
        (Verdict::Device(_), SgResult::Errno(_)) => {
            Outcome::Rejected(scsi_sense::SenseCode::IO_PROCESS_TERMINATED)
        }
        (Verdict::Host { status, sense }, _) => Outcome::Failed { status, sense, cause },
    }
}

#[cfg(test)]
mod tests {
    use scsi_sense::Status;

    use super::*;
    use crate::device::DeviceId;

    const ID: DeviceId = DeviceId::Block { major: 8, minor: 0 };

    /// The nine values of `host_status` that QEMU's helper reports as GOOD, and all the others.
    #[test]
    fn no_host_status_is_good() {
        for host_status in 1..=u16::MAX {
            let result = SgResult::Done { status: 0, host_status, driver_status: 0, sense_len: 0 };
            let mut sense = [0; 96];
            let completion = judge(result, 24, ID).completion(&mut sense);
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
                judge(SgResult::Errno(errno), 0, ID).completion(&mut sense).status,
                Status::GOOD,
                "{errno}"
            );
        }
    }

    #[test]
    fn what_takes_no_scsi_commands_is_refused() {
        assert_eq!(judge(SgResult::Errno(25), 0, ID), Outcome::Refused(Refusal::NotScsi(ID)));
    }
}
