//! The machine's image: a kernel and a first file system that it unpacks into memory. There is no disk, so each boot starts
//! from the same state, and nothing is installed or mounted from the host.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::{fs, fs::File};

use tools::error::{Context as _, Error, Result};
use tools::libc_version::LibcVersion;
use tools::packages::{self, Apt};

use crate::cpio::Archive;
use crate::flavour::Flavour;
use crate::modules::Kernel;
use crate::{inner, scratch};

/// Version of the image. Must be raised when a change of this file makes older images useless.
const VERSION: u32 = 5;

/// The users that tests switch to, and the groups that they use.
const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
nobody:x:65534:65534:nobody:/:/bin/sh
";
const GROUP: &str = "\
root:x:0:
daemon:x:1:
disk:x:6:
kvm:x:104:
nogroup:x:65534:
";

/// An image that is ready to boot.
#[derive(Debug)]
pub(crate) struct Image {
    flavour: &'static Flavour,
    directory: PathBuf,
}

impl Image {
    /// Returns the image of `suite` in `directory`. Builds it if it does not exist, is out of date, or `rebuild` is set.
    pub(crate) fn prepare(
        flavour: &'static Flavour,
        directory: &Path,
        suite: &str,
        rebuild: bool,
    ) -> Result<Self> {
        let image = Self { flavour, directory: directory.join(flavour.name) };
        let recipe = recipe(flavour);
        let is_current = fs::read_to_string(image.recipe()).is_ok_and(|kept| kept == recipe);
        if is_current && !rebuild {
            return Ok(image);
        }
        eprintln!("lab: building the machine's image from the packages of {suite}");
        let building = scratch::create(directory)?;
        let built = Self { flavour, directory: building.path().join(flavour.name) };
        built.build(suite, building.path())?;
        let write = |path: &Path, text: &str| fs::write(path, text).context(|| path.display().to_string());
        write(&built.recipe(), &recipe)?;
        // Another process may do this at the same time: the directory always contains a complete image.
        let _ = fs::remove_dir_all(&image.directory);
        fs::rename(&built.directory, &image.directory)
            .context(|| format!("put the image at {}", image.directory.display()))?;
        Ok(image)
    }

    /// Returns the path of the kernel that QEMU boots.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// Returns the path of the archive with the guest's programs and modules. A run appends its own archive.
    pub(crate) fn base(&self) -> PathBuf {
        self.directory.join("base.cpio")
    }

    /// Checks that the guest's C library is at least as new as the host's, with which the test programs are linked.
    pub(crate) fn check_libc(&self) -> Result<()> {
        let path = self.libc();
        let guest = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        let guest = LibcVersion::parse(&guest)
            .ok_or_else(|| Error::new(format!("{} does not hold a version", path.display())))?;
        let host = LibcVersion::of_host()?;
        if host > guest {
            return Err(Error::new(format!(
                "programs built on this host need its C library {host}, and the machine has only {guest}; \
                 choose a newer Debian for it with --suite"
            )));
        }
        Ok(())
    }

    fn recipe(&self) -> PathBuf {
        self.directory.join("recipe")
    }

    fn libc(&self) -> PathBuf {
        self.directory.join("libc")
    }

    /// Downloads the packages into `scratch` and writes the image's files.
    fn build(&self, suite: &str, scratch: &Path) -> Result<()> {
        let root = scratch.join("root");
        for directory in [&self.directory, &root] {
            fs::create_dir(directory).context(|| format!("create {}", directory.display()))?;
        }
        let apt = Apt::new(&scratch.join("apt"), suite)?;
        apt.update()?;
        let mut libc = None;
        for package in apt.download(&self.flavour.packages())? {
            packages::unpack(&package, &root)?;
            if package.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libc6_")) {
                libc = Some(packages::version(&package)?);
            }
        }
        let libc = libc.ok_or_else(|| Error::new(format!("apt downloaded no libc6 from {suite}")))?;
        fs::write(self.libc(), libc).context(|| format!("write {}", self.libc().display()))?;
        let kernel = Kernel::find(&root)?;
        let vmlinuz = kernel.image(&root)?;
        fs::copy(&vmlinuz, self.kernel()).context(|| format!("copy {}", vmlinuz.display()))?;
        let archive = base_archive(self.flavour, &root, &kernel)?;
        let path = self.base();
        let file = File::create(&path).context(|| format!("create {}", path.display()))?;
        let mut output = BufWriter::new(file);
        archive.write(&mut output)?;
        output.into_inner().context(|| format!("write {}", path.display()))?;
        Ok(())
    }
}

/// Returns an archive with the files of the packages, and the files and directories that a system needs besides.
fn base_archive(flavour: &Flavour, root: &Path, kernel: &Kernel) -> Result<Archive> {
    let mut archive = Archive::default();
    for directory in ["dev", "etc/target/pr", "proc", "root", "run", "sys", "tmp", "var/target/pr"] {
        archive.directory(directory);
    }
    archive.tree(root, &|path| flavour.has(path))?;
    for name in ["bin", "lib", "lib64", "sbin"] {
        archive.symlink(name, &format!("usr/{name}"));
    }
    archive.symlink("usr/bin/sh", "busybox");
    archive.symlink("var/run", "/run");
    // The kernel asks for modules by this path.
    archive.symlink("usr/sbin/modprobe", "../bin/busybox");
    // The kernel opens the console for init before anything is mounted on /dev.
    archive.character_device("dev/console", 5, 1);
    archive.bytes("etc/passwd", 0o644, PASSWD);
    archive.bytes("etc/group", 0o644, GROUP);
    kernel.add_modules(&flavour.modules(), &mut archive)?;
    if flavour.has_inner_guest {
        inner::add(root, kernel, &mut archive)?;
    }
    Ok(archive)
}

/// Returns a description of everything that determines the content of an image. An image with another recipe is rebuilt.
fn recipe(flavour: &Flavour) -> String {
    let inner = if flavour.has_inner_guest { inner::recipe() } else { String::new() };
    format!("{VERSION}\n{}{inner}{PASSWD}{GROUP}", flavour.recipe())
}
