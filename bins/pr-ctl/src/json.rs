//! JSON on one line, with a blank after each comma and colon.

use std::{fmt, io};

use serde::Serialize as _;
use serde_json::{Map, Serializer, Value, ser::Formatter};

/// The members of an object, in the order in which they are printed.
pub(crate) type Object = Map<String, Value>;

/// Returns a value's text as a JSON string. Reservation keys are strings because many JSON readers keep only 53 bits of
/// a number.
pub(crate) fn text(value: impl fmt::Display) -> Value {
    Value::String(value.to_string())
}

/// Returns an object with these members.
pub(crate) fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Object {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Writes an object on a line of its own.
pub(crate) fn write_line(output: &mut impl io::Write, object: &Object) -> io::Result<()> {
    object.serialize(&mut Serializer::with_formatter(&mut *output, Spaced))?;
    writeln!(output)
}

/// Adds the blanks that `serde_json` leaves out: scripts search the lines for `"complete": true`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

fn separate<W: io::Write + ?Sized>(writer: &mut W, first: bool) -> io::Result<()> {
    if first { Ok(()) } else { writer.write_all(b", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_keep_order_and_blanks() {
        let mut line = Vec::new();
        let list = json!([null, false, 7_u8, u64::MAX, [], {}, {"z": 1, "a": "b"}]);
        let members = [
            ("list", list),
            ("complete", true.into()),
            ("empty", json!({})),
            ("text", text("a \"b\"\\\n\x1b ü")),
        ];
        write_line(&mut line, &object(members)).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            concat!(
                r#"{"list": [null, false, 7, 18446744073709551615, [], {}, {"z": 1, "a": "b"}], "#,
                r#""complete": true, "empty": {}, "text": "a \"b\"\\\n\u001b ü"}"#,
                "\n"
            )
        );
    }
}
