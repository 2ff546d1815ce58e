//! The client's end of a connection: the virtual machine monitor.

use core::fmt;

use bytes::BufMut;
use scsi_sense::{Cdb, Status, Transfer};

use crate::{
    error::{ClientError, InvalidCommand},
    frame::Frame,
    wire::{Announcement, CDB_LEN, DATA_MAX, Features, GREETING_LEN, REPLY_LEN, SENSE_LEN},
};

/// A connection to a helper as its client sees it.
///
/// At first, fill [`buffer`](Self::buffer) until [`greeting`](Self::greeting) returns the bytes to send. Then, for each
/// command, send the bytes that [`read`](Self::read) or [`write`](Self::write) returns, with the device's descriptor,
/// and fill the buffer until [`response`](Self::response) returns the answer.
pub struct ClientSession {
    phase: Phase,
    /// Bytes of the current message that have been received.
    filled: usize,
    offered: Features,
    greeting: [u8; GREETING_LEN],
    expected: Expected,
    frame: Frame,
}

/// The kind of bytes expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    /// None: no command is in flight.
    Idle,
    Header,
    Payload {
        status: Status,
        size: usize,
    },
    /// None: the response is complete.
    Answered {
        status: Status,
        size: usize,
    },
    /// None: the helper broke the protocol.
    Closed(ClientError),
}

/// The answer that the current command may have: a payload up to the allocation length, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    In { allocation_length: u16 },
    Out,
}

impl ClientSession {
    /// Returns a session that requests no features.
    pub fn new() -> Self {
        Self {
            phase: Phase::Greeting,
            filled: 0,
            offered: Features::empty(),
            greeting: [0; GREETING_LEN],
            expected: Expected::Out,
            frame: Frame::new(),
        }
    }

    /// Returns the buffer to read into: exactly as long as the missing rest of the current message. It is empty while
    /// no message is expected; then read again only after the next command.
    pub fn buffer(&mut self) -> &mut [u8] {
        match self.phase {
            Phase::Greeting => self.greeting.get_mut(self.filled..).unwrap_or_default(),
            Phase::Header => self.frame.range(self.filled, REPLY_LEN),
            Phase::Payload { size, .. } => {
                self.frame.range(REPLY_LEN.saturating_add(self.filled), REPLY_LEN.saturating_add(size))
            }
            Phase::Idle | Phase::Answered { .. } | Phase::Closed(_) => &mut [],
        }
    }

    /// Processes `n` bytes that were read into [`buffer`](Self::buffer).
    ///
    /// # Errors
    ///
    /// The helper violated the protocol. Close the connection; the session accepts nothing more.
    pub fn received(&mut self, n: usize) -> Result<(), ClientError> {
        let missing = self.buffer().len();
        self.filled = self.filled.saturating_add(n.min(missing));
        if n < missing {
            return Ok(());
        }
        let next = match self.phase {
            Phase::Greeting => {
                self.offered = Features::decode(self.greeting);
                Ok(Phase::Idle)
            }
            Phase::Header => self.decode(),
            Phase::Payload { status, size } => Ok(Phase::Answered { status, size }),
            Phase::Closed(error) => Err(error),
            waiting => Ok(waiting),
        };
        self.filled = 0;
        self.phase = next.unwrap_or_else(Phase::Closed);
        next.map(drop)
    }

    fn decode(&mut self) -> Result<Phase, ClientError> {
        let header = self.frame.head(REPLY_LEN);
        let Announcement { status, size } = Announcement::decode(header).ok_or(ClientError::Truncated)?;
        let status = u8::try_from(status).map(Status).map_err(|_| ClientError::Status(status))?;
        match (self.expected, size) {
            (_, 0) => return Ok(Phase::Answered { status, size: 0 }),
            (Expected::Out, _) => return Err(ClientError::UnexpectedPayload(size)),
            _ if status != Status::GOOD => return Err(ClientError::PayloadOfFailure(size)),
            (Expected::In { allocation_length }, _) if size > allocation_length.into() => {
                return Err(ClientError::PayloadLength { size, allocation_length });
            }
            (Expected::In { .. }, _) => {}
        }
        // At most the allocation length, which is at most 8192.
        Ok(Phase::Payload { status, size: usize::try_from(size).unwrap_or(0) })
    }

    /// Processes the end of the stream.
    ///
    /// # Errors
    ///
    /// [`ClientError::Truncated`] if a greeting or a reply was still expected.
    pub fn end_of_stream(&self) -> Result<(), ClientError> {
        match self.phase {
            Phase::Idle | Phase::Answered { .. } => Ok(()),
            Phase::Greeting | Phase::Header | Phase::Payload { .. } => Err(ClientError::Truncated),
            Phase::Closed(error) => Err(error),
        }
    }

    /// Returns the bytes to send first, or `None` until the helper's own greeting has been received.
    pub fn greeting(&self) -> Option<[u8; GREETING_LEN]> {
        (self.phase != Phase::Greeting).then_some(Features::empty().encode())
    }

    /// Returns the features that the helper offered in its greeting.
    pub fn offered(&self) -> Features {
        self.offered
    }

    /// Begins a PERSISTENT RESERVE IN command. Returns the bytes to send; attach the device's descriptor to any of
    /// them.
    ///
    /// # Errors
    ///
    /// The protocol does not carry the command, or the session is not ready for one. The session is unchanged.
    pub fn read(&mut self, cdb: &[u8]) -> Result<[u8; CDB_LEN], InvalidCommand> {
        let (padded, transfer) = self.command(cdb)?;
        let Transfer::In { allocation_length } = transfer else { return Err(InvalidCommand::Cdb) };
        if usize::from(allocation_length) > DATA_MAX {
            return Err(InvalidCommand::TransferLength(allocation_length.into()));
        }
        self.expected = Expected::In { allocation_length };
        self.phase = Phase::Header;
        Ok(padded)
    }

    /// Begins a PERSISTENT RESERVE OUT command. Returns the bytes to send; attach the device's descriptor to any of
    /// them, and send `parameters` after them, without a descriptor.
    ///
    /// # Errors
    ///
    /// The protocol does not carry the command, or the session is not ready for one. The session is unchanged.
    pub fn write(&mut self, cdb: &[u8], parameters: &[u8]) -> Result<[u8; CDB_LEN], InvalidCommand> {
        let (padded, transfer) = self.command(cdb)?;
        let Transfer::Out { parameter_list_length: announced } = transfer else {
            return Err(InvalidCommand::Cdb);
        };
        if usize::try_from(announced).ok() != Some(parameters.len()) {
            return Err(InvalidCommand::ParameterLength { announced, given: parameters.len() });
        }
        if parameters.len() > DATA_MAX {
            return Err(InvalidCommand::TransferLength(announced));
        }
        self.expected = Expected::Out;
        self.phase = Phase::Header;
        Ok(padded)
    }

    fn command(&self, cdb: &[u8]) -> Result<([u8; CDB_LEN], Transfer), InvalidCommand> {
        if !matches!(self.phase, Phase::Idle | Phase::Answered { .. }) {
            return Err(InvalidCommand::NotReady);
        }
        let mut padded = [0; CDB_LEN];
        let mut unfilled = padded.as_mut_slice();
        if cdb.len() > unfilled.remaining_mut() {
            return Err(InvalidCommand::Cdb);
        }
        unfilled.put_slice(cdb);
        let transfer = Cdb::new(cdb).ok().and_then(|cdb| cdb.transfer()).ok_or(InvalidCommand::Cdb)?;
        Ok((padded, transfer))
    }

    /// Returns the helper's answer once it is complete, until the next command begins.
    pub fn response(&self) -> Option<Response<'_>> {
        let Phase::Answered { status, size } = self.phase else { return None };
        let reply = self.frame.head(REPLY_LEN.saturating_add(size));
        let (header, payload) = reply.split_at_checked(REPLY_LEN)?;
        let sense = header.last_chunk()?;
        Some(Response { status, sense, payload })
    }
}

impl Default for ClientSession {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession")
            .field("phase", &self.phase)
            .field("filled", &self.filled)
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

/// The helper's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the command may have failed"]
pub struct Response<'a> {
    /// The SCSI status.
    pub status: Status,
    /// Sense data, padded with zeros. It is meaningful only with CHECK CONDITION.
    pub sense: &'a [u8; SENSE_LEN],
    /// The data of an IN command with status GOOD; otherwise empty.
    pub payload: &'a [u8],
}
