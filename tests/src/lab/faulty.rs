//! A disk that fails or hangs: the kernel's `scsi_debug`, which can be told how.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::eventually;

/// A disk that fails as told. Dropped, it stops to fail.
pub struct Faulty {
    /// The block device.
    pub block: PathBuf,
    /// The same as a generic device.
    pub generic: PathBuf,
    rules: PathBuf,
}

impl Faulty {
    /// Loads the kernel's module, and finds the disk that it makes.
    pub fn make() -> Self {
        let loaded = Command::new("modprobe").args(["scsi_debug", "dev_size_mb=8"]).status().unwrap();
        assert!(loaded.success());
        let mut found = None;
        eventually("the faulty disk appears", || {
            found = Self::find();
            found.is_some()
        });
        found.unwrap()
    }

    fn find() -> Option<Self> {
        for entry in fs::read_dir("/sys/class/scsi_disk").ok()? {
            let device = entry.ok()?.path().join("device");
            if fs::read_to_string(device.join("model")).is_ok_and(|model| model.trim() == "scsi_debug") {
                let address = fs::canonicalize(&device).ok()?.file_name()?.to_owned();
                let only =
                    |class: &str| fs::read_dir(device.join(class)).ok()?.next()?.ok().map(|e| e.file_name());
                let node =
                    |class: &str| Some(Path::new("/dev").join(only(class)?)).filter(|path| path.exists());
                let rules = Path::new("/sys/kernel/debug/scsi_debug").join(address).join("error");
                return Some(Self { block: node("block")?, generic: node("scsi_generic")?, rules });
            }
        }
        None
    }

    fn rule(&self, rule: &str) {
        fs::write(&self.rules, rule).unwrap();
    }

    /// Has commands with this opcode end with this host byte, without an answer of the device.
    pub fn fail(&self, opcode: u8, host_byte: u8) {
        self.rule(&format!("2 1 {opcode:x} {host_byte:x} 0 0 0 0 0"));
    }

    /// Has commands with this opcode end with CHECK CONDITION and these codes: sense key, additional sense code and its
    /// qualifier.
    pub fn answer(&self, opcode: u8, (key, asc, ascq): (u8, u8, u8), descriptor_format: bool) {
        let format = if descriptor_format { "1" } else { "0" };
        fs::write("/sys/module/scsi_debug/parameters/dsense", format).unwrap();
        self.rule(&format!("2 1 {opcode:x} 0 0 2 {key:x} {asc:x} {ascq:x}"));
    }

    /// Has commands with this opcode never end.
    pub fn hang(&self, opcode: u8) {
        self.rule(&format!("0 1 {opcode:x}"));
    }

    /// Has commands end as ever.
    pub fn heal(&self) {
        for rule in ["- 0 5e", "- 0 5f", "- 2 5e", "- 2 5f"] {
            // Refused where there is no such rule.
            let _ = fs::write(&self.rules, rule);
        }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.heal();
    }
}
