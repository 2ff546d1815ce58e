//! Properties of the process.

use nix::sys::prctl;
use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, setrlimit},
};

/// Rules out that processes of the same user trace this one or read its memory, and that it dumps core; files that it creates
/// from now on belong to its user alone. Must be called after the last change of the user, and again after exec(2): both make
/// a process traceable again.
///
/// # Errors
///
/// The kernel's error.
pub fn harden() -> std::io::Result<()> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}
