//! Points by layers, coloured by the share of the tolerance.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use deberta_reference::{Module, Stage};

use super::label::label;
use crate::judge::verdict::PointReport;
use crate::report::escape::markup;
use crate::report::growth::{shares, short};
use crate::report::numbers::of_tolerance;
use crate::report::verdict::word;
use crate::trace::points::{Named, rank};

const CELL: usize = 28;
const ROW: usize = 18;
const HEAD: usize = 22;

/// The classes of shares: the largest share, and what the legend says.
const CLASSES: [(f64, &str); 6] = [
    (0.01, "to 1%"),
    (0.1, "to 10%"),
    (0.5, "to 50%"),
    (1.0, "to 100%"),
    (100.0, "beyond"),
    (f64::INFINITY, "over 100×"),
];

/// The heat map as SVG with its legend. Only points that are there have a cell.
pub(super) fn heat_map(points: &[PointReport]) -> String {
    if points.is_empty() {
        return String::new();
    }
    let stages: BTreeSet<Stage> = points.iter().map(|point| rank(&point.name).0).collect();
    let columns: BTreeMap<Stage, usize> = stages.iter().enumerate().map(|(at, &stage)| (stage, at)).collect();
    let mut rows: Vec<&str> = Vec::new();
    let mut row_of: HashMap<&str, usize> = HashMap::new();
    let longest = points.iter().map(|point| shortened(row_name(&point.name)).chars().count()).max();
    // The width of the labels, whose characters are less than seven wide.
    let left = 16 + 7 * longest.unwrap_or_default();
    let mut cells = String::new();
    for point in points {
        let (stage, name) = (rank(&point.name).0, row_name(&point.name));
        let row = *row_of.entry(name).or_insert_with(|| {
            rows.push(name);
            rows.len() - 1
        });
        let column = columns.get(&stage).copied().unwrap_or_default();
        cells.push_str(&cell(point, left + column * CELL, HEAD + row * ROW));
    }
    let (width, height) = (left + stages.len() * CELL + 8, HEAD + rows.len() * ROW + 4);
    let mut svg = format!(
        "<figure class=\"scroll\">\n<svg class=\"heat\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"share of the tolerance by point and layer\">\n"
    );
    for (at, stage) in stages.iter().enumerate() {
        svg.push_str(&label(left + at * CELL + CELL / 2, HEAD - 7, "middle", &short(*stage)));
    }
    for (at, row) in rows.iter().enumerate() {
        svg.push_str(&label(left - 8, HEAD + at * ROW + ROW - 5, "end", &shortened(row)));
    }
    svg.push_str(&cells);
    svg.push_str("</svg>\n<figcaption>Share of the tolerance, points by layers: ");
    for (at, (_, text)) in CLASSES.iter().enumerate() {
        let mark = if at >= 4 { "×" } else { "" };
        svg.push_str(&format!(
            "<span class=\"key\"><span class=\"cell-key h{at}\">{mark}</span> {text}</span> "
        ));
    }
    svg + "<span class=\"key\"><span class=\"cell-key none\">?</span> not judged</span></figcaption>\n</figure>\n"
}

fn cell(point: &PointReport, x: usize, y: usize) -> String {
    let of = shares(point);
    let largest = [of.real, of.padded].into_iter().flatten().reduce(f64::max);
    let class = largest.and_then(|largest| CLASSES.iter().position(|&(limit, _)| largest <= limit));
    let text = match largest {
        Some(largest) => {
            format!("{}: {}, {}", point.name, word(&point.verdict), of_tolerance(largest))
        }
        None => format!("{}: {}", point.name, word(&point.verdict)),
    };
    let mark = match class {
        Some(class) if class >= 4 => "×",
        None => "?",
        _ => "",
    };
    let class = class.map_or("none".to_owned(), |class| format!("h{class}"));
    let (width, height) = (CELL - 2, ROW - 2);
    let mark = match mark {
        "" => String::new(),
        mark => format!(
            "<text class=\"cell-mark\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{mark}</text>",
            x + CELL / 2,
            y + ROW - 5
        ),
    };
    format!(
        "<g><title>{}</title><rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{height}\" rx=\"2\"/>{mark}</g>\n",
        markup(&text),
        x + 1,
        y + 1
    )
}

/// The name of a point without its layer.
fn row_name(name: &str) -> &str {
    match Named::of(name) {
        Some(Named::Point(Stage::Layer(_), Module::Layer)) => "layer",
        Some(Named::Point(Stage::Step(_), Module::Layer)) => "step",
        Some(Named::Point(_, module)) => module.path(),
        Some(Named::State(_)) => "hidden_states",
        Some(Named::Attentions(_)) => "attentions",
        Some(Named::Output(output)) => output,
        None => name.split_once('.').map_or(name, |(_, name)| name),
    }
}

/// The end of a name, which is what tells it from others.
fn shortened(label: &str) -> String {
    const LONGEST: usize = 34;
    let length = label.chars().count();
    match length <= LONGEST {
        true => label.to_owned(),
        false => format!("…{}", label.chars().skip(length + 1 - LONGEST).collect::<String>()),
    }
}
