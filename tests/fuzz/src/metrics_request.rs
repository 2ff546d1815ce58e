//! Requests to the metrics socket.

use pr_metrics::fuzzing::reply;

/// Feeds a request to the parser as it arrives: the first byte is the length of a read. Compares the reply with a plain
/// reading of the request line.
pub fn metrics_request(data: &[u8]) {
    let Some((step, request)) = data.split_first() else { return };
    let step = usize::from(*step).max(1);
    let mut end = 0;
    let whole = loop {
        if let Some(whole) = reply(&request[..end]) {
            break whole;
        }
        if end == request.len() {
            return;
        }
        end = request.len().min(end + step);
    };
    let request = &request[..end];
    let text = String::from_utf8(whole).expect("the pages are text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    assert_eq!(length, Some(body.len().to_string().as_str()), "{head}");
    let page = head.starts_with("HTTP/1.1 200 OK\r\n").then_some(body);
    let expected = plain(request);
    assert!(page.is_none() || page == expected, "{}", request.escape_ascii());
    // Header fields, and unusual characters in the line, are the business of the parser.
    let is_usual =
        |line: &[u8]| line.iter().all(|byte| byte.is_ascii_alphanumeric() || b" /?=&.".contains(byte));
    if request.strip_suffix(b"\r\n\r\n").is_some_and(is_usual) {
        assert_eq!(page, expected, "{}", request.escape_ascii());
    }
}

/// Returns the page that a request line asks for.
fn plain(request: &[u8]) -> Option<&'static str> {
    let start = request.iter().position(|byte| !b"\r\n".contains(byte))?;
    let line = request[start..].split(|byte| *byte == b'\n').next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [b"GET", target, b"HTTP/1.0" | b"HTTP/1.1"] = words[..] else { return None };
    match target.split(|byte| *byte == b'?').next()? {
        b"/metrics" => Some("Metrics"),
        b"/state" => Some("State"),
        _ => None,
    }
}
