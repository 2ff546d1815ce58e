//! The pidfile: locked for as long as the helper runs, which is how others know that it does.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

/// A locked pidfile. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Pidfile {
    path: PathBuf,
    file: File,
}

/// Why there is no pidfile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidfileError {
    #[error("{0}: locked by another process: is a helper running already?")]
    Locked(PathBuf),
    #[error("{path}: cannot write the pidfile: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl Pidfile {
    /// Writes this process's ID to the file at `path`, mode 0600, and locks it with fcntl(2).
    pub(crate) fn create(path: &Path) -> Result<Self, PidfileError> {
        let failed = |error| PidfileError::Io { path: path.to_owned(), error };
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
                .map(File::from)
                .map_err(|error| failed(error.into()))?;
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::ACCESS) => return Err(PidfileError::Locked(path.to_owned())),
                Err(error) => return Err(failed(error.into())),
            }
            let pidfile = Self { path: path.to_owned(), file };
            // Another helper may have removed the file, at its end, between open and lock.
            if pidfile.is_at_its_path() {
                pidfile.write().map_err(failed)?;
                return Ok(pidfile);
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        writeln!(&self.file, "{}", std::process::id())
    }

    fn is_at_its_path(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata().map(identity), fs::symlink_metadata(&self.path).map(identity)) {
            (Ok(ours), Ok(there)) => ours == there,
            _ => false,
        }
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if self.is_at_its_path() {
            if let Err(error) = fs::remove_file(&self.path) {
                log::info!("{}: cannot be removed: {error}", self.path.display());
            }
        }
    }
}
