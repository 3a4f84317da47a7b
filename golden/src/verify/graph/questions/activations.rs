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
        let mut measured: Vec<(f64, usize, &str)> = Vec::new();
        for (at, Set { name, inputs }) in sets.iter().enumerate() {
            let (mut noise, mut ran) = (Noise::default(), false);
            for inputs in inputs {
                let want = self.meanings.of_run(exact.graph.run(inputs, &[], Vec::new())?);
                let got = self.meanings.of_run(self.graph.run(inputs, &[], Vec::new())?);
                let padding = Padding::of(inputs, parameters.checkpoint().head);
                ran |= noise.add(&want, &got, &padding).is_some();
            }
            if ran {
                measured.push((noise.decibels(), at, name));
            }
        }
        let limit = limits.activations(kind, self.moves_distances());
        // Constant scales were measured on texts, and clip what arbitrary tokens make of a model.
        let of_texts = kind.has_constant_scales() && measured.len() > 1;
        let aside = of_texts.then(|| measured.pop()).flatten();
        let aside = aside.map_or(String::new(), |(db, _, name)| {
            format!("; {db:.1} dB on {name}, arbitrary tokens that its scales were not measured on")
        });
        let Some(&(sqnr_db, worst, place)) = measured.iter().min_by(|one, other| one.0.total_cmp(&other.0))
        else {
            let answer = Answer::new(Outcome::Undecided, "the graph was run on nothing");
            return Ok(Rounding { answer, worst: None });
        };
        let in_f32 = self.graph.name() == BackendName::Onnx.as_str();
        let by = if in_f32 { "in f32 here" } else { "by ONNX Runtime on this processor" };
        let quantized = graph.quantized_mask.as_ref();
        let what = self.approximations(kind);
        let (outcome, said) = if sqnr_db >= limit {
            let said = format!("{what}, {by}, leaves the signal above the noise, least so on {place}{aside}");
            (Outcome::Pass, said)
        } else {
            let mask = quantized.map_or(String::new(), |node| {
                format!(
                    "; {node} rounds the mask, so that its step is of the size of the mask's number: leave it out (nodes_to_exclude, \
                     or op_types_to_quantize of MatMul and Gemm alone)"
                )
            });
            let saturation =
                if kind.rounds_activations() && graph.may_saturate() { saturation(in_f32) } else { "" };
            (
                Outcome::Divergence,
                format!(
                    "{what}, {by}, costs more than a quantization does, most on {place}{aside}{mask}{saturation}"
                ),
            )
        };
        let answer = Answer { outcome, said, sqnr_db: Some(sqnr_db), limit_db: Some(limit) };
        Ok(Rounding { answer, worst: Some(worst) })
    }
}

impl GraphCandidate<'_> {
    /// Whether a tool has made the graph compute something else than the model, and that is no fault.
    pub(super) fn departs_by_design(&self) -> bool {
        self.approximates_gelu() || self.moves_distances()
    }

    /// What of the graph is not the model's, in words.
    fn approximations(&self, kind: GraphKind) -> String {
        let mut what = Vec::new();
        if kind.rounds_activations() {
            what.push("rounding them".to_owned());
        }
        if self.approximates_gelu() {
            what.push("FastGelu (gelu_new) in the place of the configuration's gelu".to_owned());
        }
        let moved = self.moved_distances();
        if let (Some(first), Some(half)) = (moved.first(), kind.half()) {
            what.push(format!(
                "sorting distances into buckets in {half}, which gives {} of them another row of the table than f32, as {first} (leave \
                 Log, Ceil and what is between them in f32)",
                moved.len()
            ));
        }
        what.join(", and ")
    }
}

/// What may be lost beside the rounding, where products of uint8 and int8 are added in 16 bits: nobody has measured it here, unless
/// this processor does so.
fn saturation(in_f32: bool) -> &'static str {
    match (in_f32, adds_in_16_bits()) {
        (true, _) => {
            "; possibly more is lost elsewhere: weights of int8 need all 8 bits (no reduce_range), and on x64 processors without \
             VNNI ONNX Runtime adds their products with uint8 in 16 bits, where the sums saturate"
        }
        (false, true) => {
            "; possibly because sums saturate: weights of int8 need all 8 bits (no reduce_range), and this processor has no VNNI, so \
             that ONNX Runtime adds their products with uint8 in 16 bits"
        }
        (false, false) => "",
    }
}

/// Whether ONNX Runtime adds the products of two integers of 8 bits in 16 on this processor.
fn adds_in_16_bits() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        !(std::is_x86_feature_detected!("avx512vnni") || std::is_x86_feature_detected!("avxvnni"))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}
