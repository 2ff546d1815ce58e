//! The disks of the lab's machine. Its init makes them and tells their names in the environment.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// A disk, as one I_T nexus sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The block device, /dev/sdX.
    pub block: PathBuf,
    /// The same as a generic device, /dev/sgN.
    pub generic: PathBuf,
    /// LIO's target port in configfs. Writing `offline` to its `transport_status` takes the path away.
    pub target_port: PathBuf,
}

impl Disk {
    /// The shared logical unit through the first nexus.
    pub fn nexus_a() -> Self {
        Self::named("LAB_NEXUS_A")
    }

    /// The shared logical unit through the second nexus.
    pub fn nexus_b() -> Self {
        Self::named("LAB_NEXUS_B")
    }

    /// Another logical unit, for tests that unplug or break one.
    pub fn other() -> Self {
        Self::named("LAB_OTHER")
    }

    /// The paths that a multipath map is made of.
    pub fn map_a() -> [Self; 2] {
        [Self::named("LAB_MAP_A_1"), Self::named("LAB_MAP_A_2")]
    }

    /// The logical unit of [`Disk::map_a`] as another machine reaches it.
    pub fn map_a_elsewhere() -> Self {
        Self::named("LAB_MAP_A_OTHER")
    }

    /// The paths that a second multipath map is made of.
    pub fn map_b() -> [Self; 2] {
        [Self::named("LAB_MAP_B_1"), Self::named("LAB_MAP_B_2")]
    }

    /// The first partition of [`Disk::other`].
    pub fn other_partition() -> PathBuf {
        variable("LAB_OTHER_PARTITION")
    }

    /// The SCSI device's directory in sysfs.
    pub fn sysfs(&self) -> PathBuf {
        Path::new("/sys/class/block").join(self.name()).join("device")
    }

    /// The name of the block device, without /dev.
    pub fn name(&self) -> &str {
        self.block.file_name().and_then(OsStr::to_str).unwrap()
    }

    /// The address of the initiator port by which this machine reaches it, as SAS has it in a TransportID.
    pub fn initiator_port(&self) -> u64 {
        let name = fs::read_to_string(self.target_port.join("nexus")).unwrap();
        u64::from_str_radix(name.trim().strip_prefix("naa.").unwrap(), 16).unwrap()
    }

    /// The unit serial number, from VPD page 80h as the kernel has read it.
    pub fn serial(&self) -> String {
        let page = fs::read(self.sysfs().join("vpd_pg80")).unwrap();
        String::from_utf8_lossy(&page[4..]).into_owned()
    }

    fn named(prefix: &str) -> Self {
        Self {
            block: variable(prefix),
            generic: variable(&format!("{prefix}_SG")),
            target_port: variable(&format!("{prefix}_TARGET")),
        }
    }
}

fn variable(name: &str) -> PathBuf {
    env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: is this the lab's machine?")).into()
}
