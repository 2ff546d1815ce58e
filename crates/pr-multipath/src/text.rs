//! Texts from a worker for the daemon's log.

/// Returns `text` without control characters and cut to at most `length_max` bytes.
pub(crate) fn printable(text: &str, length_max: usize) -> String {
    let mut printable = String::new();
    for character in text.chars() {
        let character = if character.is_control() { ' ' } else { character };
        if printable.len().saturating_add(character.len_utf8()) > length_max {
            break;
        }
        printable.push(character);
    }
    printable
}

/// Parses a text that [`printable`] could have returned: UTF-8, at most `length_max` bytes, no control characters.
pub(crate) fn parse(bytes: &[u8], length_max: usize) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (bytes.len() <= length_max && !text.contains(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_is_cut_between_characters() {
        assert_eq!(printable("a\tb\u{1b}[1m\n", 99), "a b [1m ");
        assert_eq!(printable("a\u{e4}\u{20ac}", 5), "a\u{e4}");
        assert_eq!(printable("a\u{e4}\u{20ac}", 6), "a\u{e4}\u{20ac}");
        assert_eq!(printable("\u{e4}", 1), "");
    }

    #[test]
    fn only_printable_text_is_parsed() {
        assert_eq!(parse("a\u{e4}".as_bytes(), 3), Some("a\u{e4}"));
        assert_eq!(parse("a\u{e4}".as_bytes(), 2), None);
        for bytes in [&b"\xff"[..], b"\xc3", b"a\n", b"\x1b[1m", "\u{9b}1m".as_bytes()] {
            assert_eq!(parse(bytes, 99), None, "{bytes:?}");
        }
    }
}
