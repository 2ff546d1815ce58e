//! A command's data and its outcome.

use pr_proto::{InvalidCommand, Response};
use scsi_sense::{Cdb, Status, Transfer};

use crate::{Error, SenseData};

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
