//! What /sys shows of an NVMe namespace and its controllers. No command is sent, and nothing here waits for a device.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::identity::Identity;
use crate::{
    device::DeviceId,
    nexus::Nexus,
    outcome::{Cause, Failure},
};

/// The file system that shows devices.
#[derive(Debug, Clone)]
pub(super) struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self { root: "/sys".into() }
    }
}

impl Sysfs {
    /// Returns whether the device is an NVMe namespace: for a block device, by its parent, which is a controller or, with
    /// native multipath, a subsystem; for a character device, by its class. Numbers say nothing: block devices of many
    /// drivers share major 259, and the majors of the others are dynamic.
    pub(super) fn is_namespace(&self, id: DeviceId) -> Result<bool, Failure> {
        let Some(directory) = self.directory(id) else { return Ok(false) };
        let is_block = matches!(id, DeviceId::Block { .. });
        let class = if is_block { directory.join("device/subsystem") } else { directory.join("subsystem") };
        match fs::read_link(class) {
            Ok(class) => {
                let class = class.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                Ok(if is_block {
                    ["nvme", "nvme-subsystem"].contains(&class) && directory.join("nsid").exists()
                } else {
                    class == "nvme-generic"
                })
            }
            // Other errors say that there is no such link.
            Err(error) => match Cause::of_shortage(&error) {
                Some(cause) => Err(Failure::busy(cause)),
                None => Ok(false),
            },
        }
    }

    /// Returns the block device of the namespace of a character device (`/dev/nvme0n1` for `/dev/ng0n1`), or `id` itself.
    pub(super) fn block_device(&self, id: DeviceId) -> DeviceId {
        let block = || {
            let DeviceId::Character { .. } = id else { return None };
            let real = fs::canonicalize(self.directory(id)?).ok()?;
            let name = format!("nvme{}", real.file_name()?.to_str()?.strip_prefix("ng")?);
            let number = fs::read_to_string(self.root.join("class/block").join(name).join("dev")).ok()?;
            let (major, minor) = number.trim().split_once(':')?;
            Some(DeviceId::Block { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        block().unwrap_or(id)
    }

    /// Returns what is known of the host, by the controllers of the namespace.
    pub(super) fn identity(&self, id: DeviceId) -> Identity {
        let mut identity = Identity::default();
        for controller in self.controllers(id) {
            let read = |name| fs::read_to_string(controller.join(name)).unwrap_or_default();
            if let Ok(host) = read("hostid").parse() {
                if !identity.hosts.contains(&host) {
                    identity.hosts.push(host);
                }
            }
            // Controllers of fabrics are dynamic: a report does not have their numbers.
            if read("transport").trim() == "pcie" {
                identity.controllers.extend(read("cntlid").trim().parse::<u16>());
            }
        }
        identity
    }

    /// Returns the nexus of a namespace: to it, a host is one registrant, through whatever controller and device node.
    pub(super) fn nexus(&self, id: DeviceId) -> Nexus {
        let namespace =
            self.directory(id).and_then(|directory| fs::read_to_string(directory.join("wwid")).ok());
        match (self.identity(id).hosts.as_slice(), namespace) {
            ([host], Some(namespace)) => Nexus::host_wide(format!("{host} {}", namespace.trim())),
            _ => Nexus::host_wide(id.to_string()),
        }
    }

    /// Returns the directories of the controllers: the parent of the device, or the controllers of its subsystem.
    fn controllers(&self, id: DeviceId) -> Vec<PathBuf> {
        let Some(parent) = self.directory(id).map(|directory| directory.join("device")) else {
            return Vec::new();
        };
        if parent.join("cntlid").exists() {
            return vec![parent];
        }
        entries(&parent)
            .unwrap_or_default()
            .into_iter()
            .filter(|path| is_controller(path) && path.join("cntlid").exists())
            .collect()
    }

    fn directory(&self, id: DeviceId) -> Option<PathBuf> {
        match id {
            DeviceId::Block { major, minor } => Some(self.root.join(format!("dev/block/{major}:{minor}"))),
            DeviceId::Character { major, minor } => Some(self.root.join(format!("dev/char/{major}:{minor}"))),
            DeviceId::File { .. } => None,
        }
    }
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

/// Returns whether this is the directory of a controller: `nvme` and a number.
fn is_controller(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("nvme").is_some_and(|number| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const HOST_A: &str = "00000000-0000-0000-0000-00000000000a";
    const HOST_B: &str = "00000000-0000-0000-0000-00000000000b";

    /// A copy of /sys.
    struct Copy {
        root: tempfile::TempDir,
    }

    impl Copy {
        fn new() -> Self {
            Self { root: tempfile::tempdir().unwrap() }
        }

        fn sysfs(&self) -> Sysfs {
            Sysfs { root: self.root.path().to_owned() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        /// Makes the directory of a controller or subsystem of this class.
        fn parent(&self, name: &str, class: &str) -> PathBuf {
            let directory = self.path(name);
            fs::create_dir_all(&directory).unwrap();
            symlink(format!("../../class/{class}"), directory.join("subsystem")).unwrap();
            directory
        }

        fn controller(&self, name: &str, host: &str, number: u16) -> PathBuf {
            let directory = self.parent(name, "nvme");
            fs::write(directory.join("cntlid"), format!("{number}\n")).unwrap();
            let transport = if host.is_empty() { "pcie" } else { "loop" };
            fs::write(directory.join("transport"), format!("{transport}\n")).unwrap();
            if !host.is_empty() {
                fs::write(directory.join("hostid"), format!("{host}\n")).unwrap();
            }
            directory
        }

        /// Makes the directory of a block device.
        fn block(&self, minor: u32, parent: &Path) -> DeviceId {
            let directory = self.path(&format!("dev/block/259:{minor}"));
            fs::create_dir_all(&directory).unwrap();
            symlink(parent, directory.join("device")).unwrap();
            fs::write(directory.join("nsid"), "1\n").unwrap();
            fs::write(directory.join("wwid"), "uuid.1234\n").unwrap();
            DeviceId::Block { major: 259, minor }
        }

        /// Makes the directory of a character device of this class.
        fn character(&self, minor: u32, parent: &Path, class: &str) -> DeviceId {
            let directory = self.path(&format!("dev/char/240:{minor}"));
            fs::create_dir_all(&directory).unwrap();
            symlink(parent, directory.join("device")).unwrap();
            symlink(format!("../../class/{class}"), directory.join("subsystem")).unwrap();
            DeviceId::Character { major: 240, minor }
        }
    }

    #[test]
    fn namespaces_are_told_by_sysfs() {
        let copy = Copy::new();
        let sysfs = copy.sysfs();
        let controller = copy.controller("devices/nvme0", HOST_A, 1);
        let subsystem = copy.parent("devices/nvme-subsys0", "nvme-subsystem");
        let disk = copy.parent("devices/virtio0", "virtio");
        let namespace = copy.block(0, &controller);
        for (id, expected) in [
            (namespace, true),
            (copy.block(1, &subsystem), true),
            (copy.block(2, &disk), false),
            (copy.character(0, &controller, "nvme-generic"), true),
            (copy.character(1, &controller, "nvme"), false),
            (DeviceId::Block { major: 259, minor: 99 }, false),
            (DeviceId::File { major: 259, minor: 0, inode: 1 }, false),
        ] {
            assert_eq!(sysfs.is_namespace(id).unwrap(), expected, "{id}");
        }
        fs::remove_file(copy.path("dev/block/259:0/nsid")).unwrap();
        assert!(!sysfs.is_namespace(namespace).unwrap(), "a device of a controller that is no namespace");
    }

    #[test]
    fn host_is_that_of_the_controllers() {
        let copy = Copy::new();
        let sysfs = copy.sysfs();
        let (host_a, host_b) = (HOST_A.parse().unwrap(), HOST_B.parse().unwrap());
        let controller = copy.controller("devices/nvme0", HOST_A, 65535);
        let one = Identity { hosts: vec![host_a], controllers: Vec::new() };
        assert_eq!(sysfs.identity(copy.block(0, &controller)), one);
        assert_eq!(sysfs.identity(copy.character(0, &controller, "nvme-generic")), one);

        let local = copy.controller("devices/nvme9", "", 7);
        let expected = Identity { hosts: Vec::new(), controllers: vec![7] };
        let local_block = copy.block(9, &local);
        assert_eq!(sysfs.identity(local_block), expected);
        fs::write(local.join("transport"), "tcp\n").unwrap();
        assert_eq!(
            sysfs.identity(local_block),
            Identity::default(),
            "an old kernel shows no host identifier"
        );
        assert_eq!(sysfs.identity(DeviceId::Block { major: 259, minor: 99 }), Identity::default());

        // A native multipath device has several controllers, of one host if all is well.
        let subsystem = copy.parent("devices/nvme-subsys0", "nvme-subsystem");
        let head = copy.block(1, &subsystem);
        let second = copy.controller("devices/nvme1", HOST_A, 65534);
        for (name, target) in [("nvme0", &controller), ("nvme1", &second), ("nvme0n1", &subsystem)] {
            symlink(target, subsystem.join(name)).unwrap();
        }
        let identity = sysfs.identity(head);
        assert_eq!(identity.hosts, [host_a]);
        assert!(identity.check().is_ok());
        symlink(copy.controller("devices/nvme2", HOST_B, 3), subsystem.join("nvme2")).unwrap();
        let mut identity = sysfs.identity(head);
        identity.hosts.sort();
        assert_eq!(identity.hosts, [host_a, host_b]);
        assert!(identity.check().is_err());
    }

    #[test]
    fn nodes_of_one_namespace_share_a_lock() {
        let copy = Copy::new();
        let sysfs = copy.sysfs();
        let real = copy.path("devices/ng0n1");
        fs::create_dir_all(&real).unwrap();
        fs::create_dir_all(copy.path("dev/char")).unwrap();
        symlink(&real, copy.path("dev/char/240:3")).unwrap();
        let character = DeviceId::Character { major: 240, minor: 3 };
        assert_eq!(sysfs.block_device(character), character, "its block device is not known");
        let block = copy.path("class/block/nvme0n1");
        fs::create_dir_all(&block).unwrap();
        fs::write(block.join("dev"), "259:7\n").unwrap();
        let expected = DeviceId::Block { major: 259, minor: 7 };
        assert_eq!((sysfs.block_device(character), sysfs.block_device(expected)), (expected, expected));
    }

    #[test]
    fn nodes_of_one_namespace_share_a_nexus() {
        let copy = Copy::new();
        let sysfs = copy.sysfs();
        let [a, same, b] = [("nvme0", HOST_A), ("nvme1", HOST_A), ("nvme2", HOST_B)]
            .map(|(name, host)| copy.controller(&format!("devices/{name}"), host, 1));
        let [a, same, b] =
            [(0, a), (1, same), (2, b)].map(|(minor, parent)| sysfs.nexus(copy.block(minor, &parent)));
        assert_eq!(a.to_string(), format!("{HOST_A} uuid.1234"));
        assert_eq!(a, same);
        assert_ne!(a, b);
        let unknown = DeviceId::Block { major: 259, minor: 99 };
        assert_eq!(sysfs.nexus(unknown), Nexus::host_wide("block device 259:99"));
    }
}
