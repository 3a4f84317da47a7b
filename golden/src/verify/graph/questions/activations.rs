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

impl GraphCandidate<'_> {
    /// The graph as it is against the same one in standard operators, with the same weights and no rounding: on the goldens,
    /// and on other lengths.
    pub(super) fn rounds(
        &self,
        graph: &Dequantized,
        parameters: &Rc<Parameters>,
        kind: GraphKind,
        limits: &Limits,
    ) -> Result<Answer> {
        let variant = Variant::with_own_weights(graph)?;
        let judged = Judged { precision: Precision::Quantized, least: 0.0 };
        let mut exact = self.lowered(variant.open()?, parameters, judged)?;
        if !self.meanings.0.is_empty() || !self.graph.unknown().is_empty() {
            exact.recognise();
        }
        let mut sets: Vec<(&str, Vec<Inputs>)> =
            vec![("the goldens", Vec::new()), ("other lengths", Vec::new())];
        for golden in &self.file.request.goldens {
            for path in &golden.traces {
                let given = self.given(golden, path).map(|given| given.inputs);
                let given = given.ok().filter(|inputs| self.graph.takes(inputs).is_ok());
                if let Some((_, inputs)) = sets.first_mut() {
                    inputs.extend(given);
                }
            }
        }
        if let Some((_, inputs)) = sets.last_mut() {
            let class = self.class().unwrap_or(Class::of_checkpoint(parameters.checkpoint()));
            inputs.extend(lengths::inputs(self, &parameters.checkpoint().config, class)?);
        }
        let mut least: Option<(f64, &str)> = None;
        for (name, inputs) in &sets {
            let (mut noise, mut ran) = (Noise::default(), false);
            for inputs in inputs {
                let want = exact.graph.run(inputs, &[], Vec::new())?;
                let got = self.graph.run(inputs, &[], Vec::new())?;
                let padding = Padding::of(inputs, parameters.checkpoint().head);
                ran |= noise.add(&want, &got, &padding).is_some();
            }
            if ran && least.is_none_or(|(least, _)| noise.decibels() < least) {
                least = Some((noise.decibels(), name));
            }
        }
        let limit = limits.activations(kind);
        let Some((sqnr_db, place)) = least else {
            return Ok(Answer::new(Outcome::Undecided, "the graph was run on nothing"));
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
        Ok(Answer { outcome, said, sqnr_db: Some(sqnr_db), limit_db: Some(limit) })
    }
}
