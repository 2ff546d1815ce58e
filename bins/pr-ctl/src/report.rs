//! The result of a command, as text and as JSON.

use scsi_sense::pr::{Reservation, ReservationType};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    json::{Object, text},
};

/// The remark on a list that may have more entries than are shown.
pub(crate) const INCOMPLETE: &str = "there may be more, for which there is no room in an answer";

/// The result of a command, as text and as JSON.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) lines: Vec<String>,
    pub(crate) json: Object,
    pub(crate) exit_status: u8,
    /// The reason why a list could not be read to its end.
    pub(crate) failure: Option<Failure>,
}

impl Report {
    /// Builds the report of a command that succeeded.
    pub(crate) fn good(lines: Vec<String>, json: Object) -> Self {
        Self::with_status(lines, json, 0)
    }

    /// Builds a report with the exit status of what was found.
    pub(crate) fn with_status(lines: Vec<String>, json: Object, exit_status: u8) -> Self {
        Self { lines, json, exit_status, failure: None }
    }

    /// Builds the report of a list; if there is a failure, of the part that could be read.
    pub(crate) fn partial(lines: Vec<String>, mut json: Object, failure: Option<Failure>) -> Self {
        let exit_status = failure.as_ref().map_or(0, Failure::exit_status);
        if let Some(failure) = &failure {
            json.extend(failure.json());
        }
        Self { lines, json, exit_status, failure }
    }
}

/// Returns a reservation type with number and name.
pub(crate) fn json_type(kind: ReservationType) -> Value {
    json!({ "code": kind.code(), "name": kind.name() })
}

/// Returns a reservation. Its key is zero if all registrants hold it.
pub(crate) fn json_reservation(Reservation { key, scope, kind }: Reservation) -> Value {
    json!({ "key": text(key), "scope": scope.code(), "type": json_type(kind) })
}

/// Returns the lines of a table: columns as wide as their widest cell, two blanks apart.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Returns `yes` or `no`.
pub(crate) const fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// Returns a number with its noun: `1 registration`, `2 registrations`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Returns the length of a list: `1 registration`, or `at least 1 registration` if there may be more.
pub(crate) fn at_least(number: usize, noun: &str, is_complete: bool) -> String {
    let counted = count(number, noun);
    if is_complete { counted } else { format!("at least {counted}") }
}

/// Returns a hex dump: lines of an offset and sixteen bytes.
pub(crate) fn dump(bytes: &[u8]) -> Vec<String> {
    let line = |(index, bytes): (usize, &[u8])| {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:08x}  {}", index.saturating_mul(16), digits.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

/// Returns the bytes in hexadecimal, without separators.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_widest_cell() {
        let rows = [["KEY", "WHO"], ["0x1", ""], ["0x1234", "sas,1"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), ["KEY     WHO", "0x1", "0x1234  sas,1"]);
    }

    #[test]
    fn dump_shows_sixteen_bytes_a_line() {
        let bytes: Vec<u8> = (0..18).collect();
        assert_eq!(
            dump(&bytes),
            ["00000000  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f", "00000010  10 11"]
        );
        assert!(dump(&[]).is_empty());
        assert_eq!(hex(&bytes[14..]), "0e0f1011");
    }
}
