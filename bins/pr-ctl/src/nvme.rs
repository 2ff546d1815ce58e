//! What a namespace's controllers must have so that reservations tell hosts apart, from /sys.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::findings::{ANSWER_IS_NO, Finding, Findings, Outcome};

/// The first version of Linux that takes reservation commands without `CAP_SYS_ADMIN`.
const WITHOUT_PRIVILEGE: (u32, u32) = (6, 2);

/// Checks the kernel and the controllers. `directory` is that of the namespace in /sys.
pub(crate) fn check(directory: &Path, findings: &mut Findings) {
    if let Some(finding) = kernel(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()) {
        findings.add(finding);
    }
    findings.add(host_identifier(directory));
}

/// Returns the finding of a kernel that is too old.
fn kernel(release: &str) -> Option<Finding> {
    let mut numbers = release.split(['.', '-', '\n']).map_while(|number| number.parse().ok());
    let version: (u32, u32) = (numbers.next()?, numbers.next()?);
    (version < WITHOUT_PRIVILEGE).then(|| {
        Finding::new("kernel", Outcome::Warning, release.trim())
            .advise("before Linux 6.2 the commands take CAP_SYS_ADMIN, which the helper does not have")
    })
}

/// Checks that the controllers have the same host identifier.
fn host_identifier(directory: &Path) -> Finding {
    const NAME: &str = "host identifier";
    let controllers = controllers(directory);
    let read = |path: &PathBuf| fs::read_to_string(path.join("hostid")).ok().map(|id| id.trim().to_owned());
    let identifiers: BTreeSet<Option<String>> = controllers.iter().map(read).collect();
    let known: Vec<&str> = identifiers.iter().flatten().map(String::as_str).collect();
    match &known[..] {
        [] => Finding::new(NAME, Outcome::Warning, "none in /sys").advise(
            "Linux sets none on PCI Express, and old kernels do not show it: hosts are told apart by the number of their \
             controller, if that is static",
        ),
        [one] if identifiers.len() == 1 => Finding::ok(NAME, *one),
        _ => Finding::new(NAME, Outcome::Failed(ANSWER_IS_NO), known.join(", ")).advise(
            "the controllers of this device belong to different hosts, and a reservation would be of one or the other: \
             connect all with the same --hostnqn and --hostid",
        ),
    }
}

/// Returns the directories of the controllers: the parent of the namespace, or those of its subsystem.
fn controllers(directory: &Path) -> Vec<PathBuf> {
    let parent = directory.join("device");
    if parent.join("cntlid").exists() {
        return vec![parent];
    }
    let entries = fs::read_dir(&parent).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.join("cntlid").exists()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::findings::line;

    #[test]
    fn old_kernels_are_a_warning() {
        for (release, is_old) in [
            ("6.1.0-32-amd64\n", true),
            ("5.15.3\n", true),
            ("6.2.0\n", false),
            ("7.2-rc1\n", false),
            ("", false),
        ] {
            assert_eq!(kernel(release).is_some(), is_old, "{release}");
        }
    }

    #[test]
    fn controllers_must_be_of_one_host() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str, host: Option<&str>| {
            let path = root.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cntlid"), "1\n").unwrap();
            if let Some(host) = host {
                fs::write(path.join("hostid"), format!("{host}\n")).unwrap();
            }
            path
        };
        let namespace = |name: &str, parent: &Path| {
            let path = root.path().join(name);
            fs::create_dir_all(&path).unwrap();
            symlink(parent, path.join("device")).unwrap();
            path
        };
        let (a, same, b, none) =
            (make("a", Some("1")), make("same", Some("1")), make("b", Some("2")), make("none", None));
        assert_eq!(line(host_identifier(&namespace("n1", &a))), "ok  host identifier: 1");
        assert_eq!(line(host_identifier(&namespace("n2", &none))), "!!  host identifier: none in /sys");
        let subsystem = root.path().join("subsystem");
        fs::create_dir_all(&subsystem).unwrap();
        symlink(&a, subsystem.join("nvme0")).unwrap();
        symlink(&same, subsystem.join("nvme1")).unwrap();
        let head = namespace("head", &subsystem);
        assert_eq!(line(host_identifier(&head)), "ok  host identifier: 1");
        symlink(&b, subsystem.join("nvme2")).unwrap();
        assert_eq!(line(host_identifier(&head)), "NO  host identifier: 1, 2");
    }
}
