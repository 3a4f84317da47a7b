//! Whether the weights that a graph stores are those of a model, rounded: tensor by tensor, without running anything.
//!
//! ```text
//! blocks      integers in blocks that are not the nearest
//! distance    how far a stored number is from the model's, in steps of how it is stored
//! folded      factors that are in a normalisation and not in the weights behind it
//! cause       why a tensor is further off than rounding takes it
//! saturation  products of integers that a processor may add in 16 bits
//! unread      integers that are in no way that is known
//! ```

use std::path::Path;

use deberta_reference::{DebertaConfig, Head};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::format::onnx::{self, OnnxFile};
use crate::format::{Format, TensorFile};
use crate::lowering::{Activations, Codes, Lowered, Options, Stored, lower};
use crate::mapped::Mapped;
use crate::matching::{Bound, Place};
use crate::source::Source;
use crate::tensor::Dtype;
use blocks::Rounding;
use distance::Distances;

mod blocks;
mod cause;
mod distance;
mod folded;
mod saturation;
mod unread;

/// How the tensors of a graph are from those of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// Every tensor of the graph that is a parameter of the model.
    pub tensors: Vec<TensorFidelity>,
    /// Rounded tensors of the graph that are no parameter: a product of several, as optimizers make them.
    pub unknown: Vec<String>,
    /// Parameters of the model that the graph does not compute with.
    pub missing: Vec<String>,
    /// How many of the tensors are stored in blocks.
    #[serde(default)]
    pub in_blocks: usize,
}

/// How a tensor of a graph is from the model's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorFidelity {
    /// The parameter.
    pub tensor: String,
    /// The tensor in the file.
    pub stored_name: String,
    /// How it is stored: `int8`, `uint4`, `NF4`, `f16`, `f32`.
    pub stored_as: String,
    /// How many scales it has; 0 where numbers are no integers.
    pub scales: usize,
    /// How many numbers it has.
    pub count: usize,
    /// How many of them are further off than rounding takes them.
    pub beyond: usize,
    /// The furthest from the model's number: in steps of integers; of codes and floating-point numbers in neighbours.
    pub furthest: f64,
    /// How far a number may be.
    pub limit: f64,
    /// What is wrong, if more is beyond the limit than may be.
    pub cause: Option<String>,
    /// Of integers in blocks that are not the nearest: how much noise they make, in multiples of what the nearest would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
}

/// A graph whose weights are numbers again.
pub struct Dequantized {
    /// Its weights, matched with the parameters of a class.
    pub checkpoint: Checkpoint,
    /// The graph in standard operators, and how its tensors are stored.
    pub lowered: Lowered,
    /// A node that rounds the mask, whose number is as large as f32 has them, and everything with it.
    pub quantized_mask: Option<String>,
}

impl Dequantized {
    /// Opens the graph at `path`, of this configuration and class, to compare it with a model.
    ///
    /// # Errors
    /// A file that is no ONNX model, or whose tensors are of several models; tensors of either side that cannot be read; integers
    /// that a node takes otherwise than it is known here.
    pub fn open(path: &Path, config: &DebertaConfig, head: Head, model: &Checkpoint) -> Result<Dequantized> {
        let file = onnx::open(Mapped::open(path)?)?;
        let options = Options::of_a_model(Activations::Exact, config);
        let lowered = lower(&file, Mapped::open(path)?, options)?;
        unread::refuse(&lowered).map_err(|error| error.in_file(path))?;
        let quantized_mask = rounds_the_mask(&file);
        let checkpoint = weights_of(&lowered, path, config, head)?;
        let mut graph = Dequantized { checkpoint, lowered, quantized_mask };
        if graph.unfold(model)? {
            graph.checkpoint = weights_of(&graph.lowered, path, config, head)?;
        }
        if graph.lowered.stored.values().any(|stored| matches!(stored.codes, Codes::Integers(..))) {
            graph.recognise_multiples()?;
        }
        Ok(graph)
    }

    /// Takes parameters in f32 that are multiples of scales for integers: they were, before a tool optimized the graph.
    fn recognise_multiples(&mut self) -> Result<()> {
        for held in &self.checkpoint.bound {
            let file = self.checkpoint.files.get(held.place.file);
            let info = file.and_then(|file| file.tensors().get(held.place.index));
            let Some(info) = info.filter(|info| info.dtype == Dtype::F32) else { continue };
            if !self.lowered.stored.contains_key(&info.name) {
                let stored = Stored::of_multiples(&info.name, &self.numbers(held)?, &info.shape);
                self.lowered.stored.extend(stored.map(|stored| (info.name.clone(), stored)));
            }
        }
        Ok(())
    }

    /// How the tensor of the file with that name is stored; nothing if it is in f32.
    pub fn stored(&self, name: &str) -> Option<&Stored> {
        self.lowered.stored.get(name)
    }

    /// Whether weights of int8 need all 8 bits, so that products with uint8 may saturate where ONNX Runtime adds them in 16.
    pub fn may_saturate(&self) -> bool {
        saturation::is_possible(&self.lowered)
    }

    /// Compares every tensor with the model's.
    ///
    /// # Errors
    /// Tensors of either side that cannot be read.
    pub fn compare(&self, model: &Checkpoint) -> Result<Fidelity> {
        let mut fidelity = Fidelity::default();
        let mut known: Vec<String> = Vec::new();
        for held in self.held() {
            known.push(held.stored_name.clone());
            fidelity.in_blocks +=
                usize::from(self.stored(&held.stored_name).is_some_and(Stored::is_in_blocks));
            match model.parameter(&held.param.name) {
                Some(bound) if bound.param.shape == held.param.shape => {
                    fidelity.tensors.push(self.tensor(&held, model, bound)?);
                }
                Some(bound) => fidelity.tensors.push(misshapen(&held, bound)),
                None => {}
            }
        }
        let mut unknown: Vec<String> =
            self.lowered.stored.keys().filter(|name| !known.contains(name)).cloned().collect();
        unknown.retain(|name| self.is_matrix(name));
        unknown.sort();
        fidelity.unknown = unknown;
        fidelity.accept_roundings();
        let held: Vec<&str> = self.checkpoint.bound.iter().map(|held| held.param.name.as_str()).collect();
        let names = model.bound.iter().map(|bound| bound.param.name.as_str());
        fidelity.missing = names.filter(|name| !held.contains(name)).map(str::to_owned).collect();
        Ok(fidelity)
    }

    /// The parameters that the graph holds, with those that it holds twice: a tied decoder; a bias that one operator takes rounded
    /// and another one as it is.
    pub fn held(&self) -> Vec<Bound> {
        let copies = self.checkpoint.copies.iter().filter_map(|copy| {
            let of = self.checkpoint.bound.get(copy.of)?;
            let (stored_name, dtype, transposed, place) =
                (copy.stored_name.clone(), copy.dtype, copy.transposed, copy.place);
            Some(Bound { param: of.param.clone(), stored_name, dtype, transposed, place })
        });
        let mut rounded: Vec<(&String, &Stored)> = self.lowered.stored.iter().collect();
        rounded.sort_by_key(|(name, _)| *name);
        let rounded = rounded.into_iter().filter_map(|(name, stored)| {
            let of = stored.plain_name();
            if of == name {
                return None;
            }
            let of = self.checkpoint.bound.iter().find(|bound| bound.stored_name == of)?;
            let file = self.checkpoint.files.get(of.place.file)?;
            let index = file.tensors().iter().position(|info| info.name == *name)?;
            let [info, other] = [index, of.place.index].map(|index| file.tensors().get(index));
            let (info, place) = (info?, Place { index, ..of.place });
            // Of a bias: which way round a matrix is, its shape does not tell.
            (info.shape.len() == 1 && info.shape == other?.shape).then(|| Bound {
                stored_name: name.clone(),
                dtype: info.dtype,
                place,
                ..of.clone()
            })
        });
        self.checkpoint.bound.iter().cloned().chain(copies).chain(rounded).collect()
    }

    /// The numbers of the model in the layout that the graph has them in.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn in_layout_of(held: &Bound, model: &Checkpoint, bound: &Bound) -> Result<Vec<f32>> {
        let mut numbers = Vec::new();
        model.values(bound)?.strips(Dtype::F32, held.transposed, |strip| {
            numbers.extend(strip.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
            Ok(())
        })?;
        Ok(numbers)
    }

    /// Whether a rounded tensor is one whose numbers matter: a scalar of the computation is not.
    fn is_matrix(&self, name: &str) -> bool {
        let graph = self.lowered.model.graph.as_ref();
        let mut tensors = graph.into_iter().flat_map(|graph| &graph.initializer);
        let tensor = tensors.find(|tensor| tensor.name() == name);
        tensor.is_some_and(|tensor| onnx::is_matrix(&tensor.dims))
    }

    fn tensor(&self, held: &Bound, model: &Checkpoint, bound: &Bound) -> Result<TensorFidelity> {
        let stored = self.stored(&held.stored_name);
        let got = self.numbers(held)?;
        let want = Dequantized::in_layout_of(held, model, bound)?;
        let distances = Distances::of(stored, &want, &got);
        let mut fidelity = TensorFidelity {
            tensor: held.param.name.clone(),
            stored_name: stored.map_or(&held.stored_name, |stored| &stored.name).clone(),
            stored_as: stored.map_or("f32".to_owned(), distance::word),
            scales: stored.map_or(0, Stored::scales),
            count: got.len(),
            beyond: distances.beyond,
            furthest: distances.furthest,
            limit: distances.limit,
            cause: None,
            noise: None,
        };
        if distances.is_broken() {
            let rounding = stored.and_then(|stored| Rounding::of(stored, &want, &got, distances.limit));
            if let Some(Rounding::Clipped(noise) | Rounding::Other(noise)) = rounding {
                fidelity.noise = Some(noise);
            }
            let numbers = (want.as_slice(), got.as_slice());
            let is_sound = match (&rounding, stored) {
                (Some(Rounding::Clipped(_)), _) => true,
                (Some(rounding), Some(stored)) => {
                    rounding.is_done_twice(distances.furthest)
                        && cause::of_the_scale(stored, numbers).is_none()
                }
                _ => false,
            };
            if !is_sound {
                fidelity.cause = Some(cause::of(held, stored, rounding.as_ref(), model, numbers)?);
            }
        }
        Ok(fidelity)
    }

    /// The numbers of the model rounded to the nearest, in blocks as the graph stores them; nothing of what is not in blocks.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn nearest(&self, held: &Bound, model: &Checkpoint, bound: &Bound) -> Result<Option<Vec<f32>>> {
        let stored = self.stored(&held.stored_name).filter(|stored| stored.is_in_blocks());
        let Some(stored) = stored.filter(|stored| matches!(stored.codes, Codes::Integers(..))) else {
            return Ok(None);
        };
        let want = Dequantized::in_layout_of(held, model, bound)?;
        Ok(Some(blocks::nearest(stored, &want, &self.numbers(held)?)))
    }

    /// The dequantized numbers, in the layout of the file.
    fn numbers(&self, held: &Bound) -> Result<Vec<f32>> {
        let mut numbers = Vec::new();
        let values = self.checkpoint.values(held)?;
        values.strips(Dtype::F32, held.transposed, |strip| {
            numbers.extend(strip.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
            Ok(())
        })?;
        Ok(numbers)
    }
}

impl Fidelity {
    /// The tensors that are not the model's, rounded.
    pub fn broken(&self) -> impl Iterator<Item = &TensorFidelity> {
        self.tensors.iter().filter(|tensor| tensor.cause.is_some())
    }

    /// The tensors in blocks that are not rounded to the nearest, and are the model's.
    pub fn otherwise_rounded(&self) -> impl Iterator<Item = &TensorFidelity> {
        self.tensors.iter().filter(|tensor| tensor.noise.is_some() && tensor.cause.is_none())
    }

    /// Takes tensors for the model's that are rounded otherwise than to the nearest, where that is how the file is made: half of
    /// those in blocks are, and what is not rounded to integers is equal. One alone has other weights.
    fn accept_roundings(&mut self) {
        let noises: Vec<f64> = self.broken().filter_map(|tensor| tensor.noise).collect();
        let others_are_equal =
            self.broken().all(|tensor| tensor.stored_as.contains("int") && tensor.scales > 0);
        if noises.is_empty() || noises.len() * 2 < self.in_blocks || !others_are_equal {
            return;
        }
        for tensor in &mut self.tensors {
            if tensor.noise.is_some_and(|noise| !blocks::stands_out(noise, &noises)) {
                tensor.cause = None;
            }
        }
    }

    /// The tensors that are stored rounded.
    pub fn rounded(&self) -> impl Iterator<Item = &TensorFidelity> {
        self.tensors.iter().filter(|tensor| tensor.stored_as != "f32")
    }
}

impl TensorFidelity {
    /// Whether it is known how many steps a number is off.
    pub fn has_steps(&self) -> bool {
        self.stored_as.contains("int") || self.stored_as.starts_with("f8")
    }

    /// One line: what is wrong, or how far the numbers are.
    pub fn said(&self) -> String {
        let TensorFidelity { tensor, stored_name, stored_as, furthest, limit, .. } = self;
        match &self.cause {
            Some(cause) => format!("{tensor} ({stored_as}, \"{stored_name}\"): {cause}"),
            None => format!("{tensor} ({stored_as}): {furthest:.3} of {limit} allowed"),
        }
    }
}

/// The weights of a graph, matched with the parameters of a class.
fn weights_of(lowered: &Lowered, path: &Path, config: &DebertaConfig, head: Head) -> Result<Checkpoint> {
    let source = Source::of_files(path.to_owned(), vec![path.to_owned()]);
    let file: OnnxFile = onnx::from_model(lowered.model.clone(), path)?;
    Checkpoint::from_files(source, Format::Onnx, vec![Box::new(file)], config, Some(head))
}

/// A node with a scale that only the number of a mask makes, by its name.
fn rounds_the_mask(file: &OnnxFile) -> Option<String> {
    const LARGE: f32 = 1e30;
    let is_large = |name: &String| {
        let index = file.tensors().iter().position(|info| info.name == *name && info.dtype == Dtype::F32)?;
        let bytes = file.read(index).ok()?;
        let numbers = bytes.as_chunks::<4>().0;
        Some(numbers.len() == 1 && numbers.iter().any(|&bytes| f32::from_le_bytes(bytes).abs() > LARGE))
    };
    let mut nodes = file.graph()?.node.iter();
    let node = nodes.find(|node| {
        let rounds = node.op_type() == "QuantizeLinear" || node.op_type().starts_with("QLinear");
        rounds && node.input.iter().skip(1).any(|name| is_large(name) == Some(true))
    })?;
    Some(format!("node \"{}\" ({})", node.name(), node.op_type()))
}

fn misshapen(held: &Bound, bound: &Bound) -> TensorFidelity {
    TensorFidelity {
        tensor: held.param.name.clone(),
        stored_name: held.stored_name.clone(),
        stored_as: held.dtype.to_string(),
        scales: 0,
        count: 0,
        beyond: 0,
        furthest: f64::INFINITY,
        limit: 0.0,
        cause: Some(format!("shape {:?}, the model has {:?}", held.param.shape, bound.param.shape)),
        noise: None,
    }
}

#[cfg(test)]
mod tests;
