//! The parsers of requests and of trace patterns, for the fuzz targets of this repository.

use crate::{Page, serve, trace};

/// Returns the reply to a request, with the name of the page as its body; `None` if the request is not complete.
pub fn reply(request: &[u8]) -> Option<Vec<u8>> {
    let render = |page: Page| format!("{page:?}");
    serve::Asked::parse(request).map(|asked| asked.reply(&render))
}

/// Returns whether `text` matches a pattern of `--trace`.
pub fn matches(pattern: &str, text: &str) -> bool {
    trace::matches(pattern, text)
}

/// Returns whether a text begins with a record of a trace.
pub fn is_record(text: &str) -> bool {
    trace::is_record(text)
}
