//! The plot of latency over the number of clients as SVG, with both axes logarithmic.

use std::fmt::Write as _;

use crate::{
    kind::Kind,
    report::{Row, Section, Value, p50, p99},
};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// The margins around the axes. The right one has the names of the lines.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 56.0;

/// Colors of other builds of the daemon.
const OTHERS: [&str; 3] = ["#06c", "#90c", "#a80"];

/// Draws p50 and p99 of each helper. Returns `None` if there are no points.
pub fn latency_over_clients(section: &Section) -> Option<String> {
    let latencies = section.rows.iter().flat_map(|row| [row.median(p50), row.median(p99)]).flatten();
    let (lowest, highest) = latencies
        .fold((f64::INFINITY, 0.0_f64), |(lowest, highest), value| (lowest.min(value), highest.max(value)));
    let most = section.rows.iter().map(|row| row.clients).max()?;
    if highest <= 0.0 {
        return None;
    }
    // Whole powers of ten.
    let scale = Scale { clients: most.max(2), low: lowest.log10().floor(), high: highest.log10().ceil() };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"14\">Latency of {}: p50 solid, p99 dashed</text>\n",
        escape(&section.title)
    );
    draw_axes(&mut svg, &scale);
    let mut names = Vec::new();
    let mut kinds: Vec<Kind> = section.rows.iter().map(|row| row.helper).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut others = OTHERS.iter().cycle();
    for kind in kinds {
        let color = match kind {
            Kind::Floor => "#777",
            Kind::PrHelper => "#0a6",
            Kind::Also(_) => others.next().copied().unwrap_or_default(),
            Kind::C => "#c40",
        };
        let rows: Vec<&Row> = section.rows.iter().filter(|row| row.helper == kind).collect();
        for (value, name, dash) in [(p50 as Value, "p50", ""), (p99, "p99", " stroke-dasharray=\"5 4\"")] {
            let points: Vec<(f64, f64)> = rows
                .iter()
                .filter_map(|row| Some((scale.x(row.clients), scale.y(row.median(value)?))))
                .collect();
            let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{dash} points=\"{}\"/>",
                line.join(" ")
            );
            for (x, y) in &points {
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{color}\"/>");
            }
            names.extend(points.last().map(|(_, y)| (*y, escape(&format!("{kind} {name}")), color)));
        }
    }
    for (y, name, color) in apart(names) {
        let x = WIDTH - RIGHT + 8.0;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{:.1}\" fill=\"{color}\">{name}</text>", y + 4.0);
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn draw_axes(svg: &mut String, scale: &Scale) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut power = scale.low;
    while power <= scale.high {
        let (value, y) = (10_f64.powf(power), scale.y(10_f64.powf(power)));
        let label = if value < 1000.0 {
            format!("{value} us")
        } else if value < 1e6 {
            format!("{} ms", value / 1e3)
        } else {
            format!("{} s", value / 1e6)
        };
        let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            y + 4.0
        );
        power += 1.0;
    }
    let mut clients = 1;
    while clients <= scale.clients {
        let x = scale.x(clients);
        let _ = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#eee\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{clients}</text>",
            bottom + 18.0
        );
        clients *= 2;
    }
    let middle = f64::midpoint(LEFT, right);
    let _ =
        writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">clients</text>", bottom + 40.0);
}

/// The positions of values in the plot.
struct Scale {
    clients: usize,
    /// The lowest and the highest latency, as powers of ten of microseconds.
    low: f64,
    high: f64,
}

impl Scale {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred clients")]
    fn x(&self, clients: usize) -> f64 {
        LEFT + (clients as f64).log2() / (self.clients as f64).log2() * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, microseconds: f64) -> f64 {
        let share = (microseconds.log10() - self.low) / (self.high - self.low).max(1.0);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }
}

/// Moves names down that would overlap.
fn apart<T, U>(mut names: Vec<(f64, T, U)>) -> Vec<(f64, T, U)> {
    names.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let mut free = f64::NEG_INFINITY;
    for (y, ..) in &mut names {
        *y = y.max(free);
        free = *y + 14.0;
    }
    names
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
