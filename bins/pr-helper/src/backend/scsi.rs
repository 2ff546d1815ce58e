//! SCSI disks and generic devices, by `SG_IO`.

use std::time::Duration;

use pr_proto::{Command, Data};
use rustix::io::Errno;
use scsi_sense::{
    Sense, SenseCode, SenseKey, Status,
    sg::{SgResult, Verdict, verdict, without_device},
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
    let (status, sense) = match (verdict(result), result) {
        (Verdict::Device(status), SgResult::Done { sense_len, .. }) => {
            let key = if status == Status::CHECK_CONDITION { sense_key(sense, sense_len) } else { None };
            match (key, without_device(result)) {
                // The key would hide the complaint: to its clients the command would be done.
                (Some(key), Some(Verdict::Host { status, sense })) if !key.is_failure() => (status, sense),
                // Sense data that is none would leave the guest to guess.
                (None, _) if status == Status::CHECK_CONDITION => {
                    (status, Some(SenseCode::IO_PROCESS_TERMINATED))
                }
                _ => return Outcome::Device { status, transferred, sense_len: sense_len.into() },
            }
        }
        (Verdict::Device(_), SgResult::Errno(_)) => {
            (Status::CHECK_CONDITION, Some(SenseCode::IO_PROCESS_TERMINATED))
        }
        (Verdict::Host { status, sense }, _) => (status, sense),
    };
    Outcome::Failed { status, sense, cause }
}

fn sense_key(buffer: &[u8], length: u8) -> Option<SenseKey> {
    Sense::parse(buffer.get(..length.into())?).ok()?.key()
}

#[cfg(test)]
mod tests {
    use pr_proto::Completion;

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

    /// Whatever the device said beside a complaint of the host adapter or the driver: its sense data may be of before.
    #[test]
    fn no_complaint_reads_as_success() {
        for status in 0..=u8::MAX {
            for host_status in (0..=0x20).chain([0xff, 0x100, 0xffff]) {
                for driver_status in [0, 0x06, 0x08, 0x18, 0x80] {
                    for key in 0..=0xf {
                        let device = SenseCode::new(SenseKey::new(key), 0, 0).to_fixed();
                        let descriptor = [0x72, key, 0, 0, 0, 0, 0, 0];
                        for device in [&[][..], &[0x70, 0], &device, &descriptor] {
                            let sense_len = device.len().try_into().unwrap();
                            let result = SgResult::Done { status, host_status, driver_status, sense_len };
                            let outcome = judge(result, 24, device, ID);
                            let is_complaint = host_status != 0 || !matches!(driver_status & 0xf, 0 | 8);
                            if is_complaint {
                                let mut sense = [0; 96];
                                sense[..device.len()].copy_from_slice(device);
                                let completion = outcome.completion(&mut sense);
                                assert!(reads_as_failure(completion, &sense), "{result:?} {device:02x?}");
                            } else if let Outcome::Failed { status, sense, .. } = outcome {
                                assert!(status.is_failure(), "{result:?}");
                                assert!(sense.is_none_or(|code| code.key.is_failure()), "{result:?}");
                            }
                        }
                    }
                }
            }
        }
    }

    fn reads_as_failure(Completion { status, sense_len, .. }: Completion, sense: &[u8]) -> bool {
        let key = Sense::parse(&sense[..sense_len]).ok().and_then(|sense| sense.key());
        status.is_failure() && (status != Status::CHECK_CONDITION || key.is_some_and(SenseKey::is_failure))
    }

    /// The guest judges the disk's own sense data.
    #[test]
    fn sense_of_devices_is_untouched() {
        for key in 0..=0xf {
            let sense = SenseCode::new(SenseKey::new(key), 0, 0).to_fixed();
            let result = SgResult::Done { status: 2, host_status: 0, driver_status: 8, sense_len: 18 };
            let expected = Outcome::Device { status: Status::CHECK_CONDITION, transferred: 0, sense_len: 18 };
            assert_eq!(judge(result, 0, &sense, ID), expected, "sense key {key:x}");
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
        for junk in [&[0; 18][..], &[0xff; 18], &[0x70], &[0x70, 0], &[0x72], &[]] {
            let sense_len = junk.len().min(18).try_into().unwrap();
            let result = SgResult::Done { status: 2, host_status: 0, driver_status: 8, sense_len };
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
