//! The report as JSON.

use serde_json::{Map, Value, json};

use crate::{
    bench::Effort,
    histogram::Histogram,
    report::{Bound, Figure, Goal, Row, Section, p50, p99, rate},
};

/// Returns all results. A histogram is a list of pairs: the upper bound of a bucket in nanoseconds and its
/// count.
pub fn report(sections: &[Section], effort: Effort) -> String {
    let report = json!({
        "effort": format!("{effort:?}").to_lowercase(),
        "processors": std::thread::available_parallelism().ok().map(std::num::NonZero::get),
        "scenarios": sections.iter().map(section).collect::<Vec<_>>(),
    });
    format!("{report}\n")
}

fn section(section: &Section) -> Value {
    json!({
        "id": section.id,
        "title": section.title,
        "others_share_of_processors": section.neighbours,
        "rows": section.rows.iter().map(row).collect::<Vec<_>>(),
        "figures": section.figures.iter().map(figure).collect::<Vec<_>>(),
        "goals": section.goals.iter().map(goal).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    let mut all = Histogram::default();
    row.rounds.iter().for_each(|round| all.add(&round.latencies));
    let round = |round| json!({ "rate": rate(round), "p50_us": p50(round), "p99_us": p99(round) });
    json!({
        "what": row.what,
        "clients": row.clients,
        "helper": row.helper.id(),
        "rate": row.median(rate),
        "p50_us": row.median(p50),
        "p99_us": row.median(p99),
        "max_us": row.max(),
        "rounds": row.rounds.iter().map(round).collect::<Vec<_>>(),
        "histogram_ns": all.buckets().collect::<Vec<_>>(),
    })
}

fn figure(figure: &Figure) -> Value {
    let values = figure.values.iter().map(|(kind, value)| (kind.id().to_owned(), json!(value)));
    json!({ "name": figure.name, "unit": figure.unit, "values": values.collect::<Map<_, _>>() })
}

fn goal(goal: &Goal) -> Value {
    let (name, bound) = match goal.bound {
        Bound::AtLeast(least) => ("at_least", least),
        Bound::AtMost(most) => ("at_most", most),
    };
    json!({
        "goal": goal.what,
        "helper": goal.helper.id(),
        "value": goal.value,
        (name): bound,
        "met": goal.is_met(),
    })
}
