//! Directories that a run needs only while it lasts. They may be large, and a run that is killed cannot remove its
//! own, so the next one does.

use std::path::Path;
use std::{fs, process};

use tempfile::TempDir;

use tools::error::{Context as _, Result};

/// Begins the names, and the process's ID follows.
const PREFIX: &str = "run.";

/// A new one in `directory`, which is gone when it is dropped.
pub(crate) fn create(directory: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}.", process::id()))
        .tempdir_in(directory)
        .context(|| format!("create a directory in {}", directory.display()))
}

/// Removes those in `directory` whose process is no more. One that cannot be removed only takes space.
pub(crate) fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if owner(&entry.file_name().to_string_lossy()).is_some_and(|id| !is_alive(id)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The process that made the directory of this name.
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
    fn only_the_directories_of_ended_processes_are_swept() {
        let above = tempfile::tempdir().unwrap();
        let own = create(above.path()).unwrap();
        // No process has an ID above 2^22.
        let ended = above.path().join("run.4194305.abcdef");
        let other = above.path().join("image");
        fs::create_dir_all(&ended).unwrap();
        fs::create_dir_all(&other).unwrap();
        sweep(above.path());
        assert!(own.path().exists() && other.exists() && !ended.exists());
    }
}
