//! The output of QEMU and the guest's kernel, for failed tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the path of the file for QEMU's own messages.
pub(crate) fn messages() -> PathBuf {
    "/run/lab/qemu/messages".into()
}

/// Returns the messages of QEMU and of the guest's kernel.
pub(crate) fn all_messages() -> String {
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    format!("--- QEMU\n{}--- its console\n{}", read(&messages()), read(Path::new("/run/lab/qemu/console")))
}
