//! The main job, to look at: a process without privilege fences a cluster node on a real SCSI disk, through the helper.
//! `cargo xtask demo` runs it in the lab's machine.
//!
//! Started as root it makes everything ready (daemon, disk, permissions) and starts itself again as nobody, who then
//! plays the two nodes: each is one I_T nexus of the same disk.

use std::{
    env,
    fs::File,
    os::{
        fd::AsFd as _,
        unix::{fs::chown, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, ExitCode},
};

use rustix::process::{Pid, Signal};
use scsi_sense::{
    Cdb, Sense, Status,
    pr::{
        InServiceAction, Keys, OutServiceAction, PersistentReserveIn, PersistentReserveOut, ReservationData,
        ReservationType, Scope,
    },
};
use tests::{Client, Reply, eventually};

const SOCKET: &str = "/run/pr-helper-session.sock";
const NOBODY: u32 = 65534;
const TYPE: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("nodes") {
        play();
        return ExitCode::SUCCESS;
    }
    let mut daemon = prepare();
    let me = env::current_exe().expect("this program's path");
    let nodes = Command::new(me).arg("nodes").uid(NOBODY).gid(NOBODY).status();
    rustix::process::kill_process(Pid::from_child(&daemon), Signal::TERM).expect("kill");
    let ended = daemon.wait().expect("wait");
    if nodes.is_ok_and(|status| status.success()) && ended.success() {
        println!(
            "\nNode A is fenced, the disk is clean again, and no process but pr-helper had any privilege."
        );
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// As root: starts the daemon, and gives the disk to nobody.
fn prepare() -> Child {
    let helper = env::var_os("PR_HELPER").expect("PR_HELPER: is this the lab's machine?");
    let daemon = Command::new(helper).args(["-k", SOCKET, "--socket-mode=0666"]).spawn().expect("pr-helper");
    eventually("the daemon listens", || Client::connect(Path::new(SOCKET)).is_ok());
    for variable in ["LAB_NEXUS_A", "LAB_NEXUS_B"] {
        let disk = env::var_os(variable).expect("a disk of the lab");
        chown(&disk, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    daemon
}

/// A cluster node: a process without privilege that has the disk open.
struct Node {
    name: &'static str,
    key: u64,
    disk: File,
    helper: Client,
}

impl Node {
    fn new(name: &'static str, key: u64, variable: &str) -> Self {
        let path = env::var_os(variable).expect("a disk of the lab");
        let disk = File::options().read(true).write(true).open(path).expect("the disk");
        let helper = Client::connect(Path::new(SOCKET)).expect("the helper");
        Self { name, key, disk, helper }
    }

    fn tell(&self, cdb: &[u8], answer: &str) {
        let command = Cdb::new(cdb).map_or_else(|_| format!("{cdb:02x?}"), |cdb| cdb.to_string());
        println!("node {}: {command}\n        {answer}", self.name);
    }

    /// Sends an OUT command with this node's key and another.
    fn send(&mut self, action: OutServiceAction, key: u64, other: u64) -> Reply {
        let kind = if action.has_type() { TYPE } else { ReservationType::Other(0) };
        let cdb = PersistentReserveOut { action, scope: Scope::LogicalUnit, kind, parameter_list_length: 24 }
            .to_cdb();
        let parameters = [key.to_be_bytes(), other.to_be_bytes(), [0; 8]].concat();
        let reply = self.helper.write(&self.disk, &cdb, &parameters).expect("a reply");
        self.tell(&cdb, &in_words(&reply));
        reply
    }

    fn expect(&mut self, status: Status, action: OutServiceAction, key: u64, other: u64) {
        assert_eq!(self.send(action, key, other).status, status);
    }

    fn ask(&mut self, action: InServiceAction) -> Reply {
        let cdb = PersistentReserveIn { action, allocation_length: 512 }.to_cdb();
        let reply = self.helper.read(&self.disk, &cdb).expect("a reply");
        let data = match action {
            InServiceAction::ReadKeys => Keys::parse(&reply.payload)
                .map(|keys| keys.iter().map(|key| key.to_string()).collect::<Vec<_>>().join(", "))
                .unwrap_or_default(),
            _ => ReservationData::parse(&reply.payload)
                .map(|data| match data.reservation() {
                    Ok(Some(reservation)) => format!("held by {}, {}", reservation.key, reservation.kind),
                    Ok(None) => "nobody holds it".into(),
                    Err(error) => error.to_string(),
                })
                .unwrap_or_default(),
        };
        self.tell(&cdb, &format!("{} [{data}]", in_words(&reply)));
        reply
    }
}

fn in_words(reply: &Reply) -> String {
    match Sense::parse(&reply.sense) {
        Ok(sense) if reply.status == Status::CHECK_CONDITION => format!("{}: {sense}", reply.status),
        _ => reply.status.to_string(),
    }
}

/// As nobody: two nodes and one disk.
fn play() {
    use OutServiceAction::{Clear, Preempt, Register, Reserve};
    let mut a = Node::new("A", 0xa, "LAB_NEXUS_A");
    let mut b = Node::new("B", 0xb, "LAB_NEXUS_B");

    println!("--- without the helper, as uid {}:", rustix::process::getuid().as_raw());
    let cdb = PersistentReserveIn { action: InServiceAction::ReadKeys, allocation_length: 512 }.to_cdb();
    let mut data = [0; 512];
    let refused =
        sg_io::Command::new(&cdb).read(&mut data).execute(a.disk.as_fd()).expect_err("no privilege");
    a.tell(&cdb, &format!("the kernel: {}", std::error::Error::source(&refused).expect("a cause")));

    println!("--- through the helper:");
    // What earlier commands in this machine left: unit attentions, registrations.
    for node in [&mut a, &mut b] {
        for _ in 0..2 {
            node.helper.read(&node.disk, &cdb).expect("a reply");
        }
    }
    a.expect(Status::GOOD, Register, 0, a.key);
    b.expect(Status::GOOD, Register, 0, b.key);
    assert_eq!(b.ask(InServiceAction::ReadKeys).payload.len(), 24, "two keys");
    a.expect(Status::GOOD, Reserve, a.key, 0);
    b.ask(InServiceAction::ReadReservation);
    b.expect(Status::RESERVATION_CONFLICT, Reserve, b.key, 0);
    println!("--- B believes that A is dead, and fences it:");
    b.expect(Status::GOOD, Preempt, b.key, a.key);
    b.ask(InServiceAction::ReadReservation);
    println!("--- A wakes up:");
    a.expect(Status::CHECK_CONDITION, Reserve, a.key, 0);
    a.expect(Status::RESERVATION_CONFLICT, Reserve, a.key, 0);
    println!("--- the end:");
    b.expect(Status::GOOD, Clear, b.key, 0);
    assert_eq!(b.ask(InServiceAction::ReadKeys).payload.len(), 8, "no keys");
}
