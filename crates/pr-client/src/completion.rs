//! The data and the result of a command.

use pr_proto::{InvalidCommand, Response};
use scsi_sense::{Cdb, Status, Transfer};

use crate::{Error, SenseData};

/// The data of a command, which also determines the direction of the transfer.
#[derive(Debug)]
pub enum Data<'a> {
    /// PERSISTENT RESERVE IN: the buffer for the device's data. It must be at least as long as the allocation length.
    In(&'a mut [u8]),
    /// PERSISTENT RESERVE OUT: the parameter list, as long as the CDB announces.
    Out(&'a [u8]),
}

impl Data<'_> {
    /// Checks that the buffer is as long as the CDB's allocation length.
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

    /// Copies the data of a response to the buffer, and returns the result of the command.
    pub(crate) fn complete(&mut self, response: Response<'_>) -> Completion {
        let transferred = match self {
            Self::In(buffer) => {
                // The session accepts at most the allocation length, and `check` made sure that it fits.
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

/// The device's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a command that was answered may still have failed"]
pub struct Completion {
    /// The SCSI status.
    pub status: Status,
    /// The sense data, meaningful only with CHECK CONDITION.
    pub sense: SenseData,
    /// Length of the data in bytes: for IN, the bytes in the buffer (zero unless the status is GOOD); for OUT, the
    /// length of the parameter list.
    pub transferred: usize,
}
