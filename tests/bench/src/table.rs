//! The report as a table.

use std::fmt;

use crate::{
    kind::Kind,
    report::{Bound, Figure, Goal, Row, Section, Value, p50, p99, rate},
};

/// The widths of the first two columns: the measurement and the helper.
const WHAT: usize = 34;
const HELPER: usize = 10;

/// All sections in one table.
pub struct Table<'a>(pub &'a [Section]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:WHAT$} {:HELPER$} {:>9} {:>9} {:>9} {:>10} | {:>10} {:>7} | {:>9} {:>7}",
            "", "", "rate/s", "p50 us", "p99 us", "max us", "rate/floor", "rate/C", "p50/floor", "p50/C"
        )?;
        for section in self.0 {
            write_section(f, section)?;
        }
        Ok(())
    }
}

fn write_section(f: &mut fmt::Formatter<'_>, section: &Section) -> fmt::Result {
    let neighbours = section.neighbours * 100.0;
    writeln!(
        f,
        "\n{}: {}  [other processes used {neighbours:.0} % of the processors]",
        section.id, section.title
    )?;
    for row in &section.rows {
        write_row(f, section, row)?;
    }
    if !section.figures.is_empty() {
        let mut columns: Vec<Kind> = Vec::new();
        for (kind, _) in section.figures.iter().flat_map(|figure| &figure.values) {
            if !columns.contains(kind) {
                columns.push(*kind);
            }
        }
        write!(f, "  {:WHAT$}", "")?;
        columns.iter().try_for_each(|kind| write!(f, " {kind:>10}"))?;
        writeln!(f)?;
        for figure in &section.figures {
            write_figure(f, figure, &columns)?;
        }
    }
    section.goals.iter().try_for_each(|goal| write_goal(f, goal))
}

fn write_row(f: &mut fmt::Formatter<'_>, section: &Section, row: &Row) -> fmt::Result {
    write!(f, "  {:WHAT$.WHAT$} {:HELPER$}", row.what, row.helper)?;
    if row.rounds.is_empty() {
        return writeln!(f, " no answer");
    }
    let ratio = |to: Kind, value: Value| {
        let ratio = if row.helper == to { None } else { section.ratio(row, to, value) };
        ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
    };
    writeln!(
        f,
        " {:>9} {:>9} {:>9} {:>10} | {:>10} {:>7} | {:>9} {:>7}",
        number(row.median(rate)),
        number(row.median(p50)),
        number(row.median(p99)),
        number(row.max()),
        ratio(Kind::Floor, rate),
        ratio(Kind::C, rate),
        ratio(Kind::Floor, p50),
        ratio(Kind::C, p50),
    )
}

fn write_figure(f: &mut fmt::Formatter<'_>, figure: &Figure, columns: &[Kind]) -> fmt::Result {
    let name = if figure.unit.is_empty() {
        figure.name.clone()
    } else {
        format!("{}, {}", figure.name, figure.unit)
    };
    write!(f, "  {name:WHAT$}")?;
    for kind in columns {
        write!(f, " {:>10}", figure.of(*kind).map_or_else(String::new, |value| format!("{value:.2}")))?;
    }
    writeln!(f)
}

fn write_goal(f: &mut fmt::Formatter<'_>, goal: &Goal) -> fmt::Result {
    let verdict = match goal.is_met() {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "not measured",
    };
    let bound = match goal.bound {
        Bound::AtLeast(least) => format!("at least {least:.2}"),
        Bound::AtMost(most) => format!("at most {most:.2}"),
    };
    let value = goal.value.map_or_else(|| "-".into(), |value| format!("{value:.2}"));
    let prefix = if goal.helper == Kind::PrHelper { String::new() } else { format!("{}: ", goal.helper) };
    writeln!(f, "  goal: {prefix}{} {bound}: {value}, {verdict}", goal.what)
}

/// Formats a number with its significant digits.
fn number(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}
