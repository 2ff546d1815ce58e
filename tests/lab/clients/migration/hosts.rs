//! The hosts between which a guest migrates, and a host that must not write.

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use fixtures::{Disk, Map, State, open};
use scsi_sense::Status;

use crate::{
    helper::{Helper, Program},
    qemu::Drive,
};

/// A host with a helper and with its own nexuses to a disk.
pub(super) struct Host {
    pub(super) helper: Helper,
    device: PathBuf,
    /// One of the paths to the disk.
    path: Disk,
    /// The initiator ports, sorted.
    ports: Vec<u64>,
}

impl Host {
    /// Returns a host that uses this disk without multipath.
    pub(super) fn on_disk(name: &str, disk: &Disk) -> Self {
        Self::new(name, disk.block.clone(), std::slice::from_ref(disk))
    }

    /// Returns a host that uses this map.
    pub(super) fn on_map(name: &str, map: &Map) -> Self {
        Self::new(name, map.node.clone(), &map.paths)
    }

    fn new(name: &str, device: PathBuf, paths: &[Disk]) -> Self {
        let helper = Helper::start_named(name, Program::PrHelper, &["--verbose"]);
        let ports = paths.iter().map(Disk::initiator_port).collect();
        Self { helper, device, path: paths[0].clone(), ports }
    }

    /// Returns whether the host has one path to the disk only.
    pub(super) fn has_one_path(&self) -> bool {
        self.ports.len() == 1
    }

    /// Returns the drive of a guest on this host.
    pub(super) fn drive(&self) -> Drive<'_> {
        Drive::block(&self.device)
    }

    /// Returns the registrations and the reservation of the disk.
    pub(super) fn state(&self) -> State {
        State::seen_by(&self.path)
    }

    /// Returns the state of a disk on which only this host is registered, by all its ports.
    pub(super) fn registered(&self, key: u64) -> State {
        State { registered: self.ports.iter().map(|port| (*port, key)).collect(), reservation: None }
    }

    /// Returns a place in the helper's log for [`Host::commands_since`].
    pub(super) fn mark(&self) -> usize {
        self.helper.log().len()
    }

    /// Returns the commands that the helper has logged since then, with their results.
    pub(super) fn commands_since(&self, mark: usize) -> Vec<String> {
        let log = self.helper.log();
        let commands =
            log[mark..].lines().filter_map(|line| line.find("PERSISTENT RESERVE").map(|at| &line[at..]));
        commands.map(str::to_owned).collect()
    }
}

/// A host without a registration, which tries to write all the time.
pub(super) struct Fenced {
    is_stopped: Arc<AtomicBool>,
    writer: JoinHandle<usize>,
}

impl Fenced {
    pub(super) fn start(disk: &Disk) -> Self {
        let disk = open(&disk.block);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let writer = thread::spawn(move || {
            let mut conflicts = 0;
            while !stopped.load(Ordering::Relaxed) {
                match write_block(&disk) {
                    Status::RESERVATION_CONFLICT => conflicts += 1,
                    // A unit attention.
                    Status::CHECK_CONDITION => {}
                    other => panic!("the fenced host's write is answered by {other}"),
                }
                thread::sleep(Duration::from_millis(10));
            }
            conflicts
        });
        Self { is_stopped, writer }
    }

    /// Stops writing. Panics if a write was not answered by RESERVATION CONFLICT.
    pub(super) fn stop(self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let conflicts = self.writer.join().unwrap();
        println!("{conflicts} writes of the third host conflicted, and none succeeded");
        assert!(conflicts > 0);
    }
}

/// Writes one block near the end of the disk by WRITE (10); returns the disk's status.
fn write_block(disk: &File) -> Status {
    let cdb = [0x2a, 0, 0, 1, 0xff, 0, 0, 0, 1, 0];
    let mut sense = [0; 96];
    let command =
        sg_io::Command::new(&cdb).sense(&mut sense).timeout(Duration::from_secs(30)).write(&[0; 512]);
    let done = command.execute(disk.as_fd()).expect("SG_IO");
    assert_eq!(done.host_status, 0, "{done:?}");
    Status(done.status)
}
