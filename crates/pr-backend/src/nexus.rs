//! I_T nexuses: what a disk tells registrants apart by.

use std::{fmt, fs, path::Path};

use crate::device::DeviceId;

/// An I_T nexus with a logical unit behind it (SAM-5 4.8).
///
/// To a disk, a nexus is one registrant: commands that go through the same nexus share a registration, whichever device
/// node, map or process they come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nexus {
    name: String,
    is_host_wide: bool,
}

impl Nexus {
    /// Returns a nexus whose name means the same in every process of this host.
    pub fn host_wide(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_host_wide: true }
    }

    /// Returns a nexus that exists in this process only.
    pub fn local(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_host_wide: false }
    }

    /// Returns whether another process of this host can send commands through the nexus.
    pub fn is_host_wide(&self) -> bool {
        self.is_host_wide
    }
}

impl fmt::Display for Nexus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Returns the nexuses of a device: one for a SCSI device, one for each path of a map. A device that /sys shows no SCSI
/// device for is a nexus of its own.
pub(crate) fn of_device(id: DeviceId) -> Vec<Nexus> {
    let directory = match id {
        DeviceId::Block { major, minor } => format!("/sys/dev/block/{major}:{minor}"),
        DeviceId::Character { major, minor } => format!("/sys/dev/char/{major}:{minor}"),
        DeviceId::File { .. } => return vec![Nexus::local(id.to_string())],
    };
    let mut nexuses = by_sysfs(Path::new(&directory));
    if nexuses.is_empty() {
        nexuses.push(Nexus::host_wide(id.to_string()));
    }
    nexuses
}

/// Returns the nexuses of the device with this directory in /sys, and of the devices that it is built on.
fn by_sysfs(directory: &Path) -> Vec<Nexus> {
    let slaves = fs::read_dir(directory.join("slaves")).into_iter().flatten().flatten();
    let directories = slaves.map(|entry| entry.path()).chain([directory.to_owned()]);
    directories.filter_map(|directory| of_scsi_device(&directory)).collect()
}

/// Returns the nexus of a SCSI device, which the kernel names HOST:CHANNEL:TARGET:LUN. A host is an initiator port, channel
/// and target are a target port. A logical unit with an identifier can have several LUNs behind one target port.
fn of_scsi_device(directory: &Path) -> Option<Nexus> {
    let link = fs::read_link(directory.join("device")).ok()?;
    let address = link.file_name()?.to_str()?;
    let (ports, lun) = address.rsplit_once(':')?;
    let numbers = || address.split(':');
    if numbers().count() != 4 || !numbers().all(|number| number.parse::<u64>().is_ok()) {
        return None;
    }
    // From the kernel's copy of the Device Identification VPD page: no command is sent.
    let identifier = fs::read_to_string(directory.join("device/wwid")).unwrap_or_default();
    let unit = match identifier.trim() {
        "" => format!("LUN {lun}"),
        identifier => identifier.to_owned(),
    };
    Some(Nexus::host_wide(format!("{ports} {unit}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Makes the directory of a device in a copy of /sys.
    fn device(sys: &Path, name: &str, address: &str, identifier: &str) {
        let scsi = sys.join("devices").join(address);
        fs::create_dir_all(&scsi).unwrap();
        if !identifier.is_empty() {
            fs::write(scsi.join("wwid"), identifier).unwrap();
        }
        let directory = sys.join(name);
        fs::create_dir_all(directory.join("slaves")).unwrap();
        symlink(scsi, directory.join("device")).unwrap();
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = by_sysfs(directory).iter().map(Nexus::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn nexus_is_ports_and_unit() {
        let directory = tempfile::tempdir().unwrap();
        let sys = directory.path();
        for (name, address, identifier) in [
            ("sda", "7:0:1:0", "naa.6001405\n"),
            ("sg0", "7:0:1:0", "naa.6001405\n"),
            ("second_lun", "7:0:1:5", "naa.6001405\n"),
            ("other_port", "7:0:2:0", "naa.6001405\n"),
            ("other_host", "8:0:1:0", "naa.6001405\n"),
            ("other_unit", "7:0:1:1", "naa.6001406\n"),
            ("unnamed", "7:0:1:2", ""),
            ("virtio", "virtio3", ""),
            ("nvme", "0:1:2:x", ""),
        ] {
            device(sys, name, address, identifier);
        }
        let sda = names(&sys.join("sda"));
        assert_eq!(sda, ["7:0:1 naa.6001405"]);
        for same in ["sg0", "second_lun"] {
            assert_eq!(names(&sys.join(same)), sda, "{same}");
        }
        for other in ["other_port", "other_host", "other_unit"] {
            assert_ne!(names(&sys.join(other)), sda, "{other}");
        }
        assert_eq!(names(&sys.join("unnamed")), ["7:0:1 LUN 2"]);
        for without in ["virtio", "nvme", "missing"] {
            assert_eq!(names(&sys.join(without)), [""; 0], "{without}");
        }
    }

    #[test]
    fn map_has_the_nexuses_of_its_paths() {
        let directory = tempfile::tempdir().unwrap();
        let sys = directory.path();
        device(sys, "sda", "7:0:1:0", "naa.1");
        device(sys, "sdb", "8:0:1:0", "naa.1");
        let slaves = sys.join("dm-0/slaves");
        fs::create_dir_all(&slaves).unwrap();
        for path in ["sda", "sdb"] {
            symlink(sys.join(path), slaves.join(path)).unwrap();
        }
        assert_eq!(names(&sys.join("dm-0")), ["7:0:1 naa.1", "8:0:1 naa.1"]);
    }

    #[test]
    fn other_devices_are_nexuses_of_their_own() {
        let file = DeviceId::File { major: 8, minor: 1, inode: 2 };
        assert_eq!(of_device(file), [Nexus::local("file 2 of 8:1")]);
        let unknown = DeviceId::Block { major: 4095, minor: 7 };
        assert_eq!(of_device(unknown), [Nexus::host_wide("block device 4095:7")]);
    }
}
