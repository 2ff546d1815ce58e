//! `--emulate`: regular files act as disks, sockets as initiators.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use scsi_sense::{
    Status,
    pr::{
        BasicParameters, InServiceAction, Keys, OutServiceAction, PersistentReserveIn, PersistentReserveOut,
        ReservationKey, ReservationType, Scope,
    },
};
use tempfile::TempDir;
use test_support::{Client, Daemon, Options, Reply};

pub(crate) const A: ReservationKey = ReservationKey(0xa);
pub(crate) const B: ReservationKey = ReservationKey(0xb);
pub(crate) const NONE: ReservationKey = ReservationKey(0);

/// A directory with two disks, the sockets of two nodes, and the state directory of the emulation.
pub(crate) struct Cluster(TempDir);

impl Cluster {
    pub(crate) fn new() -> Self {
        let cluster = Self(tempfile::tempdir().unwrap());
        for disk in ["disk", "other"] {
            fs::write(cluster.path(disk), [0; 4096]).unwrap();
        }
        cluster
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, arguments: &[String]) -> Daemon {
        let arguments = [&self.arguments(), arguments].concat();
        Daemon::with(Options { arguments, ..Options::default() })
    }

    fn arguments(&self) -> Vec<String> {
        let [state, a, b] = ["state", "a", "b"].map(|name| self.path(name).display().to_string());
        vec![format!("--emulate={state}"), format!("--initiator=a={a}"), format!("--initiator=b={b}")]
    }

    pub(crate) fn node(&self, name: &str) -> Client {
        Client::connect(&self.path(name)).unwrap()
    }

    pub(crate) fn disk(&self, name: &str) -> File {
        File::options().read(true).write(true).open(self.path(name)).unwrap()
    }

    pub(crate) fn state_files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

pub(crate) fn change(
    node: &mut Client,
    disk: &File,
    action: OutServiceAction,
    (key, other): (ReservationKey, ReservationKey),
    aptpl: bool,
) -> Reply {
    let cdb = PersistentReserveOut {
        action,
        scope: Scope::LogicalUnit,
        kind: ReservationType::WriteExclusiveRegistrantsOnly,
        parameter_list_length: 24,
    };
    let parameters = BasicParameters {
        reservation_key: key,
        service_action_key: other,
        aptpl,
        ..BasicParameters::default()
    };
    node.write(disk, &cdb.to_cdb(), &parameters.to_bytes()).unwrap()
}

fn keys(node: &mut Client, disk: &File) -> Vec<ReservationKey> {
    let cdb = PersistentReserveIn { action: InServiceAction::ReadKeys, allocation_length: 256 };
    let reply = node.read(disk, &cdb.to_cdb()).unwrap();
    assert_eq!(reply.status, Status::GOOD, "{:?}", reply.sense_code());
    Keys::parse(&reply.payload).unwrap().iter().collect()
}

#[test]
fn two_nodes_fence_each_other() {
    let cluster = Cluster::new();
    let _daemon = cluster.start();
    let (mut a, mut b) = (cluster.node("a"), cluster.node("b"));
    let disk = cluster.disk("disk");
    let run = |node: &mut Client, action, keys| change(node, &disk, action, keys, false).status;

    assert_eq!(run(&mut a, OutServiceAction::Register, (NONE, A)), Status::GOOD);
    assert_eq!(run(&mut b, OutServiceAction::Reserve, (B, NONE)), Status::RESERVATION_CONFLICT);
    assert_eq!(run(&mut b, OutServiceAction::Register, (NONE, B)), Status::GOOD);
    assert_eq!(run(&mut a, OutServiceAction::Reserve, (A, NONE)), Status::GOOD);
    assert_eq!(run(&mut b, OutServiceAction::Reserve, (B, NONE)), Status::RESERVATION_CONFLICT);
    assert_eq!(run(&mut b, OutServiceAction::Preempt, (B, A)), Status::GOOD);
    assert_eq!(run(&mut a, OutServiceAction::Release, (A, NONE)), Status::RESERVATION_CONFLICT);
    let reply = a.read(&disk, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]).unwrap();
    assert_eq!(reply.sense_code(), Some((0x6, 0x2a, 0x05)), "REGISTRATIONS PREEMPTED");
    assert_eq!(keys(&mut a, &disk), [B]);
    assert_eq!(keys(&mut a, &cluster.disk("other")), [], "registrations belong to one disk");
}

#[test]
fn only_aptpl_registrations_survive_restart() {
    let cluster = Cluster::new();
    let daemon = cluster.start();
    for (disk, aptpl) in [("disk", true), ("other", false)] {
        let reply =
            change(&mut cluster.node("a"), &cluster.disk(disk), OutServiceAction::Register, (NONE, A), aptpl);
        assert_eq!(reply.status, Status::GOOD);
    }
    // Kills the daemon, which therefore cannot write its state at exit.
    drop(daemon);
    let _daemon = cluster.start();
    assert_eq!(keys(&mut cluster.node("b"), &cluster.disk("disk")), [A]);
    assert_eq!(keys(&mut cluster.node("b"), &cluster.disk("other")), []);
}

/// A damaged state file must not read as an empty one: that would lose registrations.
#[test]
fn damaged_state_is_target_failure() {
    let cluster = Cluster::new();
    let daemon = cluster.start();
    let disk = cluster.disk("disk");
    change(&mut cluster.node("a"), &disk, OutServiceAction::Register, (NONE, A), true);
    drop(daemon);
    let state = cluster.state_files();
    assert_eq!(state.len(), 1, "{state:?}");
    let mut bytes = fs::read(&state[0]).unwrap();
    bytes[20] ^= 1;
    fs::write(&state[0], bytes).unwrap();

    let daemon = cluster.start();
    let reply = cluster.node("a").read(&disk, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]).unwrap();
    assert_eq!(reply.sense_code(), Some((0x4, 0x44, 0x00)), "INTERNAL TARGET FAILURE");
    daemon.wait_for_log(&state[0].display().to_string());
}

#[test]
fn second_daemon_cannot_use_state_directory() {
    let cluster = Cluster::new();
    let _daemon = cluster.start();
    let socket = cluster.path("another").display().to_string();
    let arguments = [format!("--emulate={}", cluster.path("state").display()), "-k".into(), socket];
    let output = Daemon::command().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is in use by another pr-helper"), "{output:?}");
}

/// Only regular files act as disks, and changes need a writable descriptor.
#[test]
fn emulation_refuses_unsuitable_descriptors() {
    let cluster = Cluster::new();
    let _daemon = cluster.start();
    let mut a = cluster.node("a");
    for path in [Path::new("/dev/null"), cluster.0.path()] {
        let reply = a.read(File::open(path).unwrap(), &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]).unwrap();
        assert_eq!(reply.sense_code(), Some((0x5, 0x20, 0x00)), "{}", path.display());
    }
    let disk = File::open(cluster.path("disk")).unwrap();
    let reply = change(&mut a, &disk, OutServiceAction::Register, (NONE, A), false);
    assert_eq!(reply.sense_code(), Some((0x5, 0x20, 0x00)));
    assert_eq!(keys(&mut a, &disk), [], "READ KEYS needs no write access");
}

#[test]
fn replaced_file_has_no_registrations() {
    let cluster = Cluster::new();
    let _daemon = cluster.start();
    let mut a = cluster.node("a");
    change(&mut a, &cluster.disk("disk"), OutServiceAction::Register, (NONE, A), false);
    let replacement = cluster.path("new");
    fs::write(&replacement, [0; 4096]).unwrap();
    fs::rename(&replacement, cluster.path("disk")).unwrap();
    assert_eq!(keys(&mut a, &cluster.disk("disk")), []);
}
