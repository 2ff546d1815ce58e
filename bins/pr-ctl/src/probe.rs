//! `pr-ctl probe`: what a helper can do with a device, and if it cannot, why not and what to do about it.

use std::{fs, os::fd::AsFd, os::unix::fs::FileTypeExt as _, path::Path};

use pr_client::{Client, CommandError, Data};
use scsi_sense::{
    SenseCode, SenseKey, Status,
    pr::{OutServiceAction, PersistentReserveOut, ReservationType, Scope},
};

use crate::{
    args::Args,
    device::{self, Kind},
    failure::{self, Chain, Failure},
    json::{Object, object, text},
    report::{Report, at_least},
    session,
};

/// Looks at the socket, the helper, the device, and the device through the helper, as far as each step lets it.
pub(crate) fn run(args: &Args, device: Option<&Path>) -> Report {
    let mut diagnosis = Diagnosis::default();
    diagnosis.heading(format!("helper at {}", args.socket.display()));
    let client = helper(args, &mut diagnosis);
    if let Some(path) = device {
        let kind = Kind::of(path);
        let what = kind.as_ref().map_or_else(|_| "not there".to_owned(), Kind::describe);
        diagnosis.heading(format!("{}: {what}", path.display()));
        let (reading, writing) = (device::open(path), device::open_for_writing(path));
        diagnosis.opening("opened for reading", reading.as_ref().err());
        diagnosis.opening("opened for writing", writing.as_ref().err());
        if let (Some(client), Ok(kind), Ok(reading)) = (client, kind, reading) {
            diagnosis.heading(format!("{} through the helper", path.display()));
            if read(&client, &reading, &kind, &mut diagnosis) {
                if let Ok(writing) = writing {
                    change(&client, &writing, &kind, &mut diagnosis);
                }
            }
        }
    }
    diagnosis.report()
}

/// The socket, and who answers there.
fn helper(args: &Args, diagnosis: &mut Diagnosis) -> Option<Client> {
    if let Ok(metadata) = fs::metadata(&args.socket) {
        if !metadata.file_type().is_socket() {
            let advice = "the helper's socket has another path: name it with --socket";
            diagnosis.no("a socket", "there is something else", Some(advice.into()), 35);
            return None;
        }
        diagnosis.ok("a socket", &device::access_of(&metadata));
    }
    match session::connect(args) {
        Ok(client) => {
            diagnosis.ok("a helper answers", "");
            Some(client)
        }
        Err(failure) => {
            diagnosis.failed("a helper answers", &failure);
            None
        }
    }
}

/// What the device says without being changed. False: nothing, so there is no use in asking more.
fn read(client: &Client, device: &impl AsFd, kind: &Kind, diagnosis: &mut Diagnosis) -> bool {
    match insist(|| client.read_keys(device)) {
        Ok(keys) => diagnosis.ok("READ KEYS", &at_least(keys.keys.len(), "registration", keys.is_complete)),
        Err(error) => {
            diagnosis.refused("READ KEYS", &error, why(&error, kind));
            return false;
        }
    }
    match insist(|| client.read_reservation(device)) {
        Ok(found) => {
            let text = found.reservation.map_or_else(|| "none".into(), |reservation| reservation.to_string());
            diagnosis.ok("READ RESERVATION", &text);
        }
        Err(error) => diagnosis.refused("READ RESERVATION", &error, why(&error, kind)),
    }
    match insist(|| client.report_capabilities(device)) {
        Ok(found) => {
            let persists = match (
                found.persist_through_power_loss_capable,
                found.persist_through_power_loss_activated,
            ) {
                (_, true) => "kept over a loss of power",
                (true, false) => "can be kept over a loss of power (--aptpl)",
                (false, false) => "lost with power",
            };
            diagnosis.ok("REPORT CAPABILITIES", persists);
        }
        Err(error) => diagnosis.lacks_or_fails("REPORT CAPABILITIES", &error, kind),
    }
    match insist(|| client.read_full_status(device)) {
        Ok(_) => diagnosis.ok("READ FULL STATUS", ""),
        Err(error) => diagnosis.lacks_or_fails("READ FULL STATUS", &error, kind),
    }
    true
}

/// Whether a command that changes something gets through: one whose service action does not exist (1Fh), so that
/// whoever takes it does nothing.
fn change(client: &Client, device: &impl AsFd, kind: &Kind, diagnosis: &mut Diagnosis) {
    const WHAT: &str = "PERSISTENT RESERVE OUT";
    let command = PersistentReserveOut {
        action: OutServiceAction::Other(0x1f),
        scope: Scope::LogicalUnit,
        kind: ReservationType::Other(0),
        parameter_list_length: 24,
    };
    let result = insist(|| client.execute(device, &command.to_cdb(), Data::Out(&[0; 24]))?.into_result());
    match result {
        Err(CommandError::CheckCondition(sense))
            if sense.code().is_some_and(|code| {
                code.key == SenseKey::ILLEGAL_REQUEST && code != SenseCode::INVALID_OPCODE
            }) =>
        {
            diagnosis.ok(WHAT, "gets through");
        }
        // A reservation of another's is in the way, of what does not exist, too.
        Ok(()) | Err(CommandError::Conflict) => diagnosis.ok(WHAT, "gets through"),
        Err(error) => {
            let advice = match error.sense_code() {
                Some(SenseCode::INVALID_OPCODE) => Some(
                    "the helper or the device lets reservations be read only: see the helper's log".into(),
                ),
                _ => why(&error, kind),
            };
            diagnosis.refused(WHAT, &error, advice);
        }
    }
}

/// How often a device may have something else to say first.
const ATTENTIONS_MAX: u32 = 3;

/// A unit attention says nothing of the command that it came to.
fn insist<T>(mut command: impl FnMut() -> Result<T, CommandError>) -> Result<T, CommandError> {
    for _ in 0..ATTENTIONS_MAX {
        match command() {
            Err(error) if error.sense_code().is_some_and(|code| code.key == SenseKey::UNIT_ATTENTION) => {}
            found => return found,
        }
    }
    command()
}

/// What is wrong, if that can be told.
fn why(error: &CommandError, kind: &Kind) -> Option<String> {
    let multipath = matches!(kind, Kind::Multipath { .. });
    let is_scsi = matches!(kind, Kind::Disk { .. } | Kind::ScsiGeneric);
    Some(match error.sense_code() {
        Some(SenseCode::INVALID_OPCODE) => kind.why_refused(),
        Some(SenseCode::LU_COMMUNICATION_FAILURE) if multipath => {
            "multipathd does not run or cannot be reached by the helper, or multipath.conf has no reservation_key \
             (`reservation_key file` will do)"
                .into()
        }
        // What QEMU's helper says of what takes no SCSI commands.
        Some(SenseCode::IO_PROCESS_TERMINATED) if !is_scsi => kind.why_refused(),
        Some(SenseCode::IO_PROCESS_TERMINATED) => {
            "the kernel has refused the command or lost it on the way: has the helper CAP_SYS_RAWIO? See its log and \
             the kernel's"
                .into()
        }
        Some(code) if code.key == SenseKey::ABORTED_COMMAND || code.key == SenseKey::HARDWARE_ERROR => {
            "between kernel and disk something fails: see the kernel's log".into()
        }
        Some(code) if code.key == SenseKey::NOT_READY => "the disk cannot be used at all now".into(),
        Some(_) => return None,
        None => match error {
            CommandError::Client(pr_client::Error::TimedOut) => {
                "the disk hangs, or the helper: see the kernel's log, or give it more time with --timeout".into()
            }
            CommandError::Client(_) => {
                "the helper has hung up on the command: see its log; it is not one, or of another kind".into()
            }
            CommandError::Conflict => {
                "another initiator has the disk by RESERVE(6) or RESERVE(10), the reservations of old".into()
            }
            CommandError::Status(Status::BUSY | Status::TASK_SET_FULL) => "the disk is busy: try again".into(),
            CommandError::Data(_) | CommandError::Keys { .. } | CommandError::Registrations { .. } => {
                "the device's answer is malformed: look at its firmware".into()
            }
            _ => return None,
        },
    })
}

/// What was found, as it was found.
#[derive(Default)]
struct Diagnosis {
    lines: Vec<String>,
    checks: Vec<Object>,
    subject: String,
    /// That of the first check that failed.
    exit_status: u8,
}

impl Diagnosis {
    fn heading(&mut self, subject: String) {
        self.lines.push(subject.clone());
        self.subject = subject;
    }

    fn ok(&mut self, what: &str, detail: &str) {
        self.check("ok", what, detail, None);
    }

    /// Something that not all devices have, and that no cluster needs: it is no fault if the device says so.
    fn lacks_or_fails(&mut self, what: &str, error: &CommandError, kind: &Kind) {
        if error.sense_code().is_some_and(|code| code.key == SenseKey::ILLEGAL_REQUEST) {
            self.check("--", what, &Chain(error).to_string(), None);
        } else {
            self.refused(what, error, why(error, kind));
        }
    }

    fn no(&mut self, what: &str, detail: &str, advice: Option<String>, exit_status: u8) {
        if self.exit_status == 0 {
            self.exit_status = exit_status;
        }
        self.check("NO", what, detail, advice);
    }

    fn failed(&mut self, what: &str, failure: &Failure) {
        self.no(what, &failure.text(), failure.advice(), failure.exit_status());
    }

    fn opening(&mut self, what: &str, failure: Option<&Failure>) {
        match failure {
            None => self.ok(what, ""),
            Some(failure) => self.failed(what, failure),
        }
    }

    fn refused(&mut self, what: &str, error: &CommandError, advice: Option<String>) {
        self.no(what, &Chain(error).to_string(), advice, failure::of_command(error));
    }

    fn check(&mut self, result: &'static str, what: &str, detail: &str, advice: Option<String>) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.lines.push(format!("  {result}  {what}{colon}{detail}"));
        self.lines.extend(advice.as_ref().map(|advice| format!("      {advice}")));
        self.checks.push(object([
            ("subject", text(&self.subject)),
            ("check", text(what)),
            ("result", text(result.to_lowercase())),
            ("detail", text(detail)),
            ("advice", advice.into()),
        ]));
    }

    fn report(self) -> Report {
        let json = object([
            ("checks", self.checks.into()),
            ("ok", (self.exit_status == 0).into()),
            ("exit_status", self.exit_status.into()),
        ]);
        Report::with_status(self.lines, json, self.exit_status)
    }
}
