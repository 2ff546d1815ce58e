//! What is to be printed, for people and for programs.

use scsi_sense::pr::{Reservation, ReservationType};

use crate::json::Json;

/// What a command found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) lines: Vec<String>,
    pub(crate) json: Json,
    pub(crate) exit_status: u8,
}

impl Report {
    /// All is well.
    pub(crate) fn good(lines: Vec<String>, json: Json) -> Self {
        Self { lines, json, exit_status: 0 }
    }
}

/// A reservation type by number and name.
pub(crate) fn json_type(kind: ReservationType) -> Json {
    Json::Object(vec![("code", kind.code().into()), ("name", kind.name().map(Json::text).into())])
}

/// A reservation. The key of one that all registrants hold is zero.
pub(crate) fn json_reservation(Reservation { key, scope, kind }: Reservation) -> Json {
    Json::Object(vec![("key", Json::text(key)), ("scope", scope.code().into()), ("type", json_type(kind))])
}

/// Columns as wide as their widest cell, two blanks apart. The first row is the heading.
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

/// `yes` or `no`.
pub(crate) const fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// `1 registration`, `2 registrations`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Lines of sixteen bytes, with their place.
pub(crate) fn dump(bytes: &[u8]) -> Vec<String> {
    let line = |(index, bytes): (usize, &[u8])| {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:08x}  {}", index.saturating_mul(16), digits.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

/// The bytes without a break.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["KEY", "WHO"], ["0x1", ""], ["0x1234", "sas,1"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), ["KEY     WHO", "0x1", "0x1234  sas,1"]);
    }

    #[test]
    fn bytes_are_shown_sixteen_a_line() {
        let bytes: Vec<u8> = (0..18).collect();
        assert_eq!(
            dump(&bytes),
            ["00000000  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f", "00000010  10 11"]
        );
        assert!(dump(&[]).is_empty());
        assert_eq!(hex(&bytes[14..]), "0e0f1011");
    }
}
