//! Access to files (Landlock).

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

/// The newest version of Landlock that is used. Older kernels restrict what they know.
const VERSION: ABI = ABI::V6;

/// The files that remain accessible. A path that does not exist is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileAccess<'a> {
    /// Files, and directories with all below, that can be read.
    pub read: &'a [&'a Path],
    /// Directories in which files can be removed.
    pub remove: &'a [&'a Path],
    /// Directories in which files can be read, written, made and removed.
    pub write: &'a [&'a Path],
    /// Whether abstract Unix sockets of processes that are not restricted alike remain reachable.
    pub abstract_sockets: bool,
}

/// How far the kernel restricts access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRestriction {
    /// In all ways that this crate knows.
    Full,
    /// In some ways: an older kernel.
    Partial,
    /// Not at all: the kernel has no Landlock, or it is switched off.
    None,
}

/// Access to files could not be restricted, although the kernel supports it.
#[derive(Debug, thiserror::Error)]
#[error("access to files cannot be restricted")]
pub struct FileError(#[source] RulesetError);

/// Restricts which files this thread can open from now on, and all threads and processes that it starts. Descriptors that are
/// open, or are received, stay as they are. Signals can be sent only to processes that are restricted alike. Cannot be undone.
///
/// # Errors
///
/// [`FileError`]; then nothing is restricted. A kernel without Landlock is no error.
pub fn restrict_files(access: FileAccess<'_>) -> Result<FileRestriction, FileError> {
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(VERSION))
        .and_then(|ruleset| {
            let scopes = if access.abstract_sockets {
                BitFlags::from(Scope::Signal)
            } else {
                Scope::Signal | Scope::AbstractUnixSocket
            };
            ruleset.scope(scopes)
        })
        .and_then(Ruleset::create)
        .and_then(|ruleset| {
            let read = rules(access.read, AccessFs::ReadFile | AccessFs::ReadDir);
            let remove = rules(access.remove, AccessFs::RemoveFile.into());
            let write = AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::MakeReg
                | AccessFs::RemoveFile;
            ruleset.add_rules(read.chain(remove).chain(rules(access.write, write)))
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(FileError)?;
    Ok(match restricted.ruleset {
        RulesetStatus::FullyEnforced => FileRestriction::Full,
        RulesetStatus::PartiallyEnforced => FileRestriction::Partial,
        RulesetStatus::NotEnforced => FileRestriction::None,
    })
}

/// Returns a rule for each of these paths that exists. Rights of directories are left out for a file.
fn rules<'a>(
    paths: &'a [&'a Path],
    access: BitFlags<AccessFs>,
) -> impl Iterator<Item = Result<PathBeneath<PathFd>, RulesetError>> + 'a {
    paths.iter().filter_map(move |path| {
        let descriptor = PathFd::new(path).ok()?;
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(VERSION) };
        Some(Ok(PathBeneath::new(descriptor, access)))
    })
}
