//! Opening a file to append to, such as a log or a trace.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::Place;

/// Opens a file to append to, or creates it.
///
/// In a directory that other users can put links into, the file must be new, empty, or begin with a text that `is_own`
/// accepts, so that root's lines never reach another file of root. The content is checked because the link count proves
/// nothing: other users can change it at any time. `is_own` gets the first 128 bytes, with malformed UTF-8 replaced.
///
/// # Errors
///
/// The file cannot be opened, or it is a link or a file with another content in such a directory.
pub fn open_to_append(path: &Path, is_own: impl FnOnce(&str) -> bool) -> io::Result<File> {
    let place = Place::of(path)?;
    let flags = OFlags::APPEND | OFlags::CREATE;
    let mode = Mode::from_raw_mode(0o666);
    if place.is_trusted()? {
        return Ok(place.open(flags | OFlags::WRONLY, mode)?);
    }
    let refused = || {
        let why = "is a link, or a file of another kind, in a directory that other users can write to: choose another";
        io::Error::new(io::ErrorKind::InvalidInput, why)
    };
    // `NONBLOCK`: the open must not wait for the other end of a FIFO.
    match place.open(flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK, mode) {
        Err(Errno::LOOP) => Err(refused()),
        Err(error) => Err(error.into()),
        Ok(file) => {
            let metadata = file.metadata()?;
            let is_single_file = metadata.is_file() && metadata.nlink() == 1;
            if is_single_file && begins_with_own(&file, is_own)? { Ok(file) } else { Err(refused()) }
        }
    }
}

/// Returns whether a file is empty, or begins with a text that `is_own` accepts.
fn begins_with_own(file: &File, is_own: impl FnOnce(&str) -> bool) -> io::Result<bool> {
    let mut beginning = [0; 128];
    let length = file.read_at(&mut beginning, 0)?;
    let text = String::from_utf8_lossy(beginning.get(..length).unwrap_or_default());
    Ok(text.is_empty() || is_own(&text))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn open(path: &Path) -> io::Result<File> {
        open_to_append(path, |text| text.starts_with("own "))
    }

    #[test]
    fn links_of_other_users_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let [victim, path] = ["victim", "trace"].map(|name| directory.path().join(name));
        let allow = |mode| fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&victim, "").unwrap();
        // In this directory only root and this user can have made links.
        allow(0o700);
        symlink(&victim, &path).unwrap();
        open(&path).unwrap();
        allow(0o1777);
        assert!(open(&path).is_err(), "a symbolic link");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        assert!(open(&path).is_err(), "a hard link");
        fs::remove_file(&path).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(open(&path).is_err(), "a FIFO");
        fs::remove_file(&path).unwrap();
        for text in ["own a", "own b"] {
            open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "own aown b");
        // This may be another file by a second name, whose first name was removed for a moment.
        fs::write(&path, "root:x:0:0:").unwrap();
        assert!(open(&path).is_err(), "another content");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "");
    }
}
