//! Two client processes that register keys through one I_T nexus, which is one initiator of `--emulate` here.

use std::path::PathBuf;

use scsi_sense::{Status, pr::OutServiceAction};
use test_support::{Client, Daemon, OtherProcess, Reply, eventually, scrape};

use crate::emulate::{A, B, Cluster, NONE, change};

const REGISTER: u8 = 0;
const REGISTER_AND_IGNORE: u8 = 6;

/// What the warning says.
const WARNING: &str = "through the I_T nexus of client pid";

/// Not a test: the body of the other process.
#[test]
#[ignore = "is started by another test"]
fn other_process() {
    test_support::other_process::run();
}

/// A daemon with this policy, this process as a client, and another one with the same initiator.
struct Guests {
    cluster: Cluster,
    daemon: Daemon,
    client: Client,
    other: OtherProcess,
}

impl Guests {
    fn new(policy: &str) -> Self {
        let cluster = Cluster::new();
        let metrics = format!("--metrics-socket={}", cluster.path("metrics").display());
        let daemon = cluster.start_with(&[format!("--shared-nexus={policy}"), metrics]);
        let client = cluster.node("a");
        let other =
            OtherProcess::start("shared_nexus::other_process", &cluster.path("a"), &cluster.path("disk"));
        Self { cluster, daemon, client, other }
    }

    fn register(&mut self, action: OutServiceAction) -> Reply {
        change(&mut self.client, &self.cluster.disk("disk"), action, (NONE, B), false)
    }

    fn metrics(&self) -> PathBuf {
        self.cluster.path("metrics")
    }

    fn count(&self) -> Option<u32> {
        let metrics = scrape::get(&self.metrics(), "/metrics");
        metrics.lines().find_map(|line| line.strip_prefix("pr_helper_shared_nexus ")?.parse().ok())
    }

    fn warnings(&self) -> usize {
        self.daemon.log().matches(WARNING).count()
    }
}

#[test]
fn second_process_is_warned_about_once() {
    let mut guests = Guests::new("warn");
    assert_eq!(guests.other.change(REGISTER, 0, A.0), Status::GOOD);
    assert_eq!((guests.warnings(), guests.count()), (0, Some(0)));
    // The disk refuses the second registration by itself, and says nothing of the reason.
    assert_eq!(guests.register(OutServiceAction::Register).status, Status::RESERVATION_CONFLICT);
    guests.daemon.wait_for_log(&format!("{WARNING} {} uid", guests.other.pid()));
    for _ in 0..3 {
        assert_eq!(guests.register(OutServiceAction::RegisterAndIgnoreExistingKey).status, Status::GOOD);
    }
    assert_eq!((guests.warnings(), guests.count()), (1, Some(1)));
    let state = scrape::get(&guests.metrics(), "/state");
    let nexus = state.lines().skip_while(|line| !line.starts_with("shared I_T nexuses: 1")).nth(1);
    let nexus = nexus.unwrap_or_else(|| panic!("{state}"));
    for pid in [std::process::id(), guests.other.pid()] {
        assert!(nexus.contains(&format!("client pid {pid} uid")), "{nexus}");
    }
    drop(guests.other);
    let metrics = guests.cluster.path("metrics");
    eventually("the nexus is shared no longer", || {
        scrape::get(&metrics, "/metrics").contains("\npr_helper_shared_nexus 0\n")
    });
}

/// `pr-ctl probe` asks a path in this way whether a guest's key is registered. The disk must answer it, also with `refuse`.
#[test]
fn query_for_a_key_is_no_registration() {
    let mut guests = Guests::new("refuse");
    assert_eq!(guests.other.change(REGISTER, 0, A.0), Status::GOOD);
    let disk = guests.cluster.disk("disk");
    for (key, expected) in [(A, Status::GOOD), (B, Status::RESERVATION_CONFLICT)] {
        let reply = change(&mut guests.client, &disk, OutServiceAction::Register, (key, key), false);
        assert_eq!(reply.status, expected);
    }
    assert_eq!((guests.warnings(), guests.count()), (0, Some(0)));
    assert_eq!(guests.register(OutServiceAction::Register).status, Status::RESERVATION_CONFLICT);
    assert_eq!(guests.warnings(), 1);
}

#[test]
fn former_registrants_are_not_reported() {
    for end in ["unregistered", "replaced and unregistered", "preempted", "ended", "never registered"] {
        let mut guests = Guests::new("refuse");
        if end != "never registered" {
            assert_eq!(guests.other.change(REGISTER, 0, A.0), Status::GOOD);
        }
        match end {
            "unregistered" => assert_eq!(guests.other.change(REGISTER, A.0, 0), Status::GOOD),
            "replaced and unregistered" => {
                assert_eq!(guests.other.change(REGISTER_AND_IGNORE, 0, 0xc), Status::GOOD);
                assert_eq!(guests.other.change(REGISTER_AND_IGNORE, 0, 0), Status::GOOD);
            }
            "preempted" => {
                let (mut node, disk) = (guests.cluster.node("b"), guests.cluster.disk("disk"));
                for (action, keys) in
                    [(OutServiceAction::Register, (NONE, B)), (OutServiceAction::Preempt, (B, A))]
                {
                    assert_eq!(change(&mut node, &disk, action, keys, false).status, Status::GOOD);
                }
                // The device's report of it must reach the guest.
                let reply = guests.register(OutServiceAction::Register);
                assert_eq!(reply.sense_code(), Some((6, 0x2a, 5)), "REGISTRATIONS PREEMPTED");
            }
            "ended" => guests.other.end(),
            _ => {}
        }
        let action = if end == "ended" {
            OutServiceAction::RegisterAndIgnoreExistingKey
        } else {
            OutServiceAction::Register
        };
        assert_eq!(guests.register(action).status, Status::GOOD, "{end}");
        assert_eq!((guests.warnings(), guests.count()), (0, Some(0)), "{end}");
    }
}

#[test]
fn second_process_is_refused() {
    let mut guests = Guests::new("refuse");
    assert_eq!(guests.other.change(REGISTER, 0, A.0), Status::GOOD);
    for action in [OutServiceAction::Register, OutServiceAction::RegisterAndIgnoreExistingKey] {
        let reply = guests.register(action);
        assert_eq!((reply.status, reply.sense), (Status::RESERVATION_CONFLICT, [0; 96]));
    }
    guests.daemon.wait_for_log("refused (see --shared-nexus)");
    assert_eq!(guests.count(), Some(0), "only one of them is registered");
    // The first one was not disturbed.
    assert_eq!(guests.other.change(REGISTER, A.0, 0), Status::GOOD);
    assert_eq!(guests.register(OutServiceAction::Register).status, Status::GOOD);
}

#[test]
fn ignored_policy_reports_nothing() {
    let mut guests = Guests::new("ignore");
    assert_eq!(guests.other.change(REGISTER, 0, A.0), Status::GOOD);
    assert_eq!(guests.register(OutServiceAction::RegisterAndIgnoreExistingKey).status, Status::GOOD);
    assert_eq!((guests.warnings(), guests.count()), (0, Some(0)));
}

#[test]
fn other_initiators_and_disks_are_not_shared() {
    let mut guests = Guests::new("refuse");
    assert_eq!(guests.other.change(REGISTER, 0, A.0), Status::GOOD);
    let (mut node, disk) = (guests.cluster.node("b"), guests.cluster.disk("disk"));
    let register = OutServiceAction::Register;
    assert_eq!(change(&mut node, &disk, register, (NONE, B), false).status, Status::GOOD);
    let other_disk = guests.cluster.disk("other");
    assert_eq!(change(&mut guests.client, &other_disk, register, (NONE, B), false).status, Status::GOOD);
    assert_eq!((guests.warnings(), guests.count()), (0, Some(0)));
}

/// A second connection of the same process, such as that of QEMU's second disk.
#[test]
fn connections_of_one_process_share_freely() {
    let mut guests = Guests::new("refuse");
    let (mut second, disk) = (guests.cluster.node("a"), guests.cluster.disk("disk"));
    let ignore = OutServiceAction::RegisterAndIgnoreExistingKey;
    assert_eq!(guests.register(ignore).status, Status::GOOD);
    assert_eq!(change(&mut second, &disk, ignore, (NONE, A), false).status, Status::GOOD);
    assert_eq!((guests.warnings(), guests.count()), (0, Some(0)));
}
