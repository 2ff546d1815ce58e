//! Debian's fence agents as the fencing of a cluster of two nodes: both are unfenced, each fences the other, and the fenced
//! node's writes fail until it is unfenced.
//!
//! The disk is reached over iSCSI, because the agents fence by PREEMPT AND ABORT, in which LIO over `tcm_loop` hangs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Instant;

use fixtures::{Disk, Multipath, READ_KEYS, READ_RESERVATION, ask_disk, clean, iscsi, open, wait_for};
use scsi_sense::pr::{Keys, ReservationData};
use test_support::eventually;

use crate::helper::{Helper, Program};
use crate::qemu::{Drive, Outcome, Qemu};

/// Exit statuses of the agents' action `status`: whether the key is registered.
const ON: i32 = 0;
const OFF: i32 = 2;

/// Write exclusive, registrants only.
const KIND: u8 = 5;

/// Rules that give the paths of a node the property by which multipathd finds the paths of a map, and the name of the map.
const UDEV_RULES: &str = "/run/udev/rules.d/99-fence.rules";
const MAP_1: &str = "node1";
const MAP_2: &str = "node2";

/// A guest, whose commands go through the helper, and another initiator.
#[test]
fn fence_scsi_in_a_guest() {
    let [one, two, observer] = iscsi::nexuses();
    let helper = Helper::start(Program::PrHelper, &[]);
    let guest = Guest::start(&helper, &one.block);
    fence_each_other(
        &mut Node::fence_scsi(0xa1, 1, Place::Guest(guest)),
        &mut Node::fence_scsi(0xb2, 1, Place::Host(two.block)),
        &observer,
    );
}

/// Two maps of one disk, one for each node.
#[test]
fn fence_mpath_on_maps() {
    let maps = Maps::make();
    fence_each_other(
        &mut Node::fence_mpath(0xa1, 2, maps.node_1, "/run/lab/node1"),
        &mut Node::fence_mpath(0xb2, 1, maps.node_2, "/run/lab/node2"),
        &maps.observer,
    );
}

/// A guest on a map, whose commands go through the helper, and another machine with a map.
#[test]
fn fence_scsi_in_a_guest_on_a_map() {
    let maps = Maps::make();
    let helper = Helper::start(Program::PrHelper, &[]);
    let guest = Guest::start(&helper, &maps.node_1);
    fence_each_other(
        &mut Node::fence_scsi(0xa1, 2, Place::Guest(guest)),
        &mut Node::fence_mpath(0xb2, 1, maps.node_2, "/run/lab/node2"),
        &maps.observer,
    );
}

fn fence_each_other(one: &mut Node, two: &mut Node, observer: &Disk) {
    let disk = open(&observer.block);
    clean(&[disk.try_clone().unwrap()]);
    assert_eq!((one.status(one.key), two.status(two.key)), (OFF, OFF));

    one.act("on", one.key);
    two.act("on", two.key);
    assert_eq!(state(&disk), (keys(&[&*one, &*two]), Some((one.key, KIND))));
    assert_eq!((one.status(two.key), two.status(one.key)), (ON, ON));
    for node in [&mut *one, &mut *two] {
        node.act("monitor", node.key);
        node.expect_write(true);
    }

    one.act("off", two.key);
    assert_eq!(state(&disk), (keys(&[&*one]), Some((one.key, KIND))));
    assert_eq!((one.status(two.key), two.status(two.key)), (OFF, OFF));
    two.expect_write(false);
    one.expect_write(true);

    two.act("on", two.key);
    assert_eq!(two.status(two.key), ON);
    two.expect_write(true);

    // The reservation is preempted too.
    two.act("off", one.key);
    assert_eq!(state(&disk), (keys(&[&*two]), Some((two.key, KIND))));
    assert_eq!((one.status(one.key), two.status(one.key)), (OFF, OFF));
    one.expect_write(false);
    two.expect_write(true);

    one.act("on", one.key);
    assert_eq!(state(&disk), (keys(&[&*one, &*two]), Some((two.key, KIND))));
    one.expect_write(true);
    two.expect_write(true);
    clean(&[disk]);
}

/// Returns the registered keys, sorted, and the key and type of the reservation.
fn state(disk: &File) -> (Vec<u64>, Option<(u64, u8)>) {
    let payload = ask_disk(disk, READ_KEYS).payload;
    let mut keys: Vec<u64> = Keys::parse(&payload).unwrap().iter().map(|key| key.0).collect();
    keys.sort_unstable();
    let payload = ask_disk(disk, READ_RESERVATION).payload;
    let reservation = ReservationData::parse(&payload).unwrap().reservation().unwrap();
    (keys, reservation.map(|held| (held.key.0, held.kind.code())))
}

/// Returns the keys of these nodes, one for each path.
fn keys(nodes: &[&Node]) -> Vec<u64> {
    nodes.iter().flat_map(|node| std::iter::repeat_n(node.key, node.paths)).collect()
}

/// A node of the cluster.
struct Node {
    key: u64,
    /// Number of the node's I_T nexuses.
    paths: usize,
    /// The agent with its options, but for those of an action.
    agent: String,
    /// The agent's option for the key of the node that an action concerns.
    key_option: &'static str,
    place: Place,
    /// Number of writes so far.
    writes: u64,
}

/// The machine that a node is, with its disk.
enum Place {
    /// The lab's machine, and the path of the block device.
    Host(PathBuf),
    /// A guest and its first disk.
    Guest(Guest),
}

impl Place {
    fn device(&self) -> String {
        match self {
            Self::Host(device) => device.display().to_string(),
            Self::Guest(guest) => guest.0.disk(0).to_owned(),
        }
    }

    fn run(&mut self, command: &str) -> Outcome {
        match self {
            Self::Host(_) => run(command),
            Self::Guest(guest) => guest.0.run(&format!("chroot /host sh -c '{command}'")),
        }
    }
}

impl Node {
    fn fence_scsi(key: u64, paths: usize, place: Place) -> Self {
        let agent = format!("/usr/sbin/fence_scsi --devices={}", place.device());
        Self { key, paths, agent, key_option: "--key", place, writes: 0 }
    }

    /// `store` is the directory in which the agent records the node's key.
    fn fence_mpath(key: u64, paths: usize, map: PathBuf, store: &str) -> Self {
        let place = Place::Host(map);
        let agent = format!("/usr/sbin/fence_mpath --devices={} --store-path={store}", place.device());
        Self { key, paths, agent, key_option: "--plug", place, writes: 0 }
    }

    /// Runs an action of the agent that concerns the node with this key.
    fn agent(&mut self, action: &str, key: u64) -> Outcome {
        let begun = Instant::now();
        let outcome =
            self.place.run(&format!("{} --action={action} {}={key:x}", self.agent, self.key_option));
        println!("{action} {key:x}: {} in {:.1} s", outcome.status, begun.elapsed().as_secs_f64());
        outcome
    }

    /// Runs an action, which must succeed.
    #[track_caller]
    fn act(&mut self, action: &str, key: u64) {
        let outcome = self.agent(action, key);
        assert_eq!(outcome.status, 0, "{action} {key:x}: {}", outcome.output);
    }

    /// Returns the exit status of the action `status`. A node that was fenced gets several unit attentions, and its agent
    /// expects only one.
    fn status(&mut self, key: u64) -> i32 {
        let outcomes = (0..3).map(|_| self.agent("status", key));
        let outcome = outcomes.into_iter().find(|outcome| !outcome.output.contains("Unit attention"));
        outcome.expect("an answer").status
    }

    /// Writes to the disk. The write must reach its content if it is expected to succeed; otherwise it must fail and change
    /// nothing.
    #[track_caller]
    fn expect_write(&mut self, succeeds: bool) {
        const BLOCK: u64 = 512;
        self.writes += 1;
        let (block, text) =
            (self.key * 100 + self.writes, format!("{:x}-{}-{}", self.key, process::id(), self.writes));
        let read = || {
            let mut bytes = vec![0; text.len()];
            File::open(iscsi::CONTENT).unwrap().read_exact_at(&mut bytes, block * BLOCK).unwrap();
            bytes
        };
        let before = read();
        assert_ne!(before, text.as_bytes());
        let device = self.place.device();
        let outcome =
            self.place.run(&format!("printf {text} | dd of={device} bs={BLOCK} seek={block} conv=fsync"));
        assert_eq!(outcome.status == 0, succeeds, "{}", outcome.output);
        assert_eq!(read(), if succeeds { text.into_bytes() } else { before });
    }
}

/// Runs a command on this machine.
fn run(command: &str) -> Outcome {
    println!("host# {command}");
    let result = Command::new("sh").args(["-c", &format!("{command} 2>&1")]).output().unwrap();
    let output = String::from_utf8_lossy(&result.stdout).into_owned();
    println!("{output}");
    Outcome { status: result.status.code().unwrap(), output }
}

/// A guest that can run the agent.
struct Guest(Qemu);

impl Guest {
    fn start(helper: &Helper, device: &Path) -> Self {
        // Debian's packages contain no compiled modules. Python stores those that it has compiled, for the guest too.
        let prepared = run("/usr/sbin/fence_scsi --action=metadata >/dev/null");
        assert_eq!(prepared.status, 0, "{}", prepared.output);
        let mut qemu = Qemu::with_host_files(helper, &[Drive::block(device)]);
        qemu.mount_host();
        Self(qemu)
    }
}

/// Two maps of one disk that stand for those of two machines.
struct Maps {
    node_1: PathBuf,
    node_2: PathBuf,
    observer: Disk,
    _multipath: Multipath,
}

impl Maps {
    fn make() -> Self {
        let [one, two, other_of_one, observer] = iscsi::nexuses();
        clean(&[open(&observer.block)]);
        fs::create_dir_all(Path::new(UDEV_RULES).parent().unwrap()).unwrap();
        let rules = [(&one, MAP_1), (&two, MAP_2), (&other_of_one, MAP_1)]
            .map(|(path, map)| format!("KERNEL==\"{}\", ENV{{ID_SERIAL}}=\"{map}\"\n", path.name()));
        fs::write(UDEV_RULES, rules.concat()).unwrap();
        let paths = [&one, &two, &other_of_one];
        let multipath =
            Multipath::with_extra_disks(&format!("{MAP_1}|{MAP_2}"), &paths.map(|path| path.block.as_path()));
        for path in paths {
            wait_for(path, "active ready");
        }
        let [node_1, node_2] = [MAP_1, MAP_2].map(|name| Path::new("/dev/mapper").join(name));
        for node in [&node_1, &node_2] {
            eventually("the map has a node", || node.exists());
        }
        Self { node_1, node_2, observer, _multipath: multipath }
    }
}
