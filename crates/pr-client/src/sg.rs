//! A guest's SCSI command in the form of passthrough: `struct sg_io_hdr` of `<scsi/sg.h>`, with slices in place of
//! pointers.
//!
//! A device model that passes its guest's commands to `SG_IO` passes PERSISTENT RESERVE to this module instead, and
//! finds the outcome in the usual fields. There is always an outcome: if the helper cannot be reached, or is lost while
//! the command is in flight, it is CHECK CONDITION with the sense that QEMU reports to its guests (0B/08/00), never
//! GOOD.
//!
//! ```no_run
//! use std::fs::File;
//! use pr_client::{Client, sg};
//!
//! let client = Client::connect("/run/pr-helper.sock")?;
//! let disk = File::open("/dev/sdb")?;
//! let (mut data, mut sense) = ([0; 128], [0; 96]);
//! let outcome = sg::execute(&client, &disk, sg::Request {
//!     cdb: &[0x5e, 0, 0, 0, 0, 0, 0, 0, 128, 0],
//!     data: sg::Transfer::FromDevice(&mut data),
//!     sense: &mut sense,
//!     timeout: None,
//! });
//! println!("status {:02x}, {} bytes less than room", outcome.status, outcome.resid);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{os::fd::AsFd, time::Duration};

use pr_proto::InvalidCommand;
use scsi_sense::{Cdb, SenseCode, Status, opcode};

use crate::{Client, Completion, Data, Error, SenseData};

/// A guest's command.
#[derive(Debug)]
pub struct Request<'a> {
    /// `cmdp`, `cmd_len`: the CDB; padding after its end is ignored.
    pub cdb: &'a [u8],
    /// `dxfer_direction`, `dxferp`, `dxfer_len`.
    pub data: Transfer<'a>,
    /// `sbp`, `mx_sb_len`: the buffer for sense data, which are truncated to its length.
    pub sense: &'a mut [u8],
    /// `timeout`: the time limit of the command. `None`: that of the client
    /// ([`Options::timeout`](crate::Options::timeout)).
    pub timeout: Option<Duration>,
}

/// The direction of the transfer, with the guest's buffer. It may be longer than the transfer length of the CDB; the
/// rest counts as residue.
#[derive(Debug)]
pub enum Transfer<'a> {
    /// `SG_DXFER_NONE`.
    None,
    /// `SG_DXFER_FROM_DEV`.
    FromDevice(&'a mut [u8]),
    /// `SG_DXFER_TO_DEV`.
    ToDevice(&'a [u8]),
}

/// The outcome of a command.
#[derive(Debug)]
#[must_use = "a command that was passed on may still have failed"]
pub struct Outcome {
    /// `status`: the SCSI status byte.
    pub status: u8,
    /// `host_status`: always zero. Failures between kernel and device are in `status` and the sense data, where a
    /// device model cannot overlook them.
    pub host_status: u16,
    /// `driver_status`: 08h (`DRIVER_SENSE`) if there are sense data, else zero.
    pub driver_status: u16,
    /// `sb_len_wr`: number of bytes of sense data written.
    pub sense_len: u8,
    /// `resid`: number of bytes of the buffer that were not transferred.
    pub resid: usize,
    /// The reason why the helper did not answer, for a log. The fields above report the failure to the guest.
    pub error: Option<Error>,
}

/// `DRIVER_SENSE` of `<scsi/sg.h>`.
const DRIVER_SENSE: u16 = 0x08;

/// Runs a guest's command on `device`.
///
/// A command that is not PERSISTENT RESERVE is answered with ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE
/// (05/20/00); one whose direction or lengths do not agree with its CDB, with INVALID FIELD IN CDB (05/24/00). After
/// the timeout the sense is COMMAND TIMEOUT DURING PROCESSING (0B/2E/02).
pub fn execute(client: &Client, device: impl AsFd, request: Request<'_>) -> Outcome {
    let Request { cdb, data, sense, timeout } = request;
    let buffer_len = data.len();
    let timeout = timeout.or(client.timeout());
    let done = data.matching(cdb).and_then(|(cdb, data)| client.execute_within(device, cdb, data, timeout));
    match done {
        Ok(completion) => Outcome {
            resid: buffer_len.saturating_sub(completion.transferred),
            ..Outcome::answered(completion, sense)
        },
        Err(error) => {
            let code = match cdb {
                [opcode::PERSISTENT_RESERVE_IN | opcode::PERSISTENT_RESERVE_OUT, ..] => error.sense_code(),
                _ => SenseCode::INVALID_OPCODE,
            };
            Outcome {
                resid: buffer_len,
                error: Some(error),
                ..Outcome::check_condition(&code.to_fixed(), sense)
            }
        }
    }
}

impl<'a> Transfer<'a> {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::FromDevice(buffer) => buffer.len(),
            Self::ToDevice(buffer) => buffer.len(),
        }
    }

    /// Returns the CDB without padding, and the part of the buffer that it refers to.
    fn matching<'c>(self, cdb: &'c [u8]) -> Result<(&'c [u8], Data<'a>), Error> {
        use scsi_sense::Transfer as Asked;
        let invalid = || Error::Command(InvalidCommand::Cdb);
        let cdb = Cdb::new(cdb).map_err(|_| invalid())?;
        let data = match (cdb.transfer().ok_or_else(invalid)?, self) {
            (Asked::In { .. }, Self::FromDevice(buffer)) => Data::In(buffer),
            (Asked::In { .. }, Self::None) => Data::In(&mut []),
            (Asked::Out { parameter_list_length: announced }, Self::ToDevice(buffer)) => {
                let list = usize::try_from(announced).ok().and_then(|length| buffer.get(..length));
                let short = InvalidCommand::ParameterLength { announced, given: buffer.len() };
                Data::Out(list.ok_or(Error::Command(short))?)
            }
            (Asked::Out { .. }, Self::None) => Data::Out(&[]),
            (Asked::In { .. }, Self::ToDevice(_)) | (Asked::Out { .. }, Self::FromDevice(_)) => {
                return Err(invalid());
            }
        };
        Ok((cdb.as_bytes(), data))
    }
}

impl Outcome {
    fn answered(completion: Completion, sense: &mut [u8]) -> Self {
        let SenseData(bytes) = completion.sense;
        match completion.status {
            Status::CHECK_CONDITION if completion.sense.is_empty() => {
                Self::check_condition(&SenseCode::IO_PROCESS_TERMINATED.to_fixed(), sense)
            }
            Status::CHECK_CONDITION => {
                let delivered = completion.sense.parse().map_or(&bytes[..], |sense| sense.as_bytes());
                Self::check_condition(delivered, sense)
            }
            Status(status) => {
                Self { status, host_status: 0, driver_status: 0, sense_len: 0, resid: 0, error: None }
            }
        }
    }

    fn check_condition(delivered: &[u8], sense: &mut [u8]) -> Self {
        let length = delivered.len().min(sense.len());
        for (to, from) in sense.iter_mut().zip(delivered) {
            *to = *from;
        }
        Self {
            status: Status::CHECK_CONDITION.0,
            host_status: 0,
            driver_status: DRIVER_SENSE,
            // At most 96.
            sense_len: u8::try_from(length).unwrap_or(u8::MAX),
            resid: 0,
            error: None,
        }
    }
}
