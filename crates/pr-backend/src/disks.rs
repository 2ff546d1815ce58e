//! Tells whole disks from partitions, maps and stacked block devices.

use std::{
    collections::BTreeMap,
    io,
    os::fd::BorrowedFd,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use rustix::fs::Access;

use crate::{
    device::{DeviceId, is_sd},
    kind::DescriptorKind,
    outcome::{Cause, Failure, NotServed},
    sys,
};

/// How long a block device is remembered as a disk. A disk does not become anything else, but a device that is built on
/// others appears in /sys a moment before its `slaves` do.
const MEMORY: Duration = Duration::from_secs(1);

/// How many block devices are remembered.
const MEMORY_MAX: usize = 256;

/// Knows which block devices are whole disks, and remembers it for a second.
///
/// A number alone says nothing: a disk's number can be a map's tomorrow. But the kernel gives each disk a sequence number
/// that no other disk gets; number and sequence number together are the same disk as before.
#[derive(Debug, Default)]
pub struct Disks {
    known: RwLock<BTreeMap<(u32, u32), Known>>,
}

/// A whole disk.
#[derive(Debug, Clone, Copy)]
struct Known {
    sequence: u64,
    until: Instant,
}

impl Disks {
    /// Returns what the block device `descriptor`, of this major and minor number, is.
    pub(crate) fn kind(
        &self,
        descriptor: BorrowedFd<'_>,
        number: (u32, u32),
    ) -> Result<DescriptorKind, NotServed> {
        if is_sd(number.0) {
            return Ok(kind_of_sd(number));
        }
        let now = Instant::now();
        // Only disks are asked for their sequence number: a kernel that does not know the ioctl hands it to the driver,
        // and the driver of a map without paths waits for one.
        if let Some(known) = self.known(number) {
            if now < known.until && sys::disk_sequence(descriptor) == Some(known.sequence) {
                let (major, minor) = number;
                return Ok(DescriptorKind::Disk(DeviceId::Block { major, minor }));
            }
        }
        let kind = kind_by_sysfs(number, in_sysfs, has_entries)?;
        if matches!(kind, DescriptorKind::Disk(_)) {
            if let Some(sequence) = sys::disk_sequence(descriptor) {
                self.remember(number, Known { sequence, until: now.checked_add(MEMORY).unwrap_or(now) });
            }
        }
        Ok(kind)
    }

    fn known(&self, number: (u32, u32)) -> Option<Known> {
        // No operation under this lock leaves the map half changed.
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&number).copied()
    }

    fn remember(&self, number: (u32, u32), disk: Known) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MEMORY_MAX {
            let now = Instant::now();
            known.retain(|_, known| now < known.until);
        }
        // A disk that is not remembered is looked up again.
        if known.len() < MEMORY_MAX || known.contains_key(&number) {
            known.insert(number, disk);
        }
    }
}

fn kind_of_sd((major, minor): (u32, u32)) -> DescriptorKind {
    let id = DeviceId::Block { major, minor };
    if minor % 16 == 0 { DescriptorKind::Disk(id) } else { DescriptorKind::Partition(id) }
}

fn kind_by_sysfs(
    (major, minor): (u32, u32),
    exists: impl Fn(&str) -> io::Result<bool>,
    has_entries: impl Fn(&str) -> io::Result<bool>,
) -> Result<DescriptorKind, NotServed> {
    let id = DeviceId::Block { major, minor };
    let device = format!("/sys/dev/block/{major}:{minor}");
    let look = || {
        Ok(if exists(&format!("{device}/dm"))? {
            DescriptorKind::Map(id)
        } else if exists(&format!("{device}/partition"))? {
            DescriptorKind::Partition(id)
        } else if !exists(&device)? {
            DescriptorKind::NotInSysfs(id)
        } else if has_entries(&format!("{device}/slaves"))? {
            // bcache and its like hand an ioctl on to the devices below them.
            DescriptorKind::Stacked(id)
        } else {
            DescriptorKind::Disk(id)
        })
    };
    look().or_else(|error: io::Error| match Cause::of_shortage(&error) {
        // A shortage of descriptors or memory here says nothing about the device.
        Some(cause) => Err(Failure::busy(cause).into()),
        None => Ok(DescriptorKind::NotInSysfs(id)),
    })
}

fn has_entries(path: &str) -> io::Result<bool> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().transpose().map(|entry| entry.is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn in_sysfs(path: &str) -> io::Result<bool> {
    match rustix::fs::access(path, Access::EXISTS) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::Outcome;

    fn name(kind: DescriptorKind) -> &'static str {
        match kind {
            DescriptorKind::Disk(_) => "disk",
            DescriptorKind::Partition(_) => "partition",
            DescriptorKind::Map(_) => "map",
            DescriptorKind::Stacked(_) => "stacked",
            DescriptorKind::NotInSysfs(_) => "unknown",
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_whole_disks_are_disks() {
        for (number, expected) in [
            ((8, 0), "disk"),
            ((8, 16), "disk"),
            ((65, 240), "disk"),
            ((8, 17), "partition"),
            ((135, 15), "partition"),
        ] {
            assert!(is_sd(number.0));
            assert_eq!(name(kind_of_sd(number)), expected, "{number:?}");
        }
        let judge = |number, present: &'static [&str]| {
            let is_there = |path: &str| Ok(present.contains(&path));
            name(kind_by_sysfs(number, is_there, is_there).unwrap())
        };
        assert_eq!(judge((259, 3), &["/sys/dev/block/259:3"]), "disk");
        assert_eq!(judge((259, 4), &["/sys/dev/block/259:4", "/sys/dev/block/259:4/partition"]), "partition");
        assert_eq!(judge((254, 0), &["/sys/dev/block/254:0", "/sys/dev/block/254:0/dm"]), "map");
        assert_eq!(judge((252, 0), &["/sys/dev/block/252:0", "/sys/dev/block/252:0/slaves"]), "stacked");
        assert_eq!(judge((254, 0), &[]), "unknown");
        let forbidden = |_: &str| Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(name(kind_by_sysfs((7, 0), forbidden, forbidden).unwrap()), "unknown");
    }

    #[test]
    fn shortage_here_is_busy_and_no_refusal() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR] {
            let exists = |path: &str| Ok(path == "/sys/dev/block/7:0");
            let short = |_: &str| Err(errno.into());
            for result in [kind_by_sysfs((7, 0), exists, short), kind_by_sysfs((7, 0), short, short)] {
                let outcome = Outcome::from(result.unwrap_err());
                assert!(matches!(&outcome, Outcome::Failed(_)), "{outcome:?}");
                assert_eq!(outcome.status(), scsi_sense::Status::BUSY);
            }
        }
    }

    #[test]
    fn disk_memory_is_bounded() {
        let (disks, now) = (Disks::default(), Instant::now());
        let disk = |until| Known { sequence: 1, until };
        for minor in 0..1000 {
            disks.remember((7, minor), disk(now));
        }
        assert!(disks.known((7, 999)).is_some(), "expired entries make room");
        for minor in 0..1000 {
            disks.remember((8, minor), disk(now + Duration::from_secs(3600)));
        }
        let known = disks.known.read().unwrap();
        assert_eq!(known.len(), MEMORY_MAX);
        assert!(known.keys().all(|(major, _)| *major == 8));
    }
}
