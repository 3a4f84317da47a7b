//! The model on inputs: what it computes, whole where there is room, or as samples.

use std::path::Path;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::loading::Parameters;
use deberta_reference::{DebertaConfig, Head, Inputs, MaskedRows};

use super::RecordRequest;
use super::case::TraceLine;
use crate::backend::{Backend as _, Reference};
use crate::trace::class::Class;
use crate::trace::file::Trace;
use crate::trace::inputs::{dims, tensors};
use crate::trace::padding::Padding;
use crate::trace::points::POINTS;
use crate::trace::sampling::SampledTrace;

/// The most numbers of a square [b, h, n, n] in all layers for which every activation is recorded: of longer inputs the
/// states between the layers are.
const MOST_SCORES: usize = 1 << 23;

/// The most numbers of the states [b, n, H] of all layers for which every activation is recorded.
const MOST_STATES: usize = 1 << 22;

/// The trace with the states between the layers, whole, where the others are samples.
const LAYERS: &str = "layers";

/// Its tokens: at most, and at least, so that attention has a choice.
const MOST_TOKENS: usize = 16;
const FEWEST_TOKENS: usize = 3;

/// Runs of a model that become the traces of a golden.
pub(super) struct Runs<'r> {
    request: &'r RecordRequest,
    class: Class,
    rows: MaskedRows,
    folder: &'r Path,
    model: Option<(Reference, DebertaConfig)>,
    taken: Vec<Taken>,
    /// What all runs take that were kept whole.
    bytes: u64,
}

/// What is kept of a run.
struct Taken {
    name: String,
    sampled: SampledTrace,
    /// All of it, as long as there is room.
    whole: Option<Trace>,
}

impl<'r> Runs<'r> {
    pub(super) fn new(
        request: &'r RecordRequest,
        class: Class,
        rows: MaskedRows,
        folder: &'r Path,
    ) -> Runs<'r> {
        Runs { request, class, rows, folder, model: None, taken: Vec::new(), bytes: 0 }
    }

    /// Loads the model.
    ///
    /// # Errors
    /// Weights that are NaN or infinite: a golden of them would say nothing.
    pub(super) fn load(&mut self, parameters: &Parameters) -> Result<()> {
        let model = Reference::load(parameters, self.class, self.rows)?;
        if let Some(bad) = model.not_finite().first() {
            let path = &parameters.checkpoint().source.path;
            return Err(Error::new(Kind::Model, bad.clone()).in_file(path));
        }
        self.model = Some((model, parameters.checkpoint().config.clone()));
        Ok(())
    }

    /// Runs the model on an input.
    pub(super) fn run(&mut self, name: String, inputs: Inputs) -> Result<()> {
        let Some((model, config)) = &self.model else { return Ok(()) };
        let all = is_small(&inputs, config);
        let points: Vec<&str> = match &self.request.points {
            Some(points) => points.iter().map(String::as_str).collect(),
            None => vec![if all { "*" } else { "none" }],
        };
        let output_attentions = all && self.request.points.is_none();
        let inputs = Inputs { output_hidden_states: true, output_attentions, ..inputs };
        let trace =
            recorded(model, &inputs, &points).map_err(|error| error.followed_by(&format!(" ({name})")))?;
        let padding = Padding::of_model(&inputs, config, self.class.head);
        let sampled = SampledTrace::of(&trace, &padding);
        self.bytes = self.bytes.saturating_add(size(&trace));
        let fits = self.bytes <= self.request.max_size;
        if !fits {
            self.taken.iter_mut().for_each(|taken| taken.whole = None);
        }
        self.taken.push(Taken { name, sampled, whole: fits.then_some(trace) });
        Ok(())
    }

    /// Writes the traces: all of them whole, or all of them as samples and one of the states between the layers, of a text of
    /// `few` tokens.
    pub(super) fn write(mut self, few: impl Fn(usize) -> Inputs) -> Result<Vec<TraceLine>> {
        let mut lines = Vec::with_capacity(self.taken.len() + 1);
        for taken in std::mem::take(&mut self.taken) {
            let file = format!("{}.safetensors", taken.name);
            let path = self.folder.join(&file);
            match &taken.whole {
                Some(whole) => whole.write(&path)?,
                None => taken.sampled.write(&path)?,
            }
            lines.push(TraceLine { file, class: self.class, rows: self.rows });
        }
        if self.bytes > self.request.max_size {
            lines.extend(self.layers(few)?);
        }
        Ok(lines)
    }

    /// Records the states between the layers of the base model, if there is room for those of some tokens.
    fn layers(mut self, few: impl Fn(usize) -> Inputs) -> Result<Option<TraceLine>> {
        let Some((_, config)) = self.model.take() else { return Ok(None) };
        let of_token = 4 * config.hidden_size * (config.num_hidden_layers + 2);
        let room = usize::try_from(self.request.max_size / 2).unwrap_or(usize::MAX) / of_token.max(1);
        let positions = config.max_position_embeddings;
        let n = room.min(MOST_TOKENS).min(if config.position_biased_input { positions } else { MOST_TOKENS });
        if n < FEWEST_TOKENS {
            return Ok(None);
        }
        let class = Class::of_head(config.family, Head::Base);
        let (_, checkpoint) = self.request.open(Some(class))?;
        let model = Reference::load(&Parameters::new(checkpoint)?, class, self.rows)?;
        let inputs = Inputs { output_hidden_states: true, ..few(n) };
        let file = format!("{LAYERS}.safetensors");
        recorded(&model, &inputs, &["none"])?.write(&self.folder.join(&file))?;
        Ok(Some(TraceLine { file, class, rows: self.rows }))
    }
}

/// The trace of a run, with its inputs and what it is meant to have.
fn recorded(model: &Reference, inputs: &Inputs, points: &[&str]) -> Result<Trace> {
    let mut trace = model.run(inputs, points, Vec::new())?;
    trace.metadata.push((POINTS.to_owned(), points.join(" ")));
    trace.tensors.splice(0..0, tensors(inputs));
    Ok(trace)
}

/// Whether every activation of a run can be kept in memory.
fn is_small(inputs: &Inputs, config: &DebertaConfig) -> bool {
    let (b, n) = dims(inputs).unwrap_or_default();
    let product =
        |factors: &[usize]| factors.iter().fold(1_usize, |product, &factor| product.saturating_mul(factor));
    let layers = config.num_hidden_layers;
    product(&[b, n, n, config.num_attention_heads, layers]) <= MOST_SCORES
        && product(&[b, n, config.hidden_size, layers]) <= MOST_STATES
}

/// About how many bytes the file of a trace takes: most of it is f32.
fn size(trace: &Trace) -> u64 {
    trace.tensors.iter().map(|tensor| 4 * tensor.data.len() as u64).sum()
}
