//! Paths of the command line.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Makes a path absolute, since `--daemon` changes the working directory.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
