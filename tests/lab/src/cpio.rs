//! Builds cpio archives in the "newc" format, which the kernel unpacks as its first file system
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source).
//!
//! All entries belong to root.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cpio::newc;
use tools::error::{Context as _, Error, Result};

/// The file types of `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive under construction: its entries by path, without a leading slash. The map's order puts a directory before its
/// entries.
#[derive(Debug, Default)]
pub(crate) struct Archive(BTreeMap<String, Entry>);

/// An entry of the archive.
#[derive(Debug)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    content: Content,
}

/// The source of an entry's bytes.
#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Archive {
    /// Adds a directory and its parents.
    pub(crate) fn directory(&mut self, path: &str) {
        self.parents(path);
        self.insert(path, DIRECTORY | 0o755, Content::Bytes(Vec::new()));
    }

    /// Adds a file with this content.
    pub(crate) fn bytes(&mut self, path: &str, permissions: u32, bytes: impl Into<Vec<u8>>) {
        self.parents(path);
        self.insert(path, REGULAR | permissions, Content::Bytes(bytes.into()));
    }

    /// Adds a copy of the host's file `source`.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, source: &Path) {
        self.parents(path);
        self.insert(path, REGULAR | permissions, Content::File(source.to_owned()));
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.insert(path, SYMLINK | 0o777, Content::Bytes(target.into()));
    }

    /// Adds a character device, which only root could create in a file system.
    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.parents(path);
        let content = Content::Bytes(Vec::new());
        self.0.insert(
            path.to_owned(),
            Entry { mode: CHARACTER_DEVICE | 0o600, device: (major, minor), content },
        );
    }

    /// Adds the files under the host's directory `root` for whose path `is_included` returns `true`. A directory that is not
    /// included is not entered.
    pub(crate) fn tree(&mut self, root: &Path, is_included: &dyn Fn(&str) -> bool) -> Result<()> {
        self.subtree(root, "", is_included)
    }

    fn subtree(&mut self, directory: &Path, prefix: &str, is_included: &dyn Fn(&str) -> bool) -> Result<()> {
        let reading = || format!("read {}", directory.display());
        for entry in fs::read_dir(directory).context(reading)? {
            let entry = entry.context(reading)?;
            let name = entry.file_name().into_string().map_err(|name| {
                Error::new(format!("{} holds a name that is not UTF-8: {name:?}", directory.display()))
            })?;
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            if !is_included(&path) {
                continue;
            }
            let source = entry.path();
            let metadata = entry.metadata().context(reading)?;
            if metadata.is_dir() {
                self.directory(&path);
                self.subtree(&source, &path, is_included)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&source).context(reading)?;
                self.symlink(&path, &target.to_string_lossy());
            } else if metadata.is_file() {
                self.file(&path, metadata.permissions().mode() & 0o7777, &source);
            }
        }
        Ok(())
    }

    /// Writes the archive, padded so that another one can follow.
    pub(crate) fn write(&self, output: &mut dyn Write) -> Result<()> {
        for (number, (path, entry)) in (1..).zip(&self.0) {
            let read;
            let bytes = match &entry.content {
                Content::Bytes(bytes) => bytes,
                Content::File(source) => {
                    read = fs::read(source).context(|| format!("read {}", source.display()))?;
                    &read
                }
            };
            member(output, number, path, entry, bytes).context(|| format!("archive {path}"))?;
        }
        newc::trailer(output).context(|| "end an archive".into())?;
        Ok(())
    }

    fn insert(&mut self, path: &str, mode: u32, content: Content) {
        self.0.insert(path.to_owned(), Entry { mode, device: (0, 0), content });
    }

    /// Adds the missing parents of `path`: the kernel creates no directory by itself.
    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            if !self.0.contains_key(parent) {
                self.directory(parent);
            }
        }
    }
}

/// Writes one header, name and content.
fn member(output: &mut dyn Write, number: u32, path: &str, entry: &Entry, bytes: &[u8]) -> io::Result<()> {
    let size = u32::try_from(bytes.len()).map_err(|_| io::Error::other("more than 4 GiB in one file"))?;
    let (major, minor) = entry.device;
    let header = newc::Builder::new(path)
        .ino(number)
        .mode(entry.mode)
        .nlink(if entry.mode & DIRECTORY == DIRECTORY { 2 } else { 1 })
        .rdev_major(major)
        .rdev_minor(minor);
    let mut member = header.write(output, size);
    member.write_all(bytes)?;
    member.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_comes_before_its_entries() {
        let mut archive = Archive::default();
        archive.bytes("a/b/file", 0o644, "content");
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let names = ["a\0", "a/b\0", "a/b/file\0", "content", "TRAILER!!!\0"];
        let positions: Vec<usize> = names.iter().map(|name| text.find(name).unwrap()).collect();
        assert!(positions.is_sorted(), "{positions:?}");
    }

    /// Between concatenated archives the kernel skips zeros, but only in whole words.
    #[test]
    fn archives_can_follow_each_other() {
        for length in 0..9 {
            let mut archive = Archive::default();
            archive.bytes("file", 0o755, vec![b'x'; length]);
            archive.symlink("link", "file");
            let mut bytes = Vec::new();
            archive.write(&mut bytes).unwrap();
            assert_eq!(bytes.len() % 4, 0);
            let headers: Vec<usize> =
                bytes.windows(6).enumerate().filter(|(_, w)| *w == b"070701").map(|(at, _)| at).collect();
            assert_eq!(headers.len(), 3);
            assert!(headers.iter().all(|at| at % 4 == 0), "{headers:?}");
        }
    }

    #[test]
    fn header_describes_its_entry() {
        let mut archive = Archive::default();
        archive.character_device("console", 5, 1);
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        let header = String::from_utf8_lossy(&bytes[..110]);
        assert_eq!(&header[14..22], "00002180", "mode");
        assert_eq!(&header[22..38], "0000000000000000", "owner");
        assert_eq!(&header[78..94], "0000000500000001", "device");
        assert_eq!(&header[94..102], "00000008", "length of the name");
    }
}
