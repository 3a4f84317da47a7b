//! libtorch as a backend: the model once more, by libtorch's own operators.
//!
//! A second judge. Configuration, parameters and names are those of the reference implementation; no arithmetic is, so that what
//! both compute alike is not one mistake made twice. The files follow the reference's, function by function; axes are b sequences,
//! h heads, n tokens, s span of relative positions, d features of a head, H hidden, E embedding, I intermediate, V vocabulary.
//!
//! Weights come from our readers, never from libtorch's: nothing in a checkpoint is executed.

use deberta_converters::error::Kind;
use deberta_reference::{
    self as reference, DebertaConfig, Inputs, LoadReport, MaskedRows, Probe, TensorSource,
};
use ndarray::ArrayD;

use super::interface::{check_choices, metadata};
use super::reference::tensors as in_trace;
use super::{Backend, BackendName};
use crate::trace::class::Class;
use crate::trace::file::Trace;
use crate::trace::tensor::Data;

mod attention;
mod convolution;
mod declaration;
mod embeddings;
mod encoder;
mod failure;
mod heads;
mod inputs;
mod losses;
mod model;
mod projections;
mod relative;
mod replaced_tokens;
mod script;
mod tensors;
mod weights;

pub use script::Script;

use failure::{Failure, Result};
use model::Model;

/// The version of libtorch that `tch` is made for.
const PRODUCER: &str = "libtorch 2.13.0 + tch 0.26.0";

/// A model that libtorch computes.
pub struct Tch {
    model: Model,
    class: Class,
    masked_rows: MaskedRows,
    report: LoadReport,
}

impl Tch {
    /// Makes `class` from parameters of any source. They are copied.
    ///
    /// # Errors
    /// Missing and misshapen parameters; a configuration that the class cannot be built from.
    pub fn load(
        config: DebertaConfig,
        parameters: &dyn TensorSource,
        class: Class,
        masked_rows: MaskedRows,
    ) -> deberta_converters::error::Result<Tch> {
        use_threads();
        let (model, report) =
            Model::load(config, parameters, class, masked_rows).map_err(|failure| failure.of(Kind::Model))?;
        Ok(Tch { model, class, masked_rows, report })
    }
}

/// Lets libtorch compute with as many threads as everything else here.
fn use_threads() {
    tch::set_num_threads(i32::try_from(rayon::current_num_threads()).unwrap_or(1));
}

impl Backend for Tch {
    fn name(&self) -> &'static str {
        BackendName::Tch.as_str()
    }

    fn run(
        &self,
        inputs: &Inputs,
        points: &[&str],
        replaced: Vec<(String, ArrayD<f32>)>,
    ) -> deberta_converters::error::Result<Trace> {
        let mut activations = reference::Trace::of(points.iter().copied());
        for (name, value) in replaced {
            activations = activations.replacing(name, value);
        }
        check_choices(self.class, inputs)?;
        let request = |failure: Failure| failure.of(Kind::Request);
        let outputs = self.model.forward(inputs, &mut activations.probe()).map_err(request)?;
        let outputs = outputs.into_iter().map(|(name, value)| Ok((name, tensors::array(&value)?)));
        let outputs = outputs.collect::<Result<Vec<_>>>().map_err(request)?;
        let metadata = metadata(self.name(), PRODUCER.to_owned(), Some(self.class), self.masked_rows);
        Ok(Trace { metadata, tensors: in_trace(activations.activations, outputs, Data::Floats) })
    }

    fn run_only(&self, inputs: &Inputs) -> deberta_converters::error::Result<()> {
        check_choices(self.class, inputs)?;
        let outputs = self.model.forward(inputs, &mut Probe::off());
        outputs.map(drop).map_err(|failure| failure.of(Kind::Request))
    }

    fn report(&self) -> Option<&LoadReport> {
        Some(&self.report)
    }
}
