//! QEMU with a guest that runs `sg_persist`: see tests/lab/src/inner-init.sh for the guest's first process.

use std::{
    fs::{self, File, Permissions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use test_support::eventually;

use crate::{
    helper::{Helper, USER},
    messages::{all_messages, directory},
    qmp::Qmp,
};

/// Time limits for the guest's boot and for each of its commands. A guest that is emulated twice takes minutes.
const BOOT_TIMEOUT: Duration = Duration::from_secs(400);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// Time limit for a migration.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(120);

/// Arguments that make the boot fast: each byte on a serial port and each probe for a PCI device exits from the guest, and
/// `pci=noearly` saves thousands of these probes. A guest that panics ends QEMU.
pub(crate) const KERNEL_ARGUMENTS: &str =
    "quiet console=ttyS0 panic=-1 reboot=triple mitigations=off no_timer_check pci=noearly";

/// Exit statuses of `sg_persist`, from the manual page of sg3-utils.
pub(crate) const CONFLICT: i32 = 24;
pub(crate) const ABORTED: i32 = 11;
pub(crate) const ILLEGAL_REQUEST: i32 = 5;
pub(crate) const INVALID_OPCODE: i32 = 9;
const UNIT_ATTENTION: i32 = 6;

/// Shares this machine's files with the guest as the user that QEMU runs as.
const HOST_FILES: &str = "local,path=/,mount_tag=host,security_model=none,multidevs=remap,readonly=on";

/// A disk of the guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drive<'a> {
    /// Path of the device in this machine.
    pub(crate) device: &'a Path,
    /// `scsi-block` for block devices, `scsi-generic` for generic ones.
    pub(crate) kind: &'a str,
    /// Whether persistent reservations go through the helper.
    pub(crate) has_manager: bool,
}

impl<'a> Drive<'a> {
    /// Returns a block device whose persistent reservations go through the helper.
    pub(crate) fn block(device: &'a Path) -> Self {
        Self { device, kind: "scsi-block", has_manager: true }
    }
}

/// A virtual machine with a shell. Killed when dropped.
pub(crate) struct Qemu {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// The guest's disks, in the order of the drives.
    disks: Vec<String>,
    /// Directory of its files and sockets.
    directory: PathBuf,
    pub(crate) qmp: Qmp,
}

/// Result of a command in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) output: String,
}

impl Qemu {
    /// Boots a guest with these drives, whose reservations go through this helper.
    pub(crate) fn start(helper: &Helper, drives: &[Drive]) -> Self {
        Self::with_socket(helper.socket(), drives)
    }

    /// Boots a guest with these drives that can read this machine's files: see [`Qemu::mount_host`].
    pub(crate) fn with_host_files(helper: &Helper, drives: &[Drive]) -> Self {
        Self::boot(helper.socket(), drives, &["-virtfs", HOST_FILES])
    }

    /// Boots a guest with these drives, whose reservations go through the helper at this socket.
    pub(crate) fn with_socket(socket: &Path, drives: &[Drive]) -> Self {
        Self::boot(socket, drives, &[])
    }

    fn boot(socket: &Path, drives: &[Drive], options: &[&str]) -> Self {
        let begun = Instant::now();
        let mut qemu = Self::spawn(socket, drives, options);
        while qemu.line(BOOT_TIMEOUT) != "@ready" {}
        println!("the guest has booted in {:.1} s", begun.elapsed().as_secs_f64());
        qemu.disks = (0..drives.len()).map(|number| qemu.find_disk(number)).collect();
        qemu
    }

    /// Starts QEMU for a guest that will migrate to it.
    pub(crate) fn incoming(helper: &Helper, drives: &[Drive]) -> Self {
        let mut qemu = Self::spawn(helper.socket(), drives, &["-incoming", "defer"]);
        let uri = qemu.migration_uri();
        qemu.qmp.execute_with("migrate-incoming", &json!({ "uri": uri }));
        qemu
    }

    fn spawn(socket: &Path, drives: &[Drive], more: &[&str]) -> Self {
        allow_kvm();
        let directory = directory();
        chown(&directory, Some(USER), Some(USER)).unwrap();

        let mut command = command(socket, drives, &directory);
        command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(directory.join("messages")).unwrap()).uid(USER).gid(USER);
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // The thread exits with QEMU, or when the receiver is dropped.
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut connection = None;
        eventually("QEMU listens", || {
            assert!(child.try_wait().unwrap().is_none(), "{}", all_messages());
            connection = UnixStream::connect(directory.join("qmp")).ok();
            connection.is_some()
        });
        let qmp = Qmp::greet(connection.unwrap());
        Self { child, stdin, lines, disks: Vec::new(), directory, qmp }
    }

    /// Starts to migrate the guest.
    pub(crate) fn begin_migration(&mut self, destination: &Self) {
        self.qmp.execute_with("migrate", &json!({ "uri": destination.migration_uri() }));
    }

    /// Blocks until a migration has ended; returns its status.
    pub(crate) fn end_migration(&mut self) -> String {
        let begun = Instant::now();
        loop {
            let status = self.qmp.execute("query-migrate")["status"].as_str().unwrap_or_default().to_owned();
            if ["completed", "failed", "cancelled"].contains(&status.as_str()) {
                println!("the migration has {status} after {:.1} s", begun.elapsed().as_secs_f64());
                return status;
            }
            assert!(begun.elapsed() < MIGRATION_TIMEOUT, "the migration is {status}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Begins a migration that is too slow to end, and cancels it.
    pub(crate) fn cancel_migration(&mut self, destination: &Self) {
        self.qmp.execute_with("migrate-set-parameters", &json!({ "max-bandwidth": 4096 }));
        self.begin_migration(destination);
        eventually("the migration is active", || self.qmp.execute("query-migrate")["status"] == "active");
        self.qmp.execute("migrate_cancel");
        assert_eq!(self.end_migration(), "cancelled");
    }

    /// Migrates the guest; returns it in its new QEMU.
    pub(crate) fn migrate(mut self, mut destination: Self) -> Self {
        self.begin_migration(&destination);
        assert_eq!(self.end_migration(), "completed");
        eventually("the guest runs", || destination.is_running());
        destination.disks = std::mem::take(&mut self.disks);
        destination
    }

    /// Returns whether the guest's processor runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.qmp.execute("query-status")["running"] == Value::Bool(true)
    }

    /// Tries to migrate the guest, which the destination refuses. The guest continues here.
    pub(crate) fn fail_to_migrate(&mut self, mut destination: Self) {
        self.begin_migration(&destination);
        let status = self.end_migration();
        eventually("the destination exits", || destination.child.try_wait().unwrap().is_some());
        // Without a return path, QEMU does not learn that the destination has failed. A manager does, and continues the guest.
        assert!(status == "failed" || status == "completed", "{status}");
        if !self.is_running() {
            self.qmp.execute("cont");
        }
        assert!(self.is_running());
    }

    fn migration_uri(&self) -> String {
        format!("unix:{}", self.directory.join("migration").display())
    }

    /// Runs a command in the guest's shell.
    pub(crate) fn run(&mut self, command: &str) -> Outcome {
        self.begin(command);
        self.end()
    }

    /// Starts a command in the guest's shell.
    pub(crate) fn begin(&mut self, command: &str) {
        println!("guest# {command}");
        self.stdin.write_all(format!("{command}\n").as_bytes()).unwrap();
    }

    /// Blocks until the started command has ended; returns its result.
    pub(crate) fn end(&mut self) -> Outcome {
        let mut output = String::new();
        loop {
            let line = self.line(COMMAND_TIMEOUT);
            println!("{line}");
            if let Some(status) = line.strip_prefix("@exit ") {
                return Outcome { status: status.parse().unwrap(), output };
            }
            output.push_str(&line);
            output.push('\n');
        }
    }

    /// Mounts this machine's files at /host in the guest, with the guest's devices, so that `chroot /host` runs programs
    /// that the guest does not contain.
    pub(crate) fn mount_host(&mut self) {
        for command in [
            "mkdir /host && modprobe -a 9p 9pnet_virtio",
            "mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose host /host",
            "for directory in dev proc sys; do mount -o bind /$directory /host/$directory; done",
            "mount -t tmpfs run /host/run && mount -t tmpfs tmp /host/tmp",
        ] {
            assert_eq!(self.run(command).status, 0, "{command}");
        }
    }

    /// Returns the name of the guest's disk of this number.
    pub(crate) fn disk(&self, number: usize) -> &str {
        &self.disks[number]
    }

    /// Runs `sg_persist` on the guest's disk of this number.
    pub(crate) fn sg_persist(&mut self, disk: usize, arguments: &str) -> Outcome {
        self.begin_sg_persist(disk, arguments);
        self.end()
    }

    /// Starts `sg_persist` on the guest's disk of this number.
    pub(crate) fn begin_sg_persist(&mut self, disk: usize, arguments: &str) {
        let disk = self.disks[disk].clone();
        self.begin(&format!("sg_persist --no-inquiry {arguments} {disk}"));
    }

    /// Runs `sg_persist`, which must succeed; returns its output.
    pub(crate) fn expect_success(&mut self, disk: usize, arguments: &str) -> String {
        let outcome = self.sg_persist(disk, arguments);
        assert_eq!(outcome.status, 0, "{arguments}: {}", outcome.output);
        outcome.output
    }

    /// Repeats `sg_persist` while it reports a unit attention; returns the first other result.
    pub(crate) fn after_unit_attentions(&mut self, disk: usize, arguments: &str) -> Outcome {
        (0..5)
            .map(|_| self.sg_persist(disk, arguments))
            .find(|outcome| outcome.status != UNIT_ATTENTION)
            .expect("an answer")
    }

    /// Writes a block of the guest's disk of this number; returns whether that succeeded.
    pub(crate) fn can_write(&mut self, disk: usize) -> bool {
        let disk = self.disks[disk].clone();
        self.run(&format!("dd if=/dev/zero of={disk} bs=512 count=1 conv=fsync 2>&1")).status == 0
    }

    fn find_disk(&mut self, number: usize) -> String {
        // The kernel names disks in the order in which it finds them, which is not fixed.
        let found = self.run(&format!(
            "until ls /sys/bus/scsi/devices/*:0:{number}:0/block 2>/dev/null; do usleep 50000; done"
        ));
        format!("/dev/{}", found.output.trim())
    }

    fn line(&mut self, timeout: Duration) -> String {
        self.lines.recv_timeout(timeout).unwrap_or_else(|error| panic!("the guest: {error}"))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", all_messages());
        }
    }
}

/// Returns the command that starts QEMU with a guest with these drives, whose shell uses standard input and output.
fn command(socket: &Path, drives: &[Drive], directory: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]);
    command.args(["-machine", "pc,i8042=off,hpet=off", "-m", "256"]);
    // TCG is used if the machine has neither SVM nor VMX for its guests. The processor has no XSAVE and AVX: KVM on an emulated
    // processor implements these so that Linux 7.2 does not boot.
    command.args(["-accel", "kvm", "-accel", "tcg", "-cpu", "qemu64"]);
    command.args(["-kernel", "/lab/inner/kernel", "-initrd", "/lab/inner/initrd"]);
    command.args(["-append", KERNEL_ARGUMENTS]);
    command.arg("-serial").arg(format!("file:{}", directory.join("console").display()));
    command.args(["-chardev", "stdio,id=lab,signal=off", "-device", "virtio-serial-pci"]);
    command.args(["-device", "virtserialport,chardev=lab,name=lab"]);
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", directory.join("qmp").display()));
    command.arg("-object").arg(format!("pr-manager-helper,id=helper0,path={}", socket.display()));
    command.args(["-device", "virtio-scsi-pci,id=scsi"]);
    for (number, drive) in drives.iter().enumerate() {
        chown(drive.device, Some(USER), Some(USER)).unwrap();
        let device = drive.device.display();
        // Without read-only=off and auto-read-only=off, QEMU opens the disk for reading only until an incoming guest runs.
        let mut option = format!(
            "if=none,id=disk{number},format=raw,read-only=off,auto-read-only=off,file.driver=host_device,file.filename={device}"
        );
        if drive.has_manager {
            option.push_str(",file.pr-manager=helper0");
        }
        command.arg("-drive").arg(option);
        let kind = drive.kind;
        command.arg("-device").arg(format!("{kind},bus=scsi.0,scsi-id={number},drive=disk{number}"));
    }
    command
}

/// Loads KVM if the processor supports it, even an emulated one, and permits it to all users.
pub(crate) fn allow_kvm() {
    let kvm = Path::new("/dev/kvm");
    for module in ["kvm_amd", "kvm_intel"] {
        if !kvm.exists() {
            let _ = Command::new("modprobe").arg(module).stderr(Stdio::null()).status().unwrap();
        }
    }
    if kvm.exists() {
        // If udevd runs, it sets the permissions too, when it handles the event of a new module.
        let _ = Command::new("udevadm").arg("settle").status().unwrap();
        fs::set_permissions(kvm, Permissions::from_mode(0o666)).unwrap();
    }
}
