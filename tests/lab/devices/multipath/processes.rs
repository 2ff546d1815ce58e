//! The processes behind a daemon that serves maps: what they may do, and that none is left over.

use std::{
    fs::{self, File},
    thread,
};

use rustix::process::Signal;
use test_support::{Client, Daemon, Options, eventually};

use super::{
    CLEAR, Host, KEY, Map, Multipath, NEW_KEY, OTHER_KEY, OtherHost, PREEMPT, REGISTER, REGISTER_AND_IGNORE,
    RELEASE, RESERVE, State, daemon,
    hang::{Hung, hanging_worker},
    process_tree::{Processes, field, has_ended, of, send},
};

const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_SYS_RAWIO: u64 = 1 << 17;
const CAP_SYS_ADMIN: u64 = 1 << 21;

fn capabilities(pid: u32, set: &str) -> u64 {
    u64::from_str_radix(&field(pid, set).unwrap(), 16).unwrap()
}

/// A daemon that has just served a map, with its processes.
fn that_has_served(map: &Map) -> (Daemon, Processes) {
    let daemon = daemon();
    Host::new(&daemon, map).does(REGISTER_AND_IGNORE, 0, 0, KEY);
    let processes = of(daemon.pid()).expect("a supervisor");
    assert!(!processes.workers.is_empty());
    (daemon, processes)
}

#[test]
fn as_another_user_it_still_serves_maps() {
    let _multipath = Multipath::start();
    let map = Map::a();
    let other = OtherHost::new();
    for arguments in [&["-u", "nobody"][..], &["-u", "nobody", "-g", "nogroup"]] {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let daemon = Daemon::with(Options { arguments, ..Options::default() });
        let mut host = Host::new(&daemon, &map);
        host.does(REGISTER, 0, 0, KEY);
        host.does(RESERVE, 5, KEY, 0);
        assert_eq!(map.state(), map.registered(KEY).with_reservation(KEY, 5));
        host.does(RELEASE, 5, KEY, 0);
        other.does(REGISTER, 0, 0, OTHER_KEY);
        other.does(RESERVE, 6, OTHER_KEY, 0);
        host.does(PREEMPT, 5, KEY, OTHER_KEY);
        host.does(REGISTER_AND_IGNORE, 0, 0, NEW_KEY);
        assert_eq!(map.state(), map.registered(NEW_KEY).with_reservation(NEW_KEY, 5));
        host.does(CLEAR, 0, NEW_KEY, 0);
        assert_eq!(map.state(), State::default());

        // Workers are started after the daemon has given up root, too.
        let before = of(daemon.pid()).unwrap();
        for worker in &before.workers {
            send(*worker, Signal::KILL);
        }
        eventually("they end", || before.workers.iter().copied().all(has_ended));
        // The first may have been sent to one that is no more.
        host.change(REGISTER_AND_IGNORE, 0, 0, KEY);
        host.does(REGISTER_AND_IGNORE, 0, 0, KEY);

        let pid = daemon.pid();
        assert_eq!(field(pid, "Uid").unwrap(), "65534 65534 65534 65534");
        assert_eq!(field(pid, "Gid").unwrap(), "65534 65534 65534 65534");
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(capabilities(pid, set), CAP_SYS_RAWIO, "{set}");
        }
        let processes = of(pid).unwrap();
        assert!(!processes.workers.is_empty());
        for process in processes.all() {
            assert_eq!(field(process, "Uid").unwrap(), "0 0 0 0");
            for set in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"] {
                let more = capabilities(process, set) & !(CAP_SYS_ADMIN | CAP_SYS_RAWIO | CAP_DAC_OVERRIDE);
                assert_eq!(more, 0, "{set} of {process}");
            }
        }
        host.does(CLEAR, 0, KEY, 0);
        daemon.stop();
    }
}

#[test]
fn when_the_daemon_ends_all_end() {
    let _multipath = Multipath::start();
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let (mut daemon, processes) = that_has_served(&Map::a());
        daemon.signal(signal);
        daemon.wait();
        eventually("supervisor and workers end", || processes.have_ended());
    }
}

/// A service manager sends a signal to all of a service's processes, unless told otherwise.
#[test]
fn to_ask_for_the_state_ends_no_process() {
    let _multipath = Multipath::start();
    let map = Map::a();
    let (daemon, processes) = that_has_served(&map);
    for process in processes.all() {
        send(process, Signal::USR1);
    }
    daemon.signal(Signal::USR1);
    daemon.wait_for_log("state: multipath maps are served");
    assert!(!processes.all().any(has_ended));
    Host::new(&daemon, &map).does(CLEAR, 0, KEY, 0);
    daemon.stop();
}

#[test]
fn when_the_daemon_is_killed_in_mid_command_all_end() {
    let _multipath = Multipath::start();
    let map = Map::b();
    let (mut daemon, _) = that_has_served(&map);
    let hung = Hung::new(&map);
    thread::scope(|scope| {
        let mut host = Host::new(&daemon, &map);
        let lost = scope.spawn(move || {
            let parameters = super::basic(0, NEW_KEY);
            host.client.write(&host.map, &super::out_cdb(REGISTER_AND_IGNORE, 0, &parameters), &parameters)
        });
        eventually("it hangs", || hanging_worker(&daemon).is_some());
        let processes = of(daemon.pid()).unwrap();
        daemon.signal(Signal::KILL);
        assert!(lost.join().unwrap().is_err());
        eventually("the supervisor ends", || has_ended(processes.supervisor));
        drop(hung);
        eventually("and the worker, when the disk lets it", || processes.have_ended());
    });
    daemon.wait();
}

#[test]
fn without_a_supervisor_maps_are_not_served_and_disks_are() {
    let _multipath = Multipath::start();
    let map = Map::a();
    let (daemon, processes) = that_has_served(&map);
    send(processes.supervisor, Signal::KILL);
    eventually("the workers end with it", || processes.have_ended());
    let mut host = Host::new(&daemon, &map);
    for _ in 0..3 {
        assert_eq!(host.change(RESERVE, 5, KEY, 0).status, scsi_sense::Status::CHECK_CONDITION);
    }
    assert_eq!(map.state(), map.registered(KEY));
    let disk = File::open(&map.paths[0].block).unwrap();
    let reply = daemon.client().read(&disk, &super::in_cdb(0, 8192)).unwrap();
    assert_eq!(reply.status, scsi_sense::Status::GOOD);
    daemon.stop();
}

#[test]
fn in_the_background_the_pidfile_names_the_daemon_and_its_end_is_that_of_all() {
    let _multipath = Multipath::start();
    let map = Map::a();
    let directory = tempfile::tempdir().unwrap();
    let (socket, pidfile) = (directory.path().join("socket"), directory.path().join("pid"));
    for signal in [Signal::TERM, Signal::KILL] {
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = Daemon::command();
        command.args(["-d", "-f"]).arg(&pidfile).arg("-k").arg(&socket).stderr(log);
        assert!(command.status().unwrap().success());
        let pid: u32 = fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
        let client = Client::connect(&socket).unwrap();
        let mut host = Host { client, map: map.open() };
        host.does(REGISTER_AND_IGNORE, 0, 0, KEY);
        let processes = of(pid).expect("the pidfile's process has a supervisor");
        assert!(!processes.workers.is_empty());
        send(pid, signal);
        eventually("all end", || has_ended(pid) && processes.have_ended());
        assert!(Client::connect(&socket).is_err());
        // One that is killed leaves it behind.
        let _ = fs::remove_file(&socket);
    }
}
