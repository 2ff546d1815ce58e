//! What KubeVirt has around the helper: a privileged container with an entry point, and a watcher on the node that gives
//! the socket to the guests' user when it appears.

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

/// In the container: its own /run, with the directory that it shares with the node; then KubeVirt's entry point, with multipathd's
/// socket where libmpathpersist looks for it, as a link to where the node mounts it.
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

/// Which namespaces a container has beside that of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// As virt-handler's pod: one of the network's.
    Network,
    /// Also one of processes, of which the helper is the first.
    Processes,
}

/// What happened to the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Appeared,
    Disappeared,
}

/// The node, with the directory that containers share, and the watcher.
pub struct Node {
    directory: TempDir,
    inotify: OwnedFd,
    events: Vec<Event>,
}

impl Node {
    /// A node on which no helper has run; `None`, and a word of why, where containers cannot be made.
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
                // Guests have to get through.
                fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
                for name in ["pr", "run"] {
                    fs::create_dir(directory.path().join(name)).unwrap();
                }
                let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
                let node = Self { directory, inotify, events: Vec::new() };
                let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
                inotify::add_watch(&node.inotify, node.shared(), changes).unwrap();
                // The watcher begins with that, whether the helper is there or not.
                chown(node.shared(), Some(GUESTS), Some(GUESTS)).unwrap();
                return Some(node);
            }
        };
        eprintln!("not run, for want of namespaces: {}", refusal.trim());
        None
    }

    /// The directory that containers share.
    pub fn shared(&self) -> PathBuf {
        self.directory.path().join("pr")
    }

    /// The socket, as the node sees it.
    pub fn socket(&self) -> PathBuf {
        self.shared().join(SOCKET)
    }

    /// What has happened to the socket until now. When it appeared, directory and socket became the guests'.
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

    /// Waits until the socket has appeared or disappeared, as the last that happened.
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
        // Mounts that the node makes in the shared directory arrive.
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

/// A container with a helper. Dropped, it is killed.
pub struct Container {
    child: Child,
    isolation: Isolation,
    log: PathBuf,
}

impl Container {
    /// Its first process, the helper once that runs.
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

    /// Sends a signal to its first process, as a container runtime does.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.helper().expect("a process"), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the container ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("just seen")
    }

    /// What the helper has said.
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

/// Whether nobody answers on the socket.
pub fn is_dead(socket: &Path) -> bool {
    let connected = std::os::unix::net::UnixStream::connect(socket);
    connected.is_err_and(|error| {
        [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound].contains(&error.kind())
    })
}
