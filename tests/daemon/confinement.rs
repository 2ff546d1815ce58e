//! What the daemon leaves itself, however it was started.

use std::{fs, os::unix::fs::MetadataExt as _};

use test_support::{Daemon, Options};

use crate::{null, read_keys};

/// Whether system calls are restricted on this architecture.
const HAS_FILTER: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// The mode of seccomp in /proc/PID/status.
const FILTERED: &str = if HAS_FILTER { "2" } else { "0" };

/// Returns the processes of a daemon: itself and all below it.
fn processes(daemon: &Daemon) -> Vec<u32> {
    let mut found = vec![daemon.pid()];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        found.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
        next += 1;
    }
    found
}

fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

/// By the line that libvirt uses: no option but the socket.
#[test]
fn each_process_restricts_itself() {
    let daemon = Daemon::start(&[]);
    daemon.client().read(null(), &read_keys(8)[..10]).unwrap();
    for pid in processes(&daemon) {
        assert_eq!((field(pid, "Seccomp"), field(pid, "NoNewPrivs")), (FILTERED.into(), "1".into()));
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
        let mask = field(pid, "Umask");
        assert_eq!(mask, "0077");
    }
    daemon.stop();
}

/// The files in /proc of a process that cannot be dumped belong to root, whoever its user is.
#[test]
fn daemon_is_not_dumpable() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can change the user");
        return;
    }
    let daemon = Daemon::start(&["-u", "nobody"]);
    let of_daemon = fs::metadata(format!("/proc/{}/maps", daemon.pid())).unwrap();
    assert_ne!(field(daemon.pid(), "Uid").split_whitespace().next(), Some("0"));
    assert_eq!(of_daemon.uid(), 0);
    daemon.stop();
}

#[test]
fn filter_can_be_switched_off() {
    let daemon = Daemon::start(&["--seccomp=off"]);
    assert_eq!(field(daemon.pid(), "Seccomp"), "0");
    daemon.stop();
    let daemon = Daemon::with(Options { arguments: vec!["--seccomp=log".into()], ..Options::default() });
    assert_eq!(field(daemon.pid(), "Seccomp"), FILTERED);
    daemon.client().read(null(), &read_keys(8)[..10]).unwrap();
    daemon.stop();
}
