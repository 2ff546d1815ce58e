//! Writing cpio archives in the "newc" format, which is what the kernel unpacks as its first file system
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source).
//!
//! Everything belongs to root, whoever builds the archive.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Result};

/// The file types of `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// The kernel skips zeroes between archives that follow each other; this is the block size of the cpio program.
const BLOCK: usize = 512;

/// An archive that is being put together: path in the archive, without a leading slash, to what is there.
/// The order of the map puts a directory before what is in it.
#[derive(Debug, Default)]
pub(crate) struct Archive(BTreeMap<String, Entry>);

/// What a path in the archive is.
#[derive(Debug)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    content: Content,
}

/// Where the bytes of an entry come from.
#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Archive {
    /// A directory, and those above it.
    pub(crate) fn directory(&mut self, path: &str) {
        self.parents(path);
        self.insert(path, DIRECTORY | 0o755, Content::Bytes(Vec::new()));
    }

    /// A file with this content.
    pub(crate) fn bytes(&mut self, path: &str, permissions: u32, bytes: impl Into<Vec<u8>>) {
        self.parents(path);
        self.insert(path, REGULAR | permissions, Content::Bytes(bytes.into()));
    }

    /// A copy of the host's file `source`.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, source: &Path) {
        self.parents(path);
        self.insert(path, REGULAR | permissions, Content::File(source.to_owned()));
    }

    /// A symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.insert(path, SYMLINK | 0o777, Content::Bytes(target.into()));
    }

    /// A character device, which only root could make in a file system.
    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.parents(path);
        let content = Content::Bytes(Vec::new());
        self.0.insert(
            path.to_owned(),
            Entry { mode: CHARACTER_DEVICE | 0o600, device: (major, minor), content },
        );
    }

    /// Everything under the host's directory `root` for whose path `wanted` says yes; a directory that is not
    /// wanted is not entered.
    pub(crate) fn tree(&mut self, root: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
        self.subtree(root, "", wanted)
    }

    fn subtree(&mut self, directory: &Path, prefix: &str, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
        let reading = || format!("read {}", directory.display());
        for entry in fs::read_dir(directory).context(reading)? {
            let entry = entry.context(reading)?;
            let name = entry.file_name().into_string().map_err(|name| {
                Error::new(format!("{} holds a name that is not UTF-8: {name:?}", directory.display()))
            })?;
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            if !wanted(&path) {
                continue;
            }
            let source = entry.path();
            let metadata = entry.metadata().context(reading)?;
            if metadata.is_dir() {
                self.directory(&path);
                self.subtree(&source, &path, wanted)?;
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
        let mut written = 0;
        for (number, (path, entry)) in self.0.iter().enumerate() {
            let read;
            let bytes = match &entry.content {
                Content::Bytes(bytes) => bytes,
                Content::File(source) => {
                    read = fs::read(source).context(|| format!("read {}", source.display()))?;
                    &read
                }
            };
            written +=
                member(output, number + 1, path, entry, bytes).context(|| format!("archive {path}"))?;
        }
        let end = Entry { mode: 0, device: (0, 0), content: Content::Bytes(Vec::new()) };
        written += member(output, 0, "TRAILER!!!", &end, &[]).context(|| "end an archive".into())?;
        pad(output, written, BLOCK).context(|| "end an archive".into())?;
        Ok(())
    }

    fn insert(&mut self, path: &str, mode: u32, content: Content) {
        self.0.insert(path.to_owned(), Entry { mode, device: (0, 0), content });
    }

    /// The kernel makes no directory by itself.
    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            if !self.0.contains_key(parent) {
                self.directory(parent);
            }
        }
    }
}

/// Writes one header, name and content; returns their length with the padding.
fn member(
    output: &mut dyn Write,
    number: usize,
    path: &str,
    entry: &Entry,
    bytes: &[u8],
) -> io::Result<usize> {
    let size = u32::try_from(bytes.len()).map_err(|_| io::Error::other("more than 4 GiB in one file"))?;
    let links = if entry.mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
    let (major, minor) = entry.device;
    // Magic, inode, mode, uid, gid, links, mtime, size, device of the file system, device of the node,
    // length of the name with its NUL, checksum (not used by this format).
    let header = format!(
        "070701{number:08X}{mode:08X}{zero:08X}{zero:08X}{links:08X}{zero:08X}{size:08X}\
         {zero:08X}{zero:08X}{major:08X}{minor:08X}{name:08X}{zero:08X}",
        mode = entry.mode,
        name = path.len() + 1,
        zero = 0,
    );
    output.write_all(header.as_bytes())?;
    output.write_all(path.as_bytes())?;
    output.write_all(&[0])?;
    let mut written = header.len() + path.len() + 1;
    written += pad(output, written, 4)?;
    output.write_all(bytes)?;
    written += bytes.len();
    written += pad(output, written, 4)?;
    Ok(written)
}

/// Writes zeroes up to the next multiple of `to`; returns how many.
fn pad(output: &mut dyn Write, written: usize, to: usize) -> io::Result<usize> {
    let missing = written.next_multiple_of(to) - written;
    io::copy(&mut io::repeat(0).take(missing as u64), output)?;
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_before_what_is_in_it() {
        let mut archive = Archive::default();
        archive.bytes("a/b/file", 0o644, "content");
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let names = ["a\0", "a/b\0", "a/b/file\0", "content", "TRAILER!!!\0"];
        let positions: Vec<usize> = names.iter().map(|name| text.find(name).unwrap()).collect();
        assert!(positions.is_sorted(), "{positions:?}");
    }

    #[test]
    fn headers_and_contents_are_aligned_and_the_end_is_padded_to_a_block() {
        for length in 0..9 {
            let mut archive = Archive::default();
            archive.bytes("file", 0o755, vec![b'x'; length]);
            archive.symlink("link", "file");
            let mut bytes = Vec::new();
            archive.write(&mut bytes).unwrap();
            assert_eq!(bytes.len() % BLOCK, 0);
            let headers: Vec<usize> =
                bytes.windows(6).enumerate().filter(|(_, w)| *w == b"070701").map(|(at, _)| at).collect();
            assert_eq!(headers.len(), 3);
            assert!(headers.iter().all(|at| at % 4 == 0), "{headers:?}");
        }
    }

    #[test]
    fn a_header_says_what_the_entry_is() {
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
