//! A guest's SCSI command, in the form that passthrough has it in: `struct sg_io_hdr` of `<scsi/sg.h>`, with slices in
//! place of pointers.
//!
//! A device model that sends its guest's commands on by `SG_IO` sends PERSISTENT RESERVE here instead, and finds the
//! outcome in the fields it knows. There is an outcome in every case: a helper that is gone, or was lost while it had
//! the command, is a CHECK CONDITION with the sense that QEMU gives its guests for it (0B/08/00), and never GOOD.
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

/// What the guest wants.
#[derive(Debug)]
pub struct Request<'a> {
    /// `cmdp`, `cmd_len`: the command; bytes behind its end (padding) are ignored.
    pub cdb: &'a [u8],
    /// `dxfer_direction`, `dxferp`, `dxfer_len`.
    pub data: Transfer<'a>,
    /// `sbp`, `mx_sb_len`: where sense data go, as far as there is room.
    pub sense: &'a mut [u8],
    /// `timeout`: how long it may take in all. `None`: as long as the client's other commands
    /// ([`Options::timeout`](crate::Options::timeout)).
    pub timeout: Option<Duration>,
}

/// The direction of the transfer, with the guest's buffer. It may be longer than what the CDB asks for; the rest is
/// residue.
#[derive(Debug)]
pub enum Transfer<'a> {
    /// `SG_DXFER_NONE`.
    None,
    /// `SG_DXFER_FROM_DEV`.
    FromDevice(&'a mut [u8]),
    /// `SG_DXFER_TO_DEV`.
    ToDevice(&'a [u8]),
}

/// What has become of it.
#[derive(Debug)]
#[must_use = "a command that was passed on may still have failed"]
pub struct Outcome {
    /// `status`: the SCSI status byte.
    pub status: u8,
    /// `host_status`: always zero. What went wrong between kernel and device is in `status` and the sense data, where
    /// nobody can overlook it.
    pub host_status: u16,
    /// `driver_status`: 08h (`DRIVER_SENSE`) if there are sense data, else zero.
    pub driver_status: u16,
    /// `sb_len_wr`: bytes of sense data written.
    pub sense_len: u8,
    /// `resid`: bytes of the buffer that were not transferred.
    pub resid: usize,
    /// Why the helper did not answer, if it did not: for a log. The fields above say it to the guest.
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
    let room = data.len();
    let timeout = timeout.or(client.timeout());
    let done = data.matching(cdb).and_then(|(cdb, data)| client.execute_within(device, cdb, data, timeout));
    match done {
        Ok(completion) => Outcome {
            resid: room.saturating_sub(completion.transferred),
            ..Outcome::answered(completion, sense)
        },
        Err(error) => {
            let code = match cdb {
                [opcode::PERSISTENT_RESERVE_IN | opcode::PERSISTENT_RESERVE_OUT, ..] => error.sense_code(),
                _ => SenseCode::INVALID_OPCODE,
            };
            Outcome { resid: room, error: Some(error), ..Outcome::check_condition(&code.to_fixed(), sense) }
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

    /// The command without padding, and of the buffer what it asks for.
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
