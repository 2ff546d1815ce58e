//! The results of the benchmark, and figures derived from them.

use std::time::Duration;

use crate::{kind::Kind, load::Measured};

/// The results of one scenario.
#[derive(Debug)]
pub struct Section {
    /// The name of the scenario for `--only`.
    pub id: &'static str,
    pub title: String,
    pub rows: Vec<Row>,
    pub figures: Vec<Figure>,
    pub goals: Vec<Goal>,
    /// The share of the time of all processors, 0 to 1, that other processes used meanwhile.
    pub neighbours: f64,
}

impl Section {
    pub fn new(id: &'static str, title: impl Into<String>) -> Self {
        let title = title.into();
        Self { id, title, rows: Vec::new(), figures: Vec::new(), goals: Vec::new(), neighbours: 0.0 }
    }

    /// Returns the row with this name and helper.
    pub fn row(&self, what: &str, helper: Kind) -> Option<&Row> {
        self.rows.iter().find(|row| row.what == what && row.helper == helper)
    }

    /// Compares a row with that of another helper, by [`ratio`].
    pub fn ratio(&self, of: &Row, to: Kind, value: Value) -> Option<f64> {
        ratio(of, self.row(&of.what, to)?, value)
    }
}

/// Returns the ratio of a value in two rows: the median of the ratios of all rounds. The measurements of a
/// round were made one right after the other.
pub fn ratio(of: &Row, to: &Row, value: Value) -> Option<f64> {
    let rounds = of.rounds.iter().zip(&to.rounds);
    let ratios = rounds.filter_map(|(of, to)| Some(value(of)? / value(to)?));
    // In a short round a helper may have completed no command.
    median(ratios.filter(|ratio| ratio.is_finite()).collect())
}

/// A function that computes a value of a round.
pub type Value = fn(&Measured) -> Option<f64>;

/// Returns the commands per second.
pub fn rate(measured: &Measured) -> Option<f64> {
    measured.rate
}

/// Returns the median latency in microseconds.
pub fn p50(measured: &Measured) -> Option<f64> {
    (measured.latencies.count() > 0).then(|| microseconds(measured.latencies.quantile(0.5)))
}

/// Returns the 99th percentile of latency in microseconds.
pub fn p99(measured: &Measured) -> Option<f64> {
    (measured.latencies.count() > 0).then(|| microseconds(measured.latencies.quantile(0.99)))
}

/// Returns the ratio of p99 to p50: how unevenly clients are served.
pub fn spread(measured: &Measured) -> Option<f64> {
    Some(p99(measured)? / p50(measured)?)
}

pub fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The measurements of one helper. If it has no rounds, the helper did not reply.
#[derive(Debug)]
pub struct Row {
    /// The name of the measurement; empty if the scenario has only one.
    pub what: String,
    pub clients: usize,
    pub helper: Kind,
    pub rounds: Vec<Measured>,
}

impl Row {
    /// Returns the median of all rounds.
    pub fn median(&self, value: Value) -> Option<f64> {
        median(self.rounds.iter().filter_map(value).collect())
    }

    /// Returns the longest latency of all rounds, in microseconds.
    pub fn max(&self) -> Option<f64> {
        self.rounds.iter().map(|round| microseconds(round.latencies.max())).reduce(f64::max)
    }
}

/// One number for each helper.
#[derive(Debug)]
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub values: Vec<(Kind, f64)>,
}

impl Figure {
    pub fn of(&self, helper: Kind) -> Option<f64> {
        self.values.iter().find(|(kind, _)| *kind == helper).map(|(_, value)| *value)
    }
}

/// A goal for a build of pr-helper.
#[derive(Debug)]
pub struct Goal {
    pub what: String,
    pub helper: Kind,
    /// `None` if it could not be measured.
    pub value: Option<f64>,
    pub bound: Bound,
}

#[derive(Debug, Clone, Copy)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub fn is_met(&self) -> Option<bool> {
        Some(match (self.value?, self.bound) {
            (value, Bound::AtLeast(least)) => value >= least,
            (value, Bound::AtMost(most)) => value <= most,
        })
    }
}

/// Returns the median: the middle value, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => None,
        0 => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(helper: Kind, rates: &[f64]) -> Row {
        let rounds = rates.iter().map(|rate| Measured { rate: Some(*rate), ..Measured::default() }).collect();
        Row { what: String::new(), clients: 1, helper, rounds }
    }

    #[test]
    fn median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![3.0, 1.0, 1000.0]), Some(3.0));
    }

    #[test]
    fn ratio_is_the_median_of_rounds() {
        let (floor, daemon) =
            (row(Kind::Floor, &[10.0, 100.0, 1000.0]), row(Kind::PrHelper, &[9.0, 90.0, 100.0]));
        assert_eq!(ratio(&daemon, &floor, rate), Some(0.9));
        assert_eq!(ratio(&daemon, &floor, p50), None, "no latencies");
    }

    #[test]
    fn unmeasured_goal_is_neither_met_nor_missed() {
        let goal = |value, bound| Goal { what: String::new(), helper: Kind::PrHelper, value, bound }.is_met();
        assert_eq!(goal(None, Bound::AtLeast(1.0)), None);
        assert_eq!(goal(Some(1.0), Bound::AtLeast(1.0)), Some(true));
        assert_eq!(goal(Some(0.9), Bound::AtLeast(1.0)), Some(false));
        assert_eq!(goal(Some(1.1), Bound::AtMost(1.0)), Some(false));
    }
}
