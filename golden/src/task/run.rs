//! A model on a task: its sequences sorted by length, a batch at a time, padded to the longest of the batch.

use std::ops::Range;

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::progress::Progress;
use deberta_reference::{Head, Inputs};
use ndarray::{Array2, ArrayViewD, Axis};

use super::metric::threshold::Threshold;
use super::model::{ModelPlace, TaskModel, Texts};
use super::names::TaskName;
use super::{Judged, Logits, Prepared, Sequence, Task};
use crate::trace::file::Trace;
use crate::trace::tensor::Data;

/// What is asked of a model.
#[derive(Clone, Debug)]
pub struct TaskRequest {
    /// The task.
    pub task: TaskName,
    /// The model.
    pub model: ModelPlace,
    /// The model that it must agree with, if there is one.
    pub against: Option<ModelPlace>,
    /// The longest sequence; what is usual for the task when absent.
    pub max_length: Option<usize>,
    /// Sequences that are run at a time.
    pub batch_size: usize,
    /// What metrics must not be below.
    pub min: Vec<Threshold>,
    /// What metrics must not be above.
    pub max: Vec<Threshold>,
}

/// A model that was run.
pub(crate) struct Evaluation {
    pub(crate) model: TaskModel,
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) truncated: usize,
    pub(crate) max_length: usize,
    pub(crate) kept: Vec<Vec<f32>>,
    pub(crate) judged: Judged,
}

/// What is kept of the logits of the sequence at that place.
type Keep<'a> = dyn Fn(usize, Logits<'_>) -> Vec<f32> + 'a;

impl Evaluation {
    pub(crate) fn of(
        task: &mut dyn Task,
        place: &ModelPlace,
        request: &TaskRequest,
        progress: &dyn Progress,
    ) -> Result<Evaluation> {
        let mut model = TaskModel::load(place, &|checkpoint| task.class(checkpoint))?;
        let usual = task.usual_length().map(|usual| usual.min(model.config.max_position_embeddings));
        let texts = Texts::open(place, &model.config, request.max_length.or(usual))?;
        model.notes.extend(texts.tokenizer().warnings());
        let prepared = task.prepare(&model, &texts)?;
        let total = prepared.sequences.len();
        let tell = |done: usize| progress.step(&format!("{}: {done} of {total} sequences", model.name));
        tell(0);
        let keep = |at: usize, logits: Logits<'_>| task.keep(at, logits);
        let kept = run_all(&model, &prepared, request.batch_size, &keep, &tell)?;
        if let Some(at) = kept.iter().position(|values| values.iter().any(|value| value.is_nan())) {
            let message = format!("{}: NaN among the logits of sequence {at}", model.name);
            return Err(Error::new(Kind::Model, message));
        }
        let judged = task.judge(&kept)?;
        let Prepared { sequences, truncated, .. } = prepared;
        let max_length = texts.max_length;
        Ok(Evaluation { model, sequences, truncated, max_length, kept, judged })
    }
}

/// Runs the model over the sequences, and returns what `keep` keeps, in the order of the sequences. `progress` is told
/// how many of them are done.
///
/// # Errors
/// Inputs that do not fit the model; outputs that it lacks, or that are not of this shape.
fn run_all(
    model: &TaskModel,
    prepared: &Prepared,
    batch_size: usize,
    keep: &Keep<'_>,
    progress: &dyn Fn(usize),
) -> Result<Vec<Vec<f32>>> {
    let mut groups = groups(prepared);
    // The longest first, so that memory that will not do shows at once.
    let longest = |group: &[Sequence]| group.iter().map(|sequence| sequence.ids.len()).max();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse((group.len(), longest(group))));
    let mut kept: Vec<(usize, Vec<f32>)> = Vec::with_capacity(prepared.sequences.len());
    for alike in groups.chunk_by(|(_, a), (_, b)| a.len() == b.len()) {
        let choices = alike.first().map_or(1, |(_, group)| group.len()).max(1);
        for batch in alike.chunks((batch_size / choices).max(1)) {
            let batch: Vec<(usize, &Sequence)> =
                batch.iter().flat_map(|(first, group)| (*first..).zip(*group)).collect();
            let trace = model.backend.run(&inputs(model, &batch, choices)?, &[], Vec::new())?;
            let outputs =
                Outputs::of(&trace, model.class.head).map_err(|error| error.in_file(model.name.as_ref()))?;
            for (row, (at, sequence)) in batch.iter().enumerate() {
                let logits = outputs.row(row, sequence.ids.len())?;
                kept.push((*at, keep(*at, logits.view())));
            }
            progress(kept.len());
        }
    }
    kept.sort_by_key(|(at, _)| *at);
    Ok(kept.into_iter().map(|(_, values)| values).collect())
}

/// The sequences that a class sees together, with the place of the first: those of a question, or else each by itself.
fn groups(prepared: &Prepared) -> Vec<(usize, &[Sequence])> {
    let Prepared { sequences, questions, .. } = prepared;
    if questions.is_empty() {
        return sequences.chunks(1).enumerate().collect();
    }
    let of = |question: &Range<usize>| Some((question.start, sequences.get(question.clone())?));
    questions.iter().filter_map(of).collect()
}

/// A batch with its mask. A class that chooses sees as many of its sequences together as a question has `choices`.
fn inputs(model: &TaskModel, batch: &[(usize, &Sequence)], choices: usize) -> Result<Inputs> {
    let n = batch.iter().map(|(_, sequence)| sequence.ids.len()).max().unwrap_or(0);
    let pad = model.config.pad_token_id.unwrap_or(0) as i64;
    let rows = |padding: i64, value: fn(&Sequence, usize) -> Option<u32>| -> Result<Array2<i64>> {
        let padded = batch
            .iter()
            .flat_map(|(_, sequence)| (0..n).map(move |at| value(sequence, at).map_or(padding, i64::from)));
        Array2::from_shape_vec((batch.len(), n), padded.collect())
            .map_err(|error| Error::new(Kind::Request, error.to_string()))
    };
    let mut mask = Array2::<f32>::zeros((batch.len(), n));
    for (mut row, (_, sequence)) in mask.rows_mut().into_iter().zip(batch) {
        row.iter_mut().take(sequence.ids.len()).for_each(|token| *token = 1.0);
    }
    let types = model.config.type_vocab_size > 0;
    Ok(Inputs {
        attention_mask: Some(mask.into_dyn()),
        choices: (model.class.head == Head::MultipleChoice).then_some(choices),
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
    /// The outputs of a class with that head. Multiple choice has logits [b, c] of c choices, which are one label each of b c
    /// sequences; the detection of replaced tokens has [b, n], one label of each token.
    fn of(trace: &'t Trace, head: Head) -> Result<Outputs<'t>> {
        let output = |name: &str| -> Result<Option<ArrayViewD<'t, f32>>> {
            let Some(tensor) = trace.get(name) else { return Ok(None) };
            let Data::Floats(values) = &tensor.data else {
                return Err(Error::new(Kind::Model, "no f32 numbers").in_tensor(name));
            };
            let shape = match (head, &tensor.shape[..]) {
                (Head::MultipleChoice, &[_, _]) => vec![values.len(), 1],
                (Head::ReplacedTokens, &[b, n]) => vec![b, n, 1],
                (_, shape) => shape.to_vec(),
            };
            let view = ArrayViewD::from_shape(shape, values);
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
