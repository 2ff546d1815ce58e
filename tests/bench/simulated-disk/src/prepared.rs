//! Prepared answers, of which a command selects one by a number in its CDB. With them, tests can have every
//! possible answer of a disk, its driver and the kernel, and the request shows which.
//!
//! The file has an answer on each line: its number, then the differences from "GOOD with the usual data of
//! the disk". Numbers, statuses and bytes are hexadecimal, `errno` and `resid` decimal; `#` begins a comment.
//!
//! ```text
//! 0107 host_status=07 data=
//! 0316 errno=22
//! 0503 status=02 sense=70,00,05,00*4,0a,00*4,24,00*5
//! 0601 data=00000007,00000010,01*16 resid=-1
//! ```
//!
//! | field | meaning | default |
//! |---|---|---|
//! | `errno` | the ioctl fails with this number | it succeeds |
//! | `status`, `host_status` | as in `struct sg_io_hdr` | 0 |
//! | `driver_status` | as in `struct sg_io_hdr` | 8 (`DRIVER_SENSE`) if there is sense data, else 0 |
//! | `sense` | sense data | none |
//! | `data` | the data that the disk writes into the buffer, without regard to the allocation length | the usual data |
//! | `resid` | the residual count that the driver reports | the correct one |

use std::collections::BTreeMap;

/// A prepared answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// The ioctl fails with this number, and all other fields are unused.
    pub(crate) errno: Option<i32>,
    pub(crate) status: u8,
    pub(crate) host_status: u16,
    /// `None`: `DRIVER_SENSE` if there is sense data, else 0.
    pub(crate) driver_status: Option<u16>,
    pub(crate) sense: Vec<u8>,
    /// `None`: the usual data of the disk.
    pub(crate) data: Option<Vec<u8>>,
    /// `None`: the correct residual count.
    pub(crate) resid: Option<i32>,
}

/// The answers of a file, by their numbers.
pub(crate) type Answers = BTreeMap<u16, Prepared>;

/// Parses a file of answers.
///
/// # Errors
///
/// Returns the malformed line.
pub(crate) fn parse(text: &str) -> Result<Answers, String> {
    let mut answers = Answers::new();
    for line in text.lines() {
        let code = line.split('#').next().unwrap_or_default();
        let mut words = code.split_whitespace();
        let Some(number) = words.next() else { continue };
        let mut answer = Prepared::default();
        let number = u16::from_str_radix(number, 16).ok().filter(|number| *number != 0);
        let all = words.all(|word| answer.set(word).is_some());
        let Some(number) = number.filter(|_| all) else { return Err(format!("not an answer: {line}")) };
        if answers.insert(number, answer).is_some() {
            return Err(format!("a number that occurs twice: {line}"));
        }
    }
    Ok(answers)
}

/// Returns the number in a CDB: bytes 3 and 4, which are reserved in PERSISTENT RESERVE IN and OUT (SPC-4
/// 6.15, 6.16). 0 selects no prepared answer.
pub(crate) fn number(cdb: &[u8]) -> u16 {
    match *cdb {
        [0x5e | 0x5f, _, _, high, low, ..] => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

impl Prepared {
    /// Sets a field from a word of a line. Returns `None` if the word is malformed.
    fn set(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=')?;
        let hexadecimal = || u16::from_str_radix(value, 16).ok();
        match name {
            "errno" => self.errno = Some(value.parse().ok()?),
            "status" => self.status = u8::try_from(hexadecimal()?).ok()?,
            "host_status" => self.host_status = hexadecimal()?,
            "driver_status" => self.driver_status = Some(hexadecimal()?),
            "sense" => self.sense = bytes(value)?,
            "data" => self.data = Some(bytes(value)?),
            "resid" => self.resid = Some(value.parse().ok()?),
            _ => return None,
        }
        Some(())
    }
}

/// Parses bytes in hexadecimal, in parts separated by commas; `ab*3` is `ababab`.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (digits, times) = part.split_once('*').unwrap_or((part, "1"));
        if digits.len() % 2 != 0 {
            return None;
        }
        let pairs = (0..digits.len()).step_by(2);
        let part: Option<Vec<u8>> =
            pairs.map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect();
        bytes.extend(part?.repeat(times.parse().ok()?));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_differences_from_good() {
        let answers = parse(
            "# a comment\n\n0107 host_status=07 data=\n0316 errno=22 # EINVAL\n\
             0503 status=02 driver_status=0 sense=70,0005*2 data=ff*3,01 resid=-1\n",
        )
        .unwrap();
        let usual = Prepared::default();
        let host = Prepared { host_status: 7, data: Some(vec![]), ..usual.clone() };
        assert_eq!(answers[&0x107], host);
        assert_eq!(answers[&0x316], Prepared { errno: Some(22), ..usual });
        let all = Prepared {
            errno: None,
            status: 2,
            host_status: 0,
            driver_status: Some(0),
            sense: vec![0x70, 0, 5, 0, 5],
            data: Some(vec![0xff, 0xff, 0xff, 1]),
            resid: Some(-1),
        };
        assert_eq!(answers[&0x503], all);
        assert_eq!(answers.len(), 3);
    }

    #[test]
    fn malformed_lines_are_refused() {
        for wrong in [
            "host_status=07",
            "0000 status=02",
            "1 status=2\n1 status=2",
            "1 status=100",
            "1 status=",
            "1 sense=7",
            "1 sense=7x",
            "1 sense=70*",
            "1 colour=red",
            "1 errno",
            "10000",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_reservation_commands_select_answers() {
        assert_eq!(number(&[0x5e, 0, 0, 1, 7]), 0x107);
        assert_eq!(number(&[0x5f, 0, 0, 1, 7, 0]), 0x107);
        for other in [&[0x12, 0, 0, 1, 7][..], &[0x5e, 0, 0, 1], &[]] {
            assert_eq!(number(other), 0);
        }
    }
}
