//! What is this descriptor, and may commands be sent to it?
//!
//! The daemon has a privilege that its clients lack, so it must not be talked into using it on more than what the
//! client could open. The kernel carries a SCSI command that is sent to a partition or a linear map to the whole disk
//! behind it, if the sender has the privilege: those are refused. Nothing but `statx` is called on a descriptor before
//! it is known to be a block device or a SCSI generic device, and that without synchronising with the file system, so
//! that no FUSE server can make it last.

mod disks;

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::fs::{AtFlags, FileType, OFlags, StatxFlags};

pub(crate) use self::disks::Disks;

/// Major number of `/dev/sgN` (`SCSI_GENERIC_MAJOR` of `<linux/major.h>`).
const SCSI_GENERIC_MAJOR: u32 = 21;

/// Kind and number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum DeviceId {
    Block {
        major: u32,
        minor: u32,
    },
    Character {
        major: u32,
        minor: u32,
    },
    /// A regular file, by the device of its file system.
    File {
        major: u32,
        minor: u32,
        inode: u64,
    },
}

impl DeviceId {
    /// Whether the number is of a driver that serves nothing but SCSI devices.
    pub(crate) fn is_scsi(self) -> bool {
        match self {
            Self::Block { major, .. } => disks::is_sd(major),
            Self::Character { major, .. } => major == SCSI_GENERIC_MAJOR,
            Self::File { .. } => false,
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { major, minor } => write!(f, "block device {major}:{minor}"),
            Self::Character { major, minor } => write!(f, "character device {major}:{minor}"),
            Self::File { major, minor, inode } => write!(f, "file {inode} of {major}:{minor}"),
        }
    }
}

/// A device that commands may be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) kind: Kind,
}

/// Which backend serves a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `SG_IO`, as far as the kernel lets it.
    Scsi,
    /// A regular file: for `--emulate` alone.
    File,
    /// A device-mapper map. Whether it is multipath, and may be served, only root can ask.
    Map,
}

/// Why a descriptor is not served. The guest gets ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE: what a device says
/// that has no persistent reservations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the descriptor is of a {0}, not of a disk: pass one of the disk itself")]
    NotADevice(&'static str),
    #[error("{0} is not a SCSI generic device")]
    OtherCharacter(DeviceId),
    #[error(
        "{0} is a partition, and a reservation is on the whole disk: pass a descriptor of the disk itself"
    )]
    Partition(DeviceId),
    #[error(
        "{0} is a device-mapper map that is not multipath, and a command sent to it would reach the disk behind it: pass a descriptor of the disk itself"
    )]
    DeviceMapper(DeviceId),
    #[error(
        "{0} is a device-mapper map, and of these only multipath could be served, which is not possible: {1}"
    )]
    NoMultipath(DeviceId, Unavailable),
    #[error(
        "multipathd does not answer, and only it can keep registrations on all paths of {0}: start it (systemctl start multipathd)"
    )]
    NoMultipathd(DeviceId),
    #[error("{0} is not known to /sys, so it cannot be told whether it is a whole disk: is /sys mounted?")]
    Unknown(DeviceId),
    #[error(
        "{0} is built on other devices, and a command sent to it could reach them: pass a descriptor of the disk itself"
    )]
    Stacked(DeviceId),
    #[error("{0} takes no SCSI commands")]
    NotScsi(DeviceId),
    #[error("the descriptor was opened with O_PATH: open the disk for reading and writing")]
    PathOnly,
    #[error("the descriptor cannot be examined: {0}")]
    Unreadable(rustix::io::Errno),
}

impl Refusal {
    /// The disk that the descriptor is of, if it is of one.
    pub(crate) fn disk(self) -> Option<DeviceId> {
        match self {
            Self::Partition(id) => Some(disks::disk_of(id)),
            Self::Unknown(id) | Self::Stacked(id) => Some(id),
            _ => None,
        }
    }
}

/// Why no multipath map is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("pr-helper was not started as root with CAP_SYS_ADMIN, CAP_SYS_RAWIO and CAP_DAC_OVERRIDE")]
    NotRoot,
    #[error("its supervisor process could not be started")]
    NotStarted,
    #[error("there is no libmpathpersist; install multipath-tools and restart pr-helper")]
    NoLibrary,
    #[error("libmpathpersist or device-mapper cannot be used now; a line before this one says why")]
    Unfit,
}

impl Device {
    /// Tells what `descriptor` is. Never waits for a file system or a device. What is known of disks is used, and added
    /// to.
    pub(crate) fn identify(descriptor: BorrowedFd<'_>, disks: &Disks) -> Result<Self, Refusal> {
        let stat = rustix::fs::statx(
            descriptor,
            c"",
            AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
            StatxFlags::TYPE | StatxFlags::INO,
        )
        .map_err(Refusal::Unreadable)?;
        let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
        match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::BlockDevice => {
                let id = DeviceId::Block { major, minor };
                Ok(Self { id, kind: disks.kind(descriptor, (major, minor))? })
            }
            FileType::CharacterDevice => {
                let id = DeviceId::Character { major, minor };
                if major == SCSI_GENERIC_MAJOR {
                    Ok(Self { id, kind: Kind::Scsi })
                } else {
                    Err(Refusal::OtherCharacter(id))
                }
            }
            FileType::RegularFile => {
                let (major, minor) = (stat.stx_dev_major, stat.stx_dev_minor);
                Ok(Self { id: DeviceId::File { major, minor, inode: stat.stx_ino }, kind: Kind::File })
            }
            FileType::Directory => Err(Refusal::NotADevice("directory")),
            FileType::Fifo => Err(Refusal::NotADevice("pipe")),
            FileType::Socket => Err(Refusal::NotADevice("socket")),
            FileType::Symlink => Err(Refusal::NotADevice("symbolic link")),
            FileType::Unknown => Err(Refusal::NotADevice("kernel object without a name")),
        }
    }
}

/// Whether `descriptor`, of a device, was opened for writing. Changing reservations takes that.
pub(crate) fn is_writable(descriptor: BorrowedFd<'_>) -> Result<bool, Refusal> {
    let flags = rustix::fs::fcntl_getfl(descriptor.as_fd()).map_err(Refusal::Unreadable)?;
    if flags.contains(OFlags::PATH) {
        return Err(Refusal::PathOnly);
    }
    let mode = flags & OFlags::RWMODE;
    Ok(mode == OFlags::RDWR || mode == OFlags::WRONLY)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::Mode;

    use super::*;

    fn identify(descriptor: impl AsFd) -> Result<Device, Refusal> {
        Device::identify(descriptor.as_fd(), &Disks::default())
    }

    #[test]
    fn what_is_no_device_is_refused() {
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert_eq!(identify(&pipe), Err(Refusal::NotADevice("pipe")));
        let directory = File::open("/").unwrap();
        assert_eq!(identify(&directory), Err(Refusal::NotADevice("directory")));
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(identify(&socket), Err(Refusal::NotADevice("socket")));
        let null = File::open("/dev/null").unwrap();
        let id = DeviceId::Character { major: 1, minor: 3 };
        assert_eq!(identify(&null), Err(Refusal::OtherCharacter(id)));
    }

    #[test]
    fn a_file_is_known_by_its_inode() {
        let file = File::open("/proc/self/exe").unwrap();
        let one = identify(&file).unwrap();
        let again = File::open("/proc/self/exe").unwrap();
        assert_eq!((one.kind, identify(&again)), (Kind::File, Ok(one)));
        let other = tempfile::tempfile().unwrap();
        assert_ne!(identify(&other), Ok(one));
    }

    #[test]
    fn a_descriptor_is_writable_as_it_was_opened() {
        // Access mode 3 is neither reading nor writing: for ioctls only.
        let modes =
            [(OFlags::RDONLY, false), (OFlags::WRONLY, true), (OFlags::RDWR, true), (OFlags::RWMODE, false)];
        for (mode, writable) in modes {
            let descriptor = rustix::fs::open("/dev/null", mode, Mode::empty()).unwrap();
            assert_eq!(is_writable(descriptor.as_fd()), Ok(writable), "{mode:?}");
        }
        let path = rustix::fs::open("/dev/null", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(is_writable(path.as_fd()), Err(Refusal::PathOnly));
    }
}
