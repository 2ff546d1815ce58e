//! The saved state as bytes. Their format is described at [`Store`](crate::Store).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use scsi_sense::pr::{ReservationKey, ReservationType, TransportId};

use crate::Nexus;
use crate::state::State;

const TITLE: &str = "pr-target state, version 1";

/// The reason why bytes are not a saved state, for an error message.
pub(crate) type Damage = &'static str;

/// Returns the bytes to save. Without APTPL they have neither registrations nor reservation.
pub(crate) fn encode(state: &State) -> Vec<u8> {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_state(state, &mut text);
    let checksum = crc32(text.as_bytes());
    let _ = writeln!(text, "crc32 {checksum:08x}");
    text.into_bytes()
}

fn write_state(state: &State, text: &mut String) -> core::fmt::Result {
    writeln!(text, "{TITLE}\naptpl {}", u8::from(state.aptpl))?;
    if !state.aptpl {
        return Ok(());
    }
    if let Some(held) = state.reservation() {
        write!(text, "reservation {:x} ", held.kind.code())?;
        let holder = held.holder.and_then(|holder| {
            state.registrations().iter().position(|registration| registration.nexus == holder)
        });
        match holder {
            Some(number) => writeln!(text, "{number}")?,
            None => writeln!(text, "all")?,
        }
    }
    for registration in state.registrations() {
        let port = registration.nexus.relative_port();
        write!(text, "registration {:x} {port:x} ", registration.key)?;
        for byte in registration.nexus.initiator().as_bytes() {
            write!(text, "{byte:02x}")?;
        }
        text.push('\n');
    }
    Ok(())
}

/// Returns the state that these bytes describe.
pub(crate) fn decode(bytes: &[u8]) -> Result<State, Damage> {
    let text = core::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let title = text.lines().next().unwrap_or_default();
    if title != TITLE {
        return Err("its first line is not that of this version");
    }
    let end = text.rfind("crc32 ").ok_or("it has no checksum")?;
    let (body, checksum) = text.split_at_checked(end).ok_or("it has no checksum")?;
    let stated = checksum.strip_prefix("crc32 ").and_then(|digits| digits.strip_suffix('\n'));
    if stated.and_then(|digits| u32::from_str_radix(digits, 16).ok()) != Some(crc32(body.as_bytes())) {
        return Err("its checksum is wrong");
    }
    let state = parse_body(body)?;
    // This way the reader checks every rule that the writer follows.
    if encode(&state) == bytes { Ok(state) } else { Err("it is not exactly as this crate writes it") }
}

fn parse_body(body: &str) -> Result<State, Damage> {
    let mut state = State::default();
    let mut reservation = None;
    for line in body.lines().skip(1) {
        match line.split_once(' ') {
            Some(("aptpl", value)) => state.aptpl = value == "1",
            Some(("reservation", fields)) => reservation = Some(fields),
            Some(("registration", fields)) => {
                let (nexus, key) = parse_registration(fields).ok_or("a registration is malformed")?;
                if state.is_registered(&nexus) {
                    return Err("a nexus is registered twice");
                }
                state.register(&nexus, key).map_err(|_| "it has too many registrations")?;
            }
            _ => return Err("it has a line of an unknown kind"),
        }
    }
    if let Some(fields) = reservation {
        let (kind, holder) = parse_reservation(fields, &state).ok_or("the reservation is malformed")?;
        state.reserve(&holder, kind);
    }
    Ok(state)
}

fn parse_registration(fields: &str) -> Option<(Nexus, ReservationKey)> {
    let (key, fields) = fields.split_once(' ')?;
    let (port, id) = fields.split_once(' ')?;
    let key = u64::from_str_radix(key, 16).ok().filter(|key| *key != 0)?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let id: Vec<u8> = id
        .as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok())
        .collect::<Option<_>>()?;
    let nexus = Nexus::new(TransportId::parse(&id).ok()?, port).ok()?;
    Some((nexus, ReservationKey(key)))
}

/// Returns the type and a holder; if all registrants hold the reservation, the first one.
fn parse_reservation(fields: &str, state: &State) -> Option<(ReservationType, Nexus)> {
    let (kind, holder) = fields.split_once(' ')?;
    let kind = ReservationType::new(u8::from_str_radix(kind, 16).ok()?);
    kind.name()?;
    let number = if holder == "all" { 0 } else { holder.parse().ok()? };
    Some((kind, state.registrations().get(number)?.nexus))
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let polynomial = if crc & 1 == 0 { 0 } else { 0xedb8_8320 };
            crc >> 1 ^ polynomial
        })
    })
}
