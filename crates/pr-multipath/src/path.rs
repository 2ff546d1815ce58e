//! The paths of a map.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use dm_ioctl::{Control, DeviceNumber};
use pr_backend::{Cause, Descriptor, DescriptorKind, DeviceId, Disks, NotServed, Outcome, Scsi};
use pr_proto::{Command, DATA_MAX, Data, SENSE_LEN};
use rustix::fs::{Mode, OFlags};
use scsi_sense::{
    Sense, SenseKey, Status,
    pr::{InServiceAction, PersistentReserveIn, PersistentReserveOut},
};

use crate::{
    nexus::{Answer, Nexus},
    worker_log::worker_log,
};

/// An open path.
pub(crate) struct Path {
    descriptor: OwnedFd,
    id: DeviceId,
}

/// Number of times that a command is repeated while the path reports a unit attention.
const UNIT_ATTENTIONS: usize = 5;

/// A path with the backend that sends commands to it.
pub(crate) struct Route<'a> {
    path: Path,
    scsi: &'a Scsi,
}

impl<'a> Route<'a> {
    /// Opens the path of this number, as [`Path::open`] does.
    pub(crate) fn open(number: DeviceNumber, scsi: &'a Scsi) -> Result<Option<Self>, Cause> {
        Ok(Path::open(number)?.map(|path| Self { path, scsi }))
    }
}

impl Nexus for Route<'_> {
    fn change(&self, command: PersistentReserveOut, parameters: &[u8]) -> Answer {
        self.path.change(self.scsi, command, parameters)
    }

    fn read(&self, action: InServiceAction) -> Option<Vec<u8>> {
        self.path.read(self.scsi, action)
    }
}

/// Returns the paths of `map`. Paths that the kernel considers failed come last.
pub(crate) fn of(control: &Control, map: DeviceNumber) -> Result<Vec<DeviceNumber>, dm_ioctl::Error> {
    let mut paths = control.dependencies(map)?;
    let status = control.status(map)?;
    paths.sort_by_key(|path| {
        status.targets.iter().any(|target| has_failed(target.parameters.to_bytes(), *path))
    });
    Ok(paths)
}

/// Returns whether the status of a multipath target (drivers/md/dm-mpath.c, `multipath_status`) shows `path` as failed: its
/// device number followed by `F`, such as `8:16 F`.
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
    /// Opens the disk of this number. Returns `None` if that fails, or if it is not a disk that accepts SCSI commands.
    ///
    /// # Errors
    ///
    /// The cause, if this process or the host lacks a resource. Then the state of the path is not known.
    pub(crate) fn open(number: DeviceNumber) -> Result<Option<Self>, Cause> {
        let DeviceNumber { major, minor } = number;
        let opened = name(number).and_then(|name| {
            // The path may be away. A command fails sooner than a blocking open.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            rustix::fs::open(format!("/dev/{name}"), flags, Mode::empty()).map_err(Into::into)
        });
        let descriptor = match opened {
            Ok(descriptor) => descriptor,
            Err(error) => return not_opened(number, &error),
        };
        let kind = Descriptor::examine(descriptor.as_fd(), &Disks::default())
            .map(|descriptor: Descriptor<'_>| descriptor.kind());
        match kind {
            // The name may belong to another device by now.
            Ok(DescriptorKind::Disk(id)) if id == (DeviceId::Block { major, minor }) => {
                Ok(Some(Self { descriptor, id }))
            }
            Ok(_) | Err(NotServed::Refused(_)) => Ok(None),
            Err(NotServed::Failed(failure)) => Err(failure.cause().clone()),
        }
    }

    /// Sends a command to this path, and repeats it while the path reports a unit attention: that is a matter of this path,
    /// mostly caused by a change by another path. The library does not pass it on either.
    pub(crate) fn ask(&self, scsi: &Scsi, command: &mut Command<'_>) -> Outcome {
        let mut attempts = 0;
        loop {
            // Nothing may remain of the answer to an earlier attempt.
            command.sense.fill(0);
            if let Data::In(data) = &mut command.data {
                data.fill(0);
            }
            let outcome = scsi.send(self.descriptor.as_fd(), self.id, command);
            attempts += 1;
            if attempts > UNIT_ATTENTIONS || !has_unit_attention(&outcome, command.sense) {
                return outcome;
            }
        }
    }

    /// Sends a change to this path alone.
    fn change(&self, scsi: &Scsi, command: PersistentReserveOut, parameters: &[u8]) -> Answer {
        let Ok(parameter_list_length) = u32::try_from(parameters.len()) else { return Answer::Missing };
        let cdb = PersistentReserveOut { parameter_list_length, ..command }.to_cdb();
        let mut sense = [0; SENSE_LEN];
        let mut command = Command { cdb: &cdb, data: Data::Out(parameters), sense: &mut sense };
        match self.ask(scsi, &mut command) {
            Outcome::Device { status: Status::GOOD, .. } => Answer::Good,
            Outcome::Device { status: Status::CHECK_CONDITION, .. } => {
                Answer::from_sense(Sense::parse(&sense).ok().and_then(|sense| sense.code()))
            }
            Outcome::Device { status, .. } => Answer::Status(status),
            _ => Answer::Missing,
        }
    }

    /// Returns the data of PERSISTENT RESERVE IN, at most [`DATA_MAX`] bytes; `None` if the command fails.
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

    /// Returns the descriptor.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn has_unit_attention(outcome: &Outcome, sense: &[u8]) -> bool {
    let code = Sense::parse(sense).ok().and_then(|sense| sense.code());
    matches!(outcome, Outcome::Device { status: Status::CHECK_CONDITION, .. })
        && code.is_some_and(|code| code.key == SenseKey::UNIT_ATTENTION)
}

/// Interprets an error of opening a path: `Ok(None)` if the path is away, the cause if this process or the host lacks a
/// resource.
fn not_opened(DeviceNumber { major, minor }: DeviceNumber, error: &io::Error) -> Result<Option<Path>, Cause> {
    worker_log!("path {major}:{minor}: {error}");
    Cause::of_shortage(error).map_or(Ok(None), Err)
}

/// Returns the kernel's name of a block device, which is also the name of its node in /dev.
fn name(DeviceNumber { major, minor }: DeviceNumber) -> io::Result<String> {
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"))?;
    let name = link.file_name().unwrap_or_default();
    // /sys writes a slash in a name as an exclamation mark.
    Ok(name.to_string_lossy().replace('!', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that cannot be opened for lack of descriptors is not away: a REGISTER must not be complete without it.
    #[test]
    fn shortage_does_not_count_as_away() {
        let path = DeviceNumber { major: 8, minor: 16 };
        let opened = |errno| not_opened(path, &io::Error::from_raw_os_error(errno));
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
            match opened(errno) {
                Err(cause) => assert_eq!(cause.label(), "shortage", "{errno}"),
                Ok(_) => panic!("{errno} is no shortage"),
            }
        }
        for errno in [libc::ENOENT, libc::ENXIO, libc::EACCES, libc::EIO] {
            assert!(matches!(opened(errno), Ok(None)), "{errno}");
        }
    }

    #[test]
    fn failed_paths_are_found_in_status() {
        let status = b"2 0 0 0 2 1 A 0 1 2 8:16 A 0 0 1 E 0 1 2 8:1 F 3 0 1 ";
        let path = |minor| DeviceNumber { major: 8, minor };
        assert!(!has_failed(status, path(16)));
        assert!(has_failed(status, path(1)));
        assert!(!has_failed(status, path(0)), "not a path of this map");
        assert!(!has_failed(b"8:1", path(1)));
    }
}
