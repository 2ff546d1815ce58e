//! Log lines about a libmpathpersist that is missing or does not load.

use std::fs;

use rustix::process::Signal;
use test_support::{Daemon, Options};

/// Starts a daemon whose dynamic loader first searches a directory in which the library has this content.
/// Returns `None` if the daemon lacks the privileges for multipath maps.
fn daemon_with_library(content: Option<&str>) -> Option<Daemon> {
    let directory = tempfile::tempdir().unwrap();
    if let Some(content) = content {
        fs::write(directory.path().join("libmpathpersist.so.0"), content).unwrap();
    }
    let path = directory.path().to_str().unwrap().to_owned();
    let environment = vec![("LD_LIBRARY_PATH".to_owned(), path)];
    let daemon = Daemon::with(Options { environment, ..Options::default() });
    daemon.wait_for_log("multipath maps are");
    (!daemon.log().contains("was not started as root")).then_some(daemon)
}

#[test]
fn broken_library_is_a_warning() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Some(daemon) = daemon_with_library(Some("no library")) else { return };
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("multipath maps are")).unwrap();
    let start = "pr-helper: warning: multipath maps are not served for now: libmpathpersist is installed but cannot be loaded: ";
    assert!(line.starts_with(start), "{log}");
    assert!(line.ends_with("libmpathpersist.so.0: file too short"), "the error of the dynamic loader: {log}");
    daemon.signal(Signal::USR1);
    daemon.wait_for_log(
        "state: multipath maps are not served: libmpathpersist or device-mapper cannot be used now",
    );
    daemon.stop();
}

#[test]
fn missing_library_is_no_warning() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Some(daemon) = daemon_with_library(None) else { return };
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("multipath maps are")).unwrap();
    if line.contains("are served by") {
        // multipath-tools is installed on this host.
        return daemon.stop();
    }
    let start = "pr-helper: info: multipath maps are not served: libmpathpersist is not installed; ";
    assert!(line.starts_with(start), "{log}");
    daemon.stop();
}
