//! What the goldens of a model exercise of its configuration.

use std::path::Path;

use deberta_converters::error::Result;
use deberta_reference::Head;

use super::asked::Stated;
use super::candidate::WeightFile;
use super::published;
use crate::coverage::{Coverage, Covered, lacking};
use crate::goldens::Golden;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind, Report};
use crate::trace::class::Class;
use crate::trace::file::TraceFile;
use crate::trace::inputs::inputs;

/// What the goldens exercise of the configuration of a weight file. Nothing if it has none that can be read: its runs say so.
pub(super) fn measure(file: &WeightFile<'_>) -> Option<Vec<Covered>> {
    let config = file.config().ok()?;
    let mut coverage = Coverage::new(&config);
    for golden in &file.request.goldens {
        for path in &golden.traces {
            // A trace that cannot be read is an error of its run.
            let _ = add_trace(&mut coverage, golden, path);
        }
        add_published(&mut coverage, golden, file.source.folder());
    }
    Some(coverage.features())
}

/// Notes what was measured, and what of it is lacking.
pub(super) fn note(features: Vec<Covered>, report: &mut Report) {
    let finding = lacking(&features).map(|said| Finding::new(FindingKind::Coverage, Outcome::Pass, said));
    report.findings.extend(finding);
    report.coverage = features;
}

fn add_trace(coverage: &mut Coverage<'_>, golden: &Golden, path: &Path) -> Result<()> {
    let file = TraceFile::open(path)?;
    let recorded = file.inputs()?;
    let class = Stated::of(&recorded, golden, path)?.class;
    coverage.add(class.map_or(Head::Base, |class| class.head), &inputs(&recorded)?);
    coverage.add_points(file.names());
    Ok(())
}

/// Adds the inputs of published values; texts, if the model's folder has a tokenizer.
fn add_published(coverage: &mut Coverage<'_>, golden: &Golden, folder: &Path) {
    let Some(case) = &golden.case else { return };
    let Some(given) = &case.inputs else { return };
    let (Ok(class), Ok(inputs)) = (Class::from_name(&case.class), published::inputs(given, folder)) else {
        return;
    };
    coverage.add(class.head, &inputs);
    coverage.add_published(case.slices.len());
}
