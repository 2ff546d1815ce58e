//! A host with libvirtd and its guests.

use std::{
    env, fs,
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use fixtures::Service;
use rustix::process::{Pid, Signal};
use test_support::eventually;

use super::console::Console;
use crate::qemu::{KERNEL_ARGUMENTS, allow_kvm};

/// Debian's user for QEMU.
pub(crate) const QEMU_USER: u32 = 64055;
pub(crate) const KVM_GROUP: u32 = 104;

/// The guest's name. There is one guest at a time.
const NAME: &str = "guest";

/// libvirtd's socket.
const SOCKET: &str = "/run/libvirt/libvirt-sock";
/// QEMU's log.
const LOG: &str = "/var/log/libvirt/qemu/guest.log";
/// Directory in which libvirt keeps the state of running guests, including the pidfiles of their helpers.
const STATE_DIRECTORY: &str = "/run/libvirt/qemu";
/// Directory in which libvirt keeps the files that QEMU uses.
pub(crate) const FILES_DIRECTORY: &str = "/var/lib/libvirt/qemu";

/// The socket at which a guest reads commands.
const CONSOLE: &str = "/run/lab/console.sock";

/// A host whose libvirtd starts this project's helper. When dropped, it stops libvirtd and the guest.
pub(crate) struct Libvirt {
    daemon: Service,
}

impl Libvirt {
    /// Configures libvirt as its packages do, except for `pr_helper`, and starts it.
    pub(crate) fn start() -> Self {
        append("/etc/passwd", &format!("libvirt-qemu:x:{QEMU_USER}:{QEMU_USER}::/:/bin/false\n"));
        append("/etc/group", &format!("libvirt:x:105:\nlibvirt-qemu:x:{QEMU_USER}:\n"));
        let kvm = format!("kvm:x:{KVM_GROUP}:");
        let groups = fs::read_to_string("/etc/group").unwrap();
        fs::write("/etc/group", groups.replace(&format!("{kvm}\n"), &format!("{kvm}libvirt-qemu\n")))
            .unwrap();
        // libvirtd would also probe the capabilities of this emulator, which takes time and is not needed.
        let _ = fs::remove_file("/usr/bin/qemu-system-i386");
        allow_kvm();
        let cgroups = Path::new("/sys/fs/cgroup");
        if !cgroups.join("cgroup.procs").exists() {
            run(Command::new("mount").args(["-t", "cgroup2", "cgroup2"]).arg(cgroups));
        }
        fs::create_dir_all("/var/log/libvirt/qemu").unwrap();
        fs::write(
            "/etc/libvirt/qemu.conf",
            format!("pr_helper = \"{}\"\nstdio_handler = \"file\"\n", pr_helper()),
        )
        .unwrap();
        fs::write("/etc/libvirt/libvirtd.conf", "log_outputs = \"2:stderr\"\n").unwrap();
        // A killed libvirtd leaves its socket behind.
        let _ = fs::remove_file(SOCKET);
        let this = Self { daemon: Service::start("libvirtd", &mut Command::new("libvirtd")) };
        eventually("libvirtd listens", || Path::new(SOCKET).exists());
        // libvirtd answers once it has probed QEMU's capabilities, which takes half a minute.
        virsh(&["uri"]);
        this
    }

    pub(crate) fn pid(&self) -> Process {
        Process(self.daemon.pid())
    }

    /// Creates a paused guest with this disk.
    pub(crate) fn create(&self, disk: &str) -> Guest<'_> {
        virsh(&["create", "--paused", &write_xml("domain", &domain(disk))]);
        let id = virsh(&["domid", NAME]).trim().to_owned();
        let qemu = Process(
            read_pid(&Path::new(STATE_DIRECTORY).join(format!("{NAME}.pid"))).expect("QEMU's pidfile"),
        );
        Guest { id, qemu, _libvirt: self }
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        let _ = Command::new("virsh").args(["destroy", NAME]).output();
        if thread::panicking() {
            eprintln!("--- {LOG}\n{}", fs::read_to_string(LOG).unwrap_or_default());
        }
    }
}

/// A guest.
pub(crate) struct Guest<'a> {
    /// libvirt's ID of the guest.
    id: String,
    qemu: Process,
    _libvirt: &'a Libvirt,
}

impl Guest<'_> {
    /// Resumes the guest, and blocks until it reads commands.
    pub(crate) fn boot(&self) -> Console {
        let mut console = Console::connect(Path::new(CONSOLE));
        virsh(&["resume", &self.id]);
        console.wait_for("@ready");
        console
    }

    /// Detaches a disk.
    pub(crate) fn detach(&self, disk: &str) {
        virsh(&["detach-device", &self.id, &write_xml("disk", disk)]);
    }

    /// Attaches a disk.
    pub(crate) fn attach(&self, disk: &str) {
        virsh(&["attach-device", &self.id, &write_xml("disk", disk)]);
    }

    /// Stops the guest at once.
    pub(crate) fn destroy(self) {
        virsh(&["destroy", &self.id]);
    }

    /// Returns QEMU's report of its connections to helpers.
    pub(crate) fn pr_managers(&self) -> String {
        virsh(&["qemu-monitor-command", &self.id, r#"{"execute":"query-pr-managers"}"#])
    }

    /// Returns whether QEMU is connected to this manager's helper.
    pub(crate) fn is_connected(&self, manager: &str) -> bool {
        self.pr_managers().contains(&format!(r#"{{"connected":true,"id":"{manager}"}}"#))
    }

    /// Records the events that QEMU reports from now on.
    pub(crate) fn events(&self) -> Events {
        let path = PathBuf::from("/run/lab/events");
        let child = Command::new("virsh")
            .args(["qemu-monitor-event", &self.id, "--loop"])
            .stdin(Stdio::null())
            .stdout(File::create(&path).unwrap())
            .spawn();
        let events = Events { child: child.unwrap(), path };
        // virsh uses a connection of its own. It must be set up before the next command.
        thread::sleep(std::time::Duration::from_secs(1));
        events
    }

    /// Returns the QEMU process.
    pub(crate) fn qemu(&self) -> Process {
        self.qemu
    }

    /// Returns the path of libvirt's pidfile of this guest's helper.
    pub(crate) fn pidfile(&self) -> PathBuf {
        Path::new(STATE_DIRECTORY).join(format!("{}-{NAME}-pr-helper0.pid", self.id))
    }

    /// Returns the helper that libvirt started for this guest.
    pub(crate) fn helper(&self) -> Option<Process> {
        read_pid(&self.pidfile()).map(Process)
    }

    /// Returns the directory of the guest's sockets.
    pub(crate) fn directory(&self) -> PathBuf {
        Path::new(FILES_DIRECTORY).join(format!("domain-{}-{NAME}", self.id))
    }
}

/// Records QEMU's events by virsh until dropped.
pub(crate) struct Events {
    child: Child,
    path: PathBuf,
}

impl Events {
    /// Returns, for each event about helpers, whether QEMU is connected.
    pub(crate) fn connected(&self) -> Vec<bool> {
        let output = fs::read_to_string(&self.path).unwrap();
        let reports = output.lines().filter(|line| line.contains("PR_MANAGER_STATUS_CHANGED"));
        reports.map(|line| line.contains(r#""connected":true"#)).collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process, read from /proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    pub(crate) fn is_running(self) -> bool {
        fs::read_to_string(self.path("stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// Returns program and arguments.
    pub(crate) fn command_line(self) -> Vec<String> {
        let words = fs::read_to_string(self.path("cmdline")).unwrap();
        words.split_terminator('\0').map(str::to_owned).collect()
    }

    /// Returns a field of its status.
    pub(crate) fn field(self, name: &str) -> String {
        let status = fs::read_to_string(self.path("status")).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap().trim().replace('\t', " ")
    }

    /// Returns the target of a link.
    pub(crate) fn link(self, name: &str) -> String {
        fs::read_link(self.path(name)).unwrap().display().to_string()
    }

    pub(crate) fn kill(self, signal: Signal) {
        let pid = i32::try_from(self.0).ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn path(self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(name)
    }
}

/// Returns all processes of helpers: daemons, supervisors and workers.
pub(crate) fn helper_processes() -> Vec<u32> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_helper = |pid: &u32| {
        let process = Process(*pid);
        let name = fs::read_to_string(process.path("comm")).unwrap_or_default();
        name.starts_with("pr-helper") && process.is_running()
    };
    processes.filter(is_helper).collect()
}

/// Returns the path of this project's helper.
pub(crate) fn pr_helper() -> String {
    env::var("PR_HELPER").expect("the lab's machine")
}

/// Returns the XML of a disk to which the guest may send any command, with reservations through a helper.
pub(crate) fn disk(path: &Path, reservations: &str) -> String {
    format!(
        "<disk type='block' device='lun'>
           <driver name='qemu' type='raw'/>
           <source dev='{}'>{reservations}</source>
           <target dev='sda' bus='scsi'/>
         </disk>",
        path.display()
    )
}

/// Returns the XML of a minimal guest that boots the lab's inner kernel and file system.
fn domain(disk: &str) -> String {
    let kind = if File::open("/dev/kvm").is_ok() { "kvm" } else { "qemu" };
    format!(
        "<domain type='{kind}'>
           <name>{NAME}</name>
           <memory unit='MiB'>256</memory>
           <vcpu>1</vcpu>
           <os>
             <type arch='x86_64' machine='pc'>hvm</type>
             <kernel>/lab/inner/kernel</kernel>
             <initrd>/lab/inner/initrd</initrd>
             <cmdline>{KERNEL_ARGUMENTS}</cmdline>
           </os>
           <features><acpi/></features>
           <clock><timer name='hpet' present='no'/></clock>
           <devices>
             <emulator>/usr/bin/qemu-system-x86_64</emulator>
             <controller type='scsi' model='virtio-scsi'/>
             <controller type='usb' model='none'/>
             {disk}
             <serial type='file'><source path='/run/lab/guest.log'/></serial>
             <channel type='unix'><source mode='bind' path='{CONSOLE}'/><target type='virtio' name='lab'/></channel>
             <memballoon model='none'/>
           </devices>
         </domain>"
    )
}

fn virsh(arguments: &[&str]) -> String {
    run(Command::new("virsh").arg("--quiet").args(arguments))
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes XML to a file; returns its path.
fn write_xml(name: &str, xml: &str) -> String {
    let path = format!("/run/lab/{name}.xml");
    fs::write(&path, xml).unwrap();
    path
}

/// Appends lines to a file, unless it contains them.
fn append(path: &str, lines: &str) {
    if !fs::read_to_string(path).unwrap().contains(lines) {
        OpenOptions::new().append(true).open(path).unwrap().write_all(lines.as_bytes()).unwrap();
    }
}

fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
