//! A worker: the process that calls libmpathpersist, one command at a time.
//!
//! The library is not made for a daemon: it keeps what it read of its configuration, waits for as long as paths and
//! multipathd take, and prints. So a worker lives for a while only, and whatever goes wrong in it costs its one command.

use std::{
    io::{self, Write as _},
    os::fd::AsFd,
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::sys::{prctl, signal::Signal};
use pr_proto::{Command, DATA_MAX, Data, SENSE_LEN};
use scsi_sense::{Cdb, Status, Transfer};

use super::{
    channel::{self, Channel, Received},
    map::Maps,
    wire::{Errand, Hello, Reply},
};
use crate::{backend::Outcome, logging::with_sources, privileges};

/// How long a worker lives, so that a change of multipath.conf is seen soon.
const LIFE: Duration = Duration::from_secs(10);

/// The worker process.
pub(crate) fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // It leads to the daemon's log, if that is still there.
            let _ = writeln!(io::stderr(), "multipath worker: {}", with_sources(&*error));
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<(), Box<dyn std::error::Error>> {
    prctl::set_name(c"pr-helper-mpath")?;
    super::ignore_the_daemons_signals()?;
    // The supervisor ends it; should that be killed, nobody else would.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    privileges::confine(&super::CAPABILITIES)?;
    let channel = Channel::stdin()?;
    let mut maps = match Maps::open() {
        Ok(maps) => maps,
        Err(error) => {
            let text = with_sources(&error);
            let hello = if error.is_final() { Hello::Never(&text) } else { Hello::Unfit(&text) };
            channel.send(&[&hello.encode()], &[])?;
            return Ok(());
        }
    };
    channel.send(&[&Hello::Ready(&maps.version()).encode()], &[])?;
    let mut buffers = Buffers::new();
    let end = Instant::now() + LIFE;
    while channel::wait(&[channel.as_fd()], Some(end))? {
        if !serve(&channel, &mut maps, &mut buffers)? {
            return Ok(());
        }
    }
    // From here on the daemon takes another; what it has sent already is still done.
    channel.refuse_more()?;
    serve(&channel, &mut maps, &mut buffers)?;
    Ok(())
}

/// What a command is written to and answered from.
struct Buffers {
    errand: Vec<u8>,
    sense: [u8; SENSE_LEN],
    data: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        // One byte more than it takes, so that the data can begin at an odd address: see `Data::In`.
        Self { errand: vec![0; Errand::LENGTH_MAX], sense: [0; SENSE_LEN], data: vec![0; DATA_MAX + 1] }
    }
}

/// Does what the next message says, if there is one; `false` if the daemon has gone.
fn serve(
    channel: &Channel,
    maps: &mut Maps,
    Buffers { errand, sense, data }: &mut Buffers,
) -> Result<bool, Box<dyn std::error::Error>> {
    let (length, mut descriptors) = match channel.receive(errand)? {
        Received::Message(length, descriptors) => (length, descriptors),
        Received::Nothing => return Ok(true),
        Received::End => return Ok(false),
    };
    let errand = errand.get(..length).and_then(Errand::decode);
    let (Some(errand), Some(map), true) = (errand, descriptors.pop(), descriptors.is_empty()) else {
        return Err("the daemon sent what is no errand".into());
    };
    let (timeout, cdb, parameters) = match errand {
        Errand::Run { timeout, cdb, parameters } => (timeout, cdb, parameters),
        Errand::Resume => {
            let head = Reply(maps.resume(map.as_fd())).encode_head().ok_or(UNTOLD)?;
            channel.send(&[&head], &[])?;
            return Ok(true);
        }
    };
    sense.fill(0);
    data.fill(0);
    let wanted = match Cdb::new(cdb).ok().and_then(|cdb| cdb.transfer()) {
        Some(Transfer::In { allocation_length }) => {
            let data = data.get_mut(1..).and_then(|data| data.get_mut(..allocation_length.into()));
            Data::In(data.unwrap_or_default())
        }
        _ => Data::Out(parameters),
    };
    let mut command = Command { cdb, data: wanted, sense };
    let outcome = maps.execute(map.as_fd(), timeout, &mut command);
    drop(map);
    let (sense_len, transferred) = match outcome {
        Outcome::Device { status: Status::GOOD, transferred, .. } => (0, transferred),
        Outcome::Device { status: Status::CHECK_CONDITION, sense_len, .. } => (sense_len, 0),
        _ => (0, 0),
    };
    let sense = command.sense.get(..sense_len).ok_or(UNTOLD)?;
    let data = match &command.data {
        Data::In(data) => data.get(..transferred).ok_or(UNTOLD)?,
        Data::Out(_) => &[],
    };
    let outcome = match outcome {
        // What the reply says and what it holds must agree.
        Outcome::Device { status, .. } => {
            Outcome::Device { status, transferred: data.len(), sense_len: sense.len() }
        }
        other => other,
    };
    let head = Reply(outcome).encode_head().ok_or(UNTOLD)?;
    channel.send(&[&head, sense, data], &[])?;
    Ok(true)
}

const UNTOLD: &str = "the outcome is none that a worker can tell";
