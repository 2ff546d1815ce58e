//! Temporary directories of a run. They may be large, and a killed run cannot remove its own, so the next run does.

use std::path::Path;
use std::{fs, process};

use tempfile::TempDir;

use tools::error::{Context as _, Result};

/// Prefix of the names, before the process ID.
const PREFIX: &str = "run.";

/// Creates a temporary directory in `directory`, removed when dropped.
pub(crate) fn create(directory: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}.", process::id()))
        .tempdir_in(directory)
        .context(|| format!("create a directory in {}", directory.display()))
}

/// Removes the temporary directories in `directory` whose process has exited. Errors are ignored: a remaining directory only
/// takes space.
pub(crate) fn remove_abandoned(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if owner(&entry.file_name().to_string_lossy()).is_some_and(|id| !is_alive(id)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns the ID of the process that made the directory of this name.
fn owner(name: &str) -> Option<u32> {
    let (id, _random) = name.strip_prefix(PREFIX)?.split_once('.')?;
    id.parse().ok()
}

fn is_alive(id: u32) -> bool {
    Path::new("/proc").join(id.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_abandoned_directories_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let own = create(parent.path()).unwrap();
        // No process has an ID above 2^22.
        let ended = parent.path().join("run.4194305.abcdef");
        let other = parent.path().join("image");
        fs::create_dir_all(&ended).unwrap();
        fs::create_dir_all(&other).unwrap();
        remove_abandoned(parent.path());
        assert!(own.path().exists() && other.exists() && !ended.exists());
    }
}
