//! `--trace`: its options, its patterns, and the beginning of a file that it may continue.

use arbitrary::Unstructured;
use pr_metrics::{
    fuzzing::{is_record, matches},
    trace::Options,
};

/// The longest text to match. The only event has a name of 17 characters, and each `*` of a pattern tries every rest of it.
const TEXT_MAX: usize = 17;

/// Parses the bytes as options, as the beginning of a file, and as a pattern with a text.
pub fn trace_options(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(options) = Options::parse(text) {
            let is_help = |word: &str| ["help", "?"].contains(&word.strip_prefix("enable=").unwrap_or(word));
            let mut words = text.split(',');
            let first = words.next().unwrap_or_default();
            let others = words.any(|word| word.starts_with("enable=") && is_help(word));
            assert_eq!(options.is_help(), is_help(first) || others, "{text:?}");
        }
        if is_record(text) {
            assert!(text.contains(":pr_helper_command"), "{text:?}");
        }
    }
    let _ = pattern(&mut Unstructured::new(data));
}

fn pattern(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let split = usize::from(input.arbitrary::<u8>()?);
    let rest = input.bytes(input.len())?;
    let (pattern, text) = rest.split_at(split.min(rest.len()));
    let (Ok(pattern), Ok(text)) = (std::str::from_utf8(pattern), std::str::from_utf8(text)) else {
        return Ok(());
    };
    for text in ["pr_helper_command", text] {
        if text.len() <= TEXT_MAX {
            assert_eq!(matches(pattern, text), plain(pattern, text), "{pattern:?} {text:?}");
        }
    }
    Ok(())
}

/// Returns whether a text matches a pattern, from a table: for each prefix of the pattern, the prefixes of the text that
/// match it.
fn plain(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for symbol in pattern.chars() {
        if symbol == '*' {
            let first = reached.iter().position(|is_reached| *is_reached).unwrap_or(reached.len());
            reached[first..].fill(true);
        } else {
            for end in (1..reached.len()).rev() {
                reached[end] = reached[end - 1] && (symbol == '?' || symbol == text[end - 1]);
            }
            reached[0] = false;
        }
    }
    reached[text.len()]
}
