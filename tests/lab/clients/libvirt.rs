//! libvirt from Debian, with this project's helper in place of QEMU's.

mod console;
mod host;

use std::{
    fs::{self, File},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        net::UnixListener,
    },
    path::Path,
    process::{Child, Command},
    thread,
};

use fixtures::{Disk, READ_KEYS, REGISTER_AND_IGNORE, State, basic, in_cdb, open, out_cdb};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::Signal,
};
use scsi_sense::Status;
use test_support::{Client, Daemon, as_user, eventually};

use self::console::Done;
use self::host::{
    FILES_DIRECTORY, Guest, KVM_GROUP, Libvirt, Process, QEMU_USER, disk, helper_processes, pr_helper,
};

/// libvirt starts and stops one helper for each guest.
const MANAGED: &str = "<reservations managed='yes'/>";
/// The default socket of a helper that libvirt does not manage.
const SOCKET: &str = "/run/qemu-pr-helper.sock";

/// Bit 17, as in /proc/PID/status.
const CAP_SYS_RAWIO: &str = "0000000000020000";
const KEY: u64 = 0x1ab0_0000_0000_0001;

/// Creates a guest with a disk whose helper libvirt manages; returns the guest and the disk's XML.
fn managed(libvirt: &Libvirt) -> (Guest<'_>, String) {
    let disk = disk(&Disk::nexus_a().block, MANAGED);
    (libvirt.create(&disk), disk)
}

/// Returns the keys registered with the disk, as another host sees them.
fn keys_seen_by_other_host() -> Vec<u64> {
    State::seen_by(&Disk::nexus_b()).registered.into_iter().map(|(_, key)| key).collect()
}

/// Sends REGISTER AND IGNORE EXISTING KEY through a helper, as QEMU's user.
fn register_as_qemu(socket: &Path, key: u64) {
    let disk = open(&Disk::nexus_a().block);
    let parameters = basic(0, key);
    let cdb = out_cdb(REGISTER_AND_IGNORE, 0, &parameters);
    as_user(QEMU_USER, &[KVM_GROUP], || {
        let mut client = Client::connect(socket).unwrap();
        // Unit attentions come first.
        let mut replies = (0..5).map(|_| client.write(&disk, &cdb, &parameters).unwrap().status);
        assert!(replies.any(|status| status == Status::GOOD));
        let keys = client.read(&disk, &in_cdb(READ_KEYS, 512)).unwrap();
        assert_eq!(keys.status, Status::GOOD);
    });
}

/// Returns whether this process holds a process-owned lock (`F_SETLK`) on the file.
fn is_locked_by(path: &Path, process: Process) -> bool {
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let (pid, inode) = (process.0.to_string(), format!(":{}", fs::metadata(path).unwrap().ino()));
    locks.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1..4] == ["POSIX", "ADVISORY", "WRITE"] && words[4] == pid && words[5].ends_with(&inode)
    })
}

#[test]
fn managed_helper_runs_in_qemus_namespace() {
    let libvirt = Libvirt::start();
    let (guest, _) = managed(&libvirt);
    let helper = guest.helper().expect("a helper");
    let socket = guest.directory().join("pr-helper0.sock");
    assert_eq!(helper.command_line(), [&pr_helper(), "-k", socket.to_str().unwrap()]);
    assert_eq!(helper.link("ns/mnt"), guest.qemu().link("ns/mnt"));
    assert_ne!(helper.link("ns/mnt"), libvirt.pid().link("ns/mnt"));
    let cgroup = |process: Process| fs::read_to_string(process.path("cgroup")).unwrap().trim().to_owned();
    assert_ne!(cgroup(helper), cgroup(libvirt.pid()));
    assert!(cgroup(guest.qemu()).starts_with(&cgroup(helper)), "the helper is moved to the guest's cgroup");
    assert_eq!(helper.field("Uid"), "0 0 0 0");
    assert_eq!(helper.field("CapEff"), CAP_SYS_RAWIO);
    assert!(is_locked_by(&guest.pidfile(), helper), "{}", fs::read_to_string("/proc/locks").unwrap());
    guest.destroy();
}

/// From libvirt 12.1 on, `migration='yes'` has QEMU take reservations along, and open the disk for writing while it waits for
/// the guest.
#[test]
fn migration_of_reservations_can_be_asked_for() {
    let version = Command::new("libvirtd").arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let mut numbers =
        version.trim().rsplit(' ').next().unwrap().split('.').map(|number| number.parse().unwrap());
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    if version < (12, 1) {
        return;
    }
    let libvirt = Libvirt::start();
    let disk = disk(&Disk::nexus_a().block, "<reservations managed='yes' migration='yes'/>");
    let guest = libvirt.create(&disk);
    let words = guest.qemu().command_line();
    let word =
        |text: &str| words.iter().find(|word| word.contains(text)).unwrap_or_else(|| panic!("{words:#?}"));
    assert!(word("scsi-block").contains("\"migrate-pr\":true"), "{words:#?}");
    let device = word("host_device");
    assert!(device.contains("\"read-only\":false") && !device.contains("auto-read-only"), "{words:#?}");
    guest.destroy();
}

#[test]
fn managed_helper_serves_qemus_user() {
    let libvirt = Libvirt::start();
    let (guest, _) = managed(&libvirt);
    let helper = guest.helper().expect("a helper");
    let socket = guest.directory().join("pr-helper0.sock");
    let owner = fs::metadata(&socket).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (QEMU_USER, QEMU_USER), "libvirt has labelled the socket");
    assert_eq!(guest.qemu().field("Uid").split(' ').next(), Some(QEMU_USER.to_string().as_str()));
    assert!(guest.is_connected("pr-helper0"), "{}", guest.pr_managers());

    // The helper's standard error is a pipe that libvirt has closed. A refusal is logged there.
    assert!(helper.link("fd/2").starts_with("pipe:"));
    let null = File::open("/dev/null").unwrap();
    let refused = Client::connect(&socket).unwrap().read(&null, &in_cdb(READ_KEYS, 512)).unwrap();
    assert_eq!(refused.sense_code(), Some((5, 0x20, 0)));

    register_as_qemu(&socket, KEY);
    assert_eq!(keys_seen_by_other_host(), [KEY]);
    register_as_qemu(&socket, 0);
    assert_eq!(keys_seen_by_other_host(), [0_u64; 0]);
    assert_eq!(guest.helper(), Some(helper));
    assert!(helper.is_running());
    guest.destroy();
}

#[test]
fn managed_helper_ends_with_disk_or_guest() {
    let libvirt = Libvirt::start();
    let (guest, disk) = managed(&libvirt);
    let first = guest.helper().expect("a helper");
    let socket = guest.directory().join("pr-helper0.sock");

    guest.detach(&disk);
    assert!(!first.is_running() && guest.helper().is_none(), "libvirt has stopped it");
    assert!(!guest.pr_managers().contains("pr-helper0"), "{}", guest.pr_managers());
    eventually("all of its processes are gone", || helper_processes().is_empty());
    assert!(!socket.exists(), "the helper has removed its socket");

    guest.attach(&disk);
    let second = guest.helper().expect("another helper");
    assert!(second != first && second.is_running());
    assert!(guest.is_connected("pr-helper0"), "{}", guest.pr_managers());
    assert!(is_locked_by(&guest.pidfile(), second));
    register_as_qemu(&socket, 0);

    let (directory, pidfile) = (guest.directory(), guest.pidfile());
    guest.destroy();
    assert!(!second.is_running() && !pidfile.exists() && !directory.exists());
    eventually("all of its processes are gone", || helper_processes().is_empty());
    assert!(
        fs::read_dir(FILES_DIRECTORY).unwrap().all(|entry| entry.unwrap().file_name() != "pr-helper0.sock")
    );
}

/// QEMU detects the helper's exit only when it sends the next command.
#[test]
fn libvirt_restarts_a_killed_helper() {
    let libvirt = Libvirt::start();
    let (guest, _) = managed(&libvirt);
    let mut console = guest.boot();
    let events = guest.events();
    console.expect_success("until [ -b /dev/sda ]; do sleep 1; done");
    console.expect_success(&format!("sg_persist --out --register-ignore --param-sark={KEY:x} /dev/sda"));
    assert_eq!(keys_seen_by_other_host(), [KEY]);

    let first = guest.helper().expect("a helper");
    let command_line = first.command_line();
    first.kill(Signal::KILL);
    let read_keys = "sg_persist --in --read-keys /dev/sda";
    // This command may fail in the guest.
    console.run(read_keys);
    eventually("libvirt starts another", || guest.helper().is_some_and(|helper| helper != first));
    let second = guest.helper().expect("a helper");
    eventually("the guest is served", || {
        let Done { output, status } = console.run(read_keys);
        status == 0 && output.contains(&format!("{KEY:#x}"))
    });
    eventually("QEMU has reported both changes", || events.connected() == [false, true]);
    assert_eq!(second.command_line(), command_line);
    assert!(is_locked_by(&guest.pidfile(), second));
    console.expect_success(&format!("sg_persist --out --clear --param-rk={KEY:x} /dev/sda"));
    assert_eq!(keys_seen_by_other_host(), [0_u64; 0]);
    guest.destroy();
}

/// Stands in for systemd with the packaged units: a socket for the group of QEMU's users, and a helper that runs as an
/// unprivileged user with one capability.
struct Unit(UnixListener);

impl Unit {
    fn start() -> Self {
        let _ = fs::remove_file(SOCKET);
        let socket = UnixListener::bind(SOCKET).unwrap();
        chown(SOCKET, Some(0), Some(KVM_GROUP)).unwrap();
        fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o660)).unwrap();
        Self(socket)
    }

    /// Blocks until a client connects, and starts the helper.
    fn activate(&self) -> Child {
        eventually("a client connects", || {
            let mut events = [PollFd::new(&self.0, PollFlags::IN)];
            rustix::event::poll(&mut events, Some(&Timespec::default())).unwrap() > 0
        });
        let mut command = Daemon::activation(self.0.try_clone().unwrap().into(), 1);
        command.args([&pr_helper(), "--user", "nobody"]).spawn().unwrap()
    }
}

#[test]
fn unmanaged_helper_starts_by_socket_activation() {
    let libvirt = Libvirt::start();
    let unit = Unit::start();
    let disk = disk(
        &Disk::nexus_a().block,
        &format!(
            "<reservations managed='no'><source type='unix' path='{SOCKET}' mode='client'/></reservations>"
        ),
    );
    // QEMU's connection starts the helper, and the start of the guest waits for the helper.
    let (guest, mut first) = thread::scope(|scope| {
        let creation = scope.spawn(|| libvirt.create(&disk));
        let helper = unit.activate();
        (creation.join().unwrap(), helper)
    });
    assert!(guest.helper().is_none(), "libvirt has started none");
    assert!(guest.pr_managers().contains(r#""connected":true"#), "{}", guest.pr_managers());
    register_as_qemu(Path::new(SOCKET), KEY);
    assert_eq!(keys_seen_by_other_host(), [KEY]);

    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = thread::scope(|scope| {
        let client = scope.spawn(|| register_as_qemu(Path::new(SOCKET), 0));
        let helper = unit.activate();
        client.join().unwrap();
        helper
    });
    assert_eq!(keys_seen_by_other_host(), [0_u64; 0]);
    guest.detach(&disk);
    guest.attach(&disk);
    assert!(guest.pr_managers().contains(r#""connected":true"#), "{}", guest.pr_managers());
    guest.destroy();
    assert_eq!(second.try_wait().unwrap(), None, "the helper outlives the guest");
    Process(second.id()).kill(Signal::TERM);
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert!(Path::new(SOCKET).exists());
}
