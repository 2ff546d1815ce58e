//! An event loop that reads the keys of several disks concurrently, without blocking on any of them:
//! `cargo run --example mio -- /run/pr-helper.sock /dev/sdb /dev/sdc`

use std::{
    env,
    error::Error,
    fs::File,
    io::{self, Write},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, event::Event, unix::SourceFd};
use pr_client::nonblocking::{Connection, Step};
use scsi_sense::{
    Status,
    pr::{InServiceAction, Keys, PersistentReserveIn},
};

/// How long a disk may take. The event loop must enforce it: a connection has no timer.
const TIMEOUT: Duration = Duration::from_secs(40);

/// The allocation length: the maximum of the protocol.
const LENGTH: u16 = 8192;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let socket = arguments.next().ok_or("usage: mio SOCKET DEVICE...")?;
    let devices: Vec<_> = arguments.map(PathBuf::from).collect();
    run(Path::new(&socket), &devices, &mut io::stdout())
}

/// A disk, the connection of its command, and the command's deadline.
struct Disk<'a> {
    path: &'a Path,
    file: File,
    connection: Connection,
    deadline: Instant,
}

/// Prints a line for each device, in the order of the answers.
pub fn run(socket: &Path, devices: &[PathBuf], output: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut disks = Vec::new();
    for (index, path) in devices.iter().enumerate() {
        let connection = Connection::connect(socket)?;
        // Notification is edge-triggered, so one registration for both is enough: `advance` continues until it would
        // block.
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&connection.as_raw_fd()), Token(index), both)?;
        let deadline = Instant::now() + TIMEOUT;
        disks.push(Some(Disk { path, file: File::open(path)?, connection, deadline }));
    }
    let mut events = Events::with_capacity(disks.len());
    while let Some(next) = disks.iter().flatten().map(|disk| disk.deadline).min() {
        poll.poll(&mut events, Some(next.saturating_duration_since(Instant::now())))?;
        let ready: Vec<Token> = events.iter().map(Event::token).collect();
        for (index, slot) in disks.iter_mut().enumerate() {
            let Some(disk) = slot else { continue };
            if !ready.contains(&Token(index)) && Instant::now() < disk.deadline {
                continue;
            }
            if let Some(line) = proceed(disk) {
                writeln!(output, "{}: {line}", disk.path.display())?;
                // This closes the connection, which also removes it from the poll.
                *slot = None;
            }
        }
    }
    Ok(())
}

/// Does all that is possible for this disk without blocking. Returns its line of output once it is done.
fn proceed(disk: &mut Disk<'_>) -> Option<String> {
    let read_keys = PersistentReserveIn { action: InServiceAction::ReadKeys, allocation_length: LENGTH };
    loop {
        match disk.connection.advance() {
            Ok(Step::Wait(_)) if Instant::now() >= disk.deadline => return Some("no answer in time".into()),
            Ok(Step::Wait(_)) => return None,
            Ok(Step::Ready) => {
                // There may be no further event for data that has already arrived, so continue with `advance`.
                if let Err(error) = disk.connection.read(&disk.file, &read_keys.to_cdb()) {
                    return Some(format!("{error:#}"));
                }
            }
            Ok(Step::Answered(response)) if response.status == Status::GOOD => {
                return Some(match Keys::parse(response.payload) {
                    Ok(keys) => match keys.is_complete(LENGTH.into()) {
                        Ok(true) => format!("{} keys", keys.iter().count()),
                        Ok(false) => format!("{} keys, and perhaps more", keys.iter().count()),
                        Err(error) => error.to_string(),
                    },
                    Err(error) => error.to_string(),
                });
            }
            Ok(Step::Answered(response)) => return Some(response.status.to_string()),
            // A long-running program would check `error.may_have_run()` here: if it is false, it would set a timer,
            // connect again and repeat the command.
            Err(error) => return Some(format!("{error:#}")),
        }
    }
}
