//! `pr-ctl probe`: checks whether a helper works with a device; if not, says why and what to do.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::FileTypeExt as _,
    path::Path,
};

use pr_client::{Client, CommandError, Data, RegisteredKeys};
use scsi_sense::{
    SenseCode, SenseKey, Status,
    pr::{Capabilities, OutServiceAction, PersistentReserveOut, ReservationType, Scope},
};

use crate::{
    args::Args,
    device::{self, Kind},
    failure::{Chain, Failure},
    findings::{Finding, Findings, Outcome},
    nvme, recorded_key,
    report::{Report, at_least},
    session::{self, skip_attentions},
};

/// Checks the socket, the helper, the device, and the device through the helper. Skips checks that depend on a failed
/// one.
pub(crate) fn run(args: &Args, device: Option<&Path>) -> Report {
    let mut findings = Findings::default();
    let client = check_helper(args, &mut findings);
    if let Some(path) = device {
        check_device(client.as_ref(), path, &mut findings);
    }
    findings.report()
}

/// Checks the socket, and that a helper answers on it.
pub(crate) fn check_helper(args: &Args, findings: &mut Findings) -> Option<Client> {
    findings.heading(format!("helper at {}", args.socket.display()));
    if let Ok(metadata) = fs::metadata(&args.socket) {
        if !metadata.file_type().is_socket() {
            let finding = Finding::new("a socket", Outcome::Failed(35), "there is something else");
            findings.add(finding.advise("the helper's socket has another path: name it with --socket"));
            return None;
        }
        findings.add(Finding::ok("a socket", device::access_of(&metadata)));
    }
    match session::connect(args) {
        Ok(client) => {
            findings.add(Finding::ok("a helper answers", ""));
            Some(client)
        }
        Err(failure) => {
            findings.add(Finding::failed("a helper answers", &failure));
            None
        }
    }
}

/// A device that answers through the helper.
pub(crate) struct Answering {
    pub(crate) kind: Kind,
    /// The device, if it could be opened for writing.
    pub(crate) writing: Option<OwnedFd>,
    pub(crate) registered: RegisteredKeys,
    /// The answer to REPORT CAPABILITIES, if there was one.
    pub(crate) capabilities: Option<Capabilities>,
}

/// Checks a device, and then the device through the helper. Returns `None` if it cannot be used at all.
pub(crate) fn check_device(
    client: Option<&Client>,
    path: &Path,
    findings: &mut Findings,
) -> Option<Answering> {
    let kind = Kind::of(path);
    let description = kind.as_ref().map_or_else(|_| "not there".to_owned(), Kind::describe);
    findings.heading(format!("{}: {description}", path.display()));
    let (reading, writing) = (device::open(path), device::open_for_writing(path));
    findings.add(opening("opened for reading", reading.as_ref().err()));
    findings.add(opening("opened for writing", writing.as_ref().err()));
    let (client, kind, reading) = (client?, kind.ok()?, reading.ok()?);
    findings.heading(format!("{} through the helper", path.display()));
    let (registered, capabilities) = check_reading(client, &reading, &kind, findings)?;
    let writing = writing.ok();
    if let Some(device) = &writing {
        check_changing(client, device, &kind, findings);
    }
    if let (Kind::Nvme { .. }, Ok(metadata)) = (&kind, fs::metadata(path)) {
        nvme::check(&device::sysfs_directory(&metadata), findings);
    }
    if let Kind::Multipath { name } = &kind {
        recorded_key::check(client, path, name, &registered, capabilities.as_ref(), findings);
    }
    Some(Answering { kind, writing, registered, capabilities })
}

fn opening(name: &str, failure: Option<&Failure>) -> Finding {
    failure.map_or_else(|| Finding::ok(name, ""), |failure| Finding::failed(name, failure))
}

/// Checks the commands that change nothing. Returns `None` if READ KEYS fails, since other commands would fail alike.
fn check_reading(
    client: &Client,
    device: &impl AsFd,
    kind: &Kind,
    findings: &mut Findings,
) -> Option<(RegisteredKeys, Option<Capabilities>)> {
    let registered = match skip_attentions(|| client.read_keys(device)) {
        Ok(found) => found,
        Err(error) => {
            findings.add(refused("READ KEYS", &error, kind));
            return None;
        }
    };
    let count = at_least(registered.keys.len(), "registration", registered.is_complete);
    findings.add(Finding::ok("READ KEYS", count));
    findings.add(match skip_attentions(|| client.read_reservation(device)) {
        Ok(found) => {
            let text = found.reservation.map_or_else(|| "none".into(), |reservation| reservation.to_string());
            Finding::ok("READ RESERVATION", text)
        }
        Err(error) => refused("READ RESERVATION", &error, kind),
    });
    let capabilities = skip_attentions(|| client.report_capabilities(device));
    findings.add(match &capabilities {
        Ok(found) => Finding::ok("REPORT CAPABILITIES", persistence(found)),
        Err(error) => lacks_or_fails("REPORT CAPABILITIES", error, kind),
    });
    findings.add(match skip_attentions(|| client.read_full_status(device)) {
        Ok(_) => Finding::ok("READ FULL STATUS", ""),
        Err(error) => lacks_or_fails("READ FULL STATUS", &error, kind),
    });
    Some((registered, capabilities.ok()))
}

fn persistence(found: &Capabilities) -> &'static str {
    match (found.persist_through_power_loss_capable, found.persist_through_power_loss_activated) {
        (_, true) => "kept over a loss of power",
        (true, false) => "can be kept over a loss of power (--aptpl)",
        (false, false) => "lost with power",
    }
}

/// Builds the finding of a command that failed, with advice.
pub(crate) fn refused(name: &str, error: &CommandError, kind: &Kind) -> Finding {
    Finding::refused(name, error).with_advice(advice_on(error, kind))
}

/// Builds the finding of an optional command that failed. Not all devices support it and no cluster needs it, so ILLEGAL
/// REQUEST is not a fault.
fn lacks_or_fails(name: &str, error: &CommandError, kind: &Kind) -> Finding {
    if error.sense_code().is_some_and(|code| code.key == SenseKey::ILLEGAL_REQUEST) {
        Finding::new(name, Outcome::Lacking, Chain(error).to_string())
    } else {
        refused(name, error, kind)
    }
}

/// Checks that PERSISTENT RESERVE OUT gets through to the device. The service action (1Fh) does not exist, so the
/// command changes nothing.
fn check_changing(client: &Client, device: &impl AsFd, kind: &Kind, findings: &mut Findings) {
    const NAME: &str = "PERSISTENT RESERVE OUT";
    let command = PersistentReserveOut {
        action: OutServiceAction::Other(0x1f),
        scope: Scope::LogicalUnit,
        kind: ReservationType::Other(0),
        parameter_list_length: 24,
    };
    let result =
        skip_attentions(|| client.execute(device, &command.to_cdb(), Data::Out(&[0; 24]))?.into_result());
    findings.add(match result {
        Err(CommandError::CheckCondition(sense))
            if sense.code().is_some_and(|code| {
                code.key == SenseKey::ILLEGAL_REQUEST && code != SenseCode::INVALID_OPCODE
            }) =>
        {
            Finding::ok(NAME, "gets through")
        }
        // A device may check for another initiator's reservation before it checks the service action.
        Ok(()) | Err(CommandError::Conflict) => Finding::ok(NAME, "gets through"),
        Err(error) if error.sense_code() == Some(SenseCode::INVALID_OPCODE) => Finding::refused(NAME, &error)
            .advise("the helper or the device lets reservations be read only: see the helper's log"),
        Err(error) => refused(NAME, &error, kind),
    });
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
