//! Products of weights that a tool has computed once and for all: the table of relative positions, normalised and projected by
//! every layer. A graph that was optimized after it was quantized has those of rounded weights, and no parameter can be put in their
//! place. What the model has there can.

use std::collections::HashMap;

use deberta_converters::error::Result;
use deberta_converters::fidelity::{Dequantized, Fidelity};
use deberta_converters::format::TensorFile as _;
use deberta_converters::format::onnx::from_model;
use deberta_converters::loading::Parameters;
use deberta_converters::lowering::{Codes, Stored};
use deberta_converters::tensor::Dtype;
use deberta_converters::values::Values;
use deberta_reference::{DebertaConfig, Head, Inputs};
use ndarray::{Array2, Array3, ArrayView3};

use crate::backend::{Backend as _, Reference};
use crate::trace::class::Class;
use crate::trace::tensor::Tensor;

/// The most noise of a table, as a share of its energy, if everything is stored in 8 bits, and if something is in fewer. Factors of 8
/// bits, a scale for each row, leave 43 dB, of 7 bits 37; one of 4 bits leaves about 20.
const MOST_NOISE: f64 = 0.01;
const MOST_NOISE_OF_FEW_BITS: f64 = 0.1;

/// The tensors of a lowered graph that are products of weights.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// By the names of the tensors, what the model has in the place of them.
    pub(super) exact: HashMap<String, Vec<f32>>,
    /// The tensors that are products of something else.
    pub(super) unknown: Vec<String>,
}

impl Tables {
    /// The tables of a graph that does not compute with the model's, and has tensors that no parameter is.
    ///
    /// # Errors
    /// Weights that the reference cannot run.
    pub(super) fn of(graph: &Dequantized, parameters: &Parameters, fidelity: &Fidelity) -> Result<Tables> {
        let checkpoint = parameters.checkpoint();
        let mut tables = Tables { exact: HashMap::new(), unknown: fidelity.unknown.clone() };
        let is_folded = fidelity.missing.iter().any(|name| name.ends_with("rel_embeddings.weight"));
        if !is_folded && tables.unknown.is_empty() {
            return Ok(tables);
        }
        let config = &checkpoint.config;
        let axes @ [rows, heads, size] =
            [2 * config.distances().span(), config.num_attention_heads, config.head_size()];
        let candidates = candidates(graph, rows * heads * size)?;
        if candidates.is_empty() {
            return Ok(tables);
        }
        let of_the_model = projected(parameters, config, axes)?;
        let few_bits = graph.lowered.stored.values().any(has_few_bits);
        let most = if few_bits { MOST_NOISE_OF_FEW_BITS } else { MOST_NOISE };
        for Candidate { name, shape, numbers } in candidates {
            let Some(order) = order_of(&shape, axes) else { continue };
            let tables_in_order = of_the_model.iter().map(|table| table.view().permuted_axes(order));
            let factors = [1.0, (1.0 / config.attention_scale()) as f32];
            let all = tables_in_order
                .flat_map(|exact| factors.map(|factor| (noise(exact, &numbers, factor), exact, factor)));
            let nearest = all.min_by(|one, other| one.0.total_cmp(&other.0));
            match nearest.filter(|(noise, ..)| *noise <= most) {
                Some((_, exact, factor)) => {
                    tables.unknown.retain(|unknown| *unknown != name);
                    tables.exact.insert(name, exact.iter().map(|number| number * factor).collect());
                }
                None if !tables.unknown.contains(&name) => tables.unknown.push(name),
                None => {}
            }
        }
        Ok(tables)
    }
}

/// Whether a tensor is stored in fewer than 8 bits.
fn has_few_bits(stored: &Stored) -> bool {
    match stored.codes {
        Codes::Integers(first, last) => last.saturating_sub(first) < 255,
        Codes::Nf4 | Codes::Fp4 => true,
        Codes::Float8(_) | Codes::Halves(_) => false,
    }
}

/// A tensor of as many numbers as a table has, that no parameter is.
struct Candidate {
    name: String,
    /// Without axes of length 1.
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

fn candidates(graph: &Dequantized, count: usize) -> Result<Vec<Candidate>> {
    let file = from_model(graph.lowered.model.clone(), &graph.checkpoint.source.path)?;
    let held: Vec<String> = graph.held().into_iter().map(|held| held.stored_name).collect();
    let mut candidates = Vec::new();
    for (index, info) in file.tensors().iter().enumerate() {
        let is_table = info.dtype == Dtype::F32 && info.shape.iter().product::<usize>() == count;
        if !is_table || held.contains(&info.name) {
            continue;
        }
        let values = Values {
            bytes: file.read(index)?,
            dtype: Dtype::F32,
            shape: info.shape.clone(),
            transposed: false,
        };
        let shape = info.shape.iter().copied().filter(|&length| length != 1).collect();
        candidates.push(Candidate { name: info.name.clone(), shape, numbers: values.to_f32()? });
    }
    Ok(candidates)
}

/// The table of relative positions [2S, h, d] after its normalisation, and after the projections of every layer, with their biases
/// and without.
fn projected(parameters: &Parameters, config: &DebertaConfig, axes: [usize; 3]) -> Result<Vec<Array3<f32>>> {
    let checkpoint = parameters.checkpoint();
    let class = Class::of_checkpoint(checkpoint);
    let model = Reference::load(parameters, class, class.masked_rows())?;
    let tokens = if config.distances().records_all() { 1 } else { config.distances().span() };
    let choices = (class.head == Head::MultipleChoice).then_some(1);
    let inputs = Inputs { choices, ..Inputs::from_ids(Array2::zeros((1, tokens))) };
    let projections = config.position_projections();
    let names = projections.map(|projection| format!("*.attention.self.{}", projection.name));
    let points: Vec<&str> = names.iter().map(String::as_str).chain(["*encoder.LayerNorm"]).collect();
    let mut tables = Vec::new();
    for Tensor { name, data, .. } in model.run(&inputs, &points, Vec::new())?.tensors {
        let table = data.floats().and_then(|numbers| Array3::from_shape_vec(axes, numbers.into_owned()).ok());
        let (Some(module), Some(table)) = (name.strip_prefix("activations."), table) else { continue };
        let bias = projections.iter().filter(|projection| projection.biased).find_map(|projection| {
            let bias = format!("{}{}.bias", module.strip_suffix(projection.name)?, projection.parameters);
            checkpoint.parameter(&bias)
        });
        if let Some(bias) = bias {
            let bias = Array2::from_shape_vec((axes[1], axes[2]), checkpoint.values(bias)?.to_f32()?);
            tables.extend(bias.ok().map(|bias| &table - &bias));
        }
        tables.push(table);
    }
    Ok(tables)
}

/// In which order a graph has the axes of a table [r, h, d], by its shape without axes of length 1.
fn order_of(shape: &[usize], [rows, heads, size]: [usize; 3]) -> Option<[usize; 3]> {
    const ROWS: [usize; 3] = [0, 1, 2];
    const TURNED: [usize; 3] = [1, 2, 0];
    const BY_HEADS: [usize; 3] = [1, 0, 2];
    match *shape {
        [r, w] if [r, w] == [rows, heads * size] => Some(ROWS),
        [w, r] if [r, w] == [rows, heads * size] => Some(TURNED),
        [r, h, d] if [r, h, d] == [rows, heads, size] => Some(ROWS),
        [h, d, r] if [r, h, d] == [rows, heads, size] => Some(TURNED),
        [h, r, d] if [r, h, d] == [rows, heads, size] => Some(BY_HEADS),
        _ => None,
    }
}

/// The energy of what numbers are off by, as a share of that of the exact ones.
fn noise(exact: ArrayView3<'_, f32>, numbers: &[f32], factor: f32) -> f64 {
    let (mut signal, mut noise) = (0.0, 0.0);
    for (&exact, &number) in exact.iter().zip(numbers) {
        let exact = f64::from(exact * factor);
        signal += exact * exact;
        noise += (f64::from(number) - exact).powi(2);
    }
    noise / signal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_told_by_their_lengths() {
        let order = |shape: &[usize]| order_of(shape, [32, 4, 16]);
        assert_eq!((order(&[32, 64]), order(&[32, 4, 16])), (Some([0, 1, 2]), Some([0, 1, 2])));
        assert_eq!((order(&[64, 32]), order(&[4, 16, 32])), (Some([1, 2, 0]), Some([1, 2, 0])));
        assert_eq!((order(&[4, 32, 16]), order(&[16, 4, 32])), (Some([1, 0, 2]), None));
    }
}
