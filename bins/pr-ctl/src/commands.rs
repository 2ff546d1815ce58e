//! The subcommands that send one service action each.

use std::{fmt, os::fd::OwnedFd, path::Path};

use pr_client::{Client, CommandError, Registration};
use scsi_sense::{
    Status,
    pr::{
        BasicParameters, Capabilities, InServiceAction, OutServiceAction, RegisterAndMoveParameters,
        ReservationKey, ReservationType, TransportIdBuf, TransportIds,
    },
};
use serde_json::{Value, json};

use crate::{
    args::{Args, Clear, Preempt, Register, RegisterFlags, RegisterIgnore, RegisterMove, Typed},
    failure::{Failure, Options, Request, json_status},
    json::{object, text},
    report::{INCOMPLETE, Report, at_least, hex, json_reservation, json_type, table, yes_or_no},
    session::Session,
};

pub(crate) fn keys(args: &Args, device: &Path) -> Result<Report, Failure> {
    let session = Session::open(args, device)?;
    let result = session.run(InServiceAction::ReadKeys, |client, device| client.read_keys(device));
    let (found, failure) = whole_or_part(result, |error| match error {
        CommandError::Keys { read, .. } => Some(read),
        _ => None,
    })?;
    let mut lines = vec![summary(found.keys.len(), found.generation, found.is_complete)];
    lines.extend(found.keys.iter().map(ToString::to_string));
    lines.extend(remark(found.is_complete, failure.as_ref()));
    let json = object([
        ("device", text(device.display())),
        ("generation", found.generation.into()),
        ("keys", found.keys.iter().map(text).collect()),
        ("complete", found.is_complete.into()),
    ]);
    Ok(Report::partial(lines, json, failure))
}

/// Returns a whole list, or the readable part of a malformed one with the failure.
fn whole_or_part<T: Clone>(
    result: Result<T, Failure>,
    read: impl FnOnce(&CommandError) -> Option<&T>,
) -> Result<(T, Option<Failure>), Failure> {
    match result {
        Ok(found) => Ok((found, None)),
        Err(failure) => match &failure {
            Failure::Command { source, .. } => match read(source).cloned() {
                Some(part) => Ok((part, Some(failure))),
                None => Err(failure),
            },
            _ => Err(failure),
        },
    }
}

/// Returns the remark to print below a list that may be incomplete.
fn remark(is_complete: bool, failure: Option<&Failure>) -> Option<String> {
    let remark = if failure.is_some() { "the rest of the list cannot be read" } else { INCOMPLETE };
    (!is_complete).then(|| format!("({remark})"))
}

pub(crate) fn reservation(args: &Args, device: &Path) -> Result<Report, Failure> {
    let session = Session::open(args, device)?;
    let name = InServiceAction::ReadReservation;
    let found = session.run(name, |client, device| client.read_reservation(device))?;
    let line =
        found.reservation.map_or_else(|| "no reservation".into(), |reservation| reservation.to_string());
    let json = object([
        ("device", text(device.display())),
        ("generation", found.generation.into()),
        ("reservation", found.reservation.map(json_reservation).into()),
    ]);
    Ok(Report::good(vec![line], json))
}

pub(crate) fn capabilities(args: &Args, device: &Path) -> Result<Report, Failure> {
    let session = Session::open(args, device)?;
    let name = InServiceAction::ReportCapabilities;
    let found = session.run(name, |client, device| client.report_capabilities(device))?;
    let Capabilities {
        replace_lost_reservation,
        compatible_reservation_handling,
        specify_initiator_ports,
        all_target_ports,
        persist_through_power_loss_capable,
        persist_through_power_loss_activated,
        allow_commands,
        types,
    } = found;
    let flags = [
        ("replace_lost_reservation", "REPLACE LOST RESERVATION (RLR_C)", replace_lost_reservation),
        (
            "compatible_reservation_handling",
            "RESERVE(6) and RELEASE(6) go together with it (CRH)",
            compatible_reservation_handling,
        ),
        ("specify_initiator_ports", "registering other initiators (SIP_C)", specify_initiator_ports),
        ("all_target_ports", "registering with all target ports (ATP_C)", all_target_ports),
        (
            "persist_through_power_loss_capable",
            "can be kept over a loss of power (PTPL_C)",
            persist_through_power_loss_capable,
        ),
        (
            "persist_through_power_loss_activated",
            "is kept over a loss of power (PTPL_A)",
            persist_through_power_loss_activated,
        ),
    ];
    let mut rows: Vec<[String; 2]> =
        flags.iter().map(|(_, text, value)| [(*text).to_owned(), yes_or_no(*value).to_owned()]).collect();
    rows.push([
        "commands allowed beside a reservation (ALLOW COMMANDS)".into(),
        format!("{allow_commands:03b}b"),
    ]);
    let mut lines = table(&rows);
    match types {
        None => lines.push("types: the device does not say".into()),
        Some(types) => {
            lines.push("types:".into());
            lines.extend(types.iter().map(|kind| format!("  {kind}")));
        }
    }
    let mut members = vec![("device", text(device.display()))];
    members.extend(flags.map(|(name, _, value)| (name, value.into())));
    members.push(("allow_commands", allow_commands.into()));
    members.push(("types", types.map(|types| types.iter().map(json_type).collect::<Value>()).into()));
    Ok(Report::good(lines, object(members)))
}

pub(crate) fn status(args: &Args, device: &Path) -> Result<Report, Failure> {
    let session = Session::open(args, device)?;
    let name = InServiceAction::ReadFullStatus;
    let result = session.run(name, |client, device| client.read_full_status(device));
    let (found, failure) = whole_or_part(result, |error| match error {
        CommandError::Registrations { read, .. } => Some(read),
        _ => None,
    })?;
    let mut lines = vec![summary(found.registrations.len(), found.generation, found.is_complete)];
    if !found.registrations.is_empty() {
        let heading = ["KEY", "TARGET PORT", "RESERVATION", "INITIATOR"].map(str::to_owned);
        let rows = found.registrations.iter().map(|registration| {
            [
                registration.key.to_string(),
                registration.target_port().map_or_else(|| "all".into(), |port| port.to_string()),
                registration
                    .reservation()
                    .map_or_else(|| "-".into(), |reservation| reservation.kind.to_string()),
                initiator(registration),
            ]
        });
        let rows: Vec<_> = [heading].into_iter().chain(rows).collect();
        lines.extend(table(&rows));
    }
    lines.extend(remark(found.is_complete, failure.as_ref()));
    let registrations = found.registrations.iter().map(|registration| {
        json!({
            "key": text(registration.key),
            "target_port": registration.target_port(),
            "reservation": registration.reservation().map(json_reservation),
            "initiator": registration.transport_id().ok().map(text),
            "transport_id": hex(&registration.transport_id_bytes),
        })
    });
    let json = object([
        ("device", text(device.display())),
        ("generation", found.generation.into()),
        ("registrations", registrations.collect()),
        ("complete", found.is_complete.into()),
    ]);
    Ok(Report::partial(lines, json, failure))
}

fn summary(registrations: usize, generation: u32, is_complete: bool) -> String {
    format!("{}, generation {generation}", at_least(registrations, "registration", is_complete))
}

/// Returns the initiator in the notation of `--transport-id`.
fn initiator(registration: &Registration) -> String {
    match registration.transport_id() {
        Ok(id) => id.to_string(),
        Err(_) => format!("hex:{}", hex(&registration.transport_id_bytes)),
    }
}

pub(crate) fn register(args: &Args, register: &Register) -> Result<Report, Failure> {
    let Register { device, key, new_key, flags, transport_ids } = register;
    let mut buffer = vec![0; pr_client::DATA_MAX];
    let ids = transport_id_list(transport_ids, &mut buffer)?;
    let parameters =
        BasicParameters { reservation_key: *key, transport_ids: ids, ..basic_parameters(*new_key, *flags) };
    let options = Options { transport_ids: !transport_ids.is_empty(), ..requested_options(*flags) };
    let change = Change::new(args, device, OutServiceAction::Register).with_options(options);
    let change = change.with("key", key).with("new_key", new_key);
    change.run(|client, device| client.register(device, &parameters))
}

pub(crate) fn register_ignore(args: &Args, register: &RegisterIgnore) -> Result<Report, Failure> {
    let RegisterIgnore { device, new_key, flags } = register;
    let parameters = basic_parameters(*new_key, *flags);
    let change = Change::new(args, device, OutServiceAction::RegisterAndIgnoreExistingKey)
        .with_options(requested_options(*flags));
    let change = change.with("new_key", new_key);
    change.run(|client, device| client.register_and_ignore(device, &parameters))
}

fn requested_options(RegisterFlags { aptpl, all_target_ports }: RegisterFlags) -> Options {
    Options { aptpl, all_target_ports, transport_ids: false }
}

fn basic_parameters(
    service_action_key: ReservationKey,
    RegisterFlags { aptpl, all_target_ports }: RegisterFlags,
) -> BasicParameters<'static> {
    BasicParameters { service_action_key, aptpl, all_target_ports, ..BasicParameters::default() }
}

/// Builds the list of TransportIDs to register in `buffer`. Returns `None` without any, so that SPEC_I_PT stays clear.
fn transport_id_list<'a>(
    ids: &[TransportIdBuf],
    buffer: &'a mut [u8],
) -> Result<Option<TransportIds<'a>>, Failure> {
    if ids.is_empty() {
        return Ok(None);
    }
    let ids: Vec<_> = ids.iter().map(TransportIdBuf::get).collect();
    let list = TransportIds::build(&ids, buffer);
    list.map(Some).map_err(|error| Failure::Arguments(format!("too many initiators: {error}")))
}

pub(crate) fn register_move(args: &Args, register: &RegisterMove) -> Result<Report, Failure> {
    let parameters = RegisterAndMoveParameters {
        reservation_key: register.key,
        service_action_key: register.new_key,
        unregister: register.unregister,
        aptpl: register.aptpl,
        relative_port: register.relative_target_port,
        transport_id: register.transport_id.get(),
    };
    let change = Change::new(args, &register.device, OutServiceAction::RegisterAndMove)
        .with_options(Options { aptpl: register.aptpl, ..Options::default() });
    let change = change
        .with("key", register.key)
        .with("new_key", register.new_key)
        .with("initiator", register.transport_id);
    change.run(|client, device| client.register_and_move(device, &parameters))
}

pub(crate) fn reserve(args: &Args, reserve: &Typed) -> Result<Report, Failure> {
    let change = typed(args, reserve, OutServiceAction::Reserve);
    change.run(|client, device| client.reserve(device, reserve.key, reserve.kind))
}

pub(crate) fn release(args: &Args, release: &Typed) -> Result<Report, Failure> {
    let change = typed(args, release, OutServiceAction::Release);
    change.run(|client, device| client.release(device, release.key, release.kind))
}

fn typed<'a>(args: &'a Args, typed: &'a Typed, action: OutServiceAction) -> Change<'a> {
    let change = Change::new(args, &typed.device, action);
    change.with("key", typed.key).with_type(typed.kind)
}

pub(crate) fn clear(args: &Args, clear: &Clear) -> Result<Report, Failure> {
    let change = Change::new(args, &clear.device, OutServiceAction::Clear);
    let change = change.with("key", clear.key);
    change.run(|client, device| client.clear(device, clear.key))
}

pub(crate) fn preempt(args: &Args, preempt: &Preempt) -> Result<Report, Failure> {
    let Preempt { key, victim, kind, .. } = *preempt;
    let change = preempting(args, preempt, OutServiceAction::Preempt);
    change.run(|client, device| client.preempt(device, key, victim, kind))
}

pub(crate) fn preempt_abort(args: &Args, preempt: &Preempt) -> Result<Report, Failure> {
    let Preempt { key, victim, kind, .. } = *preempt;
    let change = preempting(args, preempt, OutServiceAction::PreemptAndAbort);
    change.run(|client, device| client.preempt_and_abort(device, key, victim, kind))
}

fn preempting<'a>(args: &'a Args, preempt: &'a Preempt, action: OutServiceAction) -> Change<'a> {
    Change::new(args, &preempt.device, action)
        .with("key", preempt.key)
        .with("victim", preempt.victim)
        .with_type(preempt.kind)
}

/// A command that changes reservations, and its report: it repeats the arguments as they were parsed.
struct Change<'a> {
    args: &'a Args,
    device: &'a Path,
    action: OutServiceAction,
    options: Options,
    words: Vec<String>,
    members: Vec<(&'static str, Value)>,
}

impl<'a> Change<'a> {
    fn new(args: &'a Args, device: &'a Path, action: OutServiceAction) -> Self {
        let members = vec![("device", text(device.display())), ("command", text(action))];
        Self { args, device, action, options: Options::default(), words: vec![action.to_string()], members }
    }

    /// Sets the options that the device may not support, for the advice after a failure.
    fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Adds an argument to the report: in JSON as the member `name`, in the text with blanks for its underscores.
    fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.words.push(format!("{} {value}", name.replace('_', " ")));
        self.members.push((name, text(value)));
        self
    }

    fn with_type(mut self, kind: ReservationType) -> Self {
        self.words.push(format!("type {kind}"));
        self.members.push(("type", json_type(kind)));
        self
    }

    fn run(
        mut self,
        command: impl FnOnce(&Client, &OwnedFd) -> Result<(), CommandError>,
    ) -> Result<Report, Failure> {
        let session = Session::open_for_writing(self.args, self.device)?;
        session.run(Request::Out(self.action, self.options), command)?;
        self.members.push(("status", json_status(Status::GOOD)));
        Ok(Report::good(vec![format!("{}: done", self.words.join(", "))], object(self.members)))
    }
}
