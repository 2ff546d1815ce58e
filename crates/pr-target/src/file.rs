//! A store that keeps the state in a file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::vec::Vec;

use crate::Store;

/// More bytes than any saved state has. Only these are read of a longer file, and found damaged.
const MAX_LENGTH: u64 = 1 << 20;

/// Keeps a logical unit's registrations and reservation in a file.
///
/// To save, it writes a new file beside the old one (`NAME.new`), flushes it to the disk, renames it, and flushes the
/// directory. Invariant: at any time the file is whole, the old one or the new one. A `NAME.new` left by a crash is
/// never read. The format is described at [`Store`].
///
/// The directory must exist. If the file does not exist, nothing was ever saved: removing the file removes the
/// reservations. The caller must make sure that there is one owner at a time, by a lock on the directory. No other user
/// may be able to write to the directory, since its content is trusted.
#[derive(Clone, Debug)]
pub struct FileStore {
    path: PathBuf,
}

/// A step of [`FileStore`] that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct FileError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileStore {
    /// Returns the store whose file is, or will be, `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store for FileStore {
    type Error = FileError;

    /// # Errors
    ///
    /// [`FileError`], also if the directory does not exist: then it is unknown whether anything was saved.
    fn load(&mut self) -> Result<Option<Vec<u8>>, FileError> {
        // `save` writes a regular file: a link or a FIFO is not the saved file.
        let is_file = |metadata: fs::Metadata| {
            let error = || io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file");
            metadata.is_file().then_some(()).ok_or_else(error)
        };
        let file =
            match fs::symlink_metadata(&self.path).and_then(is_file).and_then(|()| File::open(&self.path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let directory = directory_of(&self.path);
                    fs::metadata(directory).map_err(failed("find the directory", directory))?;
                    return Ok(None);
                }
                opened => opened.map_err(failed("open", &self.path))?,
            };
        let mut bytes = Vec::new();
        file.take(MAX_LENGTH).read_to_end(&mut bytes).map_err(failed("read", &self.path))?;
        Ok(Some(bytes))
    }

    fn save(&mut self, state: &[u8]) -> Result<(), FileError> {
        replace(&mut Disk, &self.path, state)
    }
}

/// The steps of replacing a file.
trait Files {
    type Open;
    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<Self::Open>;
    fn flush(&mut self, file: &Self::Open) -> io::Result<()>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn flush_directory(&mut self, path: &Path) -> io::Result<()>;
}

/// Replaces the file at `path`, or creates it.
fn replace<F: Files>(files: &mut F, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut new = OsString::from(path);
    new.push(".new");
    let new = PathBuf::from(new);
    let file = files.create(&new, bytes).map_err(failed("write", &new))?;
    files.flush(&file).map_err(failed("flush", &new))?;
    files.rename(&new, path).map_err(failed("rename another to", path))?;
    let directory = directory_of(path);
    files.flush_directory(directory).map_err(failed("flush the directory", directory))
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = PathBuf::from(path);
    move |source| FileError { step, path, source }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The real file system.
struct Disk;

impl Files for Disk {
    type Open = File;

    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        // Removes a file left by a crash. `create_new` then makes sure that no link is followed.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        Ok(file)
    }

    fn flush(&mut self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn flush_directory(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

#[cfg(test)]
mod tests;
