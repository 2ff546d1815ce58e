//! What threads do with a connection: read, run its command, close what it sent, and give it back.

use std::{
    fmt, mem,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
};

use pr_proto::Violation;

use super::{
    Clients, Slot,
    descriptors::{Sender, Strays},
};
use crate::{
    connection::{self, Connection, Fault, Read, Scratch},
    device::{Device, DeviceId, Kind, Refusal},
    pool::{Placed, Purpose},
    workers::{Stay, Work},
};

/// A connection in a thread's hands. Dropped, it closes the connection, unless that was given back.
pub(crate) struct Job {
    clients: Arc<Clients>,
    slot: Arc<Slot>,
    connection: Option<Box<Connection>>,
    stage: Stage,
}

/// What is to be done with a connection.
enum Stage {
    /// Read, and wait if nothing is there.
    Read,
    /// Run the request that waits.
    Answer(Device),
    /// Close the descriptor of a request that was refused, or was for a file, and read on.
    Close(Lane, Strays),
    /// Close the connection, and descriptors that should not have come.
    Discard(Strays),
}

impl Stage {
    /// Whether a command is there, and its answer not yet.
    fn is_in_flight(&self) -> bool {
        matches!(self, Self::Answer(_))
    }
}

/// What a thread may block on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Device(DeviceId),
    /// One command at a time: the library registers with each path in turn, and two of its calls would mix.
    Map(DeviceId),
    /// The read of what somebody sent. It does not wait for more; but a descriptor that cannot be received (a security module
    /// forbids it, or there is no room) the kernel closes in the middle of it, and that lasts for as long as its sender likes.
    Reading(Sender),
    /// The close of what somebody sent and what is not of a disk. It can be made to last for as long as the sender likes: by
    /// a FUSE server, or with a TCP socket that lingers. So it goes one by one, and takes one place at most.
    Foreign(Sender),
}

impl Lane {
    fn of(Device { id, kind }: Device) -> Self {
        match kind {
            Kind::Scsi | Kind::File => Self::Device(id),
            Kind::Map => Self::Map(id),
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(id) | Self::Map(id) => id.fmt(f),
            Self::Reading(sender) => write!(f, "messages of {}", sender.peer()),
            Self::Foreign(sender) => write!(f, "descriptors of {}", sender.peer()),
        }
    }
}

impl Job {
    /// There is something to read from a connection.
    pub(super) fn new(clients: &Arc<Clients>, slot: Arc<Slot>, connection: Box<Connection>) -> Self {
        let clients = Arc::clone(clients);
        Self { clients, slot, connection: Some(connection), stage: Stage::Read }
    }

    /// A connection that is to be closed, and why, if that is to be logged.
    pub(super) fn discard(
        clients: &Arc<Clients>,
        slot: Arc<Slot>,
        connection: Box<Connection>,
        fault: Option<Fault>,
    ) -> Self {
        let mut job = Self::new(clients, slot, connection);
        job.give_up(fault, Vec::new());
        job
    }

    /// Whose connection it is, as far as that can be told.
    fn sender(&self) -> Sender {
        Sender::new(self.slot.activity.peer, self.slot.key)
    }

    /// Whether nothing more is read for the sender until what it has sent is closed.
    fn is_queued(&self) -> bool {
        !self.is_stopping() && self.clients.descriptors.is_large(self.sender())
    }

    fn is_stopping(&self) -> bool {
        self.clients.stopping.load(Ordering::SeqCst)
    }

    /// Has the connection closed where that may block. Nobody waits for that, so it is in flight no more.
    fn give_up(&mut self, fault: Option<Fault>, stray: Vec<OwnedFd>) {
        if let (Some(fault), Some(connection)) = (fault, &self.connection) {
            log::warn!("{}: {fault}; closing its connection", connection.peer());
            self.clients.metrics.dropped(&fault);
        }
        let strays = Strays::new(stray, self.sender(), &self.clients.descriptors);
        self.go_on(Stage::Discard(strays));
        // The client need not wait until all is closed here.
        connection::end(&self.slot.socket);
    }

    /// Changes the stage, and with it whether this counts as in flight.
    fn go_on(&mut self, stage: Stage) {
        match (self.stage.is_in_flight(), stage.is_in_flight()) {
            (true, false) => self.clients.settle(),
            (false, true) => {
                // It ends with the stage.
                mem::forget(self.clients.begin());
                // The loop does not know of it, and is to look whether it lasts.
                self.clients.watch();
            }
            _ => {}
        }
        self.stage = stage;
    }

    /// Reads until there is something else to do, or the connection has been given back, or is at its end.
    fn read_on(&mut self, may_stay: bool, scratch: &mut Scratch) {
        while let (Stage::Read, Some(connection)) = (&self.stage, &mut self.connection) {
            if self.clients.stopping.load(Ordering::SeqCst) {
                return self.give_up(None, Vec::new());
            }
            match connection.read(may_stay, scratch) {
                Read::Request => match connection.target(&self.clients.backends) {
                    Ok(device) => {
                        self.go_on(Stage::Answer(device));
                        // Either who waits for the end sees that this is in flight, or this sees that the end has come.
                        if self.is_stopping() {
                            self.give_up(None, Vec::new());
                        }
                    }
                    Err(refusal) => self.refuse(refusal),
                },
                Read::Blocked => self.give_back(),
                Read::Ended => return,
                Read::Reset => {
                    let inside = connection.is_inside_message();
                    self.give_up(inside.then_some(Fault::Violation(Violation::Truncated)), scratch.take());
                }
                Read::Failed(fault) => self.give_up(Some(fault), scratch.take()),
            }
        }
    }

    /// Leaves the connection to the loop.
    fn give_back(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let inside = connection.is_inside_message();
        match self.slot.give_back(connection, &self.clients.watch_list) {
            Ok(()) => {
                if inside {
                    self.clients.watch();
                }
                // `Clients::stop` has told those that were idle then.
                if self.is_stopping() {
                    connection::end(&self.slot.socket);
                }
            }
            Err((connection, error)) => {
                self.connection = Some(connection);
                self.give_up(Some(Fault::Io(error)), Vec::new());
            }
        }
    }

    /// Refuses the request that waits; what is left is to close its descriptor.
    fn refuse(&mut self, refusal: Refusal) {
        let Some(connection) = &mut self.connection else { return };
        let Clients { backends, metrics, tracer, .. } = &*self.clients;
        // Its line in the trace follows the answer.
        let busy = self.clients.begin();
        let answered = connection.answer(Err(refusal), backends, metrics, tracer);
        drop(busy);
        // To close what is of a disk is up to the disk; for the rest, to whoever sent it.
        let lane = refusal.disk().map_or(Lane::Foreign(self.sender()), Lane::Device);
        self.go_on_after(answered, lane);
    }

    /// What is left to do after a request was answered: to close its descriptor in this lane, if that is not done yet, or
    /// everything.
    fn go_on_after(&mut self, (result, descriptor): (Result<(), Fault>, Option<OwnedFd>), lane: Lane) {
        match (result, descriptor) {
            (Ok(()), Some(descriptor)) => {
                let strays = Strays::new(vec![descriptor], self.sender(), &self.clients.descriptors);
                self.go_on(Stage::Close(lane, strays));
            }
            (Ok(()), None) => self.go_on(Stage::Read),
            (Err(fault), descriptor) => self.give_up(Some(fault), descriptor.into_iter().collect()),
        }
    }

    /// Runs the request that waits. A change of which nobody waits to hear is not made.
    fn run_on(&mut self, device: Device, waited: bool) {
        let Some(connection) = &mut self.connection else { return };
        let Clients { backends, metrics, tracer, .. } = &*self.clients;
        let may_be_late = waited || (connection.is_change() && connection.may_be_old());
        if may_be_late && connection.is_abandoned() {
            // Its client has told the guest that the command failed. To run it now would surprise everybody.
            log::warn!("{}: gone before its command could be run: not run", connection.peer());
            if let Some(cdb) = connection.cdb() {
                metrics.abandoned(cdb);
            }
            return self.give_up(None, Vec::new());
        }
        let answered = connection.answer(Ok(device), backends, metrics, tracer);
        let lane = Lane::Foreign(self.sender());
        self.go_on_after(answered, lane);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            log::debug!("{}: connection closed", connection.peer());
            drop(connection);
            self.clients.slots().try_remove(self.slot.key);
            self.clients.descriptors.disconnected(self.sender());
        }
        if self.stage.is_in_flight() {
            self.clients.settle();
        }
    }
}

impl Placed for Job {
    type Lane = Lane;

    fn lane(&self) -> Lane {
        match self.stage {
            Stage::Read if self.is_queued() => Lane::Foreign(self.sender()),
            Stage::Read => Lane::Reading(self.sender()),
            Stage::Answer(device) => Lane::of(device),
            Stage::Close(lane, _) => lane,
            Stage::Discard(_) => Lane::Foreign(self.sender()),
        }
    }

    fn purpose(lane: Lane) -> Purpose {
        match lane {
            Lane::Device(_) | Lane::Map(_) => Purpose::Run,
            Lane::Reading(_) => Purpose::Read,
            Lane::Foreign(_) => Purpose::Close,
        }
    }

    fn most(lane: Lane) -> usize {
        match lane {
            // Of reads less, as the room for them says.
            Lane::Device(_) | Lane::Reading(_) => usize::MAX,
            Lane::Map(_) | Lane::Foreign(_) => 1,
        }
    }
}

impl Work for Job {
    type Scratch = Scratch;

    fn run(mut self, lane: Lane, waited: bool, scratch: &mut Scratch) -> Option<Self> {
        // While it waited, others may have read much that is to be closed first.
        if matches!(lane, Lane::Reading(_)) && self.is_queued() {
            return Some(self);
        }
        match &mut self.stage {
            Stage::Read => {
                self.read_on(false, scratch);
                // Else the connection has been given back, or is at its end.
                return (!matches!(self.stage, Stage::Read)).then_some(self);
            }
            &mut Stage::Answer(device) => self.run_on(device, waited),
            Stage::Close(_, strays) => {
                strays.close();
                self.go_on(Stage::Read);
            }
            Stage::Discard(strays) => {
                strays.close();
                // The connection is dropped here, and so in this lane.
                return None;
            }
        }
        Some(self)
    }

    fn stay(mut self, lane: Lane, is_wanted: bool, scratch: &mut Scratch) -> Stay<Self> {
        if let Stage::Read = self.stage {
            // Who stayed at a map would keep all others from it.
            let may_stay = matches!(lane, Lane::Device(_)) && self.slot.threads_may_stay;
            if is_wanted || !may_stay || self.is_queued() {
                return Stay::Elsewhere(self);
            }
            let Some(_reserved) = self.clients.descriptors.reserve() else { return Stay::Elsewhere(self) };
            self.read_on(true, scratch);
            if let Stage::Read = self.stage {
                return Stay::Done;
            }
        }
        if self.lane() == lane { Stay::Here(self) } else { Stay::Elsewhere(self) }
    }
}
