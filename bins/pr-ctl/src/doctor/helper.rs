//! The process behind the helper's socket.

use std::{fs, io, path::Path};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::SocketAddrUnix;

use crate::findings::{Finding, Outcome};

const NAME: &str = "the helper's process";

/// Number of `CAP_SYS_RAWIO` in `<linux/capability.h>`. SG_IO requires it for PERSISTENT RESERVE IN and OUT.
const CAP_SYS_RAWIO: u32 = 17;

/// Checks as which user and with which capability the process runs that listens on a socket. `proc` is the path of the
/// proc file system.
pub(super) fn check(path: &Path, proc: &Path) -> Finding {
    match listener(path) {
        Ok(0) => Finding::new(NAME, Outcome::Unknown, "it is in another PID namespace, as in a container"),
        Ok(1) => Finding::ok(NAME, "the service manager listens for it (pid 1), and starts it when needed"),
        Ok(pid) => described(pid, &proc.join(pid.to_string())),
        Err(error) => Finding::new(NAME, Outcome::Unknown, error.to_string()),
    }
}

/// Returns the number of the process that listens on a socket; 0 if it is in another PID namespace.
fn listener(path: &Path) -> io::Result<i32> {
    let stream = crate::socket::connect(&SocketAddrUnix::new(path)?)?;
    // nix, since rustix's type cannot represent process 0.
    Ok(getsockopt(&stream, PeerCredentials)?.pid())
}

/// Describes a process by its directory in /proc.
fn described(pid: i32, directory: &Path) -> Finding {
    let files = (fs::read_to_string(directory.join("comm")), fs::read_to_string(directory.join("status")));
    let (Ok(name), Ok(status)) = files else {
        return Finding::new(NAME, Outcome::Unknown, format!("pid {pid}, whose state cannot be read"));
    };
    let words =
        |field: &str| status.lines().find_map(|line| line.strip_prefix(field)).map(str::split_whitespace);
    // The fields of Uid are the real, effective, saved and file system user.
    let user = words("Uid:").and_then(|mut users| users.nth(1)).unwrap_or("?");
    let capabilities = words("CapEff:").and_then(|mut words| u64::from_str_radix(words.next()?, 16).ok());
    let process = format!("pid {pid} ({}), user {user}", name.trim_end());
    match capabilities.map(|set| set >> CAP_SYS_RAWIO & 1 == 1) {
        Some(true) => Finding::ok(NAME, format!("{process}, with CAP_SYS_RAWIO")),
        Some(false) => Finding::new(NAME, Outcome::Warning, format!("{process}, without CAP_SYS_RAWIO"))
            .advise(
                "the kernel refuses its commands to disks, unless it only emulates or its children have it",
            ),
        None => Finding::new(NAME, Outcome::Unknown, format!("{process}, capabilities unknown")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::findings::Findings;

    /// Returns the lines of the finding on this process, which listens on a socket. `status` is its state.
    fn lines(status: Option<&str>) -> String {
        let directory = tempfile::tempdir().unwrap();
        let pid = std::process::id().to_string();
        let _listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        if let Some(status) = status {
            fs::create_dir(directory.path().join(&pid)).unwrap();
            fs::write(directory.path().join(&pid).join("comm"), "pr-helper\n").unwrap();
            fs::write(directory.path().join(&pid).join("status"), status).unwrap();
        }
        let mut findings = Findings::default();
        findings.add(check(&directory.path().join("socket"), directory.path()));
        findings.report().lines.join("\n").replace(&pid, "PID")
    }

    #[test]
    fn listening_process_is_described() {
        assert_eq!(
            lines(Some("Uid:\t0\t107\t0\t0\nCapEff:\t0000000000020000\n")),
            "  ok  the helper's process: pid PID (pr-helper), user 107, with CAP_SYS_RAWIO"
        );
        let without = lines(Some("Uid:\t0\t0\t0\t0\nCapEff:\tfffffffffffdffff\n"));
        assert!(
            without.starts_with("  !!  the helper's process: ") && without.contains("without CAP"),
            "{without}"
        );
        assert!(lines(Some("")).starts_with("  ??  "));
        assert!(lines(None).starts_with("  ??  the helper's process: pid PID, whose state"));
    }
}
