//! Sequences through a model: sorted by length, a batch at a time, padded to the longest of the batch.

use std::sync::Arc;

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{Encoding, Inputs};
use ndarray::{Array2, ArrayView2, ArrayViewD, Axis};

use super::model::Model;
use crate::trace::file::Trace;
use crate::trace::tensor::Data;

/// A sequence as a model takes it. Several that differ in one token share the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The tokens.
    pub ids: Arc<[u32]>,
    /// The segment of each token.
    pub types: Arc<[u32]>,
    /// A place, and the token that stands there instead.
    pub replaced: Option<(usize, u32)>,
}

impl From<Encoding> for Sequence {
    fn from(encoding: Encoding) -> Sequence {
        Sequence::new(encoding.input_ids, encoding.token_type_ids)
    }
}

impl Sequence {
    /// A sequence of those tokens and segments.
    pub fn new(ids: Vec<u32>, types: Vec<u32>) -> Sequence {
        Sequence { ids: ids.into(), types: types.into(), replaced: None }
    }

    fn token(&self, at: usize) -> Option<u32> {
        match self.replaced {
            Some((place, token)) if place == at => Some(token),
            _ => self.ids.get(at).copied(),
        }
    }
}

/// What a model computes for a sequence: the logits of the sequence [1, labels], of its tokens [n, labels], or the
/// logits of start and end [n, 2].
pub type Logits<'a> = ArrayView2<'a, f32>;

/// What is kept of the logits of the sequence at that place.
pub type Keep<'a> = dyn Fn(usize, Logits<'_>) -> Vec<f32> + 'a;

/// Runs the model over the sequences, and returns what `keep` keeps, in the order of the sequences. `progress` is told
/// how many of them are done.
///
/// # Errors
/// Inputs that do not fit the model; outputs that it lacks, or that are not of this shape.
pub fn run(
    model: &Model,
    sequences: &[Sequence],
    batch_size: usize,
    keep: &Keep<'_>,
    progress: &dyn Fn(usize),
) -> Result<Vec<Vec<f32>>> {
    let mut order: Vec<(usize, &Sequence)> = sequences.iter().enumerate().collect();
    // The longest first, so that memory that will not do shows at once.
    order.sort_by_key(|(_, sequence)| std::cmp::Reverse(sequence.ids.len()));
    let mut kept: Vec<(usize, Vec<f32>)> = Vec::with_capacity(sequences.len());
    for batch in order.chunks(batch_size.max(1)) {
        let sequences: Vec<&Sequence> = batch.iter().map(|(_, sequence)| *sequence).collect();
        let trace = model.backend.run(&inputs(model, &sequences)?, &[], Vec::new())?;
        let outputs = Outputs::of(&trace).map_err(|error| error.in_file(model.name.as_ref()))?;
        for (row, (at, sequence)) in batch.iter().enumerate() {
            let logits = outputs.row(row, sequence.ids.len())?;
            kept.push((*at, keep(*at, logits.view())));
        }
        progress(kept.len());
    }
    kept.sort_by_key(|(at, _)| *at);
    Ok(kept.into_iter().map(|(_, values)| values).collect())
}

fn inputs(model: &Model, batch: &[&Sequence]) -> Result<Inputs> {
    let n = batch.iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0);
    let pad = model.config.pad_token_id.unwrap_or(0) as i64;
    let rows = |padding: i64, value: fn(&Sequence, usize) -> Option<u32>| -> Result<Array2<i64>> {
        let padded = batch
            .iter()
            .flat_map(|sequence| (0..n).map(move |at| value(sequence, at).map_or(padding, i64::from)));
        Array2::from_shape_vec((batch.len(), n), padded.collect())
            .map_err(|error| Error::new(Kind::Request, error.to_string()))
    };
    let mut mask = Array2::<f32>::zeros((batch.len(), n));
    for (mut row, sequence) in mask.rows_mut().into_iter().zip(batch) {
        row.iter_mut().take(sequence.ids.len()).for_each(|token| *token = 1.0);
    }
    let types = model.config.type_vocab_size > 0;
    Ok(Inputs {
        attention_mask: Some(mask.into_dyn()),
        token_type_ids: if types {
            Some(rows(0, |sequence, at| sequence.types.get(at).copied())?)
        } else {
            None
        },
        ..Inputs::from_ids(rows(pad, Sequence::token)?)
    })
}

/// The logits of a batch.
enum Outputs<'t> {
    /// [b, labels] or [b, n, labels]
    Logits(ArrayViewD<'t, f32>),
    /// [b, n] each
    Span(ArrayViewD<'t, f32>, ArrayViewD<'t, f32>),
}

impl<'t> Outputs<'t> {
    fn of(trace: &'t Trace) -> Result<Outputs<'t>> {
        let output = |name: &str| -> Result<Option<ArrayViewD<'t, f32>>> {
            let Some(tensor) = trace.get(name) else { return Ok(None) };
            let Data::Floats(values) = &tensor.data else {
                return Err(Error::new(Kind::Model, "no f32 numbers").in_tensor(name));
            };
            let view = ArrayViewD::from_shape(tensor.shape.clone(), values);
            view.map(Some).map_err(|error| Error::new(Kind::Model, error.to_string()).in_tensor(name))
        };
        match (output("outputs.logits")?, output("outputs.start_logits")?, output("outputs.end_logits")?) {
            (Some(logits), None, None) => Ok(Outputs::Logits(logits)),
            (None, Some(start), Some(end)) => Ok(Outputs::Span(start, end)),
            _ => Err(Error::new(Kind::Model, "the model has neither logits nor start_logits and end_logits")),
        }
    }

    /// The logits of a sequence of n tokens, without those of padding.
    fn row(&self, row: usize, n: usize) -> Result<Array2<f32>> {
        let wrong = |shape: &[usize]| {
            let message = format!("logits of shape {shape:?} for sequence {row} of a batch, with {n} tokens");
            Error::new(Kind::Model, message)
        };
        let of = |array: &ArrayViewD<'t, f32>| match array.ndim() > 0 && row < array.len_of(Axis(0)) {
            true => Ok(array.clone().index_axis_move(Axis(0), row)),
            false => Err(wrong(array.shape())),
        };
        let rows = |array: &ArrayViewD<'t, f32>| {
            let of_row = of(array)?;
            match of_row.ndim() > 0 && of_row.len_of(Axis(0)) >= n {
                true => Ok(of_row.slice_axis(Axis(0), (..n).into()).to_owned()),
                false => Err(wrong(array.shape())),
            }
        };
        let matrix = match self {
            Outputs::Logits(logits) if logits.ndim() == 2 => of(logits)?.to_owned().insert_axis(Axis(0)),
            Outputs::Logits(logits) => rows(logits)?,
            Outputs::Span(start, end) => {
                let sides = [rows(start)?, rows(end)?];
                let views: Vec<_> = sides.iter().map(|side| side.view()).collect();
                ndarray::stack(Axis(1), &views).map_err(|_| wrong(end.shape()))?
            }
        };
        let shape = matrix.shape().to_vec();
        matrix.into_dimensionality().map_err(|_| wrong(&shape))
    }
}
