//! Capacity of this machine: the number of clients is bounded by open files (`RLIMIT_NOFILE`) and by threads
//! (`pids.max` of the control group, which systemd sets from `TasksMax=`).

use std::{fs, time::Duration};

use pr_server::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of a connection: its socket, and up to three of its next message (a receive buffer has room
/// for two, and the kernel may round that up to three).
const FILES_PER_CLIENT: usize = 4;

/// Descriptors of the helper itself, with its multipath workers.
const OWN_FILES: usize = 400;

/// Threads and processes of the helper itself, with its multipath workers.
const OWN_TASKS: usize = 100;

/// Lowest quota of a client process.
const MIN_CLIENTS_PER_PROCESS: usize = 64;

/// Maximum numbers of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientLimits {
    /// Of all clients.
    pub(crate) max: usize,
    /// Quota of one client process.
    pub(crate) max_per_process: usize,
}

impl ClientLimits {
    /// Raises the limit of open files as far as `wanted` clients need it, and returns how many can be served.
    /// If these are fewer, logs the limit that must be raised.
    pub(crate) fn raise(wanted: u32) -> Self {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let by_files = clients_for(raise_files(wanted), FILES_PER_CLIENT, OWN_FILES);
        let by_tasks = clients_for(max_tasks(), 1, OWN_TASKS);
        let max = wanted.min(by_files).min(by_tasks).max(1);
        if max < wanted {
            let (name, remedy) = if by_files <= by_tasks {
                ("open files", "RLIMIT_NOFILE, LimitNOFILE=")
            } else {
                ("tasks", "pids.max, TasksMax=")
            };
            log::info!("room for {max} clients, not {wanted}: raise the limit of {name} ({remedy}) for more");
        }
        Self { max, max_per_process: max_per_process(max) }
    }

    /// Returns the server's limits. A command counts as slow after `slow`.
    pub(crate) fn with(self, slow: Duration) -> Limits {
        Limits { max_clients: self.max, max_clients_per_process: self.max_per_process, slow }
    }
}

/// Returns the quota of a client process: a quarter of all connections, but at least
/// [`MIN_CLIENTS_PER_PROCESS`].
fn max_per_process(max: usize) -> usize {
    (max / 4).max(MIN_CLIENTS_PER_PROCESS).min(max)
}

/// Returns how many clients `limit` allows, if each needs `each` and the helper itself needs `own`.
fn clients_for(limit: Option<usize>, each: usize, own: usize) -> usize {
    limit.map_or(usize::MAX, |limit| limit.saturating_sub(own) / each)
}

/// Raises the limit of open files for `clients` clients. Returns the resulting limit, `None` for unlimited.
fn raise_files(clients: usize) -> Option<usize> {
    let needed = clients.saturating_mul(FILES_PER_CLIENT).saturating_add(OWN_FILES);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is unlimited.
    let enough = current.map(|current| current.max(needed.try_into().unwrap_or(u64::MAX)));
    // Raising the hard limit needs CAP_SYS_RESOURCE; without it, go as far as the hard limit.
    let tries = [(enough, maximum), (enough, enough), (maximum, maximum)];
    let raised = tries
        .into_iter()
        .find(|&(current, maximum)| setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok());
    let limit = raised.map_or(current, |(limit, _)| limit);
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Returns the lowest `pids.max` of this process's control group and of the groups above it.
fn max_tasks() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    lowest_pids_max(&groups, |path| fs::read_to_string(path).ok())
}

/// Returns the lowest `pids.max` of the groups in `groups` and of their ancestors. `groups` has the format of
/// /proc/self/cgroup: cgroup v2 has one line, `0::PATH`; v1 has a line with `pids` among its controllers.
fn lowest_pids_max(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let mut lowest = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            list if list.split(',').any(|controller| controller == "pids") => "/sys/fs/cgroup/pids",
            _ => continue,
        };
        let mut group = group.trim_end_matches('/');
        loop {
            let max = read(&format!("{root}{group}/pids.max")).and_then(|text| text.trim().parse().ok());
            lowest = [lowest, max].into_iter().flatten().min();
            let Some((above, _)) = group.rsplit_once('/') else { break };
            group = above;
        }
    }
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_by_systemd_are_enough() {
        assert!(clients_for(Some(524_288), FILES_PER_CLIENT, OWN_FILES) >= 4096);
        assert_eq!(clients_for(Some(4196), 1, OWN_TASKS), 4096);
        assert_eq!(clients_for(None, 1, OWN_TASKS), usize::MAX);
        assert_eq!(clients_for(Some(50), 1, OWN_TASKS), 0);
    }

    #[test]
    fn quota_is_a_quarter_or_sixty_four() {
        let quotas = [4096, 1024, 256, 128, 64, 10, 1].map(max_per_process);
        assert_eq!(quotas, [1024, 256, 64, 64, 64, 10, 1]);
    }

    #[test]
    fn lowest_pids_max_counts() {
        let files = [
            ("/sys/fs/cgroup/system.slice/pr-helper.service/pids.max", "4200\n"),
            ("/sys/fs/cgroup/system.slice/pids.max", "max\n"),
            ("/sys/fs/cgroup/pids/docker/pids.max", "512\n"),
        ];
        let read =
            |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
        let lowest = |groups| lowest_pids_max(groups, read);
        assert_eq!(lowest("0::/system.slice/pr-helper.service\n"), Some(4200));
        assert_eq!(lowest("0::/system.slice/pr-helper.service/below\n"), Some(4200));
        assert_eq!(lowest("12:cpu:/x\n7:pids:/docker/abc\n0::/\n"), Some(512));
        assert_eq!(lowest("0::/\n"), None);
        assert_eq!(lowest("nonsense"), None);
    }
}
