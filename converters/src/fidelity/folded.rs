//! Factors of channels that a tool has put into a normalisation, and taken out of the products behind it (SmoothQuant, AWQ): the graph
//! computes the same, and neither is the model's.
//!
//! ```text
//! f · (x̂ γ + β) · W / f = (x̂ γ + β) · W     γ' = f γ, β' = f β, W' = W / f for every row of W
//! ```

use super::Dequantized;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::format::onnx::proto::{GraphProto, NodeProto};
use crate::format::onnx::put_floats;
use crate::lowering::{Uses, little_endian, multiplied, product_with, uses_of};
use crate::tensor::Dtype;

/// How far a number may be from the product that it is, as a share of it: the factor and the product are rounded.
const ROUNDED: f32 = 4.0 * f32::EPSILON;

/// A normalisation whose numbers are the model's times factors.
struct Folded {
    /// What it computes.
    output: String,
    factors: Vec<f32>,
    /// Its tensors in the file, and what the model has there.
    exact: Vec<(String, Vec<f32>)>,
}

impl Dequantized {
    /// Puts factors that a normalisation has into the weights of the products behind it, and the model's numbers into the
    /// normalisation. Says whether there were any.
    ///
    /// # Errors
    /// Tensors of either side that cannot be read.
    pub(super) fn unfold(&mut self, model: &Checkpoint) -> Result<bool> {
        let nodes = self.lowered.model.graph.iter().flat_map(|graph| &graph.node);
        let uses = uses_of(nodes.clone());
        let mut found = Vec::new();
        for node in nodes {
            let is_alone = |name: &String| uses.get(name).is_some_and(|uses| uses.len() == 1);
            if node.op_type() == "LayerNormalization" && node.input.iter().skip(1).all(is_alone) {
                found.extend(self.factors_of(node, model)?);
            }
        }
        let mut any = false;
        for folded in found {
            any |= self.unfold_one(folded, &uses).is_some();
        }
        Ok(any)
    }

    /// The factors that the weight and the bias of a normalisation have both.
    fn factors_of(&self, node: &NodeProto, model: &Checkpoint) -> Result<Option<Folded>> {
        let ([_, weight, bias], [output, ..]) = (node.input.as_slice(), node.output.as_slice()) else {
            return Ok(None);
        };
        let (mut scaled, mut exact) = (Vec::new(), Vec::new());
        for name in [weight, bias] {
            let held = self.checkpoint.bound.iter().find(|bound| bound.stored_name == *name);
            let held = held.filter(|held| held.dtype == Dtype::F32 && self.stored(name).is_none());
            let of_the_model = held.and_then(|held| {
                model.parameter(&held.param.name).filter(|bound| bound.param.shape == held.param.shape)
            });
            let (Some(held), Some(bound)) = (held, of_the_model) else { return Ok(None) };
            let want = Dequantized::in_layout_of(held, model, bound)?;
            scaled.push(self.numbers(held)?);
            exact.push((name.clone(), want));
        }
        let ([(_, weight), (_, bias)], [scaled_weight, scaled_bias]) = (exact.as_slice(), scaled.as_slice())
        else {
            return Ok(None);
        };
        let factors: Vec<f32> =
            scaled_weight.iter().zip(weight).map(|(scaled, number)| scaled / number).collect();
        let is_product = |((&number, &factor), &scaled): ((&f32, &f32), &f32)| {
            (number * factor - scaled).abs() <= ROUNDED * scaled.abs()
        };
        let are_of_both = factors.iter().all(|factor| factor.is_normal())
            && bias.iter().zip(&factors).zip(scaled_bias).all(is_product)
            && factors.iter().any(|&factor| factor != 1.0);
        Ok(are_of_both.then(|| Folded { output: output.clone(), factors, exact }))
    }

    /// Nothing, and nothing done, if something takes what the normalisation computes that is no product with dequantized weights
    /// of its own.
    fn unfold_one(&mut self, folded: Folded, uses: &Uses) -> Option<()> {
        let Folded { output, factors, exact } = folded;
        let graph = self.lowered.model.graph.as_mut()?;
        let weights = weights_behind(graph, uses, &output)?;
        let mut changed = Vec::new();
        for (name, is_turned) in weights {
            let stored = self.lowered.stored.get(&name)?.clone();
            let mut tensor = graph.initializer.iter().find(|tensor| *tensor.name() == *name)?.clone();
            let stored = multiplied(&mut tensor, stored, factors.clone(), is_turned)?;
            changed.push((tensor, Some(stored)));
        }
        for (name, numbers) in exact {
            let mut tensor = graph.initializer.iter().find(|tensor| *tensor.name() == *name)?.clone();
            put_floats(&mut tensor, little_endian(numbers));
            changed.push((tensor, None));
        }
        for (tensor, stored) in changed {
            let name = tensor.name().to_owned();
            *graph.initializer.iter_mut().find(|tensor| *tensor.name() == *name)? = tensor;
            self.lowered.stored.extend(stored.map(|stored| (name, stored)));
        }
        Some(())
    }
}

/// The weights of the products that take a value, and whether they are turned. Nothing if there are none, something else takes the
/// value too, or something else the weights.
fn weights_behind(graph: &GraphProto, uses: &Uses, value: &str) -> Option<Vec<(String, bool)>> {
    if graph.output.iter().any(|output| *output.name() == *value) {
        return None;
    }
    let mut weights = Vec::new();
    for &index in uses.get(value)? {
        let (values, name, is_turned) = product_with(graph.node.get(index)?)?;
        if *values != *value || uses.get(name)?.len() != 1 {
            return None;
        }
        weights.push((name.to_owned(), is_turned));
    }
    Some(weights)
}
