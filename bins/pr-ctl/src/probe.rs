//! `pr-ctl probe`: checks whether a helper works with a device; if not, says why and what to do.

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
    session::{self, skip_attentions},
};

/// Checks the socket, the helper, the device, and the device through the helper. Skips checks that depend on a failed
/// one.
pub(crate) fn run(args: &Args, device: Option<&Path>) -> Report {
    let mut diagnosis = Diagnosis::default();
    diagnosis.heading(format!("helper at {}", args.socket.display()));
    let client = check_helper(args, &mut diagnosis);
    if let Some(path) = device {
        let kind = Kind::of(path);
        let description = kind.as_ref().map_or_else(|_| "not there".to_owned(), Kind::describe);
        diagnosis.heading(format!("{}: {description}", path.display()));
        let (reading, writing) = (device::open(path), device::open_for_writing(path));
        diagnosis.opening("opened for reading", reading.as_ref().err());
        diagnosis.opening("opened for writing", writing.as_ref().err());
        if let (Some(client), Ok(kind), Ok(reading)) = (client, kind, reading) {
            diagnosis.heading(format!("{} through the helper", path.display()));
            if check_reading(&client, &reading, &kind, &mut diagnosis) {
                if let Ok(writing) = writing {
                    check_changing(&client, &writing, &kind, &mut diagnosis);
                }
            }
        }
    }
    diagnosis.report()
}

/// Checks the socket, and that a helper answers on it.
fn check_helper(args: &Args, diagnosis: &mut Diagnosis) -> Option<Client> {
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

/// Checks the commands that change nothing. Returns false if READ KEYS fails, since other commands would fail alike.
fn check_reading(client: &Client, device: &impl AsFd, kind: &Kind, diagnosis: &mut Diagnosis) -> bool {
    match skip_attentions(|| client.read_keys(device)) {
        Ok(keys) => diagnosis.ok("READ KEYS", &at_least(keys.keys.len(), "registration", keys.is_complete)),
        Err(error) => {
            diagnosis.refused("READ KEYS", &error, advice_on(&error, kind));
            return false;
        }
    }
    match skip_attentions(|| client.read_reservation(device)) {
        Ok(found) => {
            let text = found.reservation.map_or_else(|| "none".into(), |reservation| reservation.to_string());
            diagnosis.ok("READ RESERVATION", &text);
        }
        Err(error) => diagnosis.refused("READ RESERVATION", &error, advice_on(&error, kind)),
    }
    match skip_attentions(|| client.report_capabilities(device)) {
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
    match skip_attentions(|| client.read_full_status(device)) {
        Ok(_) => diagnosis.ok("READ FULL STATUS", ""),
        Err(error) => diagnosis.lacks_or_fails("READ FULL STATUS", &error, kind),
    }
    true
}

/// Checks that PERSISTENT RESERVE OUT gets through to the device. The service action (1Fh) does not exist, so the
/// command changes nothing.
fn check_changing(client: &Client, device: &impl AsFd, kind: &Kind, diagnosis: &mut Diagnosis) {
    const NAME: &str = "PERSISTENT RESERVE OUT";
    let command = PersistentReserveOut {
        action: OutServiceAction::Other(0x1f),
        scope: Scope::LogicalUnit,
        kind: ReservationType::Other(0),
        parameter_list_length: 24,
    };
    let result =
        skip_attentions(|| client.execute(device, &command.to_cdb(), Data::Out(&[0; 24]))?.into_result());
    match result {
        Err(CommandError::CheckCondition(sense))
            if sense.code().is_some_and(|code| {
                code.key == SenseKey::ILLEGAL_REQUEST && code != SenseCode::INVALID_OPCODE
            }) =>
        {
            diagnosis.ok(NAME, "gets through");
        }
        // A device may check for another initiator's reservation before it checks the service action.
        Ok(()) | Err(CommandError::Conflict) => diagnosis.ok(NAME, "gets through"),
        Err(error) => {
            let advice = match error.sense_code() {
                Some(SenseCode::INVALID_OPCODE) => Some(
                    "the helper or the device lets reservations be read only: see the helper's log".into(),
                ),
                _ => advice_on(&error, kind),
            };
            diagnosis.refused(NAME, &error, advice);
        }
    }
}

/// Returns the likely cause and what to do, if the error tells.
fn advice_on(error: &CommandError, kind: &Kind) -> Option<String> {
    let multipath = matches!(kind, Kind::Multipath { .. });
    let is_scsi = matches!(kind, Kind::Disk { .. } | Kind::ScsiGeneric);
    Some(match error.sense_code() {
        Some(SenseCode::INVALID_OPCODE) => kind.why_refused(),
        Some(SenseCode::LU_COMMUNICATION_FAILURE) if multipath => {
            "multipathd does not run or cannot be reached by the helper, or multipath.conf has no reservation_key \
             (`reservation_key file` will do)"
                .into()
        }
        // The answer of QEMU's helper for a device that takes no SCSI commands.
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

/// The findings, in the order of the checks.
#[derive(Default)]
struct Diagnosis {
    lines: Vec<String>,
    checks: Vec<Object>,
    subject: String,
    /// Exit status of the first check that failed, 0 if none has.
    exit_status: u8,
}

impl Diagnosis {
    fn heading(&mut self, subject: String) {
        self.lines.push(subject.clone());
        self.subject = subject;
    }

    fn ok(&mut self, name: &str, detail: &str) {
        self.check("ok", name, detail, None);
    }

    /// Records that an optional command failed. Not all devices support it and no cluster needs it, so ILLEGAL REQUEST
    /// is not a fault.
    fn lacks_or_fails(&mut self, name: &str, error: &CommandError, kind: &Kind) {
        if error.sense_code().is_some_and(|code| code.key == SenseKey::ILLEGAL_REQUEST) {
            self.check("--", name, &Chain(error).to_string(), None);
        } else {
            self.refused(name, error, advice_on(error, kind));
        }
    }

    fn no(&mut self, name: &str, detail: &str, advice: Option<String>, exit_status: u8) {
        if self.exit_status == 0 {
            self.exit_status = exit_status;
        }
        self.check("NO", name, detail, advice);
    }

    fn failed(&mut self, name: &str, failure: &Failure) {
        self.no(name, &failure.text(), failure.advice(), failure.exit_status());
    }

    fn opening(&mut self, name: &str, failure: Option<&Failure>) {
        match failure {
            None => self.ok(name, ""),
            Some(failure) => self.failed(name, failure),
        }
    }

    fn refused(&mut self, name: &str, error: &CommandError, advice: Option<String>) {
        self.no(name, &Chain(error).to_string(), advice, failure::command_exit_status(error));
    }

    fn check(&mut self, result: &'static str, name: &str, detail: &str, advice: Option<String>) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.lines.push(format!("  {result}  {name}{colon}{detail}"));
        self.lines.extend(advice.as_ref().map(|advice| format!("      {advice}")));
        self.checks.push(object([
            ("subject", text(&self.subject)),
            ("check", text(name)),
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
