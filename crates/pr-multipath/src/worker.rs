//! A worker: a process that calls libmpathpersist, one command at a time.
//!
//! The library is not made for a daemon: it never reads its configuration again, blocks as long as paths and multipathd take,
//! and prints. So a worker exits after a short time, and a fault in it costs one command.

use std::{
    os::fd::AsFd,
    process::ExitCode,
    time::{Duration, Instant},
};

use confinement::Settings;
use nix::sys::{prctl, signal::Signal};
use pr_backend::{Outcome, with_sources};
use pr_proto::{Command, DATA_MAX, Data, SENSE_LEN};
use scsi_sense::{Cdb, Status, Transfer};

use crate::{
    capabilities, cause,
    channel::{self, Channel, Received},
    map::Maps,
    reply, signals, system_calls,
    wire::{Hello, WorkerRequest},
    worker_log::worker_log,
};

/// Time after which a worker exits, so that a change of multipath.conf takes effect soon.
const LIFETIME: Duration = Duration::from_secs(10);

/// Runs the worker process.
pub(crate) fn run(settings: Option<Settings>) -> ExitCode {
    match work(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            worker_log!("multipath worker: {}", with_sources(&*error));
            ExitCode::FAILURE
        }
    }
}

fn work(settings: Option<Settings>) -> Result<(), Box<dyn std::error::Error>> {
    prctl::set_name(c"pr-helper-mpath")?;
    signals::block_daemon_signals()?;
    // The supervisor kills its workers. If it is killed itself, the kernel must kill them.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    capabilities::confine()?;
    confinement::harden()?;
    system_calls::restrict_worker(settings)?;
    let channel = Channel::stdin()?;
    let mut maps = match Maps::open() {
        Ok(maps) => maps,
        Err(error) => {
            let text = with_sources(&error);
            let hello = if error.is_final() {
                Hello::Never(&text)
            } else if cause::of_shortage(&error).is_some() {
                Hello::Shortage(&text)
            } else {
                Hello::Unfit(&text)
            };
            channel.send(&[&hello.encode()], &[])?;
            return Ok(());
        }
    };
    channel.send(&[&Hello::Ready(&maps.version()).encode()], &[])?;
    let mut buffers = Buffers::new();
    let end = Instant::now() + LIFETIME;
    while channel::wait(&[channel.as_fd()], Some(end))? {
        if !serve(&channel, &mut maps, &mut buffers)? {
            return Ok(());
        }
    }
    // From here on the daemon uses another worker. A request that it has sent already is still served.
    channel.refuse_more()?;
    serve(&channel, &mut maps, &mut buffers)?;
    Ok(())
}

/// Buffers for a request and its answer.
struct Buffers {
    request: Vec<u8>,
    sense: [u8; SENSE_LEN],
    data: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        // One byte more than the data, which begins at an odd address: see `Data::In`.
        Self {
            request: vec![0; WorkerRequest::LENGTH_MAX],
            sense: [0; SENSE_LEN],
            data: vec![0; DATA_MAX + 1],
        }
    }
}

/// Serves the next request, if there is one; returns `false` if the daemon has closed the channel.
fn serve(
    channel: &Channel,
    maps: &mut Maps,
    Buffers { request, sense, data }: &mut Buffers,
) -> Result<bool, Box<dyn std::error::Error>> {
    let (length, mut descriptors) = match channel.receive(request)? {
        Received::Message(length, descriptors) => (length, descriptors),
        Received::Nothing => return Ok(true),
        Received::End => return Ok(false),
    };
    let request = request.get(..length).and_then(WorkerRequest::decode);
    let (Some(request), Some(map), true) = (request, descriptors.pop(), descriptors.is_empty()) else {
        return Err("the daemon sent a malformed request".into());
    };
    let (timeout, cdb, parameters) = match request {
        WorkerRequest::Run { timeout, cdb, parameters } => (timeout, cdb, parameters),
        WorkerRequest::Resume => {
            let head = reply::encode_head(&maps.resume(map.as_fd())).ok_or(UNENCODABLE)?;
            channel.send(&[&head], &[])?;
            return Ok(true);
        }
    };
    sense.fill(0);
    data.fill(0);
    let data = match Cdb::new(cdb).ok().and_then(|cdb| cdb.transfer()) {
        Some(Transfer::In { allocation_length }) => {
            let data = data.get_mut(1..).and_then(|data| data.get_mut(..allocation_length.into()));
            Data::In(data.unwrap_or_default())
        }
        _ => Data::Out(parameters),
    };
    let mut command = Command { cdb, data, sense };
    let outcome = maps.execute(map.as_fd(), timeout, &mut command);
    drop(map);
    let (sense_len, transferred) = match outcome {
        Outcome::Device { status: Status::GOOD, transferred, .. } => (0, transferred),
        Outcome::Device { status: Status::CHECK_CONDITION, sense_len, .. } => (sense_len, 0),
        _ => (0, 0),
    };
    let sense = command.sense.get(..sense_len).ok_or(UNENCODABLE)?;
    let data = match &command.data {
        Data::In(data) => data.get(..transferred).ok_or(UNENCODABLE)?,
        Data::Out(_) => &[],
    };
    let outcome = match outcome {
        // The lengths in the reply must match its parts.
        Outcome::Device { status, .. } => {
            Outcome::Device { status, transferred: data.len(), sense_len: sense.len() }
        }
        other => other,
    };
    let head = reply::encode_head(&outcome).ok_or(UNENCODABLE)?;
    channel.send(&[&head, sense, data], &[])?;
    Ok(true)
}

const UNENCODABLE: &str = "the outcome cannot be encoded";
