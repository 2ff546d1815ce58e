//! Notifications to the service manager (`sd_notify(3)`), if it started this process.

use std::{env, os::unix::process::parent_id, process};

pub(crate) use sd_notify::NotifyState as State;

/// Notifies the service manager, without checking whether it receives the message.
pub(crate) fn notify(state: State<'_>) {
    let started = env::var("SYSTEMD_EXEC_PID").ok();
    if is_started_by_manager(started.as_deref(), process::id(), parent_id()) {
        let _ = sd_notify::notify(&[state]);
    }
}

/// Returns whether `NOTIFY_SOCKET` in the environment is meant for this process. libvirtd passes its own
/// environment on to the helpers that it starts; systemd would log a warning for each of their messages, or
/// take them for libvirtd's.
///
/// `started` is the process ID that systemd (248 or later) sets in `SYSTEMD_EXEC_PID`: this process, or a
/// wrapper whose child it is (not a grandchild). Process IDs cannot be compared if the parent is in another
/// PID namespace (`parent` 0).
fn is_started_by_manager(started: Option<&str>, process: u32, parent: u32) -> bool {
    let started: Option<u32> = started.and_then(|text| text.parse().ok());
    parent == 0 || started.is_none_or(|started| [process, parent].contains(&started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_socket_of_libvirtd_is_ignored() {
        assert!(is_started_by_manager(Some("20"), 20, 1), "started by systemd");
        assert!(is_started_by_manager(Some("20"), 21, 20), "started by a wrapper");
        assert!(!is_started_by_manager(Some("20"), 22, 1), "started by a service, in the background");
        assert!(is_started_by_manager(Some("20"), 1, 0), "started by a wrapper that makes a PID namespace");
        assert!(is_started_by_manager(None, 22, 1), "an older systemd");
        assert!(is_started_by_manager(Some("nonsense"), 22, 1));
    }
}
