//! Published values: parts of what a model computes for inputs that the case writes out, and the tokens of texts.

use std::path::Path;
use std::time::Instant;

use deberta_converters::error::{Error, Kind, Result};
use deberta_reference::{EncodeOptions, Encoding, Head, Inputs, PaddingStrategy, Tokenizer};
use ndarray::{Array2, ArrayD};

use super::candidate::Candidate;
use crate::case::Case;
use crate::judge::compare::Comparison;
use crate::judge::tolerance::{Precision, Tolerance, Tolerances};
use crate::judge::verdict::{Outcome, PointReport};
use crate::report::{Finding, FindingKind, Rules, RunReport};
use crate::tokens::files::open;
use crate::tokens::recorded::PublishedTokens;
use crate::trace::class::Class;
use crate::trace::file::Trace;
use crate::trace::padding::Padding;
use crate::trace::slice::{Function, InlineInputs, Slice};
use crate::trace::tensor::{Data, Tensor};

/// Compares the model with the published values of the golden, if there are any. Where there are tokens alone, and no
/// tokenizer, that goes to the findings of the file.
pub(super) fn run(candidate: &Candidate<'_>, of_file: &mut Vec<Finding>) -> Option<RunReport> {
    let start = Instant::now();
    let case = candidate.golden.case.as_ref()?;
    if case.slices.is_empty() && case.tokenizer.is_empty() {
        return None;
    }
    let mut report = RunReport::new(&candidate.golden.name, None, candidate.file.backend().as_str());
    report.producer.clone_from(&case.producer);
    report.class.clone_from(&case.class);
    let folder = candidate.file.source.folder();
    if has_vocabulary(folder) || case.tokenizer.is_empty() {
        report.add(tokens(case, folder));
    } else {
        let message =
            format!("published tokens are not compared: the model has no {}", VOCABULARIES.join(" or "));
        let finding = Finding::new(FindingKind::NotJudged, Outcome::Pass, message);
        if case.slices.is_empty() {
            of_file.push(finding);
            return None;
        }
        report.findings.push(finding);
    }
    let class = Class::from_name(&case.class);
    report.masked_rows = class.as_ref().map(|class| class.masked_rows().to_string()).unwrap_or_default();
    report.add(class.and_then(|class| values(candidate, case, class)));
    Rules::DEFAULT.conclude(&mut report);
    report.seconds = start.elapsed().as_secs_f64();
    Some(report)
}

impl RunReport {
    /// Adds points, or what went wrong with them.
    fn add(&mut self, points: Result<Vec<PointReport>>) {
        match points {
            Ok(points) => self.points.extend(points),
            Err(error) => self.findings.push(Finding::error(&error)),
        }
    }
}

/// The vocabularies that a slow tokenizer is made from.
const VOCABULARIES: [&str; 2] = ["spm.model", "vocab.json"];

fn has_vocabulary(folder: &Path) -> bool {
    VOCABULARIES.iter().any(|name| folder.join(name).exists())
}

/// The tokenizer of the model.
fn tokenizer(folder: &Path) -> Result<Tokenizer> {
    open(folder, true).map_err(|error| error.in_file(folder))
}

/// Compares the tokens of texts.
fn tokens(case: &Case, folder: &Path) -> Result<Vec<PointReport>> {
    if case.tokenizer.is_empty() {
        return Ok(Vec::new());
    }
    let tokenizer = tokenizer(folder)?;
    let tokens = |published: &PublishedTokens| {
        let made = published.asked().encoded(&tokenizer).map_err(|error| error.in_file(folder))?;
        let of = |ids: &[u32]| {
            let values = ids.iter().map(|&id| id as f32).collect();
            Tensor { name: published.name(), shape: vec![ids.len()], data: Data::Floats(values) }
        };
        let exact = Tolerance::absolute(0.0);
        Ok(compared(&of(&published.ids), Some(&of(&made.ids)), exact, Precision::F32))
    };
    case.tokenizer.iter().map(tokens).collect()
}

/// Compares parts of what the model computes.
fn values(candidate: &Candidate<'_>, case: &Case, class: Class) -> Result<Vec<PointReport>> {
    let Some(given) = &case.inputs else { return Ok(Vec::new()) };
    let inputs = inputs(given, candidate.file.source.folder())?;
    let parameters = candidate.file.parameters(Some(class))?;
    let model = candidate.file.backend().load(&parameters, class, class.masked_rows())?;
    let points: Vec<&str> = case.slices.iter().filter_map(|slice| slice.activation.as_deref()).collect();
    let trace = model.run(&inputs, &points, Vec::new())?;
    case.slices.iter().map(|slice| judge(slice, &trace, candidate.precision)).collect()
}

/// The inputs as a model takes them.
pub(super) fn inputs(given: &InlineInputs, folder: &Path) -> Result<Inputs> {
    if let Some(texts) = &given.texts {
        let tokenizer = tokenizer(folder)?;
        let batch: Vec<_> = texts
            .iter()
            .map(|text| (text.first().map_or("", String::as_str), text.get(1).map(String::as_str)))
            .collect();
        let options = EncodeOptions { padding: PaddingStrategy::Longest, ..EncodeOptions::default() };
        return tokenizer
            .batch_encode_plus(&batch, &options)
            .and_then(|encodings| Encoding::inputs(&encodings))
            .map_err(|error| Error::new(Kind::Request, error.to_string()).in_file(folder));
    }
    let mask = given.attention_mask.as_ref();
    Ok(Inputs {
        input_ids: given.input_ids.as_deref().map(matrix).transpose()?,
        attention_mask: match mask {
            Some(mask) => Some(matrix(mask)?.mapv(|token| token as f32).into_dyn()),
            None => None,
        },
        token_type_ids: given.token_type_ids.as_deref().map(matrix).transpose()?,
        position_ids: given.position_ids.as_deref().map(matrix).transpose()?,
        output_hidden_states: true,
        output_attentions: true,
        ..Inputs::default()
    })
}

fn matrix(rows: &[Vec<i64>]) -> Result<Array2<i64>> {
    let columns = rows.first().map_or(0, Vec::len);
    Array2::from_shape_vec((rows.len(), columns), rows.concat())
        .map_err(|error| Error::malformed(format!("inputs: {error}")))
}

/// Compares a part of a tensor with what was published.
fn judge(slice: &Slice, trace: &Trace, precision: Precision) -> Result<PointReport> {
    let name = slice.tensor_name();
    let want = Tensor { name: label(slice), shape: slice.shape(), data: Data::Floats(slice.values.flat()) };
    let got = match trace.get(&name) {
        Some(tensor) => Some(part(slice, tensor)?),
        None => None,
    };
    Ok(compared(&want, got.as_ref(), slice.tolerance(), precision))
}

/// Compares published numbers. Whoever published them meant tokens: none of them is padding.
fn compared(want: &Tensor, got: Option<&Tensor>, tolerance: Tolerance, precision: Precision) -> PointReport {
    let tolerances = Tolerances::uniform(tolerance);
    let padding = Padding::of(&Inputs::default(), Head::Base);
    Comparison { tolerances: &tolerances, precision, padding: &padding }.tensors(want, got)
}

/// The part of a computed tensor that a slice speaks of.
fn part(slice: &Slice, tensor: &Tensor) -> Result<Tensor> {
    let Data::Floats(values) = &tensor.data else {
        return Err(Error::malformed("integers, expected numbers").in_tensor(&tensor.name));
    };
    let mut array = ArrayD::from_shape_vec(tensor.shape.clone(), values.clone())
        .map_err(|error| Error::malformed(error.to_string()).in_tensor(&tensor.name))?;
    if let Some(Function::Softmax) = slice.function
        && array.ndim() > 0
    {
        for mut row in array.rows_mut() {
            let max = row.fold(f32::NEG_INFINITY, |max, &x| max.max(x));
            row.mapv_inplace(|x| (x - max).exp());
            let total = row.sum();
            row.mapv_inplace(|x| x / total);
        }
    }
    let fits = slice.ranges.len() == array.ndim()
        && slice.ranges.iter().zip(array.shape()).all(|([_, end], length)| end <= length);
    if !fits {
        let message = format!("shape {:?}, the case has values of {}", tensor.shape, label(slice));
        return Err(Error::malformed(message).in_tensor(&tensor.name));
    }
    let taken = array.slice_each_axis(|axis| {
        let [start, end] = slice.ranges.get(axis.axis.index()).copied().unwrap_or_default();
        ndarray::Slice::from(start..end)
    });
    let data = Data::Floats(taken.iter().copied().collect());
    Ok(Tensor { name: label(slice), shape: slice.shape(), data })
}

/// `outputs.logits[0:1, 0:3] (softmax)`
fn label(slice: &Slice) -> String {
    let ranges: Vec<String> = slice.ranges.iter().map(|[start, end]| format!("{start}:{end}")).collect();
    let function = match slice.function {
        Some(Function::Softmax) => " (softmax)",
        None => "",
    };
    format!("{}[{}]{function}", slice.tensor_name(), ranges.join(", "))
}
