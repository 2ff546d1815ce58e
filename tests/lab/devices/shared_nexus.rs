//! Two client processes that register keys through one I_T nexus of a real disk: by several device nodes, by a map and its
//! path, and by two helpers.

use std::path::Path;

use scsi_sense::Status;
use test_support::{Client, Daemon, Options, OtherProcess, Reply};

use fixtures::{Disk, Map, Multipath, REGISTER, REGISTER_AND_IGNORE, basic, open, out_cdb};

const KEY: u64 = 0x5a;
const OTHER_KEY: u64 = 0x07;

/// What the warning says.
const WARNING: &str = "through the I_T nexus of client pid";

/// Not a test: the body of the other process.
#[test]
#[ignore = "is started by another test"]
fn other_process() {
    test_support::other_process::run();
}

fn daemon(arguments: &[&str]) -> Daemon {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    Daemon::with(Options { arguments, ..Options::default() })
}

/// Starts the other process and has it register its key.
fn registered(daemon: &Daemon, disk: &Path) -> OtherProcess {
    let mut other = OtherProcess::start("shared_nexus::other_process", &daemon.socket(), disk);
    // Before it there may be unit attentions of earlier changes.
    let mut statuses = (0..5).map(|_| other.change(REGISTER_AND_IGNORE, 0, OTHER_KEY));
    assert!(statuses.any(|status| status == Status::GOOD));
    drop(statuses);
    other
}

fn register(client: &mut Client, disk: &Path, action: u8, key: u64) -> Reply {
    let (disk, parameters) = (open(disk), basic(0, key));
    let mut replies =
        (0..5).map(|_| client.write(&disk, &out_cdb(action, 0, &parameters), &parameters).unwrap());
    replies.find(|reply| reply.sense_code().is_none_or(|(key, ..)| key != 6)).expect("no unit attention")
}

#[test]
fn device_nodes_of_one_nexus_are_compared() {
    let (a, b) = (Disk::nexus_a(), Disk::nexus_b());
    let daemon = daemon(&[]);
    let mut other = registered(&daemon, &a.block);
    let mut client = daemon.client();
    // Another nexus: another initiator port of the same disk.
    assert_eq!(register(&mut client, &b.block, REGISTER, KEY).status, Status::GOOD);
    assert!(!daemon.log().contains(WARNING), "{}", daemon.log());
    assert_eq!(register(&mut client, &a.generic, REGISTER, KEY).status, Status::RESERVATION_CONFLICT);
    daemon.wait_for_log(&format!("{WARNING} {} uid 0:", other.pid()));
    // It has gone, and the other process may register again.
    assert_eq!(other.change(REGISTER, OTHER_KEY, 0), Status::GOOD);
    let mut second = daemon.client();
    assert_eq!(register(&mut second, &a.generic, REGISTER, KEY).status, Status::GOOD);
    assert_eq!(daemon.log().matches(WARNING).count(), 1, "{}", daemon.log());
    for disk in [a, b] {
        assert_eq!(register(&mut client, &disk.block, REGISTER_AND_IGNORE, 0).status, Status::GOOD);
    }
    daemon.stop();
}

/// The key was preempted through another nexus, which the helper has not seen.
#[test]
fn preempted_process_is_not_reported() {
    let (a, b) = (Disk::nexus_a(), Disk::nexus_b());
    let daemon = daemon(&["--shared-nexus=refuse"]);
    let _other = registered(&daemon, &a.block);
    let disk = open(&b.block);
    for (action, key, new_key) in [(REGISTER_AND_IGNORE, 0, KEY), (fixtures::PREEMPT, KEY, OTHER_KEY)] {
        assert_eq!(fixtures::change_disk(&disk, action, 5, key, new_key).status, Status::GOOD);
    }
    assert_eq!(register(&mut daemon.client(), &a.block, REGISTER, KEY).status, Status::GOOD);
    assert!(!daemon.log().contains(WARNING), "{}", daemon.log());
    fixtures::change_disk(&disk, fixtures::CLEAR, 0, KEY, 0);
    daemon.stop();
}

#[test]
fn helpers_tell_each_other() {
    let disk = Disk::nexus_a();
    let first = daemon(&[]);
    let second = daemon(&["--shared-nexus=refuse"]);
    let mut other = registered(&first, &disk.block);
    let mut client = second.client();
    for action in [REGISTER, REGISTER_AND_IGNORE] {
        let reply = register(&mut client, &disk.generic, action, KEY);
        assert_eq!(reply.status, Status::RESERVATION_CONFLICT);
    }
    second.wait_for_log(&format!("{WARNING} {} uid 0 of another helper, refused", other.pid()));
    assert_eq!(other.change(REGISTER, OTHER_KEY, 0), Status::GOOD);
    assert_eq!(register(&mut client, &disk.generic, REGISTER, KEY).status, Status::GOOD);
    assert_eq!(register(&mut client, &disk.generic, REGISTER, 0).status, Status::RESERVATION_CONFLICT);
    assert_eq!(register(&mut client, &disk.generic, REGISTER_AND_IGNORE, 0).status, Status::GOOD);
    assert_eq!(second.log().matches(WARNING).count(), 1, "{}", second.log());
    first.stop();
    second.stop();
}

/// A helper that runs as another user could be any program of that user.
#[test]
fn untrusted_announcement_leads_to_warning_only() {
    let disk = Disk::nexus_a();
    let first = daemon(&["-u", "nobody"]);
    let second = daemon(&["--shared-nexus=refuse"]);
    let other = registered(&first, &disk.block);
    let mut client = second.client();
    assert_eq!(register(&mut client, &disk.block, REGISTER_AND_IGNORE, KEY).status, Status::GOOD);
    second.wait_for_log(&format!("{WARNING} {} uid 0 of another helper:", other.pid()));
    assert_eq!(register(&mut client, &disk.block, REGISTER_AND_IGNORE, 0).status, Status::GOOD);
    first.stop();
    second.stop();
}

#[test]
fn map_shares_the_nexuses_of_its_paths() {
    let _multipath = Multipath::start();
    let (daemon, map) = (daemon(&[]), Map::a());
    map.clean();
    let other = registered(&daemon, &map.paths[0].block);
    let mut client = daemon.client();
    let elsewhere = Disk::map_a_other_host();
    assert_eq!(register(&mut client, &elsewhere.block, REGISTER_AND_IGNORE, KEY).status, Status::GOOD);
    assert!(!daemon.log().contains(WARNING), "{}", daemon.log());
    let reply = register(&mut client, &map.node, REGISTER_AND_IGNORE, KEY);
    println!("REGISTER on the map: {} {:02x?}", reply.status, reply.sense_code());
    daemon.wait_for_log(&format!("{WARNING} {} uid 0:", other.pid()));
    daemon.stop();
    map.clean();
}
