//! A file to append to, such as a log or a trace.

use std::{fs::File, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::Place;

/// Opens a file to append to, or creates it. In a directory that other users can put links into, it must be a regular file
/// with one name: root's lines must not reach root's other files.
///
/// # Errors
///
/// The file cannot be opened, or it is a link or no regular file in such a directory.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    let place = Place::of(path)?;
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
    let mode = Mode::from_raw_mode(0o666);
    if place.is_trusted()? {
        return Ok(place.open(flags, mode)?);
    }
    let refused = || {
        let why =
            "is a link, or no regular file, in a directory that other users can write to: choose another";
        io::Error::new(io::ErrorKind::InvalidInput, why)
    };
    // Does not wait for the other end of a FIFO.
    match place.open(flags | OFlags::NOFOLLOW | OFlags::NONBLOCK, mode) {
        Err(Errno::LOOP | Errno::NXIO) => Err(refused()),
        Err(error) => Err(error.into()),
        Ok(file) => {
            let metadata = file.metadata()?;
            if metadata.is_file() && metadata.nlink() == 1 { Ok(file) } else { Err(refused()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn links_of_other_users_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [victim, path] = ["victim", "trace"].map(|name| directory.path().join(name));
        let allow = |mode| fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&victim, "").unwrap();
        // Only root and this user could have made them.
        allow(0o700);
        symlink(&victim, &path).unwrap();
        open_to_append(&path).unwrap();
        allow(0o1777);
        assert!(open_to_append(&path).is_err(), "a symbolic link");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        assert!(open_to_append(&path).is_err(), "a hard link");
        fs::remove_file(&path).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(open_to_append(&path).is_err(), "a FIFO");
        fs::remove_file(&path).unwrap();
        for text in ["a", "b"] {
            open_to_append(&path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "ab");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "");
    }
}
