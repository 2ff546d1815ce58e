//! QEMU with a guest that runs `sg_persist`: see tests/lab/src/inner-init.sh for what it boots.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use test_support::eventually;

use crate::helper::{Helper, USER};
use crate::messages::{messages, said};
use crate::qmp::Qmp;

/// How long the guest may take to boot, and then for a command. Where it is emulated twice it takes minutes.
const BOOT: Duration = Duration::from_secs(400);
const COMMAND: Duration = Duration::from_secs(120);

/// What makes it fast: each byte on a serial port and each look at a place where a PCI device could be leaves the
/// guest, and `pci=noearly` saves thousands of these looks. A guest that panics ends QEMU.
pub(crate) const KERNEL_ARGUMENTS: &str =
    "quiet console=ttyS0 panic=-1 reboot=triple mitigations=off no_timer_check pci=noearly";

/// Exit statuses of `sg_persist`, from the manual page of sg3-utils.
pub(crate) const CONFLICT: i32 = 24;
pub(crate) const ABORTED: i32 = 11;
pub(crate) const ILLEGAL_REQUEST: i32 = 5;
pub(crate) const INVALID_OPCODE: i32 = 9;
const UNIT_ATTENTION: i32 = 6;

/// A disk of the guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drive<'a> {
    /// The device of this machine.
    pub(crate) device: &'a Path,
    /// `scsi-block` for block devices, `scsi-generic` for generic ones.
    pub(crate) kind: &'a str,
    /// Whether persistent reservations go to the helper.
    pub(crate) has_manager: bool,
}

impl<'a> Drive<'a> {
    /// A block device with persistent reservations.
    pub(crate) fn block(device: &'a Path) -> Self {
        Self { device, kind: "scsi-block", has_manager: true }
    }
}

/// A machine, driven from here. Dropped, it is killed.
pub(crate) struct Qemu {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// The guest's disks, in the order of the drives.
    disks: Vec<String>,
    pub(crate) qmp: Qmp,
}

/// What became of a command of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) output: String,
}

impl Qemu {
    /// Boots a guest with these drives, whose reservations go to this helper.
    pub(crate) fn start(helper: &Helper, drives: &[Drive]) -> Self {
        Self::with_socket(helper.socket(), drives)
    }

    /// The same with a helper of which only the socket is known.
    pub(crate) fn with_socket(socket: &Path, drives: &[Drive]) -> Self {
        allow_kvm();
        let directory = Path::new("/run/lab/qemu");
        fs::create_dir_all(directory).unwrap();
        chown(directory, Some(USER), Some(USER)).unwrap();
        let qmp = directory.join("qmp");
        let _ = fs::remove_file(&qmp);

        let mut command = command(socket, drives, &qmp);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(messages()).unwrap()).uid(USER).gid(USER);
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // It ends with QEMU, or with the receiver.
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut connection = None;
        eventually("QEMU listens", || {
            assert!(child.try_wait().unwrap().is_none(), "{}", said());
            connection = UnixStream::connect(&qmp).ok();
            connection.is_some()
        });
        let mut qemu = Self { child, stdin, lines, disks: Vec::new(), qmp: Qmp::greet(connection.unwrap()) };
        while qemu.line(BOOT) != "@ready" {}
        println!("the guest has booted in {:.1} s", begun.elapsed().as_secs_f64());
        qemu.disks = (0..drives.len()).map(|number| qemu.find_disk(number)).collect();
        qemu
    }

    /// What the guest's shell makes of this.
    pub(crate) fn run(&mut self, command: &str) -> Outcome {
        self.begin(command);
        self.end()
    }

    /// Has the guest's shell begin with this.
    pub(crate) fn begin(&mut self, command: &str) {
        println!("guest# {command}");
        self.stdin.write_all(format!("{command}\n").as_bytes()).unwrap();
    }

    /// Waits for the end of what it has begun.
    pub(crate) fn end(&mut self) -> Outcome {
        let mut output = String::new();
        loop {
            let line = self.line(COMMAND);
            println!("{line}");
            if let Some(status) = line.strip_prefix("@exit ") {
                return Outcome { status: status.parse().unwrap(), output };
            }
            output.push_str(&line);
            output.push('\n');
        }
    }

    /// `sg_persist` on the guest's disk of this number.
    pub(crate) fn sg_persist(&mut self, disk: usize, arguments: &str) -> Outcome {
        self.begin_sg_persist(disk, arguments);
        self.end()
    }

    /// Has the guest begin with it.
    pub(crate) fn begin_sg_persist(&mut self, disk: usize, arguments: &str) {
        let disk = self.disks[disk].clone();
        self.begin(&format!("sg_persist --no-inquiry {arguments} {disk}"));
    }

    /// The same, which succeeds; returns what it says.
    pub(crate) fn does(&mut self, disk: usize, arguments: &str) -> String {
        let outcome = self.sg_persist(disk, arguments);
        assert_eq!(outcome.status, 0, "{arguments}: {}", outcome.output);
        outcome.output
    }

    /// The same, behind all unit attentions.
    pub(crate) fn insist(&mut self, disk: usize, arguments: &str) -> Outcome {
        (0..5)
            .map(|_| self.sg_persist(disk, arguments))
            .find(|outcome| outcome.status != UNIT_ATTENTION)
            .expect("an answer")
    }

    fn find_disk(&mut self, number: usize) -> String {
        // The kernel names disks in the order in which it gets to know them, which is any.
        let found = self.run(&format!(
            "until ls /sys/bus/scsi/devices/*:0:{number}:0/block 2>/dev/null; do usleep 50000; done"
        ));
        format!("/dev/{}", found.output.trim())
    }

    fn line(&mut self, patience: Duration) -> String {
        self.lines.recv_timeout(patience).unwrap_or_else(|error| panic!("the guest: {error}"))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", said());
        }
    }
}

/// QEMU with a guest of these drives, whose shell is on standard input and output.
fn command(socket: &Path, drives: &[Drive], qmp: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]);
    command.args(["-machine", "pc,i8042=off,hpet=off", "-m", "256"]);
    // Where the machine around has no SVM and no VMX for its guests, it is emulated. A processor without XSAVE and
    // AVX: with what KVM on an emulated processor makes of these, Linux 7.2 does not start.
    command.args(["-accel", "kvm", "-accel", "tcg", "-cpu", "qemu64"]);
    command.args(["-kernel", "/lab/inner/kernel", "-initrd", "/lab/inner/initrd"]);
    command.args(["-append", KERNEL_ARGUMENTS]);
    command.args(["-serial", "file:/run/lab/qemu/console"]);
    command.args(["-chardev", "stdio,id=lab,signal=off", "-device", "virtio-serial-pci"]);
    command.args(["-device", "virtserialport,chardev=lab,name=lab"]);
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", qmp.display()));
    command.arg("-object").arg(format!("pr-manager-helper,id=helper0,path={}", socket.display()));
    command.args(["-device", "virtio-scsi-pci,id=scsi"]);
    for (number, drive) in drives.iter().enumerate() {
        chown(drive.device, Some(USER), Some(USER)).unwrap();
        let device = drive.device.display();
        let mut option =
            format!("if=none,id=disk{number},format=raw,file.driver=host_device,file.filename={device}");
        if drive.has_manager {
            option.push_str(",file.pr-manager=helper0");
        }
        command.arg("-drive").arg(option);
        let kind = drive.kind;
        command.arg("-device").arg(format!("{kind},bus=scsi.0,scsi-id={number},drive=disk{number}"));
    }
    command
}

/// Has the kernel offer KVM if the processor can, emulated as it may be, to all users.
pub(crate) fn allow_kvm() {
    let kvm = Path::new("/dev/kvm");
    for module in ["kvm_amd", "kvm_intel"] {
        if !kvm.exists() {
            let _ = Command::new("modprobe").arg(module).stderr(Stdio::null()).status().unwrap();
        }
    }
    if kvm.exists() {
        fs::set_permissions(kvm, Permissions::from_mode(0o666)).unwrap();
    }
}
