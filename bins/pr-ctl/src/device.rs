//! Opens and classifies the device named on the command line.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::FileTypeExt as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::failure::{Failure, Node};

/// Opens a device for reading, which is enough for commands that change nothing.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, Failure> {
    open_as(path, false)
}

/// Opens a device for reading and writing: on a read-only descriptor the helper refuses commands that change something.
pub(crate) fn open_for_writing(path: &Path) -> Result<OwnedFd, Failure> {
    open_as(path, true)
}

fn open_as(path: &Path, for_writing: bool) -> Result<OwnedFd, Failure> {
    let access = if for_writing { OFlags::RDWR } else { OFlags::RDONLY };
    // Without NONBLOCK, opening a pipe blocks until it has a writer. Without NOCTTY, a terminal may become the
    // controlling terminal of this process.
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| Failure::Open {
        path: path.to_owned(),
        for_writing,
        node: fs::metadata(path).ok().map(|metadata| Node {
            is_device: metadata.file_type().is_block_device() || metadata.file_type().is_char_device(),
            access: access_of(&metadata),
        }),
        source: error.into(),
    })
}

/// Returns mode and owner of a file: `mode 0660, user 0, group 6`.
pub(crate) fn access_of(metadata: &fs::Metadata) -> String {
    format!("mode {:04o}, user {}, group {}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

/// Returns the link to the directory of a device in /sys.
pub(crate) fn sysfs_directory(metadata: &fs::Metadata) -> PathBuf {
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let kind = if metadata.file_type().is_block_device() { "block" } else { "char" };
    PathBuf::from(format!("/sys/dev/{kind}/{major}:{minor}"))
}

/// The kind of file at a path, determined without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole disk, which may or may not take SCSI commands.
    Disk {
        name: String,
    },
    /// `/dev/sgN`.
    ScsiGeneric,
    Nvme {
        name: String,
    },
    Partition {
        name: String,
        disk: String,
    },
    Multipath {
        name: String,
    },
    /// Another device-mapper map; `owner` is the first word of its UUID, such as `LVM` or `CRYPT`.
    Map {
        name: String,
        owner: String,
    },
    /// Built on other devices: software RAID, bcache.
    Stacked {
        name: String,
    },
    /// A block device without a directory in /sys.
    Unknown,
    /// A character device that is neither a SCSI generic one nor an NVMe namespace.
    Character,
    /// A regular file, which a helper with an emulation may serve.
    File,
    /// A directory, pipe or socket.
    Other,
}

/// Major number of `/dev/sgN` (`SCSI_GENERIC_MAJOR` of `<linux/major.h>`).
const SCSI_GENERIC_MAJOR: u32 = 21;

impl Kind {
    /// Determines the kind from the file's type and from /sys.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let kind = metadata.file_type();
        Ok(if kind.is_block_device() {
            Self::of_block(&sysfs_directory(&metadata))
        } else if kind.is_char_device() {
            let is_generic = rustix::fs::major(metadata.rdev()) == SCSI_GENERIC_MAJOR;
            if is_generic { Self::ScsiGeneric } else { Self::of_character(&sysfs_directory(&metadata)) }
        } else if kind.is_file() {
            Self::File
        } else {
            Self::Other
        })
    }

    /// Determines the kind of a character device that is not of SCSI from its directory in /sys.
    fn of_character(directory: &Path) -> Self {
        let subsystem = fs::read_link(directory.join("subsystem")).unwrap_or_default();
        match fs::canonicalize(directory) {
            Ok(real) if subsystem.ends_with("nvme-generic") => {
                Self::Nvme { name: real.file_name().unwrap_or_default().to_string_lossy().into_owned() }
            }
            _ => Self::Character,
        }
    }

    /// Determines the kind of a block device from its directory in /sys, or a link to it.
    fn of_block(directory: &Path) -> Self {
        // The real directory has the device's name; a partition's directory is inside that of its disk.
        let Ok(real) = fs::canonicalize(directory) else { return Self::Unknown };
        let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name_of(&real);
        if real.join("partition").exists() {
            let disk = real.parent().map(name_of).unwrap_or_default();
            return Self::Partition { name, disk };
        }
        if let Ok(uuid) = fs::read_to_string(real.join("dm/uuid")) {
            let name =
                fs::read_to_string(real.join("dm/name")).map_or(name, |name| name.trim_end().to_owned());
            let owner = uuid.trim_end().split('-').next().unwrap_or_default().to_owned();
            return if owner == "mpath" { Self::Multipath { name } } else { Self::Map { name, owner } };
        }
        let slaves = fs::read_dir(real.join("slaves"));
        if slaves.is_ok_and(|mut slaves| slaves.next().is_some()) {
            return Self::Stacked { name };
        }
        if name.starts_with("nvme") { Self::Nvme { name } } else { Self::Disk { name } }
    }

    /// Returns a description for the user.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Disk { name } => format!("block device {name}"),
            Self::ScsiGeneric => "SCSI generic device".into(),
            Self::Nvme { name } => format!("NVMe namespace {name}"),
            Self::Partition { name, disk } => format!("partition {name} of disk {disk}"),
            Self::Multipath { name } => format!("multipath map {name}"),
            Self::Map { name, owner } if owner.is_empty() => format!("device-mapper map {name}"),
            Self::Map { name, owner } => format!("device-mapper map {name} ({owner})"),
            Self::Stacked { name } => format!("block device {name}, built on others"),
            Self::Unknown => "block device that is not known to /sys".into(),
            Self::Character => "character device that is neither of SCSI nor of NVMe".into(),
            Self::File => "file".into(),
            Self::Other => "neither a device nor a file".into(),
        }
    }

    /// Returns why a helper may refuse the device with INVALID COMMAND OPERATION CODE, and what to do.
    pub(crate) fn why_refused(&self) -> String {
        match self {
            Self::Disk { name } => format!(
                "{name} is a whole disk: either it is not a SCSI disk with persistent reservations (virtio, SATA, \
                 loop), or the helper's log says why it refuses it"
            ),
            Self::ScsiGeneric => {
                "the device behind it has no persistent reservations, or the helper's log says why it refuses it".into()
            }
            Self::Nvme { .. } => {
                "the namespace has no reservations (see `nvme id-ns`, rescap), or the helper's log says why it refuses it".into()
            }
            Self::Partition { disk, .. } => {
                format!("a reservation is on the whole disk: use /dev/{disk}, for the guest, too")
            }
            Self::Multipath { .. } => {
                "the helper does not serve multipath maps: use one that does, with multipathd running; never a single \
                 path, on which the others would not be registered"
                    .into()
            }
            Self::Map { .. } => {
                "a command sent to a map would reach the whole disk behind it: pass the disk itself to the guest".into()
            }
            Self::Stacked { .. } => {
                "a reservation is on one disk, and this is built on others: pass the disk itself to the guest".into()
            }
            Self::Unknown => "it cannot be told whether it is a whole disk: is /sys mounted?".into(),
            Self::File => {
                "it is no disk: use /dev/sdX or /dev/sgN, or a helper that emulates reservations on files".into()
            }
            Self::Character | Self::Other => "it is no disk: use /dev/sdX or /dev/sgN".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysfs_tells_disks_from_other_devices() {
        let sysfs = tempfile::tempdir().unwrap();
        let make = |path: &str, content: &str| {
            let path = sysfs.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        make("sdb/size", "8");
        make("sdb/slaves/.keep", "");
        fs::remove_file(sysfs.path().join("sdb/slaves/.keep")).unwrap();
        make("sdb/sdb1/partition", "1\n");
        make("nvme0n1/size", "8");
        make("dm-0/dm/uuid", "mpath-36001405\n");
        make("dm-0/dm/name", "mpatha\n");
        make("dm-1/dm/uuid", "LVM-abc\n");
        make("dm-1/dm/name", "vg-lv\n");
        make("dm-2/dm/uuid", "\n");
        make("dm-2/dm/name", "plain\n");
        make("md0/slaves/sdb", "");
        let text = str::to_owned;
        for (path, expected) in [
            ("sdb", Kind::Disk { name: text("sdb") }),
            ("sdb/sdb1", Kind::Partition { name: text("sdb1"), disk: text("sdb") }),
            ("nvme0n1", Kind::Nvme { name: text("nvme0n1") }),
            ("dm-0", Kind::Multipath { name: text("mpatha") }),
            ("dm-1", Kind::Map { name: text("vg-lv"), owner: text("LVM") }),
            ("dm-2", Kind::Map { name: text("plain"), owner: text("") }),
            ("md0", Kind::Stacked { name: text("md0") }),
            ("gone", Kind::Unknown),
        ] {
            // A link to the device's directory, as in /sys/dev/block.
            let link = sysfs.path().join("link");
            std::os::unix::fs::symlink(sysfs.path().join(path), &link).unwrap();
            assert_eq!(Kind::of_block(&link), expected, "{path}");
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn other_files_are_classified_by_type() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(Kind::of(&file).unwrap(), Kind::File);
        assert_eq!(Kind::of(directory.path()).unwrap(), Kind::Other);
        assert_eq!(Kind::of(Path::new("/dev/null")).unwrap(), Kind::Character);
        assert!(Kind::of(&directory.path().join("nothing")).is_err());
    }
}
