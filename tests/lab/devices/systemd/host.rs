//! systemd as the first process of a PID namespace, with the machine's file system, devices and kernel.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use test_support::eventually;

/// Root directory of systemd, so that its mounts do not affect the machine.
const ROOT: &str = "/run/lab/systemd";
const LOG: &str = "/run/lab/systemd.log";
/// File with the ID of systemd's process.
const PID: &str = "/run/lab/systemd.pid";

/// The first target: sysinit.target, for which every socket and service waits, and the journal. The machine's image lacks the
/// other units of a normal boot.
const TARGET: &str = "[Unit]\nRequires=sysinit.target systemd-journald.service
After=sysinit.target systemd-journald.service\nAllowIsolate=yes\n";

/// A running systemd. It keeps running for later tests, since booting takes seconds.
pub(crate) struct Systemd {
    /// Its process ID in the namespace of this process.
    pid: u32,
}

impl Systemd {
    /// Returns the running systemd, or boots one. Blocks until its first target is reached.
    pub(crate) fn booted() -> Self {
        let pid_file = Path::new(PID);
        let pid =
            fs::read_to_string(pid_file).ok().and_then(|pid| pid.parse().ok()).filter(|pid| is_systemd(*pid));
        let systemd = Self { pid: pid.unwrap_or_else(boot) };
        fs::write(pid_file, systemd.pid.to_string()).unwrap();
        eventually("the target is reached", || {
            systemd.try_run(&["systemctl", "is-active", "lab.target"]).status.success()
        });
        systemd
    }

    /// Runs a program as from a shell on the system.
    pub(crate) fn try_run(&self, words: &[&str]) -> Output {
        let pid = self.pid.to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-m", "-p", "-r", "-w"]).args(words).env_remove("DM_DISABLE_UDEV");
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a program that must succeed; returns its standard output.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        let output = self.try_run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns a property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, unit]).trim().to_owned()
    }

    /// Returns the main process of a service, with its ID in this process's namespace; `None` if the service is not running.
    pub(crate) fn main_pid(&self, unit: &str) -> Option<u32> {
        let inner: u32 = self.property(unit, "MainPID").parse().unwrap();
        (inner != 0).then(|| outer_pid(inner))
    }

    /// Returns the journal of a unit.
    pub(crate) fn journal(&self, unit: &str) -> String {
        self.run(&["journalctl", "--no-pager", "--output=cat", "--unit", unit])
    }

    /// Returns the journal of a service since its current process was started.
    pub(crate) fn journal_of_run(&self, unit: &str) -> String {
        let run = format!("_SYSTEMD_INVOCATION_ID={}", self.property(unit, "InvocationID"));
        self.run(&["journalctl", "--no-pager", "--output=cat", &run])
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if thread::panicking() {
            let journal =
                self.try_run(&["journalctl", "--no-pager", "--output=short-monotonic", "--lines=60"]);
            eprintln!("--- the journal\n{}", String::from_utf8_lossy(&journal.stdout));
            eprintln!("--- systemd\n{}", fs::read_to_string(LOG).unwrap_or_default());
        }
    }
}

/// Boots a systemd; returns its process ID.
#[expect(clippy::zombie_processes, reason = "it outlives this process")]
fn boot() -> u32 {
    prepare();
    let log = File::create(LOG).unwrap();
    // AppArmor resolves paths from the namespace's root, so that must also be systemd's root.
    let script = format!(
        "mount --rbind / {ROOT} && cd {ROOT} && mount -t proc proc proc && mount --move . / &&
         exec env -i container=lab PATH=/usr/bin:/usr/sbin chroot . /usr/lib/systemd/systemd --system \
             --unit=lab.target --show-status=false --log-target=console --log-level=info"
    );
    let unshare = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let mut pid = None;
    eventually("systemd starts", || {
        let first = fs::read_to_string(&children).unwrap();
        pid = first.split_whitespace().next().and_then(|pid| pid.parse().ok());
        pid.is_some_and(is_systemd)
    });
    pid.unwrap()
}

fn is_systemd(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "systemd\n")
}

/// Returns the ID in this namespace of the process with ID `inner` in systemd's namespace.
fn outer_pid(inner: u32) -> u32 {
    let numbers = |pid: u32| -> Option<Vec<u32>> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        field.split_whitespace().map(|number| number.parse().ok()).collect()
    };
    let mut processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let found = processes.find(|pid| numbers(*pid).is_some_and(|numbers| numbers[1..] == [inner]));
    found.unwrap_or_else(|| panic!("there is no process {inner}"))
}

/// Prepares the machine's file system: as on a system that has booted before, on which packages can be installed.
fn prepare() {
    for directory in [ROOT, "/run/systemd/system", "/var/lib/dpkg/info", "/var/lib/dpkg/updates", "/var/log"]
    {
        fs::create_dir_all(directory).unwrap();
    }
    let status = Path::new("/var/lib/dpkg/status");
    if !status.exists() {
        fs::write(status, "").unwrap();
    }
    // Without a machine ID systemd would treat this as the first boot.
    fs::write("/etc/machine-id", "1ab00000000000000000000000000000\n").unwrap();
    fs::write("/run/systemd/system/lab.target", TARGET).unwrap();
    // Packages load their AppArmor profiles only if securityfs is mounted. It may be mounted already.
    let _ = Command::new("mount").args(["-t", "securityfs", "security", "/sys/kernel/security"]).output();
}
