//! A strict parser of OpenMetrics 1.0 text. It also rejects valid text of kinds that the daemon does not
//! write.

use std::collections::{BTreeMap, BTreeSet};

/// The values of all samples by name with labels, in the spelling of the text.
#[derive(Debug)]
pub(crate) struct Samples(BTreeMap<String, String>);

impl Samples {
    /// Parses the text of a scrape.
    ///
    /// # Panics
    ///
    /// If the text violates the standard.
    pub(crate) fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the end");
        assert!(body.ends_with('\n') && !body.contains("# EOF"), "whole lines, and one end");
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut lines = body.lines().peekable();
        while let Some(line) = lines.next() {
            let kind = lines.next().unwrap_or_default();
            let mut family = Family::begin(line, kind);
            assert!(families.insert(family.name), "twice: {line}");
            while let Some(line) = lines.next_if(|line| !line.starts_with("# HELP ")) {
                family.add(line);
            }
            samples.extend(family.finish());
        }
        Self(samples)
    }

    /// Returns the value of this sample.
    ///
    /// # Panics
    ///
    /// If there is no such sample.
    pub(crate) fn get(&self, sample: &str) -> &str {
        self.0.get(sample).unwrap_or_else(|| panic!("no {sample} in {self:#?}"))
    }

    /// Returns the name of each sample, and the names of its labels.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.0.keys().map(|sample| {
            let (name, labels) = split_labels(sample);
            (name, labels.into_iter().map(|(label, _)| label).collect())
        })
    }

    /// Returns the names and values of the samples whose names begin with `name`.
    pub(crate) fn with_prefix(&self, name: &str) -> Vec<(&str, &str)> {
        let samples = self.0.iter().filter(|(sample, _)| sample.starts_with(name));
        samples.map(|(sample, value)| (&**sample, &**value)).collect()
    }
}

struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    unit: Option<&'a str>,
    samples: Vec<Sample<'a>>,
}

struct Sample<'a> {
    /// Name and labels.
    text: &'a str,
    suffix: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: &'a str,
}

impl<'a> Family<'a> {
    /// Starts a family from its `# HELP` line and its `# TYPE` line.
    fn begin(help: &'a str, line: &'a str) -> Self {
        let words: Vec<_> = line.split(' ').collect();
        let ["#", "TYPE", name, kind] = *words else { panic!("no beginning of a family: {line:?}") };
        let help = help.strip_prefix("# HELP ").and_then(|help| help.strip_prefix(name));
        assert!(
            help.is_some_and(|help| help.starts_with(' ') && help.ends_with('.')),
            "{name} has no help text"
        );
        assert!(is_name(name) && ["info", "counter", "gauge", "histogram"].contains(&kind), "{line:?}");
        for reserved in ["_total", "_info", "_created", "_bucket", "_count", "_sum"] {
            assert!(!name.ends_with(reserved), "{line:?}");
        }
        Self { name, kind, unit: None, samples: Vec::new() }
    }

    fn add(&mut self, line: &'a str) {
        let name = self.name;
        if let Some(unit) = line.strip_prefix(&format!("# UNIT {name} ")) {
            assert!(self.unit.is_none() && self.samples.is_empty(), "late: {line:?}");
            assert!(name.ends_with(&format!("_{unit}")), "{line:?}");
            self.unit = Some(unit);
        } else {
            self.samples.push(Sample::parse(line, name));
        }
    }

    fn finish(self) -> impl Iterator<Item = (String, String)> {
        let texts: BTreeSet<_> = self.samples.iter().map(|sample| sample.text).collect();
        assert_eq!(texts.len(), self.samples.len(), "samples of {} occur twice", self.name);
        for Sample { text, suffix, value, .. } in &self.samples {
            match (self.kind, *suffix) {
                ("info", "_info") => assert_eq!(*value, "1", "{text}"),
                ("counter", "_total") | ("gauge", "") | ("histogram", "_bucket" | "_count") => {
                    assert!(value.parse::<u64>().is_ok(), "{text} {value}");
                }
                ("histogram", "_sum") => {
                    assert!(value.parse::<f64>().is_ok_and(|sum| sum >= 0.0), "{text} {value}");
                    assert_eq!(self.unit, Some("seconds"), "{text}");
                }
                _ => panic!("no sample of a {}: {text}", self.kind),
            }
        }
        if self.kind == "histogram" {
            self.check_histogram();
        }
        self.samples.into_iter().map(|sample| (sample.text.to_owned(), sample.value.to_owned()))
    }

    fn check_histogram(&self) {
        let others = |sample: &Sample<'a>| -> Vec<_> {
            sample.labels.iter().copied().filter(|(name, _)| *name != "le").collect()
        };
        let mut groups = BTreeMap::<_, Vec<&Sample<'_>>>::new();
        for sample in &self.samples {
            groups.entry(others(sample)).or_default().push(sample);
        }
        for (labels, samples) in groups {
            let (buckets, rest): (Vec<_>, Vec<_>) =
                samples.into_iter().partition(|sample| sample.suffix == "_bucket");
            let bounds: Vec<_> = buckets
                .iter()
                .map(|bucket| {
                    let bound = bucket.labels.iter().find(|(name, _)| *name == "le").expect("a bound").1;
                    if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a number") }
                })
                .collect();
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{labels:?}: {bounds:?}");
            assert_eq!(bounds.last(), Some(&f64::INFINITY), "{labels:?}");
            let values: Vec<u64> = buckets.iter().map(|bucket| bucket.value.parse().unwrap()).collect();
            assert!(values.is_sorted(), "{labels:?}: not cumulative");
            let [count, sum] = *rest else { panic!("{labels:?}: not one count and one sum") };
            let (count, sum) = if count.suffix == "_count" { (count, sum) } else { (sum, count) };
            assert_eq!((count.suffix, sum.suffix), ("_count", "_sum"), "{labels:?}");
            assert_eq!(Some(count.value), buckets.last().map(|all| all.value), "{labels:?}");
        }
    }
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str, family: &str) -> Self {
        let (text, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line:?}"));
        let (name, labels) = split_labels(text);
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("not of {family}: {line:?}"));
        let names: BTreeSet<_> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), labels.len(), "a label twice: {line:?}");
        Self { text, suffix, labels, value }
    }
}

/// Splits a sample without its value into its name and its labels.
fn split_labels(text: &str) -> (&str, Vec<(&str, &str)>) {
    match text.split_once('{') {
        Some((name, labels)) => {
            (name, parse_labels(labels.strip_suffix('}').unwrap_or_else(|| panic!("{text:?}"))))
        }
        None => (text, Vec::new()),
    }
}

fn parse_labels(mut rest: &str) -> Vec<(&str, &str)> {
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {rest:?}"));
        assert!(is_name(name), "{name:?}");
        let mut escaped = false;
        let end = after.char_indices().find(|&(_, character)| {
            assert!(!escaped || "\\\"n".contains(character), "{after:?}");
            let is_end = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            is_end
        });
        let (value, after) = after.split_at(end.unwrap_or_else(|| panic!("no end: {after:?}")).0);
        labels.push((name, value));
        let Some(next) = after.strip_prefix("\",") else {
            assert_eq!(after, "\"");
            return labels;
        };
        rest = next;
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
