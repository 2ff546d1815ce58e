//! `pr-ctl raw`: sends a CDB unchanged, for experiments.

use pr_client::{CommandError, Completion, Data};
use scsi_sense::{Cdb, Status, Transfer, opcode};

use crate::{
    args::{self, Args, Bytes, Raw},
    failure::{self, Failure, Request, json_sense, json_status},
    json::{object, text},
    report::{Report, count, dump, hex},
    session::Session,
};

/// Sends the command and reports its answer. Every answer is a report, never a failure; the exit status is that of the
/// answer.
pub(crate) fn run(args: &Args, raw: &Raw) -> Result<Report, Failure> {
    let Bytes(cdb) =
        args::parse_hex(&raw.cdb.concat()).map_err(|error| invalid(format!("the CDB {error}")))?;
    let command = Cdb::new(&cdb).map_err(|error| invalid(error.to_string()))?;
    let is_out = command.opcode() == opcode::PERSISTENT_RESERVE_OUT;
    if !is_out && raw.output.is_some() {
        return Err(invalid("--out is for PERSISTENT RESERVE OUT, operation code 5F".into()));
    }
    if is_out && raw.input.is_some() {
        return Err(invalid("--in is for PERSISTENT RESERVE IN, operation code 5E".into()));
    }
    let session =
        if is_out { Session::open_for_writing(args, &raw.device) } else { Session::open(args, &raw.device) }?;
    let list = raw.output.as_ref().map_or(&[][..], |Bytes(list)| list);
    let default_length = match command.transfer() {
        Some(Transfer::In { allocation_length }) => allocation_length,
        _ => 0,
    };
    let mut buffer = vec![0; raw.input.unwrap_or(default_length).into()];
    let completion = session.run(Request::Other(command.to_string()), |client, device| {
        let data = if is_out { Data::Out(list) } else { Data::In(&mut buffer) };
        client.execute(device, &cdb, data).map_err(CommandError::Client)
    })?;
    buffer.truncate(completion.transferred);
    Ok(report(completion, &buffer))
}

fn invalid(text: String) -> Failure {
    Failure::Arguments(text)
}

fn report(completion: Completion, data: &[u8]) -> Report {
    let Completion { status, sense, .. } = completion;
    let mut members = vec![("status", json_status(status))];
    let lines = if status == Status::CHECK_CONDITION {
        members.push(("sense", sense.code().map(json_sense).into()));
        let bytes = sense.parse().map_or(&sense.as_bytes()[..], |sense| sense.as_bytes());
        members.push(("sense_data", text(hex(bytes))));
        [vec![format!("{status}: {sense}")], dump(bytes)].concat()
    } else {
        members.push(("data", text(hex(data))));
        [vec![format!("{status}, {} of data", count(data.len(), "byte"))], dump(data)].concat()
    };
    let exit_status =
        completion.into_result().map_or_else(|error| failure::command_exit_status(&error), |()| 0);
    Report::with_status(lines, object(members), exit_status)
}
