//! The machine has the properties on which the other tests rely.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use fixtures::Disk;

#[test]
fn kernel_is_debian_6_12_or_later() {
    let version = fs::read_to_string("/proc/version").unwrap();
    assert!(version.contains("debian"), "{version}");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> = release.split(['.', '-', '+']).take(2).map(|n| n.parse().unwrap()).collect();
    assert!(numbers >= vec![6, 12], "{release}");
}

#[test]
fn two_nexuses_reach_one_logical_unit() {
    let (a, b, other) = (Disk::nexus_a(), Disk::nexus_b(), Disk::other());
    assert_ne!(a.block, b.block);
    assert!(!a.serial().is_empty());
    assert_eq!(a.serial(), b.serial());
    assert_ne!(a.serial(), other.serial());
}

#[test]
fn disks_are_block_and_generic_devices() {
    for disk in [Disk::nexus_a(), Disk::nexus_b(), Disk::other()] {
        assert!(fs::metadata(&disk.block).unwrap().file_type().is_block_device(), "{disk:?}");
        assert!(fs::metadata(&disk.generic).unwrap().file_type().is_char_device(), "{disk:?}");
        assert_eq!(fs::read_to_string(disk.sysfs().join("vendor")).unwrap().trim(), "LIO-ORG");
        let generic = disk.generic.file_name().unwrap();
        assert!(disk.sysfs().join("scsi_generic").join(generic).exists(), "{disk:?}");
    }
}

#[test]
fn target_ports_are_online() {
    for disk in [Disk::nexus_a(), Disk::nexus_b(), Disk::other()] {
        let status = fs::read_to_string(disk.target_port.join("transport_status")).unwrap();
        assert_eq!(status.trim(), "online", "{disk:?}");
    }
}

#[test]
fn other_disk_has_a_partition() {
    let partition = Disk::other_partition();
    assert!(fs::metadata(&partition).unwrap().file_type().is_block_device(), "{partition:?}");
    let name = partition.file_name().unwrap();
    let number = fs::read_to_string(
        Disk::other()
            .sysfs()
            .join("block")
            .join(Disk::other().block.file_name().unwrap())
            .join(name)
            .join("partition"),
    );
    assert_eq!(number.unwrap().trim(), "1");
}

#[test]
fn linear_map_can_be_made_and_removed() {
    let table = format!("0 2048 linear {} 0", Disk::other().block.display());
    let dmsetup = |arguments: &[&str]| Command::new("dmsetup").args(arguments).output().unwrap();
    let created = dmsetup(&["create", "machine", "--table", &table]);
    assert!(created.status.success(), "{created:?}");
    let map = fs::metadata("/dev/mapper/machine").unwrap();
    let removed = dmsetup(&["remove", "machine"]);
    assert!(removed.status.success(), "{removed:?}");
    assert!(map.file_type().is_block_device());
}

#[test]
fn process_of_nobody_has_no_privileges() {
    let output = Command::new("cat").arg("/proc/self/status").uid(65534).gid(65534).output().unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
}
