//! What the service manager is told, if it started this process.

use std::{env, os::unix::process::parent_id, process};

pub(crate) use sd_notify::NotifyState as State;

/// Tells the service manager. Whether it hears is its own affair.
pub(crate) fn notify(state: State<'_>) {
    let started = env::var("SYSTEMD_EXEC_PID").ok();
    if is_for_us(started.as_deref(), process::id(), parent_id()) {
        let _ = sd_notify::notify(&[state]);
    }
}

/// Whether what the environment has of a service manager is meant for this process. libvirtd leaves its own to the helpers
/// that it starts; systemd would warn of each of their words, or take them for libvirtd's. `started` is the process that
/// systemd (248 or later) says it started: this one, or a wrapper that runs this one as its child (not one deeper). Where the
/// parent is of another PID namespace (process 0), numbers say nothing.
fn is_for_us(started: Option<&str>, process: u32, parent: u32) -> bool {
    let started: Option<u32> = started.and_then(|text| text.parse().ok());
    parent == 0 || started.is_none_or(|started| [process, parent].contains(&started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_for_another_process_is_not_for_us() {
        assert!(is_for_us(Some("20"), 20, 1), "started by systemd");
        assert!(is_for_us(Some("20"), 21, 20), "started by a wrapper");
        assert!(!is_for_us(Some("20"), 22, 1), "started by a service, in the background");
        assert!(is_for_us(Some("20"), 1, 0), "started by a wrapper that makes a PID namespace");
        assert!(is_for_us(None, 22, 1), "an older systemd");
        assert!(is_for_us(Some("nonsense"), 22, 1));
    }
}
