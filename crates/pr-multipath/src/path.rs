//! The paths of a map.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dm_ioctl::{Control, DeviceNumber};
use pr_proto::{Command, DATA_MAX, Data, SENSE_LEN};
use rustix::fs::{Mode, OFlags};
use scsi_sense::{
    Sense, SenseCode, SenseKey, Status,
    pr::{InServiceAction, PersistentReserveIn, PersistentReserveOut},
};

use super::nexus::Nexus;
use crate::{
    backend::{Backend as _, Outcome, Target, scsi::Scsi},
    device::{Device, DeviceId, Disks, Kind},
};

/// A path, opened.
pub(super) struct Path {
    descriptor: OwnedFd,
    device: Device,
}

/// How often a path is asked again that has a unit attention to report.
const UNIT_ATTENTIONS: usize = 5;

/// What a path said to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    Good,
    Sense(SenseCode),
    Status(Status),
    /// It did not answer.
    Nothing,
}

impl Answered {
    /// What CHECK CONDITION with this sense says.
    fn of(code: Option<SenseCode>) -> Self {
        match code {
            Some(code) if matches!(code.key, SenseKey::RECOVERED_ERROR | SenseKey::COMPLETED) => Self::Good,
            Some(code) if code.key.is_failure() => Self::Sense(code),
            // NO SENSE says nothing, and is no reason to give to a guest.
            _ => Self::Nothing,
        }
    }

    /// Whether a nexus that was registered is no more.
    pub(super) fn is_fenced(self) -> bool {
        // LIO says NOT READY to a nexus that is not registered.
        matches!(self, Self::Status(Status::RESERVATION_CONFLICT))
            || matches!(self, Self::Sense(code) if code.key == SenseKey::NOT_READY)
    }
}

/// A path, and how to send commands by it.
pub(super) struct Route<'a> {
    path: Path,
    scsi: &'a Scsi,
}

impl<'a> Route<'a> {
    /// Opens the path of this number, as [`Path::open`] does.
    pub(super) fn open(number: DeviceNumber, scsi: &'a Scsi) -> Option<Self> {
        Path::open(number).map(|path| Self { path, scsi })
    }
}

impl Nexus for Route<'_> {
    fn change(&self, command: PersistentReserveOut, parameters: &[u8]) -> Answered {
        self.path.change(self.scsi, command, parameters)
    }

    fn read(&self, action: InServiceAction) -> Option<Vec<u8>> {
        self.path.read(self.scsi, action)
    }
}

/// The paths of `map`; those that the kernel holds to be failed come last.
pub(super) fn of(control: &Control, map: DeviceNumber) -> Result<Vec<DeviceNumber>, dm_ioctl::Error> {
    let mut paths = control.dependencies(map)?;
    let status = control.status(map)?;
    paths.sort_by_key(|path| {
        status.targets.iter().any(|target| has_failed(target.parameters.to_bytes(), *path))
    });
    Ok(paths)
}

/// Whether the status of a multipath target (drivers/md/dm-mpath.c, `multipath_status`) says `8:16 F`: the path's device
/// number, and that it has failed.
fn has_failed(status: &[u8], path: DeviceNumber) -> bool {
    let name = format!("{}:{}", path.major, path.minor);
    let mut words = status.split(u8::is_ascii_whitespace);
    while let Some(word) = words.next() {
        if word == name.as_bytes() {
            return words.next() == Some(b"F");
        }
    }
    false
}

impl Path {
    /// Opens the disk of this number. `None` if that fails, or it is none that takes SCSI commands.
    pub(super) fn open(number: DeviceNumber) -> Option<Self> {
        let DeviceNumber { major, minor } = number;
        let opened = name(number).and_then(|name| {
            // It may be away: the answer to a command is worth more than to wait for it here.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            rustix::fs::open(format!("/dev/{name}"), flags, Mode::empty()).map_err(Into::into)
        });
        let descriptor = opened.inspect_err(|error| say!("path {major}:{minor}: {error}")).ok()?;
        match Device::identify(descriptor.as_fd(), &Disks::default()) {
            // The name may have become another's.
            Ok(device) if device.kind == Kind::Scsi && device.id == (DeviceId::Block { major, minor }) => {
                Some(Self { descriptor, device })
            }
            _ => None,
        }
    }

    /// Puts a question to this path, again where it has a unit attention to report: that is about this path, and most
    /// often about what was done by another. The library does not tell it either.
    pub(super) fn ask(&self, scsi: &Scsi, command: &mut Command<'_>) -> Outcome {
        let mut asked = 0;
        loop {
            // Nothing of an answer that did not come through.
            command.sense.fill(0);
            if let Data::In(data) = &mut command.data {
                data.fill(0);
            }
            let outcome = scsi.execute(self.target(), command);
            asked += 1;
            if asked > UNIT_ATTENTIONS || !has_unit_attention(outcome, command.sense) {
                return outcome;
            }
        }
    }

    /// Sends a change to this path alone.
    fn change(&self, scsi: &Scsi, command: PersistentReserveOut, parameters: &[u8]) -> Answered {
        let Ok(parameter_list_length) = u32::try_from(parameters.len()) else { return Answered::Nothing };
        let cdb = PersistentReserveOut { parameter_list_length, ..command }.to_cdb();
        let mut sense = [0; SENSE_LEN];
        let mut command = Command { cdb: &cdb, data: Data::Out(parameters), sense: &mut sense };
        match self.ask(scsi, &mut command) {
            Outcome::Device { status: Status::GOOD, .. } => Answered::Good,
            Outcome::Device { status: Status::CHECK_CONDITION, .. } => {
                Answered::of(Sense::parse(&sense).ok().and_then(|sense| sense.code()))
            }
            Outcome::Device { status, .. } => Answered::Status(status),
            _ => Answered::Nothing,
        }
    }

    /// The data of PERSISTENT RESERVE IN, as far as [`DATA_MAX`] bytes go; `None` if the path does not have them.
    fn read(&self, scsi: &Scsi, action: InServiceAction) -> Option<Vec<u8>> {
        let allocation_length = u16::try_from(DATA_MAX).ok()?;
        let cdb = PersistentReserveIn { action, allocation_length }.to_cdb();
        let mut sense = [0; SENSE_LEN];
        // At an odd address: see `Data::In`.
        let mut data = vec![0; DATA_MAX + 1];
        let mut command = Command { cdb: &cdb, data: Data::In(data.get_mut(1..)?), sense: &mut sense };
        match self.ask(scsi, &mut command) {
            Outcome::Device { status: Status::GOOD, transferred, .. } => {
                data.get(1..)?.get(..transferred).map(<[u8]>::to_vec)
            }
            _ => None,
        }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn target(&self) -> Target<'_> {
        Target { descriptor: self.descriptor.as_fd(), device: self.device, listener: 0 }
    }
}

fn has_unit_attention(outcome: Outcome, sense: &[u8]) -> bool {
    let code = Sense::parse(sense).ok().and_then(|sense| sense.code());
    matches!(outcome, Outcome::Device { status: Status::CHECK_CONDITION, .. })
        && code.is_some_and(|code| code.key == SenseKey::UNIT_ATTENTION)
}

/// The kernel's name of a block device, which is that of its node in /dev.
fn name(DeviceNumber { major, minor }: DeviceNumber) -> std::io::Result<String> {
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"))?;
    let name = link.file_name().unwrap_or_default();
    // In /sys a slash of a name is an exclamation mark.
    Ok(name.to_string_lossy().replace('!', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_which_paths_have_failed() {
        let status = b"2 0 0 0 2 1 A 0 1 2 8:16 A 0 0 1 E 0 1 2 8:1 F 3 0 1 ";
        let path = |minor| DeviceNumber { major: 8, minor };
        assert!(!has_failed(status, path(16)));
        assert!(has_failed(status, path(1)));
        assert!(!has_failed(status, path(0)), "not a path of this map");
        assert!(!has_failed(b"8:1", path(1)));
    }

    #[test]
    fn sense_keys_of_done_commands_are_good() {
        for key in 0..=0xf {
            let code = SenseCode::new(SenseKey::new(key), 0x26, 0);
            let expected = match key {
                0x0 => Answered::Nothing,
                0x1 | 0xf => Answered::Good,
                _ => Answered::Sense(code),
            };
            assert_eq!(Answered::of(Some(code)), expected);
        }
        assert_eq!(Answered::of(None), Answered::Nothing);
    }
}
