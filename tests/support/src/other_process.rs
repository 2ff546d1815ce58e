//! A second client process: to the helper, all clients of a test are one process.

use std::{
    env,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use scsi_sense::{
    Status,
    pr::{BasicParameters, OutServiceAction, PersistentReserveOut, ReservationKey, ReservationType, Scope},
};

use crate::Client;

/// Environment variables that pass the paths of the socket and of the disk.
const SOCKET: &str = "OTHER_PROCESS_SOCKET";
const DISK: &str = "OTHER_PROCESS_DISK";

/// What the other process prints before each status, the first of which says that it is connected.
const STATUS: &str = "status=";

/// A process with a connection to a helper. It is killed on drop.
pub struct OtherProcess {
    child: Child,
    commands: ChildStdin,
    statuses: BufReader<ChildStdout>,
}

impl OtherProcess {
    /// Starts the process and waits until it is connected. `test` is the path of an ignored test in the same program that calls [`run`].
    pub fn start(test: &str, socket: &Path, disk: &Path) -> Self {
        let mut child = Command::new(env::current_exe().expect("the test's program"))
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(SOCKET, socket)
            .env(DISK, disk)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("another process");
        let (commands, statuses) =
            (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let mut process = Self { child, commands, statuses: BufReader::new(statuses) };
        process.status();
        process
    }

    /// Returns its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has the process send a PERSISTENT RESERVE OUT with these keys, of type 5, and returns the status.
    pub fn change(&mut self, action: u8, key: u64, new_key: u64) -> Status {
        writeln!(self.commands, "{action} {key} {new_key}").expect("the other process runs");
        self.status()
    }

    fn status(&mut self) -> Status {
        loop {
            let mut line = String::new();
            assert_ne!(self.statuses.read_line(&mut line).expect("a line"), 0, "the other process has ended");
            if let Some((_, status)) = line.split_once(STATUS) {
                return Status(status.trim().parse().expect("a status"));
            }
        }
    }

    /// Ends the process. Its registrations stay.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// The body of the other process: sends the commands that standard input has. Returns at once in any other process.
pub fn run() {
    let (Some(socket), Some(disk)) = (env::var_os(SOCKET), env::var_os(DISK)) else { return };
    let mut client = Client::connect(Path::new(&socket)).expect("a connection");
    let disk = File::options().read(true).write(true).open(disk).expect("the disk");
    println!("{STATUS}{}", Status::GOOD.0);
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        let &[action, key, new_key] = &numbers[..] else { panic!("three numbers: {line}") };
        let cdb = PersistentReserveOut {
            action: OutServiceAction::new(action.try_into().expect("a service action")),
            scope: Scope::LogicalUnit,
            kind: ReservationType::WriteExclusiveRegistrantsOnly,
            parameter_list_length: 24,
        };
        let parameters = BasicParameters {
            reservation_key: ReservationKey(key),
            service_action_key: ReservationKey(new_key),
            ..BasicParameters::default()
        };
        let reply = client.write(&disk, &cdb.to_cdb(), &parameters.to_bytes()).expect("a reply");
        println!("{STATUS}{}", reply.status.0);
    }
}
