//! The cases to send, parsed from `corpus.txt`.
//!
//! A line is a name, a colon, and the steps of a client on a connection of its own, separated by `|`:
//!
//! | step | meaning |
//! |---|---|
//! | `5e 00 00*6 40 00*7` | sends a message, in hexadecimal; `00*6` is six zero bytes |
//! | `[rw+ro] 5e ...` | sends a message with descriptors |
//! | `01 00*@` | sends a message, filled up with zeros to the length that the last CDB of an OUT command announces |
//! | `reply` | waits for a reply |
//! | `eof` | last step: shuts down the sending side and reads until the connection ends |
//! | `prefixes` | last step: makes a case for each number of bytes after which the stream can end |
//! | `silent` | first step: sends no greeting |
//!
//! A line that begins with a space continues the previous one. Each client reads the helper's greeting, sends
//! its own, runs its steps and waits for a reply. If the connection is still open then, it sends one more
//! request, to check that both ends are in step.
//!
//! `{a,b}` makes a case of the line for each alternative, `{00-1f}` for each number, and `{answers}` for the
//! number of each prepared answer of the simulated disk.

use std::fmt;

use crate::prepared::{self, Answers};

/// The steps of one client.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

/// A step of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Send(Message),
    Reply,
    End,
}

/// Bytes and descriptors that are sent at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<Kind>,
}

/// The kind of file that a descriptor refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The disk, open for reading and writing.
    ReadWrite,
    ReadOnly,
    WriteOnly,
    /// The disk, opened with `O_PATH`.
    Path,
    Null,
    File,
    Directory,
    Pipe,
    Socket,
    Event,
}

impl Kind {
    pub(crate) const ALL: [(&'static str, Self); 10] = [
        ("rw", Self::ReadWrite),
        ("ro", Self::ReadOnly),
        ("wo", Self::WriteOnly),
        ("path", Self::Path),
        ("null", Self::Null),
        ("file", Self::File),
        ("directory", Self::Directory),
        ("pipe", Self::Pipe),
        ("socket", Self::Socket),
        ("event", Self::Event),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// Returns whether it is a descriptor of the disk that is open for reading or writing.
    pub(crate) fn is_disk(self) -> bool {
        matches!(self, Self::ReadWrite | Self::ReadOnly | Self::WriteOnly)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.descriptors.is_empty() {
            write!(f, "{:?} ", self.descriptors)?;
        }
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        for step in &self.steps {
            match step {
                Step::Send(message) => write!(f, " | {message}")?,
                Step::Reply => f.write_str(" | reply")?,
                Step::End => f.write_str(" | eof")?,
            }
        }
        Ok(())
    }
}

/// The client's greeting: it asks for no features.
pub(crate) const GREETING: [u8; 4] = [0; 4];

/// READ KEYS with an allocation length of 64, to which every helper replies.
pub(crate) const PROBE: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0];

/// Parses a corpus. Returns the cases of each line.
///
/// # Errors
///
/// Returns the malformed line.
pub(crate) fn parse(text: &str, answers: &Answers) -> Result<Vec<Vec<Case>>, String> {
    let mut all = Vec::new();
    for line in lines(text) {
        let mut cases = Vec::new();
        for line in expand(&line, answers).ok_or_else(|| format!("braces: {line}"))? {
            let (name, steps) = line.split_once(':').ok_or_else(|| format!("no name: {line}"))?;
            let parsed = case(name, steps).ok_or_else(|| format!("not a case: {line}"))?;
            cases.extend(parsed);
        }
        all.push(cases);
    }
    Ok(all)
}

/// Returns the lines without comments, each joined with its continuation lines.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let code = line.split('#').next().unwrap_or_default().trim_end();
        match lines.last_mut() {
            _ if code.is_empty() => {}
            Some(last) if code.starts_with(' ') => last.push_str(code),
            _ => lines.push(code.to_owned()),
        }
    }
    lines
}

/// Replaces the first braces by each of their alternatives, and recursively the braces after them.
fn expand(line: &str, answers: &Answers) -> Option<Vec<String>> {
    let Some((before, rest)) = line.split_once('{') else { return Some(vec![line.to_owned()]) };
    let (inside, behind) = rest.split_once('}')?;
    let mut lines = Vec::new();
    for alternative in alternatives(inside, answers)? {
        // Adds the alternative to the name, so that names differ.
        let (name, steps) = before.split_once(':')?;
        let name = format!("{name} {}", if alternative.is_empty() { "-" } else { &alternative });
        lines.extend(expand(&format!("{name}:{steps}{alternative}{behind}"), answers)?);
    }
    Some(lines)
}

fn alternatives(inside: &str, answers: &Answers) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for part in inside.split(',') {
        match part.split_once('-') {
            _ if part == "answers" => all.extend(answers.keys().map(|number| format!("{number:04x}"))),
            Some((first, last)) => {
                let width = first.len();
                let first = u32::from_str_radix(first, 16).ok()?;
                let last = u32::from_str_radix(last, 16).ok()?;
                all.extend((first..=last).map(|number| format!("{number:0width$x}")));
            }
            None => all.push(part.to_owned()),
        }
    }
    Some(all)
}

fn case(name: &str, text: &str) -> Option<Vec<Case>> {
    let mut steps = vec![Step::Send(Message { bytes: GREETING.to_vec(), descriptors: Vec::new() })];
    let mut texts = text.split('|').map(str::trim).peekable();
    let case = |steps| Case { name: name.to_owned(), steps };
    let mut announced = 0;
    while let Some(text) = texts.next() {
        match text {
            "silent" => steps.clear(),
            "reply" => steps.push(Step::Reply),
            "eof" if texts.peek().is_none() => {
                steps.push(Step::End);
                return Some(vec![case(steps)]);
            }
            "prefixes" if texts.peek().is_none() => return Some(prefixes(&case(steps))),
            _ => {
                let message = message(text, announced)?;
                if let [0x5f, _, _, _, _, a, b, c, d, ..] = message.bytes[..] {
                    announced = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
                }
                steps.push(Step::Send(message));
            }
        }
    }
    let probe = Message { bytes: PROBE.to_vec(), descriptors: vec![Kind::ReadWrite] };
    steps.extend([Step::Reply, Step::Send(probe), Step::Reply]);
    Some(vec![case(steps)])
}

/// Parses a message. `announced` is the parameter list length of the last OUT command, for `*@`.
fn message(text: &str, announced: usize) -> Option<Message> {
    let (descriptors, digits) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", text),
    };
    let descriptors = descriptors.split('+').filter(|name| !name.is_empty());
    let descriptors = descriptors.map(|name| Kind::parse(name.trim())).collect::<Option<Vec<_>>>()?;
    let parts: Vec<&str> = digits.split_whitespace().collect();
    let bytes = match parts.split_last() {
        Some((last, before)) if last.ends_with("*@") => {
            let mut bytes = prepared::bytes(&before.join(","))?;
            bytes.resize(announced, u8::from_str_radix(last.strip_suffix("*@")?, 16).ok()?);
            bytes
        }
        _ => prepared::bytes(&parts.join(","))?,
    };
    // An empty message cannot be sent on a stream.
    (!bytes.is_empty()).then_some(Message { bytes, descriptors })
}

/// Makes a case for each number of bytes after which the stream can end.
fn prefixes(case: &Case) -> Vec<Case> {
    let messages = || case.steps.iter().filter_map(Step::message);
    let length: usize = messages().map(|message| message.bytes.len()).sum();
    let mut cases = Vec::new();
    for end in 0..=length {
        let mut left = end;
        let mut steps = Vec::new();
        for message in messages() {
            let bytes = message.bytes[..message.bytes.len().min(left)].to_vec();
            left -= bytes.len();
            if !bytes.is_empty() {
                steps.push(Step::Send(Message { bytes, descriptors: message.descriptors.clone() }));
            }
        }
        steps.push(Step::End);
        cases.push(Case { name: format!("{} {end} bytes", case.name), steps });
    }
    cases
}

impl Step {
    pub(crate) fn message(&self) -> Option<&Message> {
        match self {
            Self::Send(message) => Some(message),
            Self::Reply | Self::End => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Case> {
        let answers = prepared::parse("0101 host_status=01\n0316 errno=22").unwrap();
        parse(text, &answers).unwrap().concat()
    }

    #[test]
    fn line_is_parsed_into_steps() {
        let cases = parsed("# comment\nkeys: [rw] 5e 00*7\n 40 00*7 | reply | 5f | eof # comment\n");
        let [case] = &cases[..] else { panic!("{cases:?}") };
        let send = |bytes: &[u8], descriptors: &[Kind]| {
            Step::Send(Message { bytes: bytes.to_vec(), descriptors: descriptors.to_vec() })
        };
        assert_eq!(case.name, "keys");
        let cdb = send(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0], &[Kind::ReadWrite]);
        assert_eq!(case.steps, [send(&[0; 4], &[]), cdb.clone(), Step::Reply, send(&[0x5f], &[]), Step::End]);
        let probed = parsed("silent-probe: silent | 5e");
        assert_eq!(probed[0].steps, [send(&[0x5e], &[]), Step::Reply, cdb, Step::Reply]);
    }

    #[test]
    fn list_is_filled_to_announced_length() {
        let cases = parsed("a: [rw] 5f 00*4 {00000003,00001000} 00*7 | 01 02 ff*@ | eof");
        let lists = cases.iter().map(|case| case.steps[2].message().unwrap().bytes.as_slice());
        let mut long = vec![0xff; 4096];
        long[..2].copy_from_slice(&[1, 2]);
        assert_eq!(lists.collect::<Vec<_>>(), [&[1, 2, 0xff][..], &long]);
    }

    #[test]
    fn braces_make_one_case_per_alternative() {
        let names = |text| parsed(text).into_iter().map(|case| case.name).collect::<Vec<_>>();
        assert_eq!(names("a: {08-0a}{,ff}"), ["a 08 -", "a 08 ff", "a 09 -", "a 09 ff", "a 0a -", "a 0a ff"]);
        assert_eq!(names("a: [{rw,ro}] {answers}"), ["a rw 0101", "a rw 0316", "a ro 0101", "a ro 0316"]);
    }

    #[test]
    fn prefixes_end_at_every_byte() {
        let cases = parsed("a: [rw] 5e 00 | ff | prefixes");
        let lengths: Vec<usize> = cases
            .iter()
            .map(|case| case.steps.iter().filter_map(Step::message).map(|message| message.bytes.len()).sum())
            .collect();
        assert_eq!(lengths, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(cases.iter().all(|case| case.steps.ends_with(&[Step::End])));
    }

    #[test]
    fn malformed_lines_are_refused() {
        for wrong in ["5e", "a: 5", "a: [disk] 5e", "a: [rw 5e", "a: {00 5e", "a: [rw]", "a: eof | 5e"] {
            assert!(parse(wrong, &Answers::new()).is_err(), "{wrong}");
        }
    }
}
