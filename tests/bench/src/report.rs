//! What a benchmark brought, and what can be said of it.

use std::time::Duration;

use crate::{kind::Kind, load::Measured};

/// What one scenario brought.
#[derive(Debug)]
pub struct Section {
    /// As `--only` has it.
    pub id: &'static str,
    pub title: String,
    pub rows: Vec<Row>,
    pub figures: Vec<Figure>,
    pub goals: Vec<Goal>,
    /// The share of the processors, 0 to 1, that others used meanwhile.
    pub neighbours: f64,
}

impl Section {
    pub fn new(id: &'static str, title: impl Into<String>) -> Self {
        let title = title.into();
        Self { id, title, rows: Vec::new(), figures: Vec::new(), goals: Vec::new(), neighbours: 0.0 }
    }

    /// What was measured of a helper under this name.
    pub fn row(&self, what: &str, helper: Kind) -> Option<&Row> {
        self.rows.iter().find(|row| row.what == what && row.helper == helper)
    }

    /// How one row compares with another: the median of the ratios in each round, whose measurements were made one right
    /// after the other.
    pub fn ratio(&self, of: &Row, to: Kind, value: Value) -> Option<f64> {
        ratio(of, self.row(&of.what, to)?, value)
    }
}

/// The median over the rounds of what one row's value is to another's.
pub fn ratio(of: &Row, to: &Row, value: Value) -> Option<f64> {
    let rounds = of.rounds.iter().zip(&to.rounds);
    let ratios = rounds.filter_map(|(of, to)| Some(value(of)? / value(to)?));
    // In a short round a helper may have done nothing at all.
    median(ratios.filter(|ratio| ratio.is_finite()).collect())
}

/// Something that a round has.
pub type Value = fn(&Measured) -> Option<f64>;

/// Commands per second.
pub fn rate(measured: &Measured) -> Option<f64> {
    measured.rate
}

/// The median latency in microseconds.
pub fn p50(measured: &Measured) -> Option<f64> {
    (measured.latencies.count() > 0).then(|| microseconds(measured.latencies.quantile(0.5)))
}

/// The latency in microseconds that one in a hundred exceeds.
pub fn p99(measured: &Measured) -> Option<f64> {
    (measured.latencies.count() > 0).then(|| microseconds(measured.latencies.quantile(0.99)))
}

/// How much longer the slow ones wait than most: p99 to p50.
pub fn spread(measured: &Measured) -> Option<f64> {
    Some(p99(measured)? / p50(measured)?)
}

pub fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// What was measured of one helper, round by round. Without rounds, it gave no answer.
#[derive(Debug)]
pub struct Row {
    /// What was measured; empty, if there is but one thing.
    pub what: String,
    pub clients: usize,
    pub helper: Kind,
    pub rounds: Vec<Measured>,
}

impl Row {
    /// The median of all rounds.
    pub fn median(&self, value: Value) -> Option<f64> {
        median(self.rounds.iter().filter_map(value).collect())
    }

    /// The worst of all rounds, in microseconds.
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

/// What a build of pr-helper has to reach.
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

/// The one in the middle, or between the two in the middle.
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
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![3.0, 1.0, 1000.0]), Some(3.0));
    }

    #[test]
    fn a_ratio_is_that_of_rounds_and_not_of_medians() {
        let (floor, ours) =
            (row(Kind::Floor, &[10.0, 100.0, 1000.0]), row(Kind::PrHelper, &[9.0, 90.0, 100.0]));
        assert_eq!(ratio(&ours, &floor, rate), Some(0.9));
        assert_eq!(ratio(&ours, &floor, p50), None, "nothing was counted");
    }

    #[test]
    fn a_goal_that_was_not_measured_is_neither_met_nor_missed() {
        let goal = |value, bound| Goal { what: String::new(), helper: Kind::PrHelper, value, bound }.is_met();
        assert_eq!(goal(None, Bound::AtLeast(1.0)), None);
        assert_eq!(goal(Some(1.0), Bound::AtLeast(1.0)), Some(true));
        assert_eq!(goal(Some(0.9), Bound::AtLeast(1.0)), Some(false));
        assert_eq!(goal(Some(1.1), Bound::AtMost(1.0)), Some(false));
    }
}
