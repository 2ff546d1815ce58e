//! Maps that hang, and workers that are killed.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    process::Signal,
};
use scsi_sense::Status;
use test_support::{Daemon, Options, eventually};

use super::{
    Host, Hosts, KEY, Map, Multipath, NEW_KEY, REGISTER, REGISTER_AND_IGNORE, RESERVE,
    process_tree::{self, send},
    with_hosts,
};

const IO_PROCESS_TERMINATED: Option<(u8, u8, u8)> = Some((0x0b, 0, 6));

/// Keeps an LIO disk from answering REGISTER until dropped.
///
/// LIO writes registrations to a file before it answers; here that file is a full FIFO. The kernel may abort such a command,
/// but the abort then waits for the FIFO too.
pub(super) struct Hung {
    fifo: File,
    path: PathBuf,
}

impl Hung {
    pub(super) fn new(map: &Map) -> Self {
        let root = fs::read_to_string("/sys/kernel/config/target/dbroot").unwrap();
        let serial = map.paths[0].serial();
        let file = format!("aptpl_{}", serial.trim_matches(['\0', ' ']));
        let path = Path::new(root.trim()).join("pr").join(file);
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = File::from(rustix::fs::open(&path, flags, Mode::empty()).unwrap());
        let full = std::iter::repeat_with(|| (&fifo).write(&[0; 4096])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        Self { fifo, path }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // LIO makes a new file next time.
        let _ = fs::remove_file(&self.path);
        while (&self.fifo).read(&mut [0; 4096]).is_ok() {}
    }
}

/// Returns a worker that waits for a disk, if there is one.
pub(super) fn hanging_worker(daemon: &Daemon) -> Option<u32> {
    process_tree::of(daemon.pid())?.workers.into_iter().find(|worker| {
        let Ok(threads) = fs::read_dir(format!("/proc/{worker}/task")) else { return false };
        threads.flatten().any(|thread| {
            fs::read_to_string(thread.path().join("wchan")).is_ok_and(|function| function == "blk_execute_rq")
        })
    })
}

/// Returns the median time of a change.
fn median_time(host: &mut Host) -> Duration {
    let mut times: Vec<Duration> = (0..15)
        .map(|number| {
            let begun = Instant::now();
            host.expect_good(REGISTER_AND_IGNORE, 0, 0, KEY + number);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn hung_map_does_not_delay_others() {
    with_hosts(|Hosts { daemon, host, .. }| {
        let b = Map::b();
        let mut on_hung = Host::new(daemon, &b);
        on_hung.expect_good(REGISTER, 0, 0, KEY);
        let normal = median_time(host);
        let hung = Hung::new(&b);
        thread::scope(|scope| {
            let stuck: Vec<_> = (0..20)
                .map(|_| {
                    let mut host = Host::new(daemon, &b);
                    scope.spawn(move || host.change(REGISTER_AND_IGNORE, 0, 0, NEW_KEY))
                })
                .collect();
            eventually("a worker hangs", || hanging_worker(daemon).is_some());
            let beside = median_time(host);
            assert!(stuck.iter().all(|thread| !thread.is_finished()), "the commands were stuck all the time");
            println!("a change takes {normal:?}, and beside a hung map {beside:?}");
            // The speed of an emulated machine varies.
            assert!(beside < (normal * 2).max(Duration::from_millis(500)), "{normal:?}, {beside:?}");
            drop(hung);
            for thread in stuck {
                let reply = thread.join().unwrap();
                println!("after the hang: {} {:02x?}", reply.status, reply.sense_code());
            }
        });
        eventually("the map is served again", || {
            on_hung.change(REGISTER_AND_IGNORE, 0, 0, NEW_KEY).status == Status::GOOD
        });
        eventually("on all paths", || b.state() == b.registered(NEW_KEY));
        on_hung.expect_good(REGISTER, 0, NEW_KEY, 0);
    });
}

/// Also if its worker cannot be killed, like any process for which the kernel waits for a disk.
#[test]
fn command_on_hung_map_is_aborted() {
    let _multipath = Multipath::start();
    let daemon = Daemon::with(Options { arguments: vec!["--timeout=1".into()], ..Options::default() });
    let (a, b) = (Map::a(), Map::b());
    let mut host = Host::new(&daemon, &b);
    host.expect_good(REGISTER, 0, 0, KEY);
    let hung = Hung::new(&b);
    let begun = Instant::now();
    let reply = host.change(REGISTER_AND_IGNORE, 0, 0, NEW_KEY);
    println!("aborted after {:?}: {:02x?}", begun.elapsed(), reply.sense_code());
    assert_eq!(reply.sense_code(), IO_PROCESS_TERMINATED);
    Host::new(&daemon, &a).expect_good(REGISTER_AND_IGNORE, 0, 0, KEY);
    drop(hung);
    eventually("the map is served again", || {
        host.change(REGISTER_AND_IGNORE, 0, 0, NEW_KEY).status == Status::GOOD
    });
    daemon.stop();
}

#[test]
fn killed_worker_costs_one_command() {
    with_hosts(|Hosts { daemon, map: a, .. }| {
        let b = Map::b();
        let mut host = Host::new(daemon, &b);
        host.expect_good(REGISTER, 0, 0, KEY);
        let hung = Hung::new(&b);
        thread::scope(|scope| {
            let reply = scope.spawn(|| {
                let reply = host.change(REGISTER_AND_IGNORE, 0, 0, NEW_KEY);
                (reply, host)
            });
            let mut worker = None;
            eventually("a worker hangs", || {
                worker = hanging_worker(daemon);
                worker.is_some()
            });
            send(worker.unwrap(), Signal::KILL);
            Host::new(daemon, a).expect_good(REGISTER_AND_IGNORE, 0, 0, KEY);
            // A killed process that waits for a disk exits when the wait ends.
            drop(hung);
            let (reply, mut host) = reply.join().unwrap();
            assert_eq!((reply.status, reply.sense_code()), (Status::CHECK_CONDITION, IO_PROCESS_TERMINATED));
            host.expect_good(REGISTER_AND_IGNORE, 0, 0, NEW_KEY);
            Host::new(daemon, a).expect_good(RESERVE, 5, KEY, 0);
        });
        assert_eq!(a.state(), a.registered(KEY).with_reservation(KEY, 5));
        assert_eq!(b.state(), b.registered(NEW_KEY));
        daemon.wait_for_log("SIGKILL");
    });
}

#[test]
fn worker_killed_before_start_changes_nothing() {
    with_hosts(|Hosts { daemon, map, host, .. }| {
        host.expect_good(REGISTER, 0, 0, KEY);
        let workers = process_tree::of(daemon.pid()).unwrap().workers;
        for worker in &workers {
            send(*worker, Signal::STOP);
        }
        thread::scope(|scope| {
            let reply = scope.spawn(|| host.change(RESERVE, 5, KEY, 0));
            thread::sleep(Duration::from_millis(300));
            assert!(!reply.is_finished());
            for worker in workers {
                send(worker, Signal::KILL);
            }
            assert_eq!(reply.join().unwrap().sense_code(), IO_PROCESS_TERMINATED);
        });
        assert_eq!(map.state(), map.registered(KEY));
        Host::new(daemon, map).expect_good(RESERVE, 5, KEY, 0);
    });
}
