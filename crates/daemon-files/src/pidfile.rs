//! A pidfile. It is locked while the daemon runs, so other programs can tell that it does.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, FlockOperation, Mode, OFlags, Stat},
    io::Errno,
};

use crate::Place;

/// A locked pidfile. Removed when dropped.
#[derive(Debug)]
pub struct Pidfile {
    place: Place,
    file: File,
}

/// The reason why a pidfile could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PidfileError {
    /// Another process has locked it.
    #[error("{}: locked by another process: is a helper running already?", .0.display())]
    Locked(PathBuf),
    /// The path is not a regular file.
    #[error(
        "{}: is not a regular file; it is left alone: remove it, or choose another path for the pidfile", .0.display()
    )]
    NotAFile(PathBuf),
    /// A system call failed.
    #[error("{}: cannot write the pidfile", path.display())]
    Io {
        /// The pidfile's path.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        error: io::Error,
    },
}

impl Pidfile {
    /// Writes this process's ID to the file at `path`, mode 0600, and locks it with fcntl(2).
    ///
    /// Replaces an existing file that another user can open or may have put there by a new one: the kernel releases the lock
    /// when this process closes any descriptor of the file, and another user could pass such a descriptor to the daemon.
    ///
    /// # Errors
    ///
    /// [`PidfileError`].
    pub fn create(path: &Path) -> Result<Self, PidfileError> {
        let failed = |error| PidfileError::Io { path: path.to_owned(), error };
        let place = Place::of(path).map_err(failed)?;
        loop {
            let Some((file, is_new)) = open(&place)? else { continue };
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::ACCESS) => return Err(PidfileError::Locked(path.to_owned())),
                Err(error) => return Err(failed(error.into())),
            }
            // Another helper may have removed the file at its exit, between open and lock.
            let Some(stat) = stat_if_in_place(&file, &place) else { continue };
            // If other users can put files into the directory, an own file there may be a hard link to another file of
            // this user. The link count proves nothing: they can change it at any time.
            if is_new || is_exclusively_own(&stat) && place.is_trusted().map_err(failed)? {
                write(&file).map_err(failed)?;
                return Ok(Self { place, file });
            }
            log::warn!("{}: replacing a pidfile that another user could open", path.display());
            // The old file is still locked: a helper that starts at the same time finds it locked, or finds the new one.
            place.remove().map_err(|error| failed(error.into()))?;
        }
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if stat_if_in_place(&self.file, &self.place).is_some() {
            if let Err(error) = self.place.remove() {
                log::info!("{}: cannot be removed: {error}", self.place.path().display());
            }
        }
    }
}

/// Opens or creates the file; returns also whether it was created. `None` if it appeared or vanished meanwhile.
fn open(place: &Place) -> Result<Option<(File, bool)>, PidfileError> {
    let path = || place.path().to_owned();
    let failed = |error: Errno| PidfileError::Io { path: path(), error: error.into() };
    let flags = OFlags::RDWR | OFlags::NOFOLLOW;
    match place.stat() {
        Err(Errno::NOENT) => {
            let mode = Mode::RUSR | Mode::WUSR;
            match place.open(flags | OFlags::CREATE | OFlags::EXCL, mode) {
                Err(Errno::EXIST) => Ok(None),
                opened => opened.map(|file| Some((file, true))).map_err(failed),
            }
        }
        Err(error) => Err(failed(error)),
        Ok(stat) if !is_regular(&stat) => Err(PidfileError::NotAFile(path())),
        // `NONBLOCK`: the open must not wait for the other end if the file has been replaced by a FIFO.
        Ok(_) => match place.open(flags | OFlags::NONBLOCK, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            opened => opened.map(|file| Some((file, false))).map_err(failed),
        },
    }
}

fn write(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// Returns the metadata of the file if it still has the name of `place`.
fn stat_if_in_place(file: &File, place: &Place) -> Option<Stat> {
    let (stat, current) = (rustix::fs::fstat(file).ok()?, place.stat().ok()?);
    ((stat.st_dev, stat.st_ino) == (current.st_dev, current.st_ino)).then_some(stat)
}

/// Returns whether no other user can open the file, and the file has no second name (a hard link).
fn is_exclusively_own(stat: &Stat) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let open_to_others = Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO);
    is_regular(stat) && stat.st_uid == own && !open_to_others && stat.st_nlink == 1
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        time::{Duration, Instant},
    };

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        (directory, path)
    }

    fn expected() -> String {
        format!("{}\n", std::process::id())
    }

    #[test]
    fn own_stale_pidfile_is_reused() {
        let (_directory, path) = place();
        fs::write(&path, "a longer text than any number\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let pidfile = Pidfile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected());
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        drop(pidfile);
        assert!(!path.exists());
    }

    #[test]
    fn pidfile_others_can_open_is_replaced() {
        let (directory, path) = place();
        let other = directory.path().join("other");
        let prepare = |kind: &str| {
            let _ = fs::remove_file(&other);
            fs::write(&other, "precious").unwrap();
            fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
            match kind {
                "writable" => fs::set_permissions(&other, fs::Permissions::from_mode(0o620)).unwrap(),
                "readable" => fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap(),
                "owner" => chown(&other, Some(12_345), None).unwrap(),
                _ => {}
            }
            fs::hard_link(&other, &path).unwrap();
            if kind != "link" {
                // Leaves the file with one name.
                fs::rename(&other, other.with_extension("away")).unwrap();
                fs::remove_file(other.with_extension("away")).unwrap();
            }
        };
        for kind in ["writable", "readable", "link", "owner"] {
            if kind == "owner" && !rustix::process::geteuid().is_root() {
                eprintln!("not tested with another owner's file: this needs root");
                continue;
            }
            prepare(kind);
            let before = fs::File::open(&path).unwrap();
            let pidfile = Pidfile::create(&path).unwrap();
            assert_eq!(io::read_to_string(before).unwrap(), "precious", "{kind}");
            assert_eq!(fs::read_to_string(&path).unwrap(), expected());
            let metadata = fs::metadata(&path).unwrap();
            let own = rustix::process::geteuid().as_raw();
            assert_eq!(
                (metadata.uid(), metadata.mode() & 0o777, metadata.nlink()),
                (own, 0o600, 1),
                "{kind}"
            );
            drop(pidfile);
        }
    }

    #[test]
    fn irregular_pidfile_is_left_alone() {
        let (directory, path) = place();
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        assert!(matches!(Pidfile::create(&path), Err(PidfileError::NotAFile(_))));
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(matches!(Pidfile::create(&path), Err(PidfileError::NotAFile(_))));
        assert!(path.exists());
    }

    /// The owner of the directory keeps replacing the pidfile by hard and symbolic links to another file.
    #[test]
    fn swapped_pidfile_redirects_no_write() {
        let (directory, path) = place();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let [hard, soft] = ["hard", "soft"].map(|name| directory.path().join(name));
        let end = Instant::now() + Duration::from_secs(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while Instant::now() < end {
                    let _ = fs::hard_link(&victim, &hard);
                    let _ = fs::rename(&hard, &path);
                    let _ = symlink(&victim, &soft);
                    let _ = fs::rename(&soft, &path);
                    let _ = fs::remove_file(&path);
                }
            });
            while Instant::now() < end {
                let pidfile = Pidfile::create(&path);
                assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
                drop(pidfile);
            }
        });
    }
}
