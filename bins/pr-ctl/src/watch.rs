//! `pr-ctl watch`: prints registrations and reservation, and then each change.

use std::{
    io::{self, Write as _},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use pr_client::{Client, CommandError};
use scsi_sense::pr::{Reservation, ReservationKey};
use serde_json::Value;

use crate::{
    args::{Args, Watch},
    failure::{Chain, Failure, Request},
    json::{self, object, text},
    report::{INCOMPLETE, Report, count, json_reservation},
    session::{Session, is_attention, skip_attentions},
};

/// Polls until a signal ends the program or the output is closed.
///
/// Signals keep their default action, since there is nothing to clean up.
pub(crate) fn run(args: &Args, watch: &Watch) -> Result<Report, Failure> {
    let session = Session::open(args, &watch.device)?;
    let mut printer = Printer { as_json: args.json };
    // A unit attention reports an event before the start.
    let mut seen = session.run(Request::Other("watch".into()), |client, device| {
        skip_attentions(|| Snapshot::take(client, device))
    })?;
    for event in seen.events() {
        printer.print(&event)?;
    }
    let mut trouble: Option<String> = None;
    loop {
        thread::sleep(watch.interval);
        match session.run(Request::Other("watch".into()), Snapshot::take) {
            Ok(now) => {
                if trouble.take().is_some() {
                    printer.print(&Event::Recovered)?;
                }
                for event in seen.changes(&now) {
                    printer.print(&event)?;
                }
                seen = now;
            }
            Err(Failure::Command { source, .. }) if is_attention(&source) => {
                printer.print(&Event::Attention(Chain(&*source).to_string()))?;
            }
            Err(failure) => {
                // Printed at its first poll only, until it changes.
                let text = failure.text();
                if trouble.as_ref() != Some(&text) {
                    printer.print(&Event::Trouble(&failure))?;
                }
                trouble = Some(text);
            }
        }
    }
}

/// Registrations and reservation at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snapshot {
    /// Sorted. A key that several I_T nexuses registered occurs once for each.
    keys: Vec<ReservationKey>,
    /// Whether `keys` certainly has all registrations.
    is_complete: bool,
    reservation: Option<Reservation>,
}

/// How often both commands of a snapshot are run while the generation changes between them. The last result is used as
/// it is.
const TRIES: u32 = 3;

impl Snapshot {
    fn take(client: &Client, device: &impl std::os::fd::AsFd) -> Result<Self, CommandError> {
        let mut tries = 1;
        loop {
            let registered = client.read_keys(device)?;
            let current = client.read_reservation(device)?;
            if registered.generation == current.generation || tries == TRIES {
                let mut keys = registered.keys;
                keys.sort_unstable();
                let is_complete = registered.is_complete;
                return Ok(Self { keys, is_complete, reservation: current.reservation });
            }
            tries += 1;
        }
    }

    fn events(&self) -> Vec<Event<'static>> {
        let registered = self.keys.iter().map(|key| Event::Registered(*key));
        let incomplete = (!self.is_complete).then_some(Event::Incomplete);
        registered.chain(incomplete).chain([Event::Reservation(self.reservation)]).collect()
    }

    /// Returns the events that certainly happened between two snapshots. A key that is missing in an incomplete list
    /// may be registered nevertheless, so the list proves neither that it was unregistered since, nor, as the earlier
    /// list, that the key is new.
    fn changes(&self, now: &Self) -> Vec<Event<'static>> {
        let gone = difference(&self.keys, &now.keys).filter(|_| now.is_complete).map(Event::Unregistered);
        let new = difference(&now.keys, &self.keys).filter(|_| self.is_complete).map(Event::Registered);
        let completeness = match (self.is_complete, now.is_complete) {
            (true, false) => Some(Event::Incomplete),
            (false, true) => Some(Event::Complete(now.keys.len())),
            _ => None,
        };
        let changed = (self.reservation != now.reservation).then_some(Event::Reservation(now.reservation));
        gone.chain(new).chain(completeness).chain(changed).collect()
    }
}

/// Returns the keys that occur in `of` more often than in `from`. Both must be sorted.
fn difference(of: &[ReservationKey], from: &[ReservationKey]) -> impl Iterator<Item = ReservationKey> {
    let mut rest = from.iter().copied().peekable();
    let only: Vec<_> = of
        .iter()
        .copied()
        .filter(|key| {
            while rest.next_if(|other| other < key).is_some() {}
            rest.next_if_eq(key).is_none()
        })
        .collect();
    only.into_iter()
}

/// An event, which is printed as one line.
#[derive(Debug)]
enum Event<'a> {
    Registered(ReservationKey),
    Unregistered(ReservationKey),
    /// There may be more registrations than fit an answer.
    Incomplete,
    /// The list is complete again, with this number of registrations.
    Complete(usize),
    Reservation(Option<Reservation>),
    /// A unit attention, by which the device reports an event to this initiator.
    Attention(String),
    Trouble(&'a Failure),
    Recovered,
}

impl Event<'_> {
    fn text(&self) -> String {
        match self {
            Self::Registered(key) => format!("registered    {key}"),
            Self::Unregistered(key) => format!("unregistered  {key}"),
            Self::Incomplete => format!("incomplete    {INCOMPLETE}"),
            Self::Complete(keys) => format!("complete      {}", count(*keys, "registration")),
            Self::Reservation(Some(reservation)) => format!("reservation   {reservation}"),
            Self::Reservation(None) => "reservation   none".into(),
            Self::Attention(text) => format!("attention     {text}"),
            Self::Trouble(failure) => format!("trouble       {}", failure.text()),
            Self::Recovered => "recovered".into(),
        }
    }

    fn json(&self) -> Vec<(&'static str, Value)> {
        let event = |name: &str| ("event", text(name));
        match self {
            Self::Registered(key) => vec![event("registered"), ("key", text(key))],
            Self::Unregistered(key) => vec![event("unregistered"), ("key", text(key))],
            Self::Incomplete => vec![event("incomplete")],
            Self::Complete(keys) => vec![event("complete"), ("registrations", (*keys).into())],
            Self::Reservation(reservation) => {
                vec![event("reservation"), ("reservation", reservation.map(json_reservation).into())]
            }
            Self::Attention(attention) => vec![event("attention"), ("attention", text(attention))],
            Self::Trouble(failure) => vec![event("trouble"), ("trouble", failure.json().into())],
            Self::Recovered => vec![event("recovered")],
        }
    }
}

struct Printer {
    as_json: bool,
}

impl Printer {
    /// Prints an event as a line and flushes it.
    fn print(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = utc(now.as_secs());
        let mut output = io::stdout().lock();
        if self.as_json {
            let members = [("time", text(time))].into_iter().chain(event.json());
            json::write_line(&mut output, &object(members))?;
        } else {
            writeln!(output, "{time}  {}", event.text())?;
        }
        Ok(output.flush()?)
    }
}

/// Formats seconds since 1970 as in RFC 3339: `2026-11-02T12:03:04Z`.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86400, seconds % 86400);
    // Years begin on 1 March here, so that a leap day is the last day of its year. Day 0 is 1 March of year 0, and the
    // calendar repeats every 400 years (an era of 146,097 days).
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use scsi_sense::pr::{ReservationType, Scope};

    use super::*;

    fn snapshot(keys: &[u64], holder: Option<u64>) -> Snapshot {
        let reservation = holder.map(|key| Reservation {
            key: ReservationKey(key),
            scope: Scope::LogicalUnit,
            kind: ReservationType::WriteExclusive,
        });
        Snapshot { keys: keys.iter().copied().map(ReservationKey).collect(), is_complete: true, reservation }
    }

    #[test]
    fn each_change_is_an_event() {
        let none = "reservation   none";
        let held = "reservation   WRITE EXCLUSIVE (1h), key 0x1";
        for (before, now, expected) in [
            (snapshot(&[], None), snapshot(&[], None), &[][..]),
            (snapshot(&[1], Some(1)), snapshot(&[1], Some(1)), &[]),
            (
                snapshot(&[], None),
                snapshot(&[1, 2], Some(1)),
                &["registered    0x1", "registered    0x2", held],
            ),
            (snapshot(&[1, 1, 2], Some(1)), snapshot(&[1, 2], Some(1)), &["unregistered  0x1"]),
            (
                snapshot(&[1, 3], Some(1)),
                snapshot(&[2, 3], None),
                &["unregistered  0x1", "registered    0x2", none],
            ),
            (snapshot(&[2], Some(2)), snapshot(&[1, 2], Some(1)), &["registered    0x1", held]),
            (snapshot(&[1, 2, 3], None), snapshot(&[3], None), &["unregistered  0x1", "unregistered  0x2"]),
        ] {
            let events: Vec<_> = before.changes(&now).iter().map(Event::text).collect();
            assert_eq!(events, expected, "{before:?} {now:?}");
        }
    }

    #[test]
    fn incomplete_lists_are_reported_once() {
        let whole = snapshot(&[1], None);
        let cut = Snapshot { is_complete: false, ..whole.clone() };
        let told = "incomplete    there may be more, for which there is no room in an answer";
        let texts = |events: Vec<Event<'_>>| events.iter().map(Event::text).collect::<Vec<_>>();
        assert_eq!(texts(cut.events()), ["registered    0x1", told, "reservation   none"]);
        assert_eq!(texts(whole.changes(&cut)), [told]);
        assert!(cut.changes(&cut).is_empty());
        assert_eq!(texts(cut.changes(&whole)), ["complete      1 registration"]);
    }

    /// A key that an incomplete list lacks may be registered.
    #[test]
    fn incomplete_lists_prove_no_absence() {
        let cut = |keys: &[u64]| Snapshot { is_complete: false, ..snapshot(keys, None) };
        let told = "incomplete    there may be more, for which there is no room in an answer";
        for (before, now, expected) in [
            (cut(&[1, 2]), cut(&[2, 3]), &[][..]),
            (snapshot(&[1, 2], None), cut(&[2, 3]), &["registered    0x3", told]),
            (cut(&[1, 2]), snapshot(&[2, 3], None), &["unregistered  0x1", "complete      2 registrations"]),
        ] {
            let events: Vec<_> = before.changes(&now).iter().map(Event::text).collect();
            assert_eq!(events, expected, "{before:?} {now:?}");
        }
    }

    #[test]
    fn time_is_shown_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_793_621_384, "2026-11-02T12:09:44Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
