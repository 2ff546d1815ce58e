//! JSON on one line, with a blank behind each comma and colon.

use std::{fmt, io};

use serde::Serialize as _;
use serde_json::{Map, Serializer, Value, ser::Formatter};

/// The members of an object, in the order in which they are printed.
pub(crate) type Object = Map<String, Value>;

/// Returns a value's text. Reservation keys are printed like this: many readers of JSON have 53 bits for a number.
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

/// Puts blanks where `serde_json` has none: scripts search the lines for `"complete": true`.
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
