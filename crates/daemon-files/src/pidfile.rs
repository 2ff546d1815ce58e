//! A pidfile: locked for as long as the daemon runs, which is how other programs know that it does.

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

/// A locked pidfile. Dropped, it is removed.
#[derive(Debug)]
pub struct Pidfile {
    place: Place,
    file: File,
}

/// Why there is no pidfile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PidfileError {
    /// Another process has locked it.
    #[error("{}: locked by another process: is a helper running already?", .0.display())]
    Locked(PathBuf),
    /// Something else is there.
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
    /// A file that another user could write to, or has put there, is not written to: a new one takes its place.
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
            // Another helper may have removed the file, at its end, between open and lock.
            let Some(stat) = stat_if_in_place(&file, &place) else { continue };
            // Where others can put files, nothing tells an own file from a name that they gave to another of ours: a count
            // of its names changes as they like.
            if is_new || is_ours_alone(&stat) && place.is_trusted().map_err(failed)? {
                write(&file).map_err(failed)?;
                return Ok(Self { place, file });
            }
            log::warn!("{}: replacing a pidfile that another user could change", path.display());
            // Still locked: a helper that starts at the same time finds it taken, or finds the new one.
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

/// Opens the file, or makes it, and says whether it was made. `None` if it has come or gone meanwhile.
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
        // Does not wait for the other end if it has become a FIFO.
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

/// Examines the file, if it is the one in its place.
fn stat_if_in_place(file: &File, place: &Place) -> Option<Stat> {
    let (ours, there) = (rustix::fs::fstat(file).ok()?, place.stat().ok()?);
    ((ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)).then_some(ours)
}

/// Returns whether no other user can change the file, and it is no other file by a second name (a hard link).
fn is_ours_alone(stat: &Stat) -> bool {
    let own = rustix::process::geteuid().as_raw();
    is_regular(stat) && stat.st_uid == own && stat.st_mode & 0o022 == 0 && stat.st_nlink == 1
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
    fn an_own_stale_file_is_used_again() {
        let (_directory, path) = place();
        fs::write(&path, "a longer text than any number\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let pidfile = Pidfile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected());
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        drop(pidfile);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_others_can_change_is_replaced() {
        let (directory, path) = place();
        let other = directory.path().join("other");
        let prepare = |kind: &str| {
            let _ = fs::remove_file(&other);
            fs::write(&other, "precious").unwrap();
            fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
            match kind {
                "mode" => fs::set_permissions(&other, fs::Permissions::from_mode(0o666)).unwrap(),
                "owner" => chown(&other, Some(12_345), None).unwrap(),
                _ => {}
            }
            fs::hard_link(&other, &path).unwrap();
            if kind != "link" {
                // Its only name.
                fs::rename(&other, other.with_extension("away")).unwrap();
                fs::remove_file(other.with_extension("away")).unwrap();
            }
        };
        for kind in ["mode", "link", "owner"] {
            if kind == "owner" && !rustix::process::geteuid().is_root() {
                eprintln!("not tried with another owner's file, for want of root");
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
    fn what_is_no_regular_file_is_left_alone() {
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

    /// The owner of the directory swaps the pidfile for names of another file, without end.
    #[test]
    fn a_file_of_root_is_never_written_to() {
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
