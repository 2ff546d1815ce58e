//! Examines a descriptor without touching the file system or device behind it.
//!
//! The caller has a privilege that its clients lack, so it must not use it on more than a client could open. The kernel
//! carries a SCSI command that is sent to a partition or to a linear map through to the whole disk, if the sender has the
//! privilege: those must be told from disks. Nothing but `statx` is called on a descriptor before it is known to be a
//! block device, and `statx` is told not to synchronise with the file system: no FUSE server can delay it.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::{
    fs::{AtFlags, FileType, OFlags, StatxFlags},
    io::Errno,
};

use crate::{
    device::DeviceId,
    disks::Disks,
    kind::DescriptorKind,
    outcome::{Cause, Failure, NotServed, Refusal},
};

/// A descriptor, and what it refers to.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor<'a> {
    descriptor: BorrowedFd<'a>,
    kind: DescriptorKind,
}

impl<'a> Descriptor<'a> {
    /// Examines `descriptor`. Never waits for a file system or a device.
    ///
    /// # Errors
    ///
    /// [`NotServed::Refused`] if it cannot be examined, [`NotServed::Failed`] if this process lacks a resource for it.
    pub fn examine(descriptor: BorrowedFd<'a>, disks: &Disks) -> Result<Self, NotServed> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(descriptor, c"", flags, StatxFlags::TYPE | StatxFlags::INO)
            .map_err(unreadable)?;
        let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::BlockDevice => disks.kind(descriptor, (major, minor))?,
            FileType::CharacterDevice => DescriptorKind::Character(DeviceId::Character { major, minor }),
            FileType::RegularFile => DescriptorKind::File(DeviceId::File {
                major: stat.stx_dev_major,
                minor: stat.stx_dev_minor,
                inode: stat.stx_ino,
            }),
            FileType::Directory => DescriptorKind::Other("directory"),
            FileType::Fifo => DescriptorKind::Other("pipe"),
            FileType::Socket => DescriptorKind::Other("socket"),
            FileType::Symlink => DescriptorKind::Other("symbolic link"),
            FileType::Unknown => DescriptorKind::Other("kernel object without a name"),
        };
        Ok(Self { descriptor, kind })
    }

    /// Returns what the descriptor refers to.
    pub fn kind(&self) -> DescriptorKind {
        self.kind
    }
}

impl AsFd for Descriptor<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor
    }
}

/// Returns whether `descriptor`, of a device, was opened for writing. Changing reservations takes that.
///
/// # Errors
///
/// [`NotServed::Refused`] if it was opened with `O_PATH`, or its flags cannot be read.
pub fn is_writable(descriptor: BorrowedFd<'_>) -> Result<bool, NotServed> {
    let flags = rustix::fs::fcntl_getfl(descriptor).map_err(unreadable)?;
    if flags.contains(OFlags::PATH) {
        return Err(Refusal::path_only().into());
    }
    let mode = flags & OFlags::RWMODE;
    Ok(mode == OFlags::RDWR || mode == OFlags::WRONLY)
}

/// Returns why a descriptor cannot be examined: its own fault, or a lack of resources here.
fn unreadable(error: Errno) -> NotServed {
    match Cause::of_shortage(&error.into()) {
        Some(cause) => Failure::busy(cause).into(),
        None => Refusal::new("unreadable", format!("the descriptor cannot be examined: {error}")).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::Mode;

    use super::*;

    fn kind(descriptor: impl AsFd) -> DescriptorKind {
        Descriptor::examine(descriptor.as_fd(), &Disks::default()).unwrap().kind()
    }

    #[test]
    fn descriptors_are_told_apart() {
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert_eq!(kind(&pipe), DescriptorKind::Other("pipe"));
        assert_eq!(kind(File::open("/").unwrap()), DescriptorKind::Other("directory"));
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(kind(&socket), DescriptorKind::Other("socket"));
        let null = DeviceId::Character { major: 1, minor: 3 };
        assert_eq!(kind(File::open("/dev/null").unwrap()), DescriptorKind::Character(null));
    }

    #[test]
    fn file_is_known_by_its_inode() {
        let one = kind(File::open("/proc/self/exe").unwrap());
        assert!(matches!(one, DescriptorKind::File(_)));
        assert_eq!(kind(File::open("/proc/self/exe").unwrap()), one);
        assert_ne!(kind(tempfile::tempfile().unwrap()), one);
    }

    #[test]
    fn writable_follows_the_open_mode() {
        // Access mode 3 is neither reading nor writing: for ioctls only.
        let modes =
            [(OFlags::RDONLY, false), (OFlags::WRONLY, true), (OFlags::RDWR, true), (OFlags::RWMODE, false)];
        for (mode, writable) in modes {
            let descriptor = rustix::fs::open("/dev/null", mode, Mode::empty()).unwrap();
            assert_eq!(is_writable(descriptor.as_fd()), Ok(writable), "{mode:?}");
        }
        let path = rustix::fs::open("/dev/null", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(is_writable(path.as_fd()), Err(Refusal::path_only().into()));
    }
}
