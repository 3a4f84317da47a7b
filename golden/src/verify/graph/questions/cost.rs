//! How far the graph as it is is from the goldens, in all.

use crate::report::{Cost, FileReport};
use crate::trace::file::Recorded;
use crate::trace::padding::Padding;
use crate::verify::graph::candidate::GraphCandidate;

impl GraphCandidate<'_> {
    /// The least that runs of the graph as it is reach; nothing if no output was compared.
    pub(super) fn cost(&self, report: &FileReport) -> Option<Cost> {
        let runs = report.runs.iter().filter(|run| run.backend == self.graph.name());
        let points = runs.flat_map(|run| &run.points).filter(|point| point.name.starts_with("outputs."));
        let compared: Vec<_> = points.filter_map(|point| point.real.as_ref()).collect();
        if compared.is_empty() {
            return None;
        }
        let sqnr_db = compared.iter().map(|real| real.sqnr_db).fold(f64::INFINITY, f64::min);
        let cosine = compared.iter().map(|real| real.cosine).fold(1.0, f64::min);
        let (flips, rows, margin) = self.flips();
        Some(Cost { sqnr_db, cosine, flips, rows, margin })
    }

    /// How many rows of logits have another largest one than the golden, of how many, and how far ahead it was there at most.
    fn flips(&self) -> (usize, usize, f64) {
        let (mut flips, mut rows, mut margin) = (0, 0, 0.0_f64);
        for golden in &self.file.request.goldens {
            for path in &golden.traces {
                let Ok(given) = self.given(golden, path) else { continue };
                let Ok(Some(Recorded::Whole(want))) = given.file.recorded("outputs.logits") else { continue };
                let Ok(got) = self.graph.run(&given.inputs, &[], Vec::new()) else { continue };
                let Some(got) = got.get("outputs.logits").filter(|got| got.shape == want.shape) else {
                    continue;
                };
                let width = want.shape.last().copied().filter(|&width| width > 1).unwrap_or(usize::MAX);
                let (Some(want_numbers), Some(got_numbers)) = (want.data.floats(), got.data.floats()) else {
                    continue;
                };
                let flags =
                    Padding::of(&given.inputs, given.class.head).of_tensor("outputs.logits", &want.shape);
                if width == usize::MAX {
                    continue;
                }
                for (at, (want, got)) in want_numbers.chunks(width).zip(got_numbers.chunks(width)).enumerate()
                {
                    if flags.as_ref().is_some_and(|flags| flags.get(at * width) == Some(&false)) {
                        continue;
                    }
                    rows += 1;
                    let (Some(right), Some(found)) = (largest(want), largest(got)) else { continue };
                    if right != found {
                        flips += 1;
                        let ahead =
                            want.get(right).zip(want.get(found)).map_or(0.0, |(a, b)| f64::from(a - b));
                        margin = margin.max(ahead);
                    }
                }
            }
        }
        (flips, rows, margin)
    }
}

/// Which number of a row is the largest.
fn largest(row: &[f32]) -> Option<usize> {
    row.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}
