//! The first question: are the weights in the file those of the model, rounded?

use std::rc::Rc;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::Result;
use deberta_converters::fidelity::{Dequantized, Fidelity, TensorFidelity};
use deberta_converters::format::onnx::GraphKind;
use deberta_converters::loading::Parameters;

use super::activations::Set;
use super::noise::Noise;
use super::tables::Tables;
use super::variants::Variant;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::Outcome;
use crate::report::Answer;
use crate::trace::file::Trace;
use crate::trace::padding::Padding;
use crate::verify::graph::candidate::{GraphCandidate, Judged};

/// The most noise of outputs, in multiples of that which rounding to the nearest makes; and the decibels that are enough in any
/// case, because of few outputs the nearest may leave much more by chance.
const MOST_NOISE: f64 = 20.0;
const ENOUGH: f64 = 20.0;

/// How many broken tensors are named.
pub(super) const NAMED: usize = 5;

/// Judges the tensors of integers by how many steps a number may be off, if a case says it.
pub(super) fn limit(fidelity: &mut Fidelity, steps: Option<f64>) {
    let Some(steps) = steps else { return };
    for tensor in fidelity.tensors.iter_mut().filter(|tensor| tensor.stored_as.contains("int")) {
        tensor.limit = steps;
        if tensor.furthest <= steps {
            tensor.cause = None;
        } else if tensor.cause.is_none() {
            let furthest = tensor.furthest;
            tensor.cause =
                Some(format!("a number is {furthest:.3} steps from the model's, {steps} are allowed"));
        }
    }
}

impl GraphCandidate<'_> {
    /// What weights in blocks that are not the nearest cost, added to the answer about the weights: the outputs of the graph
    /// with them against those with the model's, beside what the nearest in the same blocks would leave.
    pub(super) fn judge_roundings(
        &self,
        graph: &Dequantized,
        parameters: &Rc<Parameters>,
        fidelity: &Fidelity,
        tables: &Tables,
        sets: &[Set],
        answer: &mut Answer,
    ) -> Result<()> {
        let otherwise: Vec<_> = fidelity.otherwise_rounded().collect();
        let set = sets.iter().find(|set| !set.inputs.is_empty());
        let (Some(set), false, Outcome::Pass) = (set, otherwise.is_empty(), answer.outcome) else {
            return Ok(());
        };
        let model = parameters.checkpoint();
        let exact =
            self.outputs(Variant::with_weights_of(graph, model, fidelity, tables)?, parameters, set)?;
        let noise = |variant: Variant| -> Result<f64> {
            let mut noise = Noise::default();
            for ((want, got), inputs) in
                exact.iter().zip(self.outputs(variant, parameters, set)?).zip(&set.inputs)
            {
                noise.add(want, &got, &Padding::of(inputs, model.head));
            }
            Ok(noise.decibels())
        };
        let (own, nearest) =
            (noise(Variant::with_own_weights(graph)?)?, noise(Variant::with_nearest_of(graph, model)?)?);
        let limit = ENOUGH.min(nearest - 10.0 * MOST_NOISE.log10());
        let furthest = otherwise.iter().map(|tensor| tensor.furthest).fold(0.0, f64::max);
        let noisiest = otherwise.iter().filter_map(|tensor| tensor.noise).fold(0.0, f64::max);
        let count = otherwise.len();
        answer.said.push_str(&format!(
            "; {count} of them in blocks not to the nearest (up to {furthest:.1} steps off, with {noisiest:.1} times its noise), as GPTQ \
             does: judged by the outputs on {}, where the nearest would leave {nearest:.1} dB",
            set.name
        ));
        (answer.sqnr_db, answer.limit_db) = (Some(own), Some((limit * 10.0).round() / 10.0));
        if own < limit {
            answer.outcome = Outcome::Divergence;
            answer.said.push_str(". They cost more than a rounding does");
        }
        Ok(())
    }

    /// What a variant of the graph computes of a set of inputs.
    fn outputs(&self, variant: Variant, parameters: &Rc<Parameters>, set: &Set) -> Result<Vec<Trace>> {
        let judged = Judged { precision: Precision::Quantized, least: 0.0 };
        let mut candidate = self.lowered(variant.open()?, parameters, judged)?;
        candidate.recognise();
        let run = |inputs| Ok(self.meanings.of_run(candidate.graph.run(inputs, &[], Vec::new())?));
        set.inputs.iter().map(run).collect()
    }
}

/// The answer, given every tensor against the model's.
pub(super) fn answer(fidelity: &Fidelity, model: &Checkpoint, kind: GraphKind) -> Answer {
    let place = model.source.path.display();
    let broken = fidelity.broken().count();
    let (rounded, all) = (fidelity.rounded().count(), fidelity.tensors.len());
    if broken > 0 {
        let is_bias = |tensor: &TensorFidelity| tensor.stored_as == "f32" && tensor.tensor.ends_with("bias");
        let hint = if kind.has_constant_scales() && fidelity.broken().all(is_bias) {
            "; all of these are biases: a tool may have corrected them by what rounding costs on average (NNCF leaves them with \
             disable_bias_correction)"
        } else {
            ""
        };
        let said = format!("{broken} of {all} tensors are not those of {place}, rounded{hint}");
        return Answer::new(Outcome::Divergence, said);
    }
    if rounded == 0 && kind.is_quantized() && fidelity.unknown.is_empty() && all == 0 {
        return Answer::new(
            Outcome::Undecided,
            "no tensor of the graph was recognised as a parameter of the model",
        );
    }
    let steps = fidelity.rounded().filter(|tensor| tensor.has_steps());
    let furthest = steps.map(|tensor| tensor.furthest).fold(0.0, f64::max);
    let unknown = match fidelity.unknown.len() {
        0 => String::new(),
        count => format!("; {count} rounded tensors are no parameters, and were not compared"),
    };
    let steps = if furthest > 0.0 { format!(", at most {furthest:.3} steps off") } else { String::new() };
    let said = format!(
        "{rounded} of {all} tensors are those of {place}, rounded{steps}; the others are equal{unknown}"
    );
    Answer::new(Outcome::Pass, said)
}
