//! Lengths and batch sizes that no golden has. An export can be right at the length that it was traced with alone.

use std::time::Instant;

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{DebertaConfig, Head, Inputs};
use ndarray::Array2;

use super::candidate::{Attempt, GraphCandidate, Weights};
use crate::backend::{Backend as _, Graph, Reference};
use crate::judge::compare::Comparison;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::{Outcome, Verdict};
use crate::report::{Finding, FindingKind, PRODUCER, RunReport};
use crate::trace::class::Class;
use crate::trace::padding::Padding;
use crate::verify::conventions::{convention, differs, other};

/// What reports call these inputs in the place of a golden.
const NAME: &str = "other lengths";

/// The most scores of a layer that are computed.
const MOST_SCORES: usize = 1 << 26;

/// The most sequences that a graph is given because it is declared for as many.
const MOST_ROWS: usize = 1 << 12;

/// Sequences of one length, of which some have padding.
struct Batch {
    length: usize,
    /// For every sequence, how many tokens of padding stand in front of it and behind it. Where the class chooses, they are the
    /// choices of one question.
    padding: Vec<(usize, usize)>,
}

/// Runs the graph on generated inputs, and compares its outputs with those of the reference.
pub(super) fn run(
    graph: &GraphCandidate<'_>,
    weights: &Weights,
    findings: &mut Vec<Finding>,
) -> Vec<Attempt> {
    let mut rows = graph.graph.masked_rows();
    let load = |rows| Reference::load(&weights.parameters, weights.class, rows);
    let mut reference = Some(load(rows));
    let mut attempts = Vec::new();
    for batch in batches(&*graph.graph, weights.config(), weights.class) {
        if batch.is_large(weights.config()) {
            let message = format!("the graph was not run on {batch}: more than {MOST_SCORES} scores a layer");
            findings.push(Finding::new(FindingKind::NotJudged, Outcome::Pass, message));
            continue;
        }
        let start = Instant::now();
        let mut run = RunReport::new(NAME, Some(batch.to_string()), graph.graph.name());
        run.producer = PRODUCER.to_owned();
        run.class = weights.class.to_string();
        graph.file.progress.step(&format!("{NAME}: {batch}"));
        let Some(Ok(model)) = &reference else {
            let done = reference.take().map_or(Ok(()), |failed| failed.map(drop));
            attempts.push(Attempt::new(run, done, start));
            break;
        };
        let mut done = compare(graph, weights, model, &batch, &mut run);
        // Where nothing but padding differs, and the file does not say what it makes of it, the graph may follow the other
        // convention.
        if !graph.graph.states_rows() && run.points.iter().any(|point| point.verdict == Verdict::Padding) {
            let mut again = run.clone();
            (again.points, again.findings) = (Vec::new(), Vec::new());
            let model = load(other(rows));
            let repeated =
                model.as_ref().is_ok_and(|model| compare(graph, weights, model, &batch, &mut again).is_ok());
            if repeated && !again.points.iter().any(|point| differs(&point.verdict)) {
                (run, rows, reference, done) = (again, other(rows), Some(model), Ok(()));
                let message = format!("the graph computes {}", convention(rows));
                run.findings.push(Finding::new(FindingKind::MaskedRows, Outcome::Pass, message));
            }
        }
        run.masked_rows = rows.to_string();
        if run.points.iter().any(|point| point.verdict.outcome() == Outcome::Divergence) {
            run.findings.push(blame(weights, &batch));
        }
        attempts.push(Attempt::new(run, done, start));
    }
    attempts
}

/// What it means that the graph computes something else than the reference.
fn blame(weights: &Weights, batch: &Batch) -> Finding {
    let whose = if weights.own {
        "the graph is wrong there, not the weights"
    } else {
        "the graph does not compute that model there, or not with its weights"
    };
    let message = format!(
        "with the weights of {} the reference computes something else for {batch}: {whose}",
        weights.place()
    );
    Finding::new(FindingKind::GraphDiffers, Outcome::Divergence, message)
}

/// The inputs without those that a graph does not have: token types, and padding.
fn fitting(graph: &dyn Graph, inputs: Inputs) -> Inputs {
    let lacks = |inputs: &Inputs| graph.takes(inputs).is_err_and(|error| error.kind() == Kind::Request);
    if !lacks(&inputs) {
        return inputs;
    }
    let without_types = Inputs { token_type_ids: None, ..inputs.clone() };
    let without_mask = Inputs { attention_mask: None, ..inputs };
    let without_both = Inputs { token_type_ids: None, ..without_mask.clone() };
    let fewer = [without_types, without_mask];
    fewer.into_iter().find(|inputs| !lacks(inputs)).unwrap_or(without_both)
}

/// Inputs with padding behind, as far as a graph takes them.
pub(super) fn padded(graph: &dyn Graph, config: &DebertaConfig, class: Class) -> Result<Inputs> {
    let heads = config.num_attention_heads;
    let most = if config.uses_positions(class.head) { config.max_position_embeddings } else { usize::MAX };
    let length = (heads + 2).min(most);
    let batch = Batch { length, padding: vec![(0, 0), (0, length / 2)] };
    batch.given(graph, config, class)
}

/// The generated inputs, as a graph takes them, of all lengths and batch sizes that it takes and that are not too large.
///
/// # Errors
/// A configuration whose sizes are too large for this machine.
pub(super) fn inputs(
    graph: &GraphCandidate<'_>,
    config: &DebertaConfig,
    class: Class,
) -> Result<Vec<Inputs>> {
    let graph = &*graph.graph;
    let batches = batches(graph, config, class).into_iter().filter(|batch| !batch.is_large(config));
    let mut inputs =
        batches.map(|batch| batch.given(graph, config, class)).collect::<Result<Vec<Inputs>>>()?;
    inputs.retain(|inputs| graph.takes(inputs).is_ok());
    Ok(inputs)
}

fn compare(
    graph: &GraphCandidate<'_>,
    weights: &Weights,
    model: &Reference,
    batch: &Batch,
    run: &mut RunReport,
) -> Result<()> {
    let inputs = batch.given(&*graph.graph, weights.config(), weights.class)?;
    let expected = model.run(&inputs, &[], Vec::new())?;
    let computed = graph.graph.run(&inputs, &[], Vec::new())?;
    // What is said of a quantized model holds at every length.
    let said = graph.file.request.goldens.iter().map(|golden| &golden.tolerances);
    let said = said.into_iter().find(|said| said.say(Precision::Quantized));
    let tolerances = said.filter(|_| graph.precision() == Precision::Quantized).cloned().unwrap_or_default();
    let padding = Padding::of(&inputs, weights.class.head);
    let comparison = Comparison { tolerances: &tolerances, precision: graph.precision(), padding: &padding };
    for want in expected.tensors.iter().filter(|tensor| tensor.name.starts_with("outputs.")) {
        let meaning = graph.meanings.of(&want.name);
        let got = computed.get(&want.name).map(|got| meaning.of_graph(got));
        let point = comparison.tensors(&meaning.of_golden(want), got.as_ref());
        run.points.push(graph.allowed(point, &tolerances));
    }
    Ok(())
}

/// One token; more tokens than twice the heads, where a wrong axis shows; as many as there are positions, or where distances are
/// sorted into buckets, one more than the largest distance needs; batches of two and three with padding behind, in front, and on
/// both sides; where the graph fixes lengths, these, without padding and with it.
fn batches(graph: &dyn Graph, config: &DebertaConfig, class: Class) -> Vec<Batch> {
    let (heads, positions) = (config.num_attention_heads, config.max_position_embeddings);
    let most = if config.uses_positions(class.head) { positions } else { usize::MAX };
    let longest = if config.position_buckets.is_some() { config.max_relative() + 2 } else { positions };
    let alone = |length: usize| Batch { length, padding: vec![(0, 0)] };
    let (short, long) = ((heads + 2).min(most), (2 * heads + 3).min(most));
    let mut batches = vec![
        alone(1),
        alone((2 * heads + 1).min(most)),
        alone(longest.min(most)),
        Batch { length: short, padding: vec![(0, 0), (0, short / 2)] },
        Batch { length: long, padding: vec![(0, 0), (long / 3, 0), (1.min(long / 2), long / 3)] },
    ];
    let fixed = match graph.fixed_lengths() {
        [rows, length] | [None | Some(1), rows, length] if rows.is_some() || length.is_some() => {
            Some((rows.unwrap_or(1), length.unwrap_or(short)))
        }
        _ => None,
    };
    let fixed = fixed.filter(|&(rows, length)| length <= most && rows <= MOST_ROWS);
    batches.extend(fixed.into_iter().flat_map(|(rows, length)| {
        [0, length / 3].map(|behind| Batch { length, padding: vec![(0, behind); rows] })
    }));
    batches.into_iter().filter(|batch| batch.length > 0).collect()
}

impl Batch {
    /// Whether a layer has more scores than are computed here.
    fn is_large(&self, config: &DebertaConfig) -> bool {
        let pairs = self.length.saturating_mul(self.length);
        let scores = pairs.saturating_mul(config.num_attention_heads).saturating_mul(self.padding.len());
        scores > MOST_SCORES
    }

    /// The inputs of this form, as a graph takes them.
    fn given(&self, graph: &dyn Graph, config: &DebertaConfig, class: Class) -> Result<Inputs> {
        let choices = (class.head == Head::MultipleChoice).then_some(self.padding.len());
        Ok(fitting(graph, Inputs { choices, ..self.inputs(config)? }))
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
