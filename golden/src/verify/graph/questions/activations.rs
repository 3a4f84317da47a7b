//! The third question: what does rounding activations cost?

use std::rc::Rc;

use deberta_converters::error::Result;
use deberta_converters::fidelity::Dequantized;
use deberta_converters::format::onnx::GraphKind;
use deberta_converters::loading::Parameters;
use deberta_reference::Inputs;

use super::noise::Noise;
use super::variants::Variant;
use crate::backend::BackendName;
use crate::judge::tolerance::{Limits, Precision};
use crate::judge::verdict::Outcome;
use crate::report::Answer;
use crate::trace::class::Class;
use crate::trace::padding::Padding;
use crate::verify::graph::candidate::{GraphCandidate, Judged};
use crate::verify::graph::lengths;

/// What rounding activations costs, and the set of inputs on which it costs most.
pub(super) struct Rounding {
    pub(super) answer: Answer,
    pub(super) worst: Option<usize>,
}

/// Inputs that a graph is run on.
pub(super) struct Set {
    /// What reports call them.
    pub(super) name: &'static str,
    pub(super) inputs: Vec<Inputs>,
}

impl GraphCandidate<'_> {
    /// The inputs of the goldens that the graph takes, and other lengths.
    pub(super) fn sets(&self, parameters: &Parameters) -> Result<Vec<Set>> {
        let mut of_goldens = Vec::new();
        for golden in &self.file.request.goldens {
            for path in &golden.traces {
                let given = self.given(golden, path).map(|given| given.inputs);
                of_goldens.extend(given.ok().filter(|inputs| self.graph.takes(inputs).is_ok()));
            }
        }
        let class = self.class().unwrap_or(Class::of_checkpoint(parameters.checkpoint()));
        let of_lengths = lengths::inputs(self, &parameters.checkpoint().config, class)?;
        Ok(vec![
            Set { name: "the goldens", inputs: of_goldens },
            Set { name: "other lengths", inputs: of_lengths },
        ])
    }

    /// The graph as it is against the same one in standard operators, with the same weights and no rounding: on the goldens,
    /// and on other lengths.
    pub(super) fn rounds(
        &self,
        graph: &Dequantized,
        parameters: &Rc<Parameters>,
        kind: GraphKind,
        limits: &Limits,
        sets: &[Set],
    ) -> Result<Rounding> {
        let variant = Variant::with_own_weights(graph)?;
        let judged = Judged { precision: Precision::Quantized, least: 0.0 };
        let mut exact = self.lowered(variant.open()?, parameters, judged)?;
        if !self.meanings.0.is_empty() || !self.graph.unknown().is_empty() {
            exact.recognise();
        }
        let mut least: Option<(f64, usize, &str)> = None;
        for (at, Set { name, inputs }) in sets.iter().enumerate() {
            let (mut noise, mut ran) = (Noise::default(), false);
            for inputs in inputs {
                let want = exact.graph.run(inputs, &[], Vec::new())?;
                let got = self.graph.run(inputs, &[], Vec::new())?;
                let padding = Padding::of(inputs, parameters.checkpoint().head);
                ran |= noise.add(&want, &got, &padding).is_some();
            }
            if ran && least.is_none_or(|(least, ..)| noise.decibels() < least) {
                least = Some((noise.decibels(), at, name));
            }
        }
        let limit = limits.activations(kind);
        let Some((sqnr_db, worst, place)) = least else {
            let answer = Answer::new(Outcome::Undecided, "the graph was run on nothing");
            return Ok(Rounding { answer, worst: None });
        };
        let by = if self.graph.name() == BackendName::Onnx.as_str() {
            "in f32 here"
        } else {
            "by ONNX Runtime on this processor"
        };
        let quantized = graph.quantized_mask.as_ref();
        let what = match (kind.rounds_activations(), self.approximates_gelu()) {
            (true, false) => "rounding them",
            (true, true) => "rounding them, and FastGelu (gelu_new) in the place of the configuration's gelu",
            _ => "FastGelu (gelu_new) in the place of the configuration's gelu",
        };
        let (outcome, said) = if sqnr_db >= limit {
            (Outcome::Pass, format!("{what}, {by}, leaves the signal above the noise, least so on {place}"))
        } else {
            let mask = quantized.map_or(String::new(), |node| {
                format!(
                    "; {node} rounds the mask, so that its step is of the size of the mask's number: leave it out (nodes_to_exclude, \
                     or op_types_to_quantize of MatMul and Gemm alone)"
                )
            });
            (
                Outcome::Divergence,
                format!("{what}, {by}, costs more than a quantization does, most on {place}{mask}"),
            )
        };
        let answer = Answer { outcome, said, sqnr_db: Some(sqnr_db), limit_db: Some(limit) };
        Ok(Rounding { answer, worst: Some(worst) })
    }
}
