//! Which block devices are whole disks.

use std::{
    collections::BTreeMap,
    io,
    os::fd::BorrowedFd,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use rustix::fs::Access;

use super::{DeviceId, Kind, Refusal};
use crate::sys;

/// How long it is remembered that a device is a whole disk. A disk does not become anything else, but what is built on
/// others (see [`Refusal::Stacked`]) is seen in /sys a moment before that shows there.
const MEMORY: Duration = Duration::from_secs(1);

/// Of how many devices.
const MEMORY_MAX: usize = 256;

/// Tells disks from what is on them, and remembers for a while which were disks.
///
/// A number alone says nothing: one that was a disk's can be a map's tomorrow. But the kernel has a sequence number for
/// each disk, which no other gets, and the two together are the same disk as before.
#[derive(Default)]
pub(crate) struct Disks {
    known: RwLock<BTreeMap<(u32, u32), Known>>,
}

/// A whole disk.
#[derive(Debug, Clone, Copy)]
struct Known {
    sequence: u64,
    until: Instant,
}

impl Disks {
    /// What the block device `descriptor`, of this major and minor number, is.
    pub(super) fn kind(&self, descriptor: BorrowedFd<'_>, number: (u32, u32)) -> Result<Kind, Refusal> {
        if is_sd(number.0) {
            return kind_of_sd(number);
        }
        let now = Instant::now();
        // Only disks are asked for the number: a kernel that does not know the ioctl hands it to the driver, and that of
        // a map without paths waits for one.
        if let Some(known) = self.known(number) {
            if now < known.until && sys::disk_sequence(descriptor) == Some(known.sequence) {
                return Ok(Kind::Scsi);
            }
        }
        let kind = kind_by_sysfs(number, in_sysfs, has_entries)?;
        if kind == Kind::Scsi {
            if let Some(sequence) = sys::disk_sequence(descriptor) {
                self.remember(number, Known { sequence, until: now.checked_add(MEMORY).unwrap_or(now) });
            }
        }
        Ok(kind)
    }

    fn known(&self, number: (u32, u32)) -> Option<Known> {
        // Nothing that is done under this lock leaves it half done.
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&number).copied()
    }

    fn remember(&self, number: (u32, u32), disk: Known) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MEMORY_MAX {
            let now = Instant::now();
            known.retain(|_, known| now < known.until);
        }
        // One that is not remembered is looked up again.
        if known.len() < MEMORY_MAX || known.contains_key(&number) {
            known.insert(number, disk);
        }
    }
}

/// Whether the disk driver `sd` owns this block major (`SCSI_DISK*_MAJOR` of `<linux/major.h>`); each disk has sixteen
/// minors, of which the first is the whole of it.
pub(super) fn is_sd(major: u32) -> bool {
    matches!(major, 8 | 65..=71 | 128..=135)
}

/// The disk that a partition is on, where the number tells.
pub(super) fn disk_of(partition: DeviceId) -> DeviceId {
    match partition {
        DeviceId::Block { major, minor } if is_sd(major) => DeviceId::Block { major, minor: minor & !15 },
        other => other,
    }
}

fn kind_of_sd((major, minor): (u32, u32)) -> Result<Kind, Refusal> {
    if minor % 16 == 0 { Ok(Kind::Scsi) } else { Err(Refusal::Partition(DeviceId::Block { major, minor })) }
}

/// Tells a disk from a map, and refuses what is neither.
fn kind_by_sysfs(
    (major, minor): (u32, u32),
    exists: impl Fn(&str) -> io::Result<bool>,
    has_entries: impl Fn(&str) -> io::Result<bool>,
) -> Result<Kind, Refusal> {
    let id = DeviceId::Block { major, minor };
    let device = format!("/sys/dev/block/{major}:{minor}");
    let look = |name: &str| exists(&format!("{device}{name}")).map_err(|_| Refusal::Unknown(id));
    if look("/dm")? {
        Ok(Kind::Map)
    } else if look("/partition")? {
        Err(Refusal::Partition(id))
    } else if !look("")? {
        Err(Refusal::Unknown(id))
    } else if has_entries(&format!("{device}/slaves")).map_err(|_| Refusal::Unknown(id))? {
        // bcache and its like hand an ioctl on to what is below them.
        Err(Refusal::Stacked(id))
    } else {
        Ok(Kind::Scsi)
    }
}

fn has_entries(path: &str) -> io::Result<bool> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
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
    use super::*;

    #[test]
    fn only_whole_disks_pass() {
        let name = |refusal| match refusal {
            Refusal::Partition(_) => "partition",
            Refusal::Unknown(_) => "unknown",
            Refusal::Stacked(_) => "stacked",
            other => panic!("{other}"),
        };
        for (number, expected) in [
            ((8, 0), Ok(Kind::Scsi)),
            ((8, 16), Ok(Kind::Scsi)),
            ((65, 240), Ok(Kind::Scsi)),
            ((8, 17), Err("partition")),
            ((135, 15), Err("partition")),
        ] {
            assert!(is_sd(number.0));
            assert_eq!(kind_of_sd(number).map_err(name), expected, "{number:?}");
        }
        let judge = |number, present: &'static [&str]| {
            let is_there = |path: &str| Ok(present.contains(&path));
            kind_by_sysfs(number, is_there, is_there).map_err(name)
        };
        assert_eq!(judge((259, 3), &["/sys/dev/block/259:3"]), Ok(Kind::Scsi));
        assert_eq!(
            judge((259, 4), &["/sys/dev/block/259:4", "/sys/dev/block/259:4/partition"]),
            Err("partition")
        );
        assert_eq!(judge((254, 0), &["/sys/dev/block/254:0", "/sys/dev/block/254:0/dm"]), Ok(Kind::Map));
        assert_eq!(judge((252, 0), &["/sys/dev/block/252:0", "/sys/dev/block/252:0/slaves"]), Err("stacked"));
        assert_eq!(judge((254, 0), &[]), Err("unknown"));
        let forbidden = |_: &str| Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(kind_by_sysfs((7, 0), forbidden, forbidden).map_err(name), Err("unknown"));
    }

    #[test]
    fn memory_is_bounded() {
        let (disks, now) = (Disks::default(), Instant::now());
        let disk = |until| Known { sequence: 1, until };
        for minor in 0..1000 {
            disks.remember((7, minor), disk(now));
        }
        assert!(disks.known((7, 999)).is_some(), "what is forgotten makes room");
        for minor in 0..1000 {
            disks.remember((8, minor), disk(now + Duration::from_secs(3600)));
        }
        let known = disks.known.read().unwrap();
        assert_eq!(known.len(), MEMORY_MAX);
        assert!(known.keys().all(|(major, _)| *major == 8));
    }
}
