//! What QEMU and the guest say.

use std::fs;
use std::path::{Path, PathBuf};

/// Where QEMU's own messages go.
pub(crate) fn messages() -> PathBuf {
    "/run/lab/qemu/messages".into()
}

/// What QEMU and the guest's kernel have said.
pub(crate) fn said() -> String {
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    format!("--- QEMU\n{}--- its console\n{}", read(&messages()), read(Path::new("/run/lab/qemu/console")))
}
