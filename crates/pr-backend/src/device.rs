//! A device that commands can be sent to, and how it is named.

use std::fmt;

/// Major number of `/dev/sgN` (`SCSI_GENERIC_MAJOR` of `<linux/major.h>`).
const SCSI_GENERIC_MAJOR: u32 = 21;

/// Kind and number of a device, as the log, `/state` and metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceId {
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A character device.
    Character {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A regular file.
    File {
        /// Major number of its file system's device.
        major: u32,
        /// Minor number of its file system's device.
        minor: u32,
        /// Inode number.
        inode: u64,
    },
}

impl DeviceId {
    /// Returns whether the number belongs to `/dev/sgN`.
    pub fn is_scsi_generic(self) -> bool {
        matches!(self, Self::Character { major: SCSI_GENERIC_MAJOR, .. })
    }

    /// Returns whether the number belongs to a driver that serves nothing but SCSI devices (`sd`, `sg`).
    pub fn is_scsi(self) -> bool {
        match self {
            Self::Block { major, .. } => is_sd(major),
            Self::Character { .. } => self.is_scsi_generic(),
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

/// A device as its backend claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    id: DeviceId,
    lock: Option<DeviceId>,
    close_may_block: bool,
    checks_reads: bool,
    /// Index of the backend that claimed it.
    backend: usize,
}

impl Device {
    /// Returns a device that takes any number of commands at a time, closes without blocking, and needs no check of the
    /// descriptor's mode before a PERSISTENT RESERVE IN.
    pub fn new(id: DeviceId) -> Self {
        Self { id, lock: None, close_may_block: false, checks_reads: false, backend: usize::MAX }
    }

    /// Sets that the device takes one command at a time. The caller of [`Executor::execute`](crate::Executor::execute)
    /// must hold a lock of the device meanwhile.
    #[must_use]
    pub fn one_command_at_a_time(self) -> Self {
        let id = self.id;
        self.one_command_at_a_time_with(id)
    }

    /// Sets that this device and `other` take one command at a time together: they are nodes of one namespace, say.
    #[must_use]
    pub fn one_command_at_a_time_with(mut self, other: DeviceId) -> Self {
        self.lock = Some(other);
        self
    }

    /// Sets that closing a descriptor of the device can block on something other than the device, such as a file system
    /// in user space. The caller should reply before it closes the descriptor.
    #[must_use]
    pub fn with_blocking_close(mut self) -> Self {
        self.close_may_block = true;
        self
    }

    /// Sets that a PERSISTENT RESERVE IN, too, needs a descriptor that was opened for input or output (not `O_PATH`),
    /// because the kernel does not check it.
    #[must_use]
    pub fn with_read_check(mut self) -> Self {
        self.checks_reads = true;
        self
    }

    /// Returns the device's kind and number.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Returns whether the device takes one command at a time.
    pub fn is_serial(&self) -> bool {
        self.lock.is_some()
    }

    /// Returns the device whose lock must be held, if this one takes one command at a time.
    pub fn lock(&self) -> Option<DeviceId> {
        self.lock
    }

    /// Returns whether closing a descriptor can block on something other than the device.
    pub fn close_may_block(&self) -> bool {
        self.close_may_block
    }

    pub(crate) fn claimed_by(self, backend: usize) -> Self {
        Self { backend, ..self }
    }

    pub(crate) fn backend(&self) -> usize {
        self.backend
    }

    pub(crate) fn checks_reads(&self) -> bool {
        self.checks_reads
    }
}

/// Returns whether the disk driver `sd` owns this block major (`SCSI_DISK*_MAJOR` of `<linux/major.h>`). Each of its disks
/// has sixteen minors, of which the first is the whole disk.
pub(crate) fn is_sd(major: u32) -> bool {
    matches!(major, 8 | 65..=71 | 128..=135)
}
