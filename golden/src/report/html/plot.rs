//! The error of every layer, as a share of the tolerance, on a logarithmic scale.

use deberta_reference::Stage;

use super::label::label;
use crate::judge::verdict::PointReport;
use crate::report::escape::markup;
use crate::report::growth::{StageError, growth, short};
use crate::report::numbers::{of_tolerance, share};
use crate::report::{LayerLoss, Losses};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// The most labels that have room below the plot.
const LABELS: usize = 26;

/// The plot as SVG with its caption. Nothing if there is no stage to compare with another.
pub(super) fn plot(points: &[PointReport]) -> String {
    let stages = growth(points);
    if stages.len() < 2 {
        return String::new();
    }
    let scale = Scale::of(&stages);
    let mut svg = format!(
        "<figure class=\"scroll\">\n<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"largest error of every layer as a share of the tolerance\">\n"
    );
    svg.push_str(&scale.grid(&stages));
    let padded = stages.iter().any(|(_, error)| error.padded.is_some());
    if padded {
        svg.push_str(&scale.line("padded", &stages, |error| error.padded, of_tolerance));
    }
    svg.push_str(&scale.line("real", &stages, |error| error.real, of_tolerance));
    svg.push_str("</svg>\n<figcaption>Largest error of every layer, as a share of the tolerance: ");
    svg.push_str("<span class=\"key real\">● tokens</span>");
    if padded {
        svg.push_str(", <span class=\"key padded\">◆ padding</span>");
    }
    svg.push_str(", <span class=\"key limit\">┄ tolerance</span></figcaption>\n</figure>\n");
    svg
}

/// The plot of what every layer of a quantized graph loses when it alone is rounded, as a share of the noise of all. Nothing
/// if there is no layer to compare with another.
pub(super) fn losses(losses: &Losses) -> String {
    if losses.layers.len() < 2 {
        return String::new();
    }
    let all = 10.0_f64.powf(-losses.rounded_db / 10.0);
    let of_layer = |layer: &LayerLoss| {
        let stage = match layer.layer.strip_prefix("layer ").and_then(|number| number.parse().ok()) {
            Some(number) => Stage::Layer(number),
            None if layer.layer == "embeddings" => Stage::Embeddings,
            None => Stage::Head,
        };
        (stage, StageError { real: Some(layer.share() / all), padded: None })
    };
    let stages: Vec<(Stage, StageError)> = losses.layers.iter().map(of_layer).collect();
    let scale = Scale::of(&stages);
    format!(
        "<figure class=\"scroll\">\n<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"noise of every layer as a share of the noise of all\">\n{}{}</svg>\n<figcaption>Noise of the outputs when a \
         layer alone is rounded, as a share of what all of them make: <span class=\"key real\">● a layer</span>, \
         <span class=\"key limit\">┄ all</span></figcaption>\n</figure>\n",
        scale.grid(&stages),
        scale.line("real", &stages, |error| error.real, |of| format!("{} of the noise of all", share(of)))
    )
}

/// From shares to places.
struct Scale {
    /// The powers of ten at the bottom and at the top.
    low: i32,
    high: i32,
    stages: usize,
}

impl Scale {
    fn of(stages: &[(Stage, StageError)]) -> Scale {
        let shares = stages.iter().flat_map(|(_, error)| [error.real, error.padded]).flatten();
        let powers = shares.filter(|share| share.is_finite() && *share > 0.0).map(f64::log10);
        let (low, high) =
            powers.fold((0.0_f64, 0.0_f64), |(low, high), power| (low.min(power), high.max(power)));
        // Shares beyond any reason do not flatten the rest.
        let (low, high) = (low.floor().max(-8.0) as i32, high.ceil().min(40.0) as i32 + 1);
        Scale { low: low.min(-2), high, stages: stages.len() }
    }

    fn x(&self, at: usize) -> f64 {
        LEFT + (at as f64 + 0.5) * (WIDTH - LEFT - RIGHT) / self.stages as f64
    }

    fn y(&self, share: f64) -> f64 {
        let power = if share > 0.0 { share.log10() } else { f64::NEG_INFINITY };
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        let height = (power.clamp(low, high) - low) / (high - low);
        HEIGHT - BOTTOM - height * (HEIGHT - TOP - BOTTOM)
    }

    fn grid(&self, stages: &[(Stage, StageError)]) -> String {
        let mut svg = String::new();
        let step = ((self.high - self.low) / 7 + 1).max(1);
        for power in (self.low..self.high).filter(|power| power.rem_euclid(step) == 0) {
            let y = self.y(10.0_f64.powi(power));
            let label = match power {
                -2 => "1%".to_owned(),
                -1 => "10%".to_owned(),
                0 => "100%".to_owned(),
                1..=4 => format!("{}×", 10_u32.pow(power.unsigned_abs())),
                power if power < 0 => {
                    format!("{:.*}%", power.unsigned_abs() as usize - 2, 10.0_f64.powi(power + 2))
                }
                power => format!("1e{power}×"),
            };
            svg.push_str(&format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                WIDTH - RIGHT
            ));
            svg.push_str(&text(LEFT - 8.0, y + 4.0, "end", &label));
        }
        let y = self.y(1.0);
        svg.push_str(&format!(
            "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n",
            WIDTH - RIGHT
        ));
        let every = stages.len().div_ceil(LABELS).max(1);
        for (at, (stage, _)) in stages.iter().enumerate().filter(|(at, _)| at % every == 0) {
            svg.push_str(&text(self.x(at), HEIGHT - BOTTOM + 18.0, "middle", &short(*stage)));
        }
        svg + &text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 4.0, "middle", "layer")
    }

    /// A line with a mark at every stage; where there is no number it has a gap.
    fn line(
        &self,
        class: &str,
        stages: &[(Stage, StageError)],
        of: impl Fn(&StageError) -> Option<f64>,
        said: impl Fn(f64) -> String,
    ) -> String {
        let (mut marks, mut paths, mut path) = (String::new(), String::new(), String::new());
        for (at, (stage, error)) in stages.iter().enumerate() {
            let Some(share_of) = of(error) else {
                paths.push_str(&ended(class, &mut path));
                continue;
            };
            let (x, y) = (self.x(at), self.y(share_of));
            path.push_str(&format!("{} {x:.1} {y:.1} ", if path.is_empty() { 'M' } else { 'L' }));
            let beyond = if share_of > 1.0 || share_of.is_nan() { " beyond" } else { "" };
            let title = markup(&format!("{stage}: {}", said(share_of)));
            let mark = match class {
                "padded" => {
                    format!("<path d=\"M {x:.1} {:.1} l 5 5 l -5 5 l -5 -5 z\"", y - 5.0)
                }
                _ => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\""),
            };
            marks.push_str(&format!("{mark} class=\"mark {class}{beyond}\"><title>{title}</title>"));
            marks.push_str(if class == "padded" { "</path>\n" } else { "</circle>\n" });
        }
        paths.push_str(&ended(class, &mut path));
        paths + &marks
    }
}

/// A label at a place that is no whole number.
fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    label(format_args!("{x:.1}"), format_args!("{y:.1}"), anchor, text)
}

fn ended(class: &str, path: &mut String) -> String {
    let path = std::mem::take(path);
    if path.is_empty() { path } else { format!("<path class=\"line {class}\" d=\"{}\"/>\n", path.trim_end()) }
}
