//! An event loop that asks several disks at once and waits for none of them:
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

/// What a disk may take. Whoever has a loop has timers, too: the connection has none.
const PATIENCE: Duration = Duration::from_secs(40);

/// The allocation length: the most that the protocol carries.
const LENGTH: u16 = 8192;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let socket = arguments.next().ok_or("usage: mio SOCKET DEVICE...")?;
    let devices: Vec<_> = arguments.map(PathBuf::from).collect();
    run(Path::new(&socket), &devices, &mut io::stdout())
}

/// A disk, the connection that its command has, and when to give up.
struct Disk<'a> {
    path: &'a Path,
    file: File,
    connection: Connection,
    deadline: Instant,
}

/// Prints a line for each device, as the answers come.
pub fn run(socket: &Path, devices: &[PathBuf], output: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut disks = Vec::new();
    for (index, path) in devices.iter().enumerate() {
        let connection = Connection::connect(socket)?;
        // Edge-triggered, so both can be asked for once and for all: `advance` goes on until nothing more can be done.
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&connection.as_raw_fd()), Token(index), both)?;
        let deadline = Instant::now() + PATIENCE;
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
                // The connection is closed, and with that out of the poll.
                *slot = None;
            }
        }
    }
    Ok(())
}

/// Does what can be done for this disk now; returns what is to be said of it when all is done.
fn proceed(disk: &mut Disk<'_>) -> Option<String> {
    let read_keys = PersistentReserveIn { action: InServiceAction::ReadKeys, allocation_length: LENGTH };
    loop {
        match disk.connection.advance() {
            Ok(Step::Wait(_)) if Instant::now() >= disk.deadline => return Some("no answer in time".into()),
            Ok(Step::Wait(_)) => return None,
            Ok(Step::Ready) => {
                // After this there may be no event for what is there already, so it goes round once more.
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
            // A program that runs for long would look at `error.may_have_run()` here: if not, it would set a timer,
            // connect again and begin anew.
            Err(error) => return Some(format!("{error:#}")),
        }
    }
}
