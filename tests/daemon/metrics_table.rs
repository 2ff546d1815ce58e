//! The tables of metrics in docs/operations.md have the names and labels that are in the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use pr_backend::Executor;
use pr_metrics::Counters;
use pr_server::{DeviceLoad, State};

use crate::openmetrics::Samples;

/// Suffixes by which the samples of a histogram are told apart.
const OF_HISTOGRAM: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Names of the labels of each metric, and the values of the label `outcome`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metrics {
    labels: BTreeMap<String, BTreeSet<String>>,
    outcomes: Vec<String>,
}

/// Returns the words of a table's cell that are in backquotes.
fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the rows of the table that begins with the line `head`.
fn rows<'a>(text: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let below = text.lines().skip_while(|line| *line != head).skip(2);
    let rows = below.take_while(|line| line.starts_with('|')).map(|line| line.split('|').skip(1));
    rows.map(Iterator::collect).collect()
}

fn operations() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md")).unwrap()
}

fn documented() -> Metrics {
    let text = operations();
    let mut metrics = Metrics::default();
    for row in rows(&text, "| metric | labels | meaning |") {
        let name = words(row[0]).concat();
        let before = metrics.labels.insert(name, words(row[1]).into_iter().collect());
        assert_eq!(before, None, "twice: {row:?}");
    }
    metrics.outcomes = rows(&text, "| outcome | meaning |").iter().flat_map(|row| words(row[0])).collect();
    metrics
}

fn in_code() -> Metrics {
    let counters = Arc::new(Counters::new(&Executor::new().refusal_labels()));
    let devices = BTreeMap::from([("a disk".to_owned(), DeviceLoad::default())]);
    let (started, connections, shared_nexuses) = (Instant::now(), Vec::new(), Vec::new());
    let state = State { started, connections, devices, shared_nexuses, panics: 0 };
    let text = counters.exposition(state, "1", Duration::from_secs(1));
    let mut metrics = Metrics::default();
    // In the order of the text: a sample of each outcome follows the one of the outcome before it.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let outcome = line.split("outcome=\"").nth(1).and_then(|rest| rest.split('"').next());
        if let Some(outcome) = outcome.filter(|outcome| !metrics.outcomes.iter().any(|one| one == outcome)) {
            metrics.outcomes.push(outcome.to_owned());
        }
    }
    let samples = Samples::parse(&text);
    for (name, labels) in samples.labels() {
        let is_histogram = name.contains("_seconds");
        let family =
            OF_HISTOGRAM.iter().find_map(|suffix| name.strip_suffix(suffix).filter(|_| is_histogram));
        let names = metrics.labels.entry(family.unwrap_or(name).to_owned()).or_default();
        names.extend(labels.into_iter().filter(|label| *label != "le").map(str::to_owned));
    }
    metrics
}

#[test]
fn table_has_all_metrics_and_labels() {
    let (documented, in_code) = (documented(), in_code());
    assert_eq!(documented, in_code);
    assert!(in_code.labels.len() > 10 && in_code.outcomes.len() > 7, "{in_code:#?}");
}

#[test]
fn alerts_use_metrics_that_exist() {
    let (text, metrics) = (operations(), documented());
    let alerts = rows(&text, "| condition | meaning |");
    assert!(alerts.len() > 5, "{alerts:?}");
    for alert in alerts {
        let mut words = alert[0].split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = words.find(|word| word.starts_with("pr_helper_")).unwrap();
        assert!(metrics.labels.contains_key(name), "{name}");
    }
}
