//! Selects the kernel modules that the guest needs from the thousands in the kernel's packages.
//!
//! The packages have no modules.dep (it is generated when they are installed), so the dependencies are read from the modules.
//! Modules are decompressed here, as the host is faster than an emulated guest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt::Write as _, fs};

use tools::error::{Context as _, Error, Result};
use tools::process;

use crate::cpio::Archive;

/// Modules for init.sh and for the tests. `scsi_debug` is for tests with a disk that fails or hangs as told (debugfs:
/// `scsi_debug/TARGET/error`).
pub(crate) const MODULES: [&str; 15] = [
    "dm_mod",
    "dm_multipath",
    "dm_service_time",
    "iscsi_target_mod",
    "iscsi_tcp",
    "loop",
    "nvme_loop",
    "nvmet",
    "scsi_debug",
    "scsi_dh_alua",
    "sd_mod",
    "sg",
    "target_core_file",
    "target_core_mod",
    "tcm_loop",
];

/// Modules that only some kernels have: the checksum of iSCSI is in a library in others.
const IF_PRESENT: [&str; 1] = ["crc32c_generic"];

/// A module for the guest.
#[derive(Debug)]
struct Module {
    /// Path below the kernel's directory, without the suffix of the compression.
    path: String,
    content: Vec<u8>,
    depends: Vec<String>,
}

/// The modules of one kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The kernel's release, as `uname -r` prints it.
    pub(crate) release: String,
    directory: PathBuf,
    /// The files of all modules, by module name.
    files: BTreeMap<String, PathBuf>,
}

impl Kernel {
    /// Finds the kernel that was unpacked under `root`. There must be exactly one.
    pub(crate) fn find(root: &Path) -> Result<Self> {
        let parent = root.join("usr/lib/modules");
        let reading = || format!("read {}", parent.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&parent).context(reading)? {
            found.push(entry.context(reading)?.path());
        }
        let [directory] = found.as_slice() else {
            return Err(Error::new(format!(
                "{} should hold one kernel, not {}",
                parent.display(),
                found.len()
            )));
        };
        let release = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = BTreeMap::new();
        collect(&directory.join("kernel"), &mut files)?;
        Ok(Self { release, directory: directory.clone(), files })
    }

    /// Returns the path of the kernel itself. It is in /boot, or in later suites beside its modules.
    pub(crate) fn image(&self, root: &Path) -> Result<PathBuf> {
        [root.join(format!("boot/vmlinuz-{}", self.release)), self.directory.join("vmlinuz")]
            .into_iter()
            .find(|path| path.is_file())
            .ok_or_else(|| Error::new(format!("the packages of kernel {} have no vmlinuz", self.release)))
    }

    /// Adds the modules `names` and their dependencies to the archive, with the modules.dep that modprobe reads.
    pub(crate) fn add_modules(&self, names: &[&str], archive: &mut Archive) -> Result<()> {
        let mut modules = BTreeMap::new();
        for name in names {
            self.load(name, &mut modules)?;
        }
        for name in IF_PRESENT {
            if self.files.contains_key(name) {
                self.load(name, &mut modules)?;
            }
        }
        let parent = format!("usr/lib/modules/{}", self.release);
        let mut list = String::new();
        for (name, module) in &modules {
            let _ = write!(list, "{}:", module.path);
            for dependency in closure(name, &modules) {
                let _ = write!(list, " {}", dependency.path);
            }
            list.push('\n');
            archive.bytes(&format!("{parent}/{}", module.path), 0o644, module.content.as_slice());
        }
        archive.bytes(&format!("{parent}/modules.dep"), 0o644, list);
        Ok(())
    }

    /// Reads module `name` and its dependencies, unless they are in `modules` already.
    fn load(&self, name: &str, modules: &mut BTreeMap<String, Module>) -> Result<()> {
        if modules.contains_key(name) || self.is_builtin(name)? {
            return Ok(());
        }
        let file = self
            .files
            .get(name)
            .ok_or_else(|| Error::new(format!("kernel {} has no module {name}", self.release)))?;
        let content = decompressed(file)?;
        let depends: Vec<String> =
            depends(&content).split(',').filter(|d| !d.is_empty()).map(normalized).collect();
        let path = file.strip_prefix(&self.directory).unwrap_or(file).to_string_lossy();
        let path = path.split_inclusive(".ko").next().unwrap_or_default().to_owned();
        modules.insert(name.to_owned(), Module { path, content, depends: depends.clone() });
        for dependency in &depends {
            self.load(dependency, modules)?;
        }
        Ok(())
    }

    /// Returns whether `name` is built into this kernel.
    fn is_builtin(&self, name: &str) -> Result<bool> {
        let path = self.directory.join("modules.builtin");
        let text = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        Ok(text.lines().any(|line| module_name(Path::new(line)).is_some_and(|builtin| builtin == name)))
    }
}

/// Returns the dependencies of `name` in the order of modules.dep: modprobe loads them from the last to the first.
fn closure<'a>(name: &str, modules: &'a BTreeMap<String, Module>) -> Vec<&'a Module> {
    fn visit<'a>(name: &str, modules: &'a BTreeMap<String, Module>, order: &mut Vec<&'a Module>) {
        let Some(module) = modules.get(name) else { return };
        for dependency in &module.depends {
            visit(dependency, modules, order);
        }
        if !order.iter().any(|seen| seen.path == module.path) {
            order.push(module);
        }
    }
    let mut order = Vec::new();
    visit(name, modules, &mut order);
    order.pop();
    order.reverse();
    order
}

/// Adds the files of all modules under `directory` to `files`.
fn collect(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let reading = || format!("read {}", directory.display());
    for entry in fs::read_dir(directory).context(reading)? {
        let path = entry.context(reading)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// Returns the name of the module in the file `path`; `None` if it is not a module.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, _compression) = file.split_once(".ko")?;
    Some(normalized(name))
}

/// Returns a module's name with underscores: file names may have dashes instead.
fn normalized(name: &str) -> String {
    name.replace('-', "_")
}

/// Returns the decompressed module in `file`.
fn decompressed(file: &Path) -> Result<Vec<u8>> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => fs::read(file).context(|| format!("read {}", file.display())),
        Some("xz") => process::output(Command::new("xz").args(["--decompress", "--stdout"]).arg(file)),
        _ => Err(Error::new(format!("{} is compressed in a way that the lab does not know", file.display()))),
    }
}

/// Returns the value of `depends` in a module's .modinfo section (NUL, key, `=`, value, NUL). The key follows a NUL nowhere
/// else in a module.
fn depends(content: &[u8]) -> &str {
    content
        .split(|byte| *byte == 0)
        .find_map(|string| string.strip_prefix(b"depends="))
        .and_then(|value| std::str::from_utf8(value).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_name_is_normalized() {
        assert_eq!(module_name(Path::new("kernel/drivers/md/dm-mod.ko.xz")).unwrap(), "dm_mod");
        assert_eq!(module_name(Path::new("kernel/drivers/scsi/sg.ko")).unwrap(), "sg");
        assert_eq!(module_name(Path::new("modules.order")), None);
    }

    #[test]
    fn dependencies_are_read_from_modinfo() {
        assert_eq!(
            depends(b"\x7fELF\0license=GPL\0depends=scsi_mod,configfs\0name=x\0"),
            "scsi_mod,configfs"
        );
        assert_eq!(depends(b"\x7fELF\0license=GPL\0depends=\0"), "");
    }

    #[test]
    fn dependencies_are_loaded_first() {
        let module = |name: &str, depends: &[&str]| {
            let depends = depends.iter().map(ToString::to_string).collect();
            (name.to_owned(), Module { path: name.to_owned(), content: Vec::new(), depends })
        };
        let modules = BTreeMap::from([
            module("loop_target", &["core", "scsi"]),
            module("core", &["common"]),
            module("scsi", &["common"]),
            module("common", &[]),
        ]);
        let order: Vec<&str> = closure("loop_target", &modules).iter().map(|m| m.path.as_str()).collect();
        assert_eq!(order, ["scsi", "core", "common"]);
    }
}
