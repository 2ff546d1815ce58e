//! What the daemon leaves itself once it has started: system calls and files. Each crate lists its own system calls, with a
//! reason for each; here are those of the program.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use confinement::{COMMON, FileAccess, FileRestriction, Mode, Rule, Settings, rules};

use crate::args::{Args, Seccomp, SharedNexusPolicy};

/// What the program itself does after it has restricted itself.
const PROGRAM: &[Rule] = rules![
    Rule::new(libc::SYS_dup3, "detaches from the terminal"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_dup2, "detaches from the terminal"),
    Rule::new(libc::SYS_chdir, "leaves the working directory"),
    Rule::new(libc::SYS_getppid, "tells whether the service manager waits for notifications"),
    Rule::one_of(libc::SYS_socket, 0, &[1], "notifies the service manager: AF_UNIX"),
    Rule::new(libc::SYS_connect, "notifies the service manager"),
    Rule::new(libc::SYS_sendto, "notifies the service manager"),
    Rule::new(libc::SYS_sendmsg, "notifies the service manager"),
    Rule::new(libc::SYS_flock, "locks the directory of a socket that it removes"),
    Rule::new(libc::SYS_unlinkat, "removes sockets and pidfile"),
    #[cfg(target_arch = "x86_64")]
    Rule::new(libc::SYS_unlink, "removes sockets and pidfile"),
    Rule::new(libc::SYS_prlimit64, "reads limits"),
    // The metrics threads inherit this filter, and set a narrower one.
    Rule::new(libc::SYS_seccomp, "restricts the metrics threads further"),
    Rule::one_of(libc::SYS_prctl, 0, &[38], "PR_SET_NO_NEW_PRIVS, before a filter"),
];

/// The files that the daemon uses after its start.
#[derive(Debug, Default)]
pub(crate) struct Files<'a> {
    /// Files that it removes when it stops.
    pub(crate) removed: Vec<&'a Path>,
    /// The directory of emulated disks' states.
    pub(crate) states: Option<&'a Path>,
}

/// Restricts this process, which must have one thread, and all threads that it spawns. `of_backends` are the system calls of
/// the executor.
pub(crate) fn restrict(
    args: &Args,
    files: &Files<'_>,
    of_backends: &[&[Rule]],
) -> Result<(), Box<dyn Error>> {
    confinement::harden()?;
    restrict_files(args, files)?;
    let Some(settings) = settings(args) else { return Ok(()) };
    let lists = [&[COMMON, PROGRAM, pr_server::SYSTEM_CALLS], of_backends].concat();
    match confinement::restrict_calls(&lists, settings) {
        Err(error @ confinement::Error::Unsupported) => log::info!("{error}"),
        restricted => restricted?,
    }
    Ok(())
}

/// Restricts a thread that serves metrics, and all threads that it spawns.
pub(crate) fn restrict_metrics(args: &Args) -> impl FnOnce() + Send + 'static {
    let settings = settings(args);
    move || {
        if let Some(settings) = settings {
            // Checked by the restriction of the process; this one is in addition.
            if let Err(error) = confinement::restrict_calls(&[COMMON, pr_metrics::SYSTEM_CALLS], settings) {
                log::debug!("metrics: {error}");
            }
        }
    }
}

/// Returns how system calls are restricted; `None` if they are not.
pub(crate) fn settings(args: &Args) -> Option<Settings> {
    let mode = match args.seccomp {
        Seccomp::Kill => Mode::Kill,
        Seccomp::Log => Mode::Log,
        Seccomp::Off => return None,
    };
    Some(Settings { mode, log_prefix: "pr-helper: " })
}

fn restrict_files(args: &Args, files: &Files<'_>) -> Result<(), Box<dyn Error>> {
    let directories: Vec<PathBuf> =
        files.removed.iter().filter_map(|path| path.parent().map(Path::to_owned)).collect();
    let remove: Vec<&Path> = directories.iter().map(PathBuf::as_path).collect();
    let write: Vec<&Path> = files.states.into_iter().collect();
    let access = FileAccess {
        read: &[Path::new("/sys"), Path::new("/proc/self/net")],
        remove: &remove,
        write: &write,
        // To learn whose announcement it is, the helper connects to other helpers' sockets.
        abstract_sockets: args.shared_nexus == SharedNexusPolicy::Refuse,
    };
    let extent = match confinement::restrict_files(access)? {
        FileRestriction::Full => "restricted by Landlock",
        FileRestriction::Partial => "restricted by an older Landlock, in part",
        FileRestriction::None => "not restricted: this kernel has no Landlock, or it is switched off",
    };
    log::debug!("access to files is {extent}");
    Ok(())
}
