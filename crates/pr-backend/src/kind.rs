//! What a descriptor can refer to.

use crate::device::DeviceId;

/// What a descriptor refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptorKind {
    /// A block device that is no partition, no device-mapper map, and not built on other devices.
    Disk(DeviceId),
    /// A partition of a block device.
    Partition(DeviceId),
    /// A device-mapper map, of whatever table.
    Map(DeviceId),
    /// A block device that is built on others and hands ioctls on to them, such as bcache.
    Stacked(DeviceId),
    /// A block device that /sys does not show.
    NotInSysfs(DeviceId),
    /// A character device.
    Character(DeviceId),
    /// A regular file.
    File(DeviceId),
    /// Anything else, by its name: a pipe, a socket, a directory.
    Other(&'static str),
}
