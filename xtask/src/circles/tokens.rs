//! Splits Rust source text into names, `::`, strings and single characters, without comments.

/// Returns the tokens of a file. A string becomes a quotation mark and its text; character literals are left
/// out.
pub(super) fn of(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    let at = |index: usize| text.get(index).copied().unwrap_or('\0');
    let starts = |index: usize, with: &str| with.chars().enumerate().all(|(n, c)| at(index + n) == c);
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < text.len() {
        let begin = i;
        match at(i) {
            c if c.is_whitespace() => i += 1,
            '/' if at(i + 1) == '/' => i += text[i..].iter().take_while(|c| **c != '\n').count(),
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    if starts(i, "/*") {
                        depth += 1;
                        i += 2;
                    } else if starts(i, "*/") {
                        depth -= 1;
                        i += 2;
                    } else {
                        i += 1;
                    }
                    if depth == 0 || i >= text.len() {
                        break;
                    }
                }
            }
            '"' => {
                i += 1;
                while i < text.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                tokens.push(text[begin..i.min(text.len())].iter().collect());
                i += 1;
            }
            // A character literal, else a lifetime.
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                i += text[i.min(text.len())..].iter().take_while(|c| **c != '\'').count() + 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            '\'' => i += 1 + text[i + 1..].iter().take_while(|c| is_of_name(**c)).count(),
            c if is_of_name(c) => {
                i += text[i..].iter().take_while(|c| is_of_name(**c)).count();
                let word: String = text[begin..i].iter().collect();
                let hashes = text[i..].iter().take_while(|c| **c == '#').count();
                if ["r", "br", "cr"].contains(&word.as_str()) && at(i + hashes) == '"' {
                    i += hashes + 1;
                    let end = format!("\"{}", "#".repeat(hashes));
                    while i < text.len() && !starts(i, &end) {
                        i += 1;
                    }
                    i += end.len();
                    tokens.push("\"".to_owned());
                } else if word == "r" && hashes == 1 {
                    i += 1;
                } else {
                    tokens.push(word);
                }
            }
            ':' if at(i + 1) == ':' => {
                tokens.push("::".to_owned());
                i += 2;
            }
            c => {
                tokens.push(c.to_string());
                i += 1;
            }
        }
    }
    tokens
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns whether a token is a name or a keyword.
pub(super) fn is_name(token: &str) -> bool {
    token != "_" && token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Returns the end of the item that begins at `at`: the index after its `;` or its braces.
pub(super) fn end_of_item(tokens: &[String], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            // The end of the surrounding group: at `at` is a field or an arm, not an item.
            "}" | ")" | "]" if depth == 0 => return index,
            "}" if depth == 1 => return index + 1,
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Splits the tokens of a `use` at the commas outside of inner braces.
pub(super) fn split_at_commas(tokens: &[String]) -> Vec<&[String]> {
    let mut depth = 0_usize;
    let is_comma = |token: &String| {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && token == ","
    };
    tokens.split(is_comma).collect()
}
