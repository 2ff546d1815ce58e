//! The text that metrics are told by: OpenMetrics 1.0.

use std::fmt::{Display, Write as _};

/// What the text is, for whoever fetches it.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A text in the making.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

/// What the samples of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Says something by its labels; its value is 1.
    Info,
    /// Only grows, from the start of the daemon on.
    Counter,
    /// What is now.
    Gauge,
    /// Of seconds.
    Histogram,
}

/// The family whose samples are being written.
pub(crate) struct Family<'a> {
    text: &'a mut String,
    kind: Kind,
    name: &'a str,
}

impl Exposition {
    /// Begins a family of metrics. Each name may be begun once.
    pub(crate) fn family<'a>(&'a mut self, kind: Kind, name: &'a str, help: &str) -> Family<'a> {
        let text = &mut self.0;
        let kind_name = match kind {
            Kind::Info => "info",
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // To write to a string does not fail.
        let _ = writeln!(text, "# TYPE {name} {kind_name}");
        if kind == Kind::Histogram {
            let _ = writeln!(text, "# UNIT {name} seconds");
        }
        let _ = writeln!(text, "# HELP {name} {help}");
        Family { text, kind, name }
    }

    /// The whole text.
    pub(crate) fn finish(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }
}

impl Family<'_> {
    /// Writes a sample of a family that is no histogram.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let suffix = match self.kind {
            Kind::Info => "_info",
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.part(suffix, labels, value);
    }

    /// Writes a sample whose name ends with `suffix`.
    pub(super) fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (index, (name, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{name}=\"", if index == 0 { '{' } else { ',' });
            for character in value.chars() {
                match character {
                    '\\' | '"' => self.text.extend(['\\', character]),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_samples_look_as_the_standard_has_them() {
        let mut exposition = Exposition::default();
        exposition.family(Kind::Info, "x_build", "What.").sample(&[("version", "1")], 1);
        let mut counter = exposition.family(Kind::Counter, "x_things", "How many.");
        counter.sample(&[("of", "a"), ("like", "a \"b\"\\\n")], 3);
        counter.sample(&[("of", "b"), ("like", "")], u64::MAX);
        exposition.family(Kind::Gauge, "x_now", "Now.").sample(&[], 0);
        let _empty = exposition.family(Kind::Histogram, "x_seconds", "How long.");
        let expected = r#"# TYPE x_build info
# HELP x_build What.
x_build_info{version="1"} 1
# TYPE x_things counter
# HELP x_things How many.
x_things_total{of="a",like="a \"b\"\\\n"} 3
x_things_total{of="b",like=""} 18446744073709551615
# TYPE x_now gauge
# HELP x_now Now.
x_now 0
# TYPE x_seconds histogram
# UNIT x_seconds seconds
# HELP x_seconds How long.
# EOF
"#;
        assert_eq!(exposition.finish(), expected);
    }
}
