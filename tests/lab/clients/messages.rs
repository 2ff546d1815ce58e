//! The output of QEMU and the guest's kernel, for failed tests.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Contains a directory for each QEMU that a test starts.
const DIRECTORIES: &str = "/run/lab/qemu";

/// Makes a directory for the files and sockets of one QEMU.
pub(crate) fn directory() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    if number == 0 {
        // Those of an earlier test.
        let _ = fs::remove_dir_all(DIRECTORIES);
    }
    let directory = Path::new(DIRECTORIES).join(number.to_string());
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Returns the messages of all QEMUs and of their guests' kernels.
pub(crate) fn all_messages() -> String {
    let entries = fs::read_dir(DIRECTORIES).into_iter().flatten().flatten();
    let read = |path: PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let of = |directory: PathBuf| {
        let (messages, console) = (read(directory.join("messages")), read(directory.join("console")));
        format!("--- QEMU in {}\n{messages}--- its console\n{console}", directory.display())
    };
    entries.map(|entry| of(entry.path())).collect::<Vec<_>>().concat()
}
