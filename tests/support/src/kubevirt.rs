//! The helper's surroundings in KubeVirt: a privileged container with an entry point, and a watcher on the
//! node that changes the owner of the socket to the guests' user when it appears.

use std::{
    fs, io,
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
    process::{Pid, Signal},
};
use tempfile::TempDir;

use crate::{Daemon, eventually};

/// The user and group that guests run as.
pub const GUESTS: u32 = 107;

const SOCKET: &str = "pr-helper.sock";

/// The container's script. It mounts a /run of its own and in it the directory that is shared with the node.
/// Then it does the same as KubeVirt's entry point: where libmpathpersist looks for multipathd's socket it
/// makes a link to the socket that the node mounts, and runs the helper.
const CONTAINER: &str = r#"
set -e
helper=$1 shared=$2 run=$3
mount -t tmpfs tmpfs "$run"
mkdir -p "$run/kubevirt/daemons/pr"
mount --rbind "$shared" "$run/kubevirt/daemons/pr"
mount --rbind "$run" "$(readlink -f /var/run)"
ln -s /var/run/kubevirt/daemons/pr/multipathd.socket "${MULTIPATH_SOCKET_NAME:-/run/multipathd.socket}"
exec "$helper" -k /var/run/kubevirt/daemons/pr/pr-helper.sock
"#;

/// The namespaces of a container in addition to a mount namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// A network namespace, like virt-handler's pod.
    Network,
    /// Also a PID namespace, in which the helper has process ID 1.
    Processes,
}

/// A change of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Appeared,
    Disappeared,
}

/// The node, with the directory that is shared with containers, and KubeVirt's watcher.
pub struct Node {
    directory: TempDir,
    inotify: OwnedFd,
    events: Vec<Event>,
}

impl Node {
    /// Creates a node on which no helper has run. Returns `None` and prints the reason if containers cannot
    /// be made.
    pub fn new() -> Option<Self> {
        let output = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "true"])
            .stdin(Stdio::null())
            .output();
        let refusal = match output {
            Err(error) => error.to_string(),
            Ok(output) if !output.status.success() => String::from_utf8_lossy(&output.stderr).into_owned(),
            Ok(_) if !rustix::process::geteuid().is_root() => "not root".to_owned(),
            Ok(_) => {
                let directory = tempfile::tempdir().unwrap();
                // Guests must be able to search the directory.
                fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
                for name in ["pr", "run"] {
                    fs::create_dir(directory.path().join(name)).unwrap();
                }
                let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
                let node = Self { directory, inotify, events: Vec::new() };
                let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
                inotify::add_watch(&node.inotify, node.shared(), changes).unwrap();
                // The watcher does this at its start, also if no helper runs.
                chown(node.shared(), Some(GUESTS), Some(GUESTS)).unwrap();
                return Some(node);
            }
        };
        eprintln!("not run: namespaces cannot be made: {}", refusal.trim());
        None
    }

    /// Returns the directory that is shared with containers.
    pub fn shared(&self) -> PathBuf {
        self.directory.path().join("pr")
    }

    /// Returns the socket's path on the node.
    pub fn socket(&self) -> PathBuf {
        self.shared().join(SOCKET)
    }

    /// Reads new inotify events and returns all changes of the socket so far. When the socket has appeared,
    /// this changes the owner of the directory and the socket to the guests' user, like KubeVirt's watcher.
    pub fn events(&mut self) -> &[Event] {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut space);
        loop {
            match reader.next() {
                Err(Errno::WOULDBLOCK) => return &self.events,
                Err(error) => panic!("inotify: {error}"),
                Ok(event) => {
                    if event.file_name().is_none_or(|name| name.to_bytes() != SOCKET.as_bytes()) {
                        continue;
                    }
                    if event.events().intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                        let shared = self.directory.path().join("pr");
                        for path in [shared.join(SOCKET), shared] {
                            chown(&path, Some(GUESTS), Some(GUESTS)).unwrap();
                        }
                        self.events.push(Event::Appeared);
                    } else {
                        self.events.push(Event::Disappeared);
                    }
                }
            }
        }
    }

    /// Waits until `event` is the last change of the socket and has happened `count` times.
    pub fn wait_for(&mut self, event: Event, count: usize) {
        eventually(&format!("{event:?} for the {count}. time"), || {
            let events = self.events();
            events.last() == Some(&event) && events.iter().filter(|other| **other == event).count() == count
        });
    }

    /// Starts a container.
    pub fn start(&self, isolation: Isolation, environment: &[(&str, &str)]) -> Container {
        let helper = Daemon::command();
        let log = self.directory.path().join("log");
        let output = fs::File::create(&log).unwrap();
        let mut command = Command::new("unshare");
        // Mounts that the node makes in the shared directory propagate into the container.
        command.args(["--mount", "--propagation", "slave", "--net"]);
        if isolation == Isolation::Processes {
            command.args(["--pid", "--fork", "--mount-proc"]);
        }
        command.args(["sh", "-c", CONTAINER, "sh"]).arg(helper.get_program());
        command.arg(self.shared()).arg(self.directory.path().join("run"));
        for (name, value) in helper.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        Container { child: command.spawn().unwrap(), isolation, log }
    }
}

/// A container with a helper. It is killed on drop.
pub struct Container {
    child: Child,
    isolation: Isolation,
    log: PathBuf,
}

impl Container {
    /// Returns the container's first process, which becomes the helper.
    pub fn helper(&self) -> Option<Pid> {
        let child = Pid::from_child(&self.child);
        match self.isolation {
            Isolation::Network => Some(child),
            Isolation::Processes => {
                let children = format!("/proc/{0}/task/{0}/children", child.as_raw_nonzero());
                let children = fs::read_to_string(children).unwrap_or_default();
                children.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw)
            }
        }
    }

    /// Sends a signal to the container's first process, as a container runtime does.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.helper().expect("a process"), signal).unwrap();
    }

    /// Waits for the container's exit.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the container exits", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("the container has exited")
    }

    /// Returns the helper's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(helper) = self.helper() {
            let _ = rustix::process::kill_process(helper, Signal::KILL);
        }
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the container's log ---\n{}", self.log());
        }
    }
}

/// Returns whether no process listens on the socket.
pub fn is_dead(socket: &Path) -> bool {
    let connected = std::os::unix::net::UnixStream::connect(socket);
    connected.is_err_and(|error| {
        [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound].contains(&error.kind())
    })
}
