//! An LIO disk over iSCSI with two initiators, all on this machine.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use test_support::eventually;

use fixtures::Disk;

const TARGET: &str = "iqn.2026-11.lab:disk";
/// The initiators, with the addresses that they connect to. The addresses differ because `iscsistart` treats a second session
/// to the same address as the first.
const INITIATORS: [(&str, &str); 2] =
    [("iqn.2026-11.lab:a", "127.0.0.1"), ("iqn.2026-11.lab:b", "127.0.0.2")];

/// The file in which the first test stores the names of the disks for later tests.
const DISKS_FILE: &str = "/run/lab/iscsi-disks";

/// Returns one logical unit as seen by two initiators. The first call makes it.
pub(crate) fn two_nexuses() -> (Disk, Disk) {
    if let Ok(stored) = fs::read_to_string(DISKS_FILE) {
        let mut disks = stored.lines().map(|line| {
            let (block, generic) = line.split_once(' ').unwrap();
            Disk { block: block.into(), generic: generic.into(), target_port: PathBuf::new() }
        });
        return (disks.next().unwrap(), disks.next().unwrap());
    }
    // Only some kernels have this module.
    let _ = Command::new("modprobe").arg("crc32c_generic").status();
    for module in ["iscsi_target_mod", "iscsi_tcp"] {
        assert!(Command::new("modprobe").arg(module).status().unwrap().success(), "{module}");
    }
    make_target(Path::new("/sys/kernel/config/target"));
    let mut disks = INITIATORS.map(|(initiator, portal)| {
        let before = scsi_disks();
        let login = Command::new("iscsistart")
            .args(["-i", initiator, "-t", TARGET, "-g", "1", "-a", portal, "-p", "3260"])
            .output()
            .unwrap();
        assert!(login.status.success(), "{login:?}");
        let mut found = None;
        eventually("the disk appears", || {
            found = scsi_disks()
                .into_iter()
                .find(|disk| !before.contains(disk) && disk.block.exists() && disk.generic.exists());
            found.is_some()
        });
        found
    });
    let disks = (disks[0].take().unwrap(), disks[1].take().unwrap());
    let line = |disk: &Disk| format!("{} {}\n", disk.block.display(), disk.generic.display());
    fs::write(DISKS_FILE, line(&disks.0) + &line(&disks.1)).unwrap();
    disks
}

fn make_target(lio: &Path) {
    let unit = lio.join("core/fileio_2/iscsi");
    fs::create_dir_all(&unit).unwrap();
    fs::File::create("/run/lab/iscsi").unwrap().set_len(64 << 20).unwrap();
    fs::write(unit.join("control"), "fd_dev_name=/run/lab/iscsi,fd_dev_size=67108864").unwrap();
    fs::write(unit.join("wwn/vpd_unit_serial"), "5eaf00d3").unwrap();
    fs::write(unit.join("enable"), "1").unwrap();

    let group = lio.join("iscsi").join(TARGET).join("tpgt_1");
    fs::create_dir_all(lio.join("iscsi")).unwrap();
    let lun = group.join("lun/lun_0");
    fs::create_dir_all(&lun).unwrap();
    symlink(&unit, lun.join("unit")).unwrap();
    fs::write(group.join("attrib/authentication"), "0").unwrap();
    for (initiator, portal) in INITIATORS {
        fs::create_dir_all(group.join(format!("np/{portal}:3260"))).unwrap();
        let mapped = group.join("acls").join(initiator).join("lun_0");
        fs::create_dir_all(&mapped).unwrap();
        symlink(&lun, mapped.join("unit")).unwrap();
    }
    fs::write(group.join("enable"), "1").unwrap();
}

/// Returns all SCSI disks.
fn scsi_disks() -> Vec<Disk> {
    let disks = fs::read_dir("/sys/class/scsi_disk").unwrap();
    disks.filter_map(|entry| disk(&entry.ok()?.path().join("device"))).collect()
}

fn disk(device: &Path) -> Option<Disk> {
    let node = |class: &str| {
        let name = fs::read_dir(device.join(class)).ok()?.next()?.ok()?.file_name();
        Some(Path::new("/dev").join(name))
    };
    Some(Disk { block: node("block")?, generic: node("scsi_generic")?, target_port: PathBuf::new() })
}
