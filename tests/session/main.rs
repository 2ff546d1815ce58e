//! The main job, to look at: on a real SCSI disk, a process without privilege fences a cluster node through the helper.
//! `cargo xtask demo` runs it in the lab's machine.
//!
//! Started as root it makes everything ready (disk, daemon, permissions) and starts itself again as nobody, who plays
//! both nodes: each is one I_T nexus of the same logical unit. Whatever comes of that, the disk is clean at the end.

#![forbid(unsafe_code)]

use std::{
    env,
    error::Error,
    fmt,
    fs::{self, File},
    os::{
        fd::AsFd as _,
        unix::{fs::chown, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal},
};
use scsi_sense::{
    Sense, SenseCode, Status,
    pr::{
        BasicParameters, InServiceAction, Keys, OutServiceAction, PersistentReserveIn, PersistentReserveOut,
        Reservation, ReservationData, ReservationKey, ReservationType, Scope,
    },
};
use tests::{Client, Reply};

const SOCKET: &str = "/run/pr-helper.sock";
const LOG: &str = "/run/pr-helper.log";
/// User and group.
const NOBODY: u32 = 65534;
/// The argument with which the program starts itself again.
const NODES: &str = "nodes";

const KEY_A: ReservationKey = ReservationKey(0xa);
const KEY_B: ReservationKey = ReservationKey(0xb);
const NO_KEY: ReservationKey = ReservationKey::ZERO;
const TYPE: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let is_nodes = env::args_os().nth(1).is_some_and(|argument| argument == NODES);
    match if is_nodes { as_nobody() } else { as_root() } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pr-session: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Two nodes share a disk, and one fences the other. A step fails unless its answer is the one expected.
fn as_nobody() -> Result {
    use InServiceAction::{ReadKeys, ReadReservation};
    use OutServiceAction::{Clear, Preempt, Register, Reserve};
    let [disk_a, disk_b] = disks()?;
    println!("One SCSI disk, two I_T nexuses: node A has {}, node B {}.", disk_a.display(), disk_b.display());
    let mut a = Node::new("A", &disk_a)?;
    let mut b = Node::new("B", &disk_b)?;

    let user = rustix::process::getuid();
    println!("\n1. Both are user {user}, to whom the disk belongs. Even so, the kernel refuses them:");
    a.is_refused(&Request::read(ReadKeys))?;
    a.is_refused(&Request::write(Register, NO_KEY, KEY_A))?;

    println!("\n2. The helper does it for them. A registers the key {KEY_A}, B the key {KEY_B}:");
    a.step(&Request::write(Register, NO_KEY, KEY_A), &GOOD)?;
    b.step(&Request::write(Register, NO_KEY, KEY_B), &GOOD)?;
    a.step(&Request::read(ReadKeys), &Answer::Keys(vec![KEY_A, KEY_B]))?;

    println!("\n3. A reserves the disk, so B cannot:");
    a.step(&Request::write(Reserve, KEY_A, NO_KEY), &GOOD)?;
    b.step(&Request::read(ReadReservation), &Answer::Reservation(Some(reservation_of(KEY_A))))?;
    b.step(&Request::write(Reserve, KEY_B, NO_KEY), &CONFLICT)?;

    println!("\n4. B takes A for dead, and fences it by preempting its key:");
    b.step(&Request::write(Preempt, KEY_B, KEY_A), &GOOD)?;

    println!("\n5. A was not dead. It is told once what has happened, and is shut out:");
    a.step(&Request::write(Reserve, KEY_A, NO_KEY), &Answer::Sense(SenseCode::REGISTRATIONS_PREEMPTED))?;
    a.step(&Request::write(Reserve, KEY_A, NO_KEY), &CONFLICT)?;
    b.step(&Request::read(ReadReservation), &Answer::Reservation(Some(reservation_of(KEY_B))))?;

    println!("\n6. B is done with the disk:");
    b.step(&Request::write(Clear, KEY_B, NO_KEY), &GOOD)?;
    b.step(&Request::read(ReadKeys), &Answer::Keys(vec![]))
}

fn reservation_of(key: ReservationKey) -> Reservation {
    Reservation { key, scope: Scope::LogicalUnit, kind: TYPE }
}

/// A cluster node: a disk and a connection to the helper, both open.
struct Node {
    name: &'static str,
    disk: File,
    helper: Client,
}

impl Node {
    fn new(name: &'static str, disk: &Path) -> Result<Self> {
        Ok(Self { name, disk: open(disk)?, helper: Client::connect(Path::new(SOCKET))? })
    }

    /// Sends a command through the helper.
    fn step(&mut self, request: &Request, expected: &Answer) -> Result {
        let reply = match request {
            Request::In(command) => self.helper.read(&self.disk, &command.to_cdb()),
            Request::Out(command, list) => self.helper.write(&self.disk, &command.to_cdb(), &list.to_bytes()),
        };
        let answer = Answer::decode(request, &reply?)?;
        println!("   {}: {request}\n      {answer}", self.name);
        if answer == *expected { Ok(()) } else { Err(format!("the answer should be {expected}").into()) }
    }

    /// Sends a command without the helper.
    fn is_refused(&self, request: &Request) -> Result {
        let result = request.send_directly(&self.disk);
        println!("   {}: {request}", self.name);
        match result {
            Err(error) if error.errno() == Some(Errno::PERM.raw_os_error()) => {
                println!("      {error}: {}", Errno::PERM);
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(status) => Err(format!("{status}, though nobody may send this").into()),
        }
    }
}

/// A command with what it needs.
enum Request {
    In(PersistentReserveIn),
    Out(PersistentReserveOut, BasicParameters<'static>),
}

impl Request {
    const fn read(action: InServiceAction) -> Self {
        Self::In(PersistentReserveIn { action, allocation_length: 512 })
    }

    /// `key` is that of the sender, `other` the one to register or preempt.
    fn write(action: OutServiceAction, key: ReservationKey, other: ReservationKey) -> Self {
        let kind = if action.has_type() { TYPE } else { ReservationType::Other(0) };
        let command =
            PersistentReserveOut { action, scope: Scope::LogicalUnit, kind, parameter_list_length: 24 };
        let keys = BasicParameters { reservation_key: key, service_action_key: other, ..Default::default() };
        Self::Out(command, keys)
    }

    /// Sends the command by `SG_IO`. It takes a privilege.
    fn send_directly(&self, disk: &File) -> Result<Status, sg_io::Error> {
        let done = match self {
            Self::In(command) => {
                let mut data = vec![0; command.allocation_length.into()];
                sg_io::Command::new(&command.to_cdb()).read(&mut data).execute(disk.as_fd())
            }
            Self::Out(command, list) => {
                sg_io::Command::new(&command.to_cdb()).write(&list.to_bytes()).execute(disk.as_fd())
            }
        };
        done.map(|done| Status(done.status))
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(command) => command.fmt(f),
            Self::Out(command, _) => command.fmt(f),
        }
    }
}

/// What a reply says.
#[derive(PartialEq)]
enum Answer {
    Status(Status),
    Sense(SenseCode),
    Keys(Vec<ReservationKey>),
    Reservation(Option<Reservation>),
}

const GOOD: Answer = Answer::Status(Status::GOOD);
const CONFLICT: Answer = Answer::Status(Status::RESERVATION_CONFLICT);

impl Answer {
    fn decode(request: &Request, reply: &Reply) -> Result<Self> {
        Ok(match (reply.status, request) {
            (Status::CHECK_CONDITION, _) => {
                Self::Sense(Sense::parse(&reply.sense)?.code().ok_or("the sense data are cut")?)
            }
            (Status::GOOD, Request::In(PersistentReserveIn { action: InServiceAction::ReadKeys, .. })) => {
                Self::Keys(Keys::parse(&reply.payload)?.iter().collect())
            }
            (Status::GOOD, Request::In(_)) => {
                Self::Reservation(ReservationData::parse(&reply.payload)?.reservation()?)
            }
            (status, _) => Self::Status(status),
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Sense(code) => write!(f, "{}: {code}", Status::CHECK_CONDITION),
            Self::Keys(keys) => {
                let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
                let list = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
                write!(f, "{}: keys {list}", Status::GOOD)
            }
            Self::Reservation(Some(reservation)) => write!(f, "{}: {reservation}", Status::GOOD),
            Self::Reservation(None) => write!(f, "{}: no reservation", Status::GOOD),
        }
    }
}

/// Everything around the nodes. Whatever has failed, the daemon is stopped and the disk cleaned.
fn as_root() -> Result {
    let disks = disks()?;
    clean(&disks)?;
    let mut daemon = start()?;
    let played = wait_for(&mut daemon).and_then(|()| run_nodes(&disks));
    let stopped = stop(daemon);
    let cleaned = clean(&disks);
    if let Err(error) = played.and(stopped) {
        eprintln!("--- the daemon's log ---\n{}", fs::read_to_string(LOG).unwrap_or_default());
        return Err(error);
    }
    cleaned?;
    println!("\nAll as it should be: A was fenced, the disk is clean, and neither node had any privilege.");
    Ok(())
}

/// Both I_T nexuses of one logical unit.
fn disks() -> Result<[PathBuf; 2]> {
    let disk = |name| env::var_os(name).ok_or(format!("{name} is not set: is this the lab's machine?"));
    Ok([disk("LAB_NEXUS_A")?.into(), disk("LAB_NEXUS_B")?.into()])
}

fn open(disk: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).open(disk);
    file.map_err(|error| format!("open {}: {error}", disk.display()).into())
}

fn start() -> Result<Child> {
    let helper = env::var_os("PR_HELPER").ok_or("PR_HELPER is not set: is this the lab's machine?")?;
    Ok(Command::new(helper).args(["-k", SOCKET, "--socket-mode=0666"]).stderr(File::create(LOG)?).spawn()?)
}

fn wait_for(daemon: &mut Child) -> Result {
    let begun = Instant::now();
    while let Err(error) = Client::connect(Path::new(SOCKET)) {
        if let Some(status) = daemon.try_wait()? {
            return Err(format!("the daemon has ended, {status}").into());
        }
        if begun.elapsed() > Duration::from_secs(30) {
            return Err(format!("the daemon does not listen: {error}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Gives the disk to nobody, and runs this program again as that user.
fn run_nodes(disks: &[PathBuf]) -> Result {
    for disk in disks {
        chown(disk, Some(NOBODY), Some(NOBODY))?;
    }
    let status = Command::new(env::current_exe()?).arg(NODES).uid(NOBODY).gid(NOBODY).status()?;
    if status.success() { Ok(()) } else { Err(format!("the nodes have failed, {status}").into()) }
}

fn stop(mut daemon: Child) -> Result {
    // This fails only if the daemon has ended by itself, and then the status says more.
    let _ = rustix::process::kill_process(Pid::from_child(&daemon), Signal::TERM);
    let status = daemon.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the daemon has failed, {status}").into()) }
}

/// Removes all registrations, and with them the reservation, and all unit attentions. It does without the helper.
fn clean(disks: &[PathBuf; 2]) -> Result {
    use OutServiceAction::{Clear, RegisterAndIgnoreExistingKey};
    let read_keys = Request::read(InServiceAction::ReadKeys);
    let (a, b) = (open(&disks[0])?, open(&disks[1])?);
    insist(&a, &Request::write(RegisterAndIgnoreExistingKey, NO_KEY, KEY_A))?;
    insist(&a, &Request::write(Clear, KEY_A, NO_KEY))?;
    insist(&a, &read_keys)?;
    insist(&b, &read_keys)
}

/// Sends a command until there is no unit attention in its way.
fn insist(disk: &File, request: &Request) -> Result {
    let mut tries = 5;
    loop {
        match request.send_directly(disk)? {
            Status::GOOD => return Ok(()),
            Status::CHECK_CONDITION if tries > 0 => tries -= 1,
            status => return Err(format!("clean the disk: {request}: {status}").into()),
        }
    }
}
