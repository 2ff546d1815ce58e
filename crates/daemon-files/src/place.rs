//! A file's place: a name in an open directory. If that directory is replaced by another, or by a symbolic link, operations
//! on the place still act in the old one.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};

/// A name in an open directory.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    directory: Arc<OwnedFd>,
    name: OsString,
}

impl Place {
    /// Opens the directory of `path`. The file itself need not exist.
    ///
    /// # Errors
    ///
    /// The path has no name, or the directory cannot be opened.
    pub fn of(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(parent, flags, Mode::empty())?;
        Ok(Self { path: path.to_owned(), directory: Arc::new(directory), name: name.to_owned() })
    }

    /// Returns the path that was passed to [`of`](Self::of).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the directory once more, for locking: the descriptor held here (`O_PATH`) cannot be locked.
    ///
    /// # Errors
    ///
    /// The error of openat(2).
    pub(crate) fn open_directory(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.directory, c".", flags, Mode::empty())?)
    }

    /// Opens the file. Follows a symbolic link unless `flags` contain `NOFOLLOW`.
    ///
    /// # Errors
    ///
    /// The error of openat(2).
    pub(crate) fn open(&self, flags: OFlags, mode: Mode) -> rustix::io::Result<File> {
        rustix::fs::openat(&self.directory, &self.name, flags | OFlags::CLOEXEC, mode).map(File::from)
    }

    /// Returns the metadata of the file, or of a symbolic link in its place.
    pub(crate) fn stat(&self) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Removes the file's name from the directory.
    pub(crate) fn remove(&self) -> rustix::io::Result<()> {
        rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty())
    }

    /// Returns whether only root and this process's user can put files and links into the directory.
    ///
    /// # Errors
    ///
    /// The error of fstat(2).
    pub fn is_trusted(&self) -> io::Result<bool> {
        let directory = rustix::fs::fstat(self.directory.as_fd())?;
        let own = rustix::process::geteuid().as_raw();
        Ok([0, own].contains(&directory.st_uid) && directory.st_mode & 0o022 == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn replaced_directory_redirects_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let [here, away, other] = ["here", "away", "other"].map(|name| directory.path().join(name));
        for path in [&here, &other] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("file"), path.to_str().unwrap()).unwrap();
        }
        let place = Place::of(&here.join("file")).unwrap();
        fs::rename(&here, &away).unwrap();
        std::os::unix::fs::symlink(&other, &here).unwrap();
        let opened = io::read_to_string(place.open(OFlags::RDONLY, Mode::empty()).unwrap()).unwrap();
        assert_eq!(Path::new(&opened), here);
        place.remove().unwrap();
        assert!(other.join("file").exists() && !away.join("file").exists());
        assert!(place.stat().is_err());
    }

    #[test]
    fn writable_directory_is_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of(&directory.path().join("file")).unwrap();
        for (mode, trusted) in [(0o700, true), (0o755, true), (0o775, false), (0o1777, false)] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(place.is_trusted().unwrap(), trusted, "{mode:o}");
        }
    }

    #[test]
    fn path_without_name_is_refused() {
        for path in ["/", "..", ""] {
            assert!(Place::of(Path::new(path)).is_err(), "{path:?}");
        }
    }
}
