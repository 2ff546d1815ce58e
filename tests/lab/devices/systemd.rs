//! The Debian packages and their units, on a system with systemd as its first process.

mod host;

use std::{
    collections::BTreeSet,
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    process::{Child, Command},
};

use fixtures::{Disk, Map, Multipath, after_unit_attentions, basic, open};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use scsi_sense::Status;
use test_support::{Client, Reply, eventually, scrape};

use self::host::Systemd;

const SOCKET: &str = "/run/qemu-pr-helper.sock";
/// The socket at which the service serves metrics and state.
const METRICS: &str = "/run/pr-helper/metrics.sock";
const SERVICE: &str = "pr-helper.service";
const DROP_INS: &str = "/etc/systemd/system/pr-helper.service.d";

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 2, 0, 0];
/// REGISTER AND IGNORE EXISTING KEY, with 24 bytes of parameters.
const REGISTER: [u8; 10] = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0];
const KEY: u64 = 0x5e47_0000_0000_0001;

/// Bit 17: `CAP_SYS_RAWIO`.
const RAWIO: &str = "0000000000020000";
/// Also bit 21: `CAP_SYS_ADMIN`.
const RAWIO_AND_ADMIN: &str = "0000000000220000";
const NONE: &str = "0000000000000000";

/// A system with the package installed. Stops the units when dropped; the package remains installed for later tests.
struct Installed(Systemd);

impl Installed {
    fn new() -> Self {
        let installed = Self(Systemd::booted());
        if !Path::new("/usr/bin/pr-helper").exists() {
            installed.dpkg(&["--install", "/lab/packages/pr-helper.deb"]);
        }
        installed
    }

    /// Returns the system with the socket enabled and listening.
    fn enabled() -> Self {
        let installed = Self::new();
        // The socket remains enabled for later tests, because enabling takes longer than starting.
        if !Path::new("/etc/systemd/system/sockets.target.wants/pr-helper.socket").exists() {
            installed.0.run(&["systemctl", "enable", "pr-helper.socket"]);
        }
        installed.0.run(&["systemctl", "start", "pr-helper.socket"]);
        installed
    }

    /// Runs dpkg by its path, since busybox has one too. The machine's dpkg database lacks the dependencies, and its PATH
    /// ldconfig.
    fn dpkg(&self, arguments: &[&str]) {
        self.0.run(&[&["/usr/bin/dpkg", "--force-depends", "--force-bad-path"], arguments].concat());
    }

    fn main_pid(&self) -> u32 {
        self.0.main_pid(SERVICE).expect("the service runs")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = self.0.try_run(&["systemctl", "stop", "pr-helper.socket", SERVICE]);
        if fs::remove_dir_all(DROP_INS).is_ok() {
            let _ = self.0.try_run(&["systemctl", "daemon-reload"]);
        }
    }
}

fn client() -> Client {
    Client::connect(Path::new(SOCKET)).expect("a connection")
}

/// A process as libvirt starts it: with an `AppArmor` profile, and with a /dev of its own that has one device, which is also
/// the process's standard input.
struct Guest(Child);

impl Guest {
    /// Starts the process with a device of this kind (`b` or `c`), number and name.
    fn with(kind: char, number: u64, name: &str) -> Self {
        let profile = Path::new("/run/lab/lab-guest");
        fs::write(
            profile,
            "profile lab-guest { capability, mount, network, ptrace, signal, unix, /{,**} rwlkmix, }\n",
        )
        .unwrap();
        let loaded =
            Command::new("apparmor_parser").args(["--replace", "--skip-cache"]).arg(profile).output();
        assert!(loaded.as_ref().unwrap().status.success(), "{loaded:?}");
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let script = format!(
            "mount -t tmpfs dev /dev && mknod /dev/{name} {kind} {major} {minor} && exec sleep 1000 <>/dev/{name}"
        );
        let child = Command::new("aa-exec")
            .args(["-p", "lab-guest", "unshare", "--mount", "sh", "-c", &script])
            .spawn();
        let guest = Self(child.unwrap());
        let input = format!("/proc/{}/fd/0", guest.0.id());
        eventually("the guest has its device", || {
            fs::read_link(&input).is_ok_and(|path| path.ends_with(name))
        });
        guest
    }

    /// Returns the guest's descriptor of the device, which carries the guest's profile.
    fn device(&self) -> OwnedFd {
        let process = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).unwrap();
        pidfd_getfd(process, 0, PidfdGetfdFlags::empty()).unwrap()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Registers a key through the service; 0 unregisters. Unit attentions are skipped.
fn register(client: &mut Client, disk: impl AsFd, key: u64) -> Reply {
    let parameters = basic(0, key);
    after_unit_attentions(|| client.write(&disk, &REGISTER, &parameters).expect("a reply"))
}

/// Returns the keys that are registered with a disk.
fn keys(client: &mut Client, disk: impl AsFd) -> Vec<u64> {
    let reply = after_unit_attentions(|| client.read(&disk, &READ_KEYS).expect("a reply"));
    assert_eq!(reply.status, Status::GOOD);
    reply.payload[8..].chunks(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect()
}

/// Returns a field of /proc/PID/status.
fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name}")).trim().replace('\t', " ")
}

/// Returns the `AppArmor` profile of a process.
fn confinement(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap().trim().to_owned()
}

/// Returns the kernel's messages about `AppArmor` denials for pr-helper since the machine was started.
fn denied() -> Vec<String> {
    let kernel = Command::new("dmesg").output().unwrap().stdout;
    let lines = String::from_utf8_lossy(&kernel);
    let is_ours = |line: &&str| line.contains("apparmor=\"DENIED\"") && line.contains("profile=\"pr-helper");
    lines.lines().filter(is_ours).map(str::to_owned).collect()
}

/// Returns all files in the directories in which a package could leave files.
fn files() -> BTreeSet<String> {
    let found = Command::new("find").args(["/etc", "/usr", "/var", "-xdev"]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    // dpkg's database and the journal keep entries of removed packages.
    let is_kept = |path: &&str| ["/var/lib/dpkg/", "/var/log/"].iter().any(|prefix| path.starts_with(prefix));
    found.lines().filter(|path| !is_kept(path)).map(str::to_owned).collect()
}

#[test]
fn first_connection_starts_unprivileged_service() {
    let system = Installed::enabled();
    let before = denied();
    assert_eq!(system.0.property(SERVICE, "ActiveState"), "inactive");
    let socket = fs::metadata(SOCKET).unwrap();
    assert_eq!((socket.uid(), socket.gid(), socket.mode() & 0o777), (0, 104, 0o660), "root:kvm");

    let disk = open(&Disk::nexus_a().block);
    let mut client = client();
    assert_eq!(register(&mut client, &disk, KEY).status, Status::GOOD, "{}", system.0.journal(SERVICE));
    assert_eq!(keys(&mut client, &disk), [KEY]);
    assert_eq!(register(&mut client, &disk, 0).status, Status::GOOD);
    let generic = open(&Disk::nexus_a().generic);
    assert!(keys(&mut client, &generic).is_empty());
    let guest = Guest::with('b', fs::metadata(Disk::nexus_a().block).unwrap().rdev(), "sdz");
    assert!(keys(&mut client, guest.device()).is_empty());

    let pid = system.main_pid();
    assert_eq!((field(pid, "CapPrm"), field(pid, "CapEff")), (RAWIO.into(), RAWIO.into()));
    assert_eq!((field(pid, "NoNewPrivs"), field(pid, "Seccomp")), ("1".into(), "2".into()));
    assert!(!field(pid, "Uid").split(' ').any(|uid| uid == "0"), "{}", field(pid, "Uid"));
    assert_eq!(confinement(pid), "pr-helper (enforce)");
    let state = state();
    assert!(state.contains("multipath maps are not served") && state.contains("clients: 1"), "{state}");
    assert_eq!(denied(), before);
}

/// Returns the state of the service, which only root may read.
fn state() -> String {
    let socket = Path::new(METRICS);
    assert_eq!(fs::metadata(socket).unwrap().mode() & 0o777, 0o600);
    scrape::get(socket, "/state")
}

#[test]
fn descriptor_outside_profile_does_not_arrive() {
    let system = Installed::enabled();
    let before = denied();
    let other = fs::metadata("/dev/loop-control").unwrap().rdev();
    let guest = Guest::with('c', other, "loop-control");
    assert!(client().read(guest.device(), &READ_KEYS).is_err());
    assert_eq!(denied().len(), before.len() + 1);
    let journal = system.0.journal(SERVICE);
    assert!(journal.contains("sent a descriptor that could not be received"), "{journal}");
    // The next client is served nevertheless.
    keys(&mut client(), open(&Disk::nexus_a().block));
}

#[test]
fn exposure_is_as_low_as_stated() {
    let system = Installed::new();
    system.0.run(&["systemd-analyze", "security", "--no-pager", "--threshold=10", SERVICE]);
    add_multipath(&system);
    system.0.run(&["systemd-analyze", "security", "--no-pager", "--threshold=20", SERVICE]);
}

/// The packaged unit has room for all clients, so its log does not name a limit.
#[test]
fn low_task_limit_is_logged() {
    let system = Installed::enabled();
    keys(&mut client(), open(&Disk::nexus_a().block));
    let log = start_log(&system);
    assert!(!log.contains("room for"), "{log}");

    fs::create_dir_all(DROP_INS).unwrap();
    fs::write(Path::new(DROP_INS).join("tasks.conf"), "[Service]\nTasksMax=150\n").unwrap();
    system.0.run(&["systemctl", "daemon-reload"]);
    system.0.run(&["systemctl", "restart", SERVICE]);
    let log = start_log(&system);
    // The helper keeps 100 tasks for itself.
    assert!(log.contains("room for 50 clients, not 4096: raise the limit of tasks"), "{log}");
    keys(&mut client(), open(&Disk::nexus_a().block));
}

/// Returns what the running service logged at its start.
fn start_log(system: &Installed) -> String {
    let mut log = String::new();
    eventually("the start is in the journal", || {
        log = system.0.journal_of_run(SERVICE);
        log.contains("listening on")
    });
    log
}

#[test]
fn socket_outlives_a_crash() {
    let system = Installed::enabled();
    let disk = open(&Disk::nexus_a().block);
    let mut before = client();
    keys(&mut before, &disk);
    let (pid, inode) = (system.main_pid(), fs::metadata(SOCKET).unwrap().ino());
    system.0.run(&["systemctl", "kill", "--kill-whom=main", "--signal=ABRT", SERVICE]);
    assert!(before.is_closed());
    // The service is not running now, or not yet.
    let mut meanwhile = client();
    keys(&mut meanwhile, &disk);
    assert_ne!(system.main_pid(), pid);
    assert_eq!(fs::metadata(SOCKET).unwrap().ino(), inode);
    state();
}

#[test]
fn stopping_and_restarting_lose_no_connection() {
    let system = Installed::enabled();
    let disk = open(&Disk::nexus_a().block);
    keys(&mut client(), &disk);
    system.0.run(&["systemctl", "stop", SERVICE]);
    assert_eq!(system.0.property(SERVICE, "Result"), "success");
    assert_eq!(system.0.property(SERVICE, "ExecMainStatus"), "0");
    keys(&mut client(), &disk);
    let pid = system.main_pid();
    system.0.run(&["systemctl", "restart", SERVICE]);
    assert_ne!(system.main_pid(), pid);
    keys(&mut client(), &disk);
    system.0.run(&["systemctl", "stop", "pr-helper.socket", SERVICE]);
    assert!(!Path::new(SOCKET).exists());
    assert!(!Path::new(METRICS).exists());
}

#[test]
fn qemu_unit_names_are_aliases() {
    let system = Installed::enabled();
    assert_eq!(system.0.property("qemu-pr-helper.socket", "Id"), "pr-helper.socket");
    system.0.run(&["systemctl", "stop", "qemu-pr-helper.socket"]);
    assert!(!Path::new(SOCKET).exists());
    system.0.run(&["systemctl", "start", "qemu-pr-helper.socket"]);
    keys(&mut client(), open(&Disk::nexus_a().block));
}

#[test]
fn update_restarts_the_running_service() {
    let system = Installed::enabled();
    keys(&mut client(), open(&Disk::nexus_a().block));
    let pid = system.main_pid();
    system.dpkg(&["--install", "/lab/packages/pr-helper.deb"]);
    assert_ne!(system.main_pid(), pid);
    keys(&mut client(), open(&Disk::nexus_a().block));
}

#[test]
fn purged_packages_leave_no_files() {
    let system = Installed::new();
    system.dpkg(&["--purge", "pr-helper"]);
    let qemu_helper = QemuHelperFile::create();
    let before = files();
    system.dpkg(&["--install", "/lab/packages/pr-helper.deb", "/lab/packages/pr-helper-qemu.deb"]);
    assert_eq!(fs::canonicalize(QemuHelperFile::PATH).unwrap(), Path::new("/usr/bin/pr-helper"));
    assert_eq!(fs::read_to_string(QemuHelperFile::DIVERTED_PATH).unwrap(), QemuHelperFile::CONTENT);
    system.0.run(&["systemctl", "enable", "--now", "pr-helper.socket"]);
    keys(&mut client(), open(&Disk::nexus_a().block));
    system.dpkg(&["--purge", "pr-helper-qemu", "pr-helper"]);
    assert_eq!(system.0.main_pid(SERVICE), None);
    assert!(!Path::new(SOCKET).exists());
    let after = files();
    assert_eq!(after.symmetric_difference(&before).collect::<Vec<_>>(), <[&String; 0]>::default());
    assert_eq!(fs::read_to_string(QemuHelperFile::PATH).unwrap(), QemuHelperFile::CONTENT);
    drop(qemu_helper);
}

/// A file in the place of QEMU's own helper, as its package installs it. Removed when dropped.
struct QemuHelperFile;

impl QemuHelperFile {
    const PATH: &'static str = "/usr/bin/qemu-pr-helper";
    const DIVERTED_PATH: &'static str = "/usr/bin/qemu-pr-helper.qemu";
    const CONTENT: &'static str = "QEMU's";

    fn create() -> Self {
        fs::write(Self::PATH, Self::CONTENT).unwrap();
        Self
    }
}

impl Drop for QemuHelperFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(Self::PATH);
    }
}

/// Follows the instructions in /usr/share/pr-helper/multipath.conf.
fn add_multipath(system: &Installed) {
    add_drop_in(system, "multipath.conf");
}

fn add_drop_in(system: &Installed, name: &str) {
    system.0.run(&["mkdir", "-p", DROP_INS]);
    system.0.run(&["ln", "-s", &format!("/usr/share/pr-helper/{name}"), DROP_INS]);
    system.0.run(&["systemctl", "daemon-reload"]);
    system.0.run(&["systemctl", "try-restart", SERVICE]);
}

#[test]
fn with_nvme_drop_in_one_capability_more() {
    let system = Installed::enabled();
    let before = denied();
    add_drop_in(&system, "nvme.conf");
    let disk = open(&Disk::nexus_a().block);
    assert!(keys(&mut client(), &disk).is_empty(), "{}", system.0.journal(SERVICE));
    let pid = system.main_pid();
    assert_eq!(
        (field(pid, "CapPrm"), field(pid, "CapEff")),
        (RAWIO_AND_ADMIN.into(), RAWIO_AND_ADMIN.into())
    );
    assert_eq!((field(pid, "NoNewPrivs"), field(pid, "Seccomp")), ("1".into(), "2".into()));
    assert!(!field(pid, "Uid").split(' ').any(|uid| uid == "0"), "{}", field(pid, "Uid"));
    assert_eq!(denied(), before);
}

#[test]
fn with_drop_in_maps_are_served_rootless() {
    let system = Installed::enabled();
    let before = denied();
    let _multipath = Multipath::start();
    let map = Map::a();
    fs::create_dir_all(DROP_INS).unwrap();
    // As docs/operations.md describes it for options, and for a scraper that is not root.
    let edited = format!(
        "[Service]\nEnvironment=\"OPTIONS=--verbose --slow 5\"\nExecStartPost=+/bin/chown nobody {METRICS}\n"
    );
    fs::write(Path::new(DROP_INS).join("override.conf"), edited).unwrap();
    add_multipath(&system);

    let disk = map.open();
    let mut client = client();
    let reply = register(&mut client, &disk, KEY);
    assert_eq!(reply.status, Status::GOOD, "{reply:?}\n{}", system.0.journal(SERVICE));
    assert_eq!(keys(&mut client, &disk), [KEY; 2], "once for each path");
    assert_eq!(register(&mut client, &disk, 0).status, Status::GOOD);
    // Disks are still served.
    assert!(keys(&mut client, open(&Disk::nexus_a().block)).is_empty());

    let pid = system.main_pid();
    assert_eq!((field(pid, "CapPrm"), field(pid, "CapBnd")), (RAWIO.into(), NONE.into()));
    let uid = system.0.run(&["id", "-u", "pr-helper"]);
    assert_eq!(field(pid, "Uid").split(' ').collect::<Vec<_>>(), [uid.trim(); 4]);
    assert_eq!(confinement(pid), "pr-helper-multipath (enforce)");
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(words.replace('\0', " ").ends_with(" --verbose --slow 5 "), "{words:?}");
    assert_eq!(fs::metadata(METRICS).unwrap().uid(), 65534);
    let state = state();
    assert!(state.contains("multipath maps are served") && state.contains("clients: 1"), "{state}");
    let journal = system.0.journal(SERVICE);
    assert!(journal.contains("multipath maps are served by"), "{journal}");
    for complaint in ["cannot", "denied", "failed", "error"] {
        assert!(!journal.to_lowercase().contains(complaint), "{journal}");
    }
    assert_eq!(denied(), before);
}
