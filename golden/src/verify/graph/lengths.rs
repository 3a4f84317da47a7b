//! Lengths and batch sizes that no golden has. An export can be right at the length that it was traced with alone.

use std::time::Instant;

use deberta_converters::error::{Error, Result};
use deberta_reference::{DebertaConfig, Head, Inputs};
use ndarray::Array2;

use super::candidate::{Attempt, GraphCandidate, Weights};
use crate::backend::{Backend as _, Reference};
use crate::judge::compare::Comparison;
use crate::judge::tolerance::Tolerances;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind, PRODUCER, RunReport};
use crate::trace::class::Class;
use crate::trace::padding::Padding;

/// What reports call these inputs in the place of a golden.
const NAME: &str = "other lengths";

/// The most scores of a layer that are computed.
const MOST_SCORES: usize = 1 << 26;

/// Sequences of one length, of which some have padding.
struct Batch {
    length: usize,
    /// For every sequence, how many tokens of padding stand in front of it and behind it.
    padding: Vec<(usize, usize)>,
}

/// Runs the graph on generated inputs, and compares its outputs with those of the reference.
pub(super) fn run(
    graph: &GraphCandidate<'_>,
    weights: &Weights,
    findings: &mut Vec<Finding>,
) -> Vec<Attempt> {
    let mut reference = Some(Reference::load(&weights.parameters, weights.class, graph.graph.masked_rows()));
    let mut attempts = Vec::new();
    for batch in batches(weights.config(), weights.class) {
        if batch.is_large(weights.config()) {
            let message = format!("the graph was not run on {batch}: more than {MOST_SCORES} scores a layer");
            findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
            continue;
        }
        let start = Instant::now();
        let mut run = RunReport::new(NAME, Some(batch.to_string()), graph.graph.name());
        run.producer = PRODUCER.to_owned();
        run.class = weights.class.to_string();
        run.masked_rows = graph.graph.masked_rows().to_string();
        graph.file.progress.step(&format!("{NAME}: {batch}"));
        match &reference {
            Some(Ok(model)) => {
                let done = compare(graph, weights, model, &batch, &mut run);
                attempts.push(Attempt::new(run, done, start));
            }
            _ => {
                let done = reference.take().map_or(Ok(()), |failed| failed.map(drop));
                attempts.push(Attempt::new(run, done, start));
                break;
            }
        }
    }
    attempts
}

fn compare(
    graph: &GraphCandidate<'_>,
    weights: &Weights,
    model: &Reference,
    batch: &Batch,
    run: &mut RunReport,
) -> Result<()> {
    // All sequences are the choices of one question, where the class chooses.
    let choices = (weights.class.head == Head::MultipleChoice).then_some(batch.padding.len());
    let inputs = Inputs { choices, ..batch.inputs(weights.config())? };
    let expected = model.run(&inputs, &[], Vec::new())?;
    let computed = graph.graph.run(&inputs, &[], Vec::new())?;
    let (tolerances, padding) = (Tolerances::default(), Padding::of(&inputs, weights.class.head));
    let comparison =
        Comparison { tolerances: &tolerances, precision: graph.graph.precision(), padding: &padding };
    for want in expected.tensors.iter().filter(|tensor| tensor.name.starts_with("outputs.")) {
        run.points.push(comparison.tensors(want, computed.get(&want.name)));
    }
    if run.points.iter().any(|point| point.verdict.outcome() == Outcome::Divergence) {
        let message = format!(
            "with the weights of {} the reference computes something else for {batch}: the graph is wrong there, not \
             the weights",
            weights.parameters.checkpoint().source.path.display()
        );
        run.findings.push(Finding::new(FindingKind::GraphDiffers, Outcome::Divergence, message));
    }
    Ok(())
}

/// One token; more tokens than twice the heads, where a wrong axis shows; as many as there are positions; batches of two
/// and three with padding behind, in front, and on both sides.
fn batches(config: &DebertaConfig, class: Class) -> Vec<Batch> {
    let (heads, positions) = (config.num_attention_heads, config.max_position_embeddings);
    let most = if config.uses_positions(class.head) { positions } else { usize::MAX };
    let alone = |length: usize| Batch { length, padding: vec![(0, 0)] };
    let (short, long) = ((heads + 2).min(most), (2 * heads + 3).min(most));
    let batches = vec![
        alone(1),
        alone((2 * heads + 1).min(most)),
        alone(positions),
        Batch { length: short, padding: vec![(0, 0), (0, short / 2)] },
        Batch { length: long, padding: vec![(0, 0), (long / 3, 0), (1.min(long / 2), long / 3)] },
    ];
    batches.into_iter().filter(|batch| batch.length > 0).collect()
}

impl Batch {
    /// Whether a layer has more scores than are computed here.
    fn is_large(&self, config: &DebertaConfig) -> bool {
        let pairs = self.length.saturating_mul(self.length);
        let scores = pairs.saturating_mul(config.num_attention_heads).saturating_mul(self.padding.len());
        scores > MOST_SCORES
    }

    /// Arbitrary but fixed inputs of this form.
    fn inputs(&self, config: &DebertaConfig) -> Result<Inputs> {
        const STEP: usize = 7919; // a prime
        let shape = (self.padding.len(), self.length);
        let array = |values: Vec<i64>| {
            Array2::from_shape_vec(shape, values).map_err(|error| Error::malformed(error.to_string()))
        };
        let below = |limit: usize, at: usize| (at.wrapping_add(1).wrapping_mul(STEP) % limit.max(1)) as i64;
        let count = shape.0.saturating_mul(shape.1);
        let ids = array((0..count).map(|at| below(config.vocab_size, at)).collect())?;
        let types = config.type_vocab_size;
        let types = (types > 0).then(|| array((0..count).map(|at| below(types, at / 2)).collect()));
        let mask = self.padding.iter().flat_map(|&(front, behind)| {
            let end = self.length.saturating_sub(behind);
            (0..self.length).map(move |at| if (front..end).contains(&at) { 1 } else { 0 })
        });
        let mask = array(mask.collect())?.mapv(|token| token as f32).into_dyn();
        Ok(Inputs { attention_mask: Some(mask), token_type_ids: types.transpose()?, ..Inputs::from_ids(ids) })
    }
}

impl std::fmt::Display for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let padded = self.padding.iter().any(|&padding| padding != (0, 0));
        let padded = if padded { ", padded" } else { "" };
        write!(f, "{} x {}{padded}", self.padding.len(), self.length)
    }
}
