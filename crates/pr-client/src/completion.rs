//! A command's data and its outcome.

use std::fmt;

use pr_proto::{InvalidCommand, Response, SENSE_LEN};
use scsi_sense::{Cdb, Sense, SenseCode, SenseError, Status, Transfer};

use crate::Error;

/// A command's data, and with it the direction of the transfer.
#[derive(Debug)]
pub enum Data<'a> {
    /// PERSISTENT RESERVE IN: where the device's data go. At least as long as the allocation length.
    In(&'a mut [u8]),
    /// PERSISTENT RESERVE OUT: the parameter list, as long as the CDB says.
    Out(&'a [u8]),
}

impl Data<'_> {
    /// Whether whatever the CDB asks for has room.
    pub(crate) fn check(&self, cdb: &[u8]) -> Result<(), Error> {
        let Self::In(buffer) = self else { return Ok(()) };
        let cdb = Cdb::new(cdb).map_err(|_| Error::Command(InvalidCommand::Cdb))?;
        match cdb.transfer() {
            Some(Transfer::In { allocation_length }) if buffer.len() < allocation_length.into() => {
                Err(Error::Buffer { needed: allocation_length.into(), got: buffer.len() })
            }
            _ => Ok(()),
        }
    }

    /// Takes the data of a response, and says what has become of the command.
    pub(crate) fn complete(&mut self, response: Response<'_>) -> Completion {
        let transferred = match self {
            Self::In(buffer) => {
                // The session lets no more pass than the allocation length, for which there is room.
                for (to, from) in buffer.iter_mut().zip(response.payload) {
                    *to = *from;
                }
                response.payload.len()
            }
            Self::Out(parameters) => parameters.len(),
        };
        Completion { status: response.status, sense: SenseData(*response.sense), transferred }
    }
}

/// What the device answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a command that was answered may still have failed"]
pub struct Completion {
    /// The SCSI status.
    pub status: Status,
    /// The sense data. They mean something only with CHECK CONDITION.
    pub sense: SenseData,
    /// Bytes of data: for IN those that are in the buffer now (zero unless the status is GOOD), for OUT those of the
    /// parameter list.
    pub transferred: usize,
}

/// The sense data of a reply: 96 bytes, zeros behind their end.
///
/// Shown, it is the sense in words, or what there is instead.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenseData(pub(crate) [u8; SENSE_LEN]);

impl SenseData {
    /// All bytes.
    pub const fn as_bytes(&self) -> &[u8; SENSE_LEN] {
        &self.0
    }

    /// The sense data, to be looked into.
    ///
    /// # Errors
    ///
    /// [`SenseError`], if there are none or they are of a vendor's own format.
    pub fn parse(&self) -> Result<Sense<'_>, SenseError> {
        Sense::parse(&self.0)
    }

    /// Sense key, additional sense code and qualifier.
    pub fn code(&self) -> Option<SenseCode> {
        self.parse().ok()?.code()
    }

    /// Whether there is nothing but zeros: a CHECK CONDITION for which no reason was delivered.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

/// For example `ILLEGAL REQUEST, INVALID FIELD IN CDB (05/24/00)`.
impl fmt::Display for SenseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Ok(sense) => sense.fmt(f),
            Err(_) if self.is_empty() => f.write_str("no sense data"),
            Err(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for SenseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SenseData({self})")
    }
}
