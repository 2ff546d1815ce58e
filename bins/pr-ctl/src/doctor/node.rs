//! The node itself: kernel, user, security modules and what they have denied.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{
    findings::{Finding, Findings, Outcome},
    report::count,
};

const AUDIT_LOG: &str = "var/log/audit/audit.log";
const KERNEL_LOG: &str = "dev/kmsg";

/// Checks the node. `root` is the root directory.
pub(super) fn check(root: &Path, findings: &mut Findings) {
    findings.add(Finding::ok("kernel", rustix::system::uname().release().to_string_lossy()));
    let user = rustix::process::geteuid();
    let limits = if user.is_root() { "" } else { ", to whom some of the checks are closed" };
    findings.add(Finding::ok("user", format!("{}{limits}", user.as_raw())));
    let modules = security_modules(root);
    let names = if modules.is_empty() { "none".to_owned() } else { modules.join(", ") };
    findings.add(Finding::ok("security modules", names));
    if !modules.is_empty() {
        findings.add(denials(root));
    }
}

/// Returns the active security modules that confine programs by policy, `SELinux` with its mode.
fn security_modules(root: &Path) -> Vec<&'static str> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let selinux = match read("sys/fs/selinux/enforce").trim() {
        "1" => Some("SELinux, enforcing"),
        "0" => Some("SELinux, permissive"),
        _ => None,
    };
    let apparmor = (read("sys/module/apparmor/parameters/enabled").trim() == "Y").then_some("AppArmor");
    selinux.into_iter().chain(apparmor).collect()
}

/// Searches the log of denials for those that concern a helper. With auditd they are in its log only, otherwise in the
/// kernel's.
fn denials(root: &Path) -> Finding {
    const NAME: &str = "denials to the helper";
    let (log, found) = match File::open(root.join(AUDIT_LOG)) {
        Ok(log) => (AUDIT_LOG, lines_of(log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (KERNEL_LOG, kernel_log(&root.join(KERNEL_LOG)))
        }
        Err(error) => (AUDIT_LOG, Err(error)),
    };
    match found {
        Ok((0, _)) => Finding::ok(NAME, format!("none in /{log}")),
        Ok((number, last)) => Finding::new(
            NAME,
            Outcome::Warning,
            format!("{} in /{log}, last: {last}", count(number, "denial")),
        )
        .advise("if it is of today, allow it: see \"AVC or AppArmor denials\" in the operations manual"),
        Err(error) => {
            Finding::new(NAME, Outcome::Unknown, format!("/{log}: {error}")).advise("run this as root")
        }
    }
}

/// The number of denials, and the last of them.
type Denials = (usize, String);

fn lines_of(log: File) -> io::Result<Denials> {
    let mut denials = Denials::default();
    for line in BufReader::new(log).split(b'\n') {
        add_denial(&String::from_utf8_lossy(&line?), &mut denials);
    }
    Ok(denials)
}

/// Reads the kernel's log from its start, without waiting for more. Each read returns one record.
fn kernel_log(path: &Path) -> io::Result<Denials> {
    /// The kernel's limit of a record (`PRINTK_MESSAGE_MAX`) is below.
    const RECORD_MAX: usize = 8192;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut log = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut denials = Denials::default();
    let mut record = vec![0; RECORD_MAX];
    loop {
        match log.read(&mut record) {
            Ok(0) => return Ok(denials),
            Ok(length) => {
                let record = record.get(..length).unwrap_or_default();
                add_denial(String::from_utf8_lossy(record).lines().next().unwrap_or_default(), &mut denials);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(denials),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The record was overwritten meanwhile; the next read returns the oldest that is left.
            Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Counts a line if it is a denial to a process or profile of a helper.
fn add_denial(line: &str, (number, last): &mut Denials) {
    let is_denial = line.contains("apparmor=\"DENIED\"") || line.contains("avc:  denied");
    // The processes for maps are pr-helper-super and pr-helper-mpath.
    if is_denial && (line.contains("=\"pr-helper") || line.contains("=\"qemu-pr-helper")) {
        *number += 1;
        line.trim_end().clone_into(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of the findings on a node with these files.
    fn lines(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let mut findings = Findings::default();
        check(root.path(), &mut findings);
        findings.report().lines
    }

    const SELINUX: (&str, &str) = ("sys/fs/selinux/enforce", "1");
    const APPARMOR: (&str, &str) = ("sys/module/apparmor/parameters/enabled", "Y\n");
    const AVC: &str =
        "type=AVC msg=audit(1.2:3): avc:  denied  { open } for  pid=1 comm=\"pr-helper-mpath\" x\n";
    const OTHER: &str = "type=AVC msg=audit(1.2:3): avc:  denied  { open } for  pid=1 comm=\"httpd\" x\n";
    const DENIED: &str = "4,1,2,-;audit: apparmor=\"DENIED\" operation=\"open\" profile=\"pr-helper\" x\n";

    #[test]
    fn security_modules_are_named() {
        assert_eq!(lines(&[])[2..], ["  ok  security modules: none"]);
        let both = lines(&[SELINUX, APPARMOR]);
        assert_eq!(both[2], "  ok  security modules: SELinux, enforcing, AppArmor");
        assert!(lines(&[("sys/fs/selinux/enforce", "0")])[2].ends_with("SELinux, permissive"));
    }

    #[test]
    fn denials_to_the_helper_are_found() {
        let logged = |files: &[(&str, &str)]| lines(files)[3].clone();
        assert_eq!(
            logged(&[SELINUX, (AUDIT_LOG, OTHER)]),
            "  ok  denials to the helper: none in /var/log/audit/audit.log"
        );
        let found = logged(&[SELINUX, (AUDIT_LOG, &[AVC, OTHER].concat())]);
        assert!(found.starts_with("  !!  denials to the helper: 1 denial in /var/log/audit"), "{found}");
        assert!(found.ends_with("comm=\"pr-helper-mpath\" x"), "{found}");
        let found = logged(&[APPARMOR, (KERNEL_LOG, DENIED)]);
        assert!(
            found.starts_with("  !!  denials to the helper: 1 denial in /dev/kmsg, last: 4,1,2"),
            "{found}"
        );
        // The kernel's log has nothing if auditd runs.
        assert!(logged(&[APPARMOR]).starts_with("  ??  denials to the helper: /dev/kmsg: "));
    }
}
