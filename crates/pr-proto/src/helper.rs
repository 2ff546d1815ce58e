//! The helper's end of a connection.

use alloc::vec::Vec;
use core::fmt;

use bytes::Buf;
use scsi_sense::{Cdb, Status, Transfer};

use crate::{
    error::Violation,
    frame::{Fields, Frame},
    wire::{Announcement, CDB_LEN, DATA_MAX, Features, GREETING_LEN, PARAMETERS_MIN, REPLY_LEN},
};

/// One client's connection as the helper sees it. `F` is the type of a file descriptor.
///
/// At first, send [`greeting`](Self::greeting). Then, until the connection ends, read into [`buffer`](Self::buffer) and
/// call [`received`](Self::received); whenever [`request`](Self::request) returns a request,
/// [answer](Request::answer) it and send the reply. A client that sends its next command early is served in order,
/// because nothing is read before the previous request is answered.
pub struct HelperSession<F> {
    offered: Features,
    phase: Phase,
    /// Bytes of the current message that have been received.
    filled: usize,
    greeting: [u8; GREETING_LEN],
    cdb: [u8; CDB_LEN],
    descriptor: Option<F>,
    frame: Frame,
}

/// The kind of bytes expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    Cdb,
    Parameters {
        length: usize,
    },
    /// None: a request is waiting for its answer.
    Request(Direction),
    /// None: the client broke the protocol.
    Closed(Violation),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    In { allocation_length: u16 },
    Out { length: usize },
}

impl<F> HelperSession<F> {
    /// Returns a session that offers no features.
    pub fn new() -> Self {
        Self {
            offered: Features::empty(),
            phase: Phase::Greeting,
            filled: 0,
            greeting: [0; GREETING_LEN],
            cdb: [0; CDB_LEN],
            descriptor: None,
            frame: Frame::new(),
        }
    }

    /// Returns the bytes to send first, before reading.
    #[must_use = "the client waits for it"]
    pub fn greeting(&self) -> [u8; GREETING_LEN] {
        self.offered.encode()
    }

    /// Returns the buffer to read into: exactly as long as the missing rest of the current message. It is empty while
    /// a request is waiting for its answer, and after a violation.
    pub fn buffer(&mut self) -> &mut [u8] {
        match self.phase {
            Phase::Greeting => self.greeting.get_mut(self.filled..).unwrap_or_default(),
            Phase::Cdb => self.cdb.get_mut(self.filled..).unwrap_or_default(),
            Phase::Parameters { length } => {
                self.frame.range(REPLY_LEN.saturating_add(self.filled), REPLY_LEN.saturating_add(length))
            }
            Phase::Request(_) | Phase::Closed(_) => &mut [],
        }
    }

    /// Processes `n` bytes that were read into [`buffer`](Self::buffer), and the descriptors received with them.
    ///
    /// Moves the descriptor of a command out of `descriptors`. After an error, all other descriptors are left in it: the
    /// caller must close them where blocking is acceptable.
    ///
    /// # Errors
    ///
    /// The client violated the protocol. Close the connection; the session accepts nothing more.
    pub fn received(&mut self, n: usize, descriptors: &mut Vec<F>) -> Result<(), Violation> {
        let result = self.advance(n, descriptors);
        if let Err(violation) = result {
            self.phase = Phase::Closed(violation);
        }
        result
    }

    fn advance(&mut self, n: usize, descriptors: &mut Vec<F>) -> Result<(), Violation> {
        let missing = self.buffer().len();
        let complete = n >= missing;
        self.filled = self.filled.saturating_add(n.min(missing));
        match self.phase {
            Phase::Closed(violation) => return Err(violation),
            Phase::Cdb => self.take_descriptor(descriptors)?,
            _ if !descriptors.is_empty() => return Err(Violation::StrayDescriptor),
            _ => {}
        }
        if !complete {
            return Ok(());
        }
        self.phase = match self.phase {
            Phase::Greeting => self.negotiate()?,
            Phase::Cdb => self.decode()?,
            Phase::Parameters { length } => Phase::Request(Direction::Out { length }),
            waiting => waiting,
        };
        self.filled = 0;
        Ok(())
    }

    /// Returns the CDB without the protocol's padding: the CDBs of both commands have ten bytes.
    fn command(&self) -> [u8; 10] {
        let mut command = [0; 10];
        self.cdb.as_slice().copy_to_slice(&mut command);
        command
    }

    fn take_descriptor(&mut self, descriptors: &mut Vec<F>) -> Result<(), Violation> {
        match (descriptors.len(), &self.descriptor) {
            (0, _) => Ok(()),
            (1, None) => {
                self.descriptor = descriptors.pop();
                Ok(())
            }
            _ => Err(Violation::ManyDescriptors),
        }
    }

    fn negotiate(&self) -> Result<Phase, Violation> {
        let wanted = Features::decode(self.greeting);
        let missing = wanted.difference(self.offered);
        if missing.is_empty() {
            Ok(Phase::Cdb)
        } else {
            Err(Violation::UnsupportedFeatures { wanted: wanted.bits(), missing: missing.bits() })
        }
    }

    fn decode(&self) -> Result<Phase, Violation> {
        if self.descriptor.is_none() {
            return Err(Violation::NoDescriptor);
        }
        let [opcode, ..] = self.cdb;
        let transfer = Cdb::new(&self.cdb).ok().and_then(|cdb| cdb.transfer());
        match transfer.ok_or(Violation::Opcode(opcode))? {
            Transfer::In { allocation_length } => {
                bounded(allocation_length.into())?;
                Ok(Phase::Request(Direction::In { allocation_length }))
            }
            Transfer::Out { parameter_list_length } => match bounded(parameter_list_length)? {
                0 => Ok(Phase::Request(Direction::Out { length: 0 })),
                length => Ok(Phase::Parameters { length }),
            },
        }
    }

    /// Processes the end of the stream.
    ///
    /// # Errors
    ///
    /// [`Violation::Truncated`] if the stream ended inside a message.
    pub fn end_of_stream(&self) -> Result<(), Violation> {
        match self.phase {
            Phase::Closed(violation) => Err(violation),
            _ if self.is_inside_message() => Err(Violation::Truncated),
            _ => Ok(()),
        }
    }

    /// Returns whether a message has begun and is not complete. The caller must then enforce a deadline.
    pub fn is_inside_message(&self) -> bool {
        match self.phase {
            Phase::Greeting | Phase::Cdb => self.filled > 0 || self.descriptor.is_some(),
            Phase::Parameters { .. } => true,
            Phase::Request(_) | Phase::Closed(_) => false,
        }
    }

    /// Returns the request that is waiting for its answer, if any.
    pub fn request(&mut self) -> Option<Request<'_, F>> {
        match (self.phase, &self.descriptor) {
            (Phase::Request(direction), Some(_)) => Some(Request { session: self, direction }),
            _ => None,
        }
    }
}

impl<F> Default for HelperSession<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> fmt::Debug for HelperSession<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HelperSession")
            .field("phase", &self.phase)
            .field("filled", &self.filled)
            .field("descriptor", &self.descriptor.is_some())
            .finish_non_exhaustive()
    }
}

fn bounded(length: u32) -> Result<usize, Violation> {
    usize::try_from(length).ok().filter(|&length| length <= DATA_MAX).ok_or(Violation::TransferLength(length))
}

/// A complete request. If it is dropped unanswered, it stays in its session.
#[derive(Debug)]
#[must_use = "the client waits for the answer"]
pub struct Request<'a, F> {
    session: &'a mut HelperSession<F>,
    direction: Direction,
}

impl<'a, F> Request<'a, F> {
    /// Returns the ten bytes of the command.
    pub fn cdb(&self) -> [u8; 10] {
        self.session.command()
    }

    /// Returns the descriptor of the device. It is always `Some` for a request from [`HelperSession::request`].
    pub fn descriptor(&self) -> Option<&F> {
        self.session.descriptor.as_ref()
    }

    /// Runs the command by `execute` and returns the reply, which must be sent whole.
    ///
    /// `execute` gets the command, and ownership of the device's descriptor. Invariant, whatever `execute` returns: the
    /// reply carries a payload only for an IN command with status GOOD, of at most the allocation length; sense data
    /// only with CHECK CONDITION; and except for zeros no byte that `execute` has not written.
    pub fn answer(self, execute: impl FnOnce(Command<'_>, F) -> Completion) -> &'a [u8] {
        let Self { session, direction } = self;
        let cdb = session.command();
        let Some(descriptor) = session.descriptor.take() else { return &[] };
        let Some(Fields { announcement, sense, data }) = session.frame.fields() else { return &[] };
        sense.fill(0);
        let (data, limit) = match direction {
            Direction::In { allocation_length } => {
                let limit = usize::from(allocation_length);
                let buffer = data.get_mut(..limit).unwrap_or_default();
                buffer.fill(0);
                (Data::In(buffer), limit)
            }
            Direction::Out { length } => (Data::Out(data.get(..length).unwrap_or_default()), 0),
        };

        let Completion { status, transferred, sense_len } =
            execute(Command { cdb: &cdb, data, sense }, descriptor);

        let sense_len = if status == Status::CHECK_CONDITION { sense_len } else { 0 };
        if let Some(padding) = sense.get_mut(sense_len..) {
            padding.fill(0);
        }
        let size = if status == Status::GOOD { transferred.min(limit) } else { 0 };
        Announcement { status: status.0.into(), size: wire_size(size) }.encode(announcement);
        session.phase = Phase::Cdb;
        session.frame.head(REPLY_LEN.saturating_add(size))
    }
}

/// Converts a payload size, which is at most [`DATA_MAX`]: all transfer lengths are checked against it.
fn wire_size(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(0)
}

/// A command to run. Its buffers are those of the reply.
#[derive(Debug)]
pub struct Command<'a> {
    /// The CDB, without the protocol's padding.
    pub cdb: &'a [u8; 10],
    /// The buffer or parameter list of the command.
    pub data: Data<'a>,
    /// The buffer for sense data: [`SENSE_LEN`](crate::SENSE_LEN) bytes, zeroed.
    pub sense: &'a mut [u8],
}

/// The data of a command.
#[derive(Debug)]
pub enum Data<'a> {
    /// PERSISTENT RESERVE IN: a zeroed buffer, as long as the allocation length (0 to [`DATA_MAX`]). It begins at an
    /// odd address, so that Linux copies the device's data into it instead of letting the device write there directly.
    In(&'a mut [u8]),
    /// PERSISTENT RESERVE OUT: the parameter list, as long as the CDB announces (0 to [`DATA_MAX`]).
    Out(&'a [u8]),
}

impl Command<'_> {
    /// Returns whether the parameter list is shorter than any list of SPC-4 (24 bytes), which a device answers with
    /// PARAMETER LIST LENGTH ERROR.
    pub fn parameters_too_short(&self) -> bool {
        matches!(self.data, Data::Out(parameters) if parameters.len() < PARAMETERS_MIN)
    }
}

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The SCSI status.
    pub status: Status,
    /// Length of the device's answer in [`Data::In`], in bytes. It is sent to the client only with GOOD.
    pub transferred: usize,
    /// Length of the sense data, in bytes. They are sent to the client only with CHECK CONDITION.
    pub sense_len: usize,
}
