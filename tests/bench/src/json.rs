//! The report for programs.

use std::fmt;

use crate::{
    report::{Bound, Section, p50, p99, rate},
    scenario::Effort,
};

/// A value of JSON (RFC 8259).
enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Integer(u64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) if number.is_finite() => write!(f, "{number}"),
            Self::Null | Self::Number(_) => write!(f, "null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => write_text(f, text),
            Self::List(values) => {
                write!(f, "[")?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index > 0 { "," } else { "" })?;
                }
                write!(f, "]")
            }
            Self::Object(fields) => {
                write!(f, "{{")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}", if index > 0 { "," } else { "" })?;
                    write_text(f, name)?;
                    write!(f, ":{value}")?;
                }
                write!(f, "}}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            '\0'..='\x1f' => write!(f, "\\u{:04x}", u32::from(character))?,
            _ => write!(f, "{character}")?,
        }
    }
    write!(f, "\"")
}

impl From<Option<f64>> for Json {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Null, Self::Number)
    }
}

/// All that was measured, with every histogram: pairs of a bucket's upper bound in nanoseconds and its count.
pub fn report(sections: &[Section], effort: Effort) -> String {
    let processors = std::thread::available_parallelism().ok().and_then(|n| u64::try_from(n.get()).ok());
    let report = Json::Object(vec![
        ("effort", Json::Text(format!("{effort:?}").to_lowercase())),
        ("processors", processors.map_or(Json::Null, Json::Integer)),
        ("scenarios", Json::List(sections.iter().map(section).collect())),
    ]);
    format!("{report}\n")
}

fn section(section: &Section) -> Json {
    let rows = section.rows.iter().map(|row| {
        let mut all = crate::histogram::Histogram::default();
        row.rounds.iter().for_each(|round| all.add(&round.latencies));
        let histogram = all
            .buckets()
            .map(|(upper, count)| Json::List(vec![Json::Integer(upper), Json::Integer(count)]))
            .collect();
        let rounds = row.rounds.iter().map(|round| {
            Json::Object(vec![
                ("rate", rate(round).into()),
                ("p50_us", p50(round).into()),
                ("p99_us", p99(round).into()),
            ])
        });
        Json::Object(vec![
            ("what", Json::Text(row.what.clone())),
            ("clients", Json::Integer(u64::try_from(row.clients).unwrap_or(u64::MAX))),
            ("helper", Json::Text(row.helper.id().into())),
            ("rate", row.median(rate).into()),
            ("p50_us", row.median(p50).into()),
            ("p99_us", row.median(p99).into()),
            ("max_us", row.max().into()),
            ("rounds", Json::List(rounds.collect())),
            ("histogram_ns", Json::List(histogram)),
        ])
    });
    let figures = section.figures.iter().map(|figure| {
        let mut fields =
            vec![("name", Json::Text(figure.name.clone())), ("unit", Json::Text(figure.unit.into()))];
        fields.extend(figure.values.iter().map(|(kind, value)| (kind.id(), Json::Number(*value))));
        Json::Object(fields)
    });
    let goals = section.goals.iter().map(|goal| {
        let bound = match goal.bound {
            Bound::AtLeast(least) => ("at_least", Json::Number(least)),
            Bound::AtMost(most) => ("at_most", Json::Number(most)),
        };
        Json::Object(vec![
            ("goal", Json::Text(goal.what.clone())),
            ("value", goal.value.into()),
            bound,
            ("met", goal.is_met().map_or(Json::Null, Json::Bool)),
        ])
    });
    Json::Object(vec![
        ("id", Json::Text(section.id.into())),
        ("title", Json::Text(section.title.clone())),
        ("others_share_of_processors", Json::Number(section.neighbours)),
        ("rows", Json::List(rows.collect())),
        ("figures", Json::List(figures.collect())),
        ("goals", Json::List(goals.collect())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_as_the_rfc_has_it() {
        let cases = [
            (Json::Null, "null"),
            (Json::Number(f64::NAN), "null"),
            (Json::Number(1.5), "1.5"),
            (Json::Integer(7), "7"),
            (Json::Text("a \"b\" \\ \n".into()), r#""a \"b\" \\ \u000a""#),
            (Json::List(vec![]), "[]"),
            (Json::List(vec![Json::Bool(true), Json::Null]), "[true,null]"),
            (Json::Object(vec![("a", Json::Integer(1)), ("b", Json::Integer(2))]), r#"{"a":1,"b":2}"#),
        ];
        for (json, text) in cases {
            assert_eq!(json.to_string(), text);
        }
    }
}
