//! The losses, by libtorch's functions. PyTorch's classes return the mean, as a tensor without axes; TensorFlow's differ in what
//! they average, what they ignore, and what shape they return.

use deberta_reference::config::ProblemType;
use deberta_reference::{DebertaConfig, Head, InputError, Inputs, Labels};
use ndarray::Array1;
use tch::{Kind, Reduction, Tensor};

use super::failure::Result;
use super::heads::Outputs;
use super::tensors::tensor;
use crate::judge::difference::coordinates;
use crate::trace::class::{Class, Code};

/// The label that PyTorch's cross-entropy ignores.
const IGNORED: i64 = -100;

/// Adds the loss of the class in front of its outputs, if there are labels.
///
/// # Errors
/// Labels that do not fit the outputs.
pub(super) fn add(
    outputs: &mut Outputs,
    inputs: &Inputs,
    class: Class,
    config: &DebertaConfig,
) -> Result<()> {
    let (head, tensorflow) = (class.head, class.code == Code::TensorFlow);
    let loss = match (outputs.as_slice(), &inputs.labels) {
        ([(_, start), (_, end)], _) => match (&inputs.start_positions, &inputs.end_positions) {
            (Some(starts), Some(ends)) => {
                let start = answer(start, starts, "start_positions", tensorflow)?;
                let end = answer(end, ends, "end_positions", tensorflow)?;
                start.f_add(&end)?.f_div_scalar(2.0)?
            }
            _ => return Ok(()),
        },
        ([(_, logits)], Some(labels)) => match (head, tensorflow) {
            (Head::MaskedLm, true) => tensorflow::masked_lm(logits, labels)?,
            (Head::TokenClassification, true) => tensorflow::token_classification(logits, labels)?,
            (Head::SequenceClassification, true) => tensorflow::sequence_classification(logits, labels)?,
            (Head::MultipleChoice, true) => tensorflow::multiple_choice(logits, labels)?,
            (Head::MaskDecoder, _) => {
                let counts = |label| config.counts_label(head, label);
                cross_entropy(logits, &counted(&classes_of(logits, labels)?, counts)?, Reduction::Mean)?
            }
            (Head::MaskedLm | Head::TokenClassification | Head::MultipleChoice, false) => {
                cross_entropy(logits, &classes_of(logits, labels)?, Reduction::Mean)?
            }
            (Head::SequenceClassification, false) => {
                sequence_classification(logits, labels, config.problem_type)?
            }
            (Head::ReplacedTokens, _) => replaced_tokens(logits, labels, inputs)?,
            (Head::Base | Head::QuestionAnswering, _) => return Ok(()),
        },
        _ => return Ok(()),
    };
    if let [(_, logits)] = outputs.as_mut_slice()
        && (class.head, class.code) == (Head::SequenceClassification, Code::PyTorch)
        && config.problem_type.is_none()
        && config.num_labels == 1
    {
        // transformers returns the logits as its loss sees them                         [b]
        *logits = logits.f_reshape([-1])?;
    }
    outputs.insert(0, ("loss", loss));
    Ok(())
}

/// Mean binary cross-entropy over the tokens of the mask: whether the label is a token, above 0, and another one than that of
/// `input_ids`. `logits` [b, n], `labels` [b, n]. Source: Microsoft's `replaced_token_detection_model.py`.
fn replaced_tokens(logits: &Tensor, labels: &Labels, inputs: &Inputs) -> Result<Tensor> {
    let Some(ids) = &inputs.input_ids else {
        return Err(InputError::Kind { argument: "input_ids", expected: "the tokens, for this loss" }.into());
    };
    let labels = classes_of(&logits.f_unsqueeze(2)?, labels)?; //                        [b, n]
    let replaced = labels.f_gt(0)?.f_logical_and(&labels.f_ne_tensor(&tensor(ids)?)?)?;
    let (mut logits, mut replaced) = (logits.shallow_clone(), replaced.f_to_kind(Kind::Float)?);
    if let Some(mask) = &inputs.attention_mask {
        let positive = tensor(mask)?.f_gt(0)?;
        // A mask of pairs [b, n, n] has a row for every token.
        let is_token = if mask.ndim() == 3 { positive.f_any_dim(2, false)? } else { positive };
        logits = logits.f_masked_select(&is_token)?; //                                  [tokens]
        replaced = replaced.f_masked_select(&is_token)?;
    }
    binary_cross_entropy(&logits, &replaced)
}

/// The mean of -z ln σ(x) - (1 - z) ln(1 - σ(x)).
fn binary_cross_entropy(x: &Tensor, z: &Tensor) -> Result<Tensor> {
    let (none, mean) = (None::<&Tensor>, Reduction::Mean);
    Ok(x.f_binary_cross_entropy_with_logits(z, none, none, mean)?)
}

/// The loss that `problem_type` names. `logits` [b, C]. Source: `DebertaForSequenceClassification.forward`.
fn sequence_classification(
    logits: &Tensor,
    labels: &Labels,
    problem_type: Option<ProblemType>,
) -> Result<Tensor> {
    let (b, count) = logits.size2()?;
    let shape = sizes(labels);
    Ok(match problem_type {
        Some(ProblemType::Regression) => logits.f_mse_loss(&values_of(logits, labels)?, Reduction::Mean)?,
        Some(ProblemType::SingleLabelClassification) => {
            if let Labels::Values(_) = labels {
                return Err(InputError::Kind { argument: "labels", expected: "integers, the classes" }.into());
            }
            cross_entropy(logits, &classes_of(logits, labels)?, Reduction::Mean)?
        }
        Some(ProblemType::MultiLabelClassification) => {
            binary_cross_entropy(logits, &values_of(logits, labels)?)?
        }
        None if count == 1 => logits.f_mse_loss(&values_of(logits, labels)?, Reduction::Mean)?,
        None if shape == [b] || shape == [b, 1] => {
            let (rows, classes) = labelled(logits, &classes_of(logits, labels)?)?;
            match classes.numel() {
                0 => Tensor::f_zeros([0_i64; 0], (Kind::Float, tch::Device::Cpu))?,
                _ => cross_entropy(&rows, &classes, Reduction::Mean)?,
            }
        }
        None => {
            // Soft labels: the mean over the sequences of -Σ z ln softmax(x)
            let weighted = logits.f_log_softmax(-1, Kind::Float)?.f_mul(&values_of(logits, labels)?)?;
            weighted.f_sum_dim_intlist(-1, false, Kind::Float)?.f_mean(Kind::Float)?.f_neg()?
        }
    })
}

/// The loss of one side of an answer. Logits [b, n], positions [b]. PyTorch clamps a position to 0..=n, ignores n, and returns
/// the mean; TensorFlow returns one loss a sequence: [b].
fn answer(
    logits: &Tensor,
    positions: &Array1<i64>,
    argument: &'static str,
    tensorflow: bool,
) -> Result<Tensor> {
    let (b, n) = logits.size2()?;
    if i64::try_from(positions.len()) != Ok(b) {
        let (expected, found) = (format!("[{b}]"), positions.shape().to_vec());
        return Err(InputError::Shape { argument, expected, found }.into());
    }
    if tensorflow {
        return each_cross_entropy(logits, &tensor(positions)?, argument);
    }
    let positions = tensor(positions)?.f_clamp(0, n)?;
    Ok(logits.f_cross_entropy_loss(&positions, None::<&Tensor>, Reduction::Mean, n, 0.0)?)
}

/// TensorFlow's losses. Source: `modeling_tf_utils.py`.
mod tensorflow {
    use super::*;

    /// Mean cross-entropy over the tokens whose label is not -100, where any other negative label counts as class 0: [1].
    pub(super) fn masked_lm(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
        let classes = classes_of(logits, labels)?;
        let zero = classes.f_lt(0)?.f_logical_and(&classes.f_ne(IGNORED)?)?;
        let loss = cross_entropy(logits, &classes.f_masked_fill(&zero, 0)?, Reduction::Mean)?;
        Ok(loss.f_reshape([1])?)
    }

    /// Mean cross-entropy over the tokens whose label is not negative: [1].
    pub(super) fn token_classification(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
        let (rows, classes) = labelled(logits, &classes_of(logits, labels)?)?;
        Ok(cross_entropy(&rows, &classes, Reduction::Mean)?.f_reshape([1])?)
    }

    /// One loss a sequence, squared error for one label and cross-entropy for more: [b].
    pub(super) fn sequence_classification(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
        if logits.size2()?.1 == 1 {
            let losses = logits.f_mse_loss(&values_of(logits, labels)?, Reduction::None)?;
            return Ok(losses.f_reshape([-1])?);
        }
        each_cross_entropy(logits, &classes_of(logits, labels)?, "labels")
    }

    /// One loss a question: [b]. `logits` [b, c].
    pub(super) fn multiple_choice(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
        each_cross_entropy(logits, &classes_of(logits, labels)?, "labels")
    }
}

/// The classes that count, and -100 in the place of the others.
fn counted(classes: &Tensor, counts: impl Fn(i64) -> bool) -> Result<Tensor> {
    let all = Vec::<i64>::try_from(classes.f_reshape([-1])?)?;
    let counted = all.into_iter().map(|class| if counts(class) { class } else { IGNORED });
    Ok(Tensor::f_from_slice(&counted.collect::<Vec<_>>())?.f_reshape(classes.size())?)
}

/// Cross-entropy of the rows of `logits` […, C] and `classes` […]; -100 is ignored.
fn cross_entropy(logits: &Tensor, classes: &Tensor, reduction: Reduction) -> Result<Tensor> {
    check_classes(logits, classes, "labels", |class| class != IGNORED)?;
    let classes = classes.f_reshape([-1])?;
    Ok(rows(logits)?.f_cross_entropy_loss(&classes, None::<&Tensor>, reduction, IGNORED, 0.0)?)
}

/// The cross-entropy of every row of `logits` [b, C], none ignored: [b].
fn each_cross_entropy(logits: &Tensor, classes: &Tensor, argument: &'static str) -> Result<Tensor> {
    check_classes(logits, classes, argument, |_| true)?;
    Ok(logits.f_cross_entropy_loss(classes, None::<&Tensor>, Reduction::None, IGNORED, 0.0)?)
}

/// The rows of `logits` […, C] whose class in `classes` […] is not negative, and these classes.
fn labelled(logits: &Tensor, classes: &Tensor) -> Result<(Tensor, Tensor)> {
    check_classes(logits, classes, "labels", |class| class >= 0)?;
    let classes = classes.f_reshape([-1])?;
    let there = classes.f_ge(0)?.f_nonzero()?.f_reshape([-1])?;
    Ok((rows(logits)?.f_index_select(0, &there)?, classes.f_index_select(0, &there)?))
}

/// […, C] to [rows, C].
fn rows(logits: &Tensor) -> Result<Tensor> {
    let width = logits.size().last().copied().unwrap_or(1);
    Ok(logits.f_reshape([-1, width])?)
}

/// Labels as one class a row of `logits` […, C]; a last axis of length 1 may be there too. Real numbers are cut off.
fn classes_of(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
    let mut expected = logits.size();
    expected.pop();
    check_labels(labels, &expected)?;
    Ok(label_tensor(labels)?.f_to_kind(Kind::Int64)?.f_reshape(expected)?)
}

/// Labels as one real number for each of `logits` [b, C]; for C = 1 the last axis may be absent.
fn values_of(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
    let shape = logits.size();
    let expected = if let [b, 1] = shape.as_slice() { vec![*b] } else { shape.clone() };
    check_labels(labels, &expected)?;
    Ok(label_tensor(labels)?.f_to_kind(Kind::Float)?.f_reshape(shape)?)
}

fn label_tensor(labels: &Labels) -> Result<Tensor> {
    match labels {
        Labels::Classes(classes) => tensor(classes),
        Labels::Values(values) => tensor(values),
    }
}

fn sizes(labels: &Labels) -> Vec<i64> {
    super::tensors::lengths(labels.shape())
}

/// Checks that labels have the shape `expected`, perhaps with a last axis of length 1.
fn check_labels(labels: &Labels, expected: &[i64]) -> Result<()> {
    let found = sizes(labels);
    if found == expected || found.strip_suffix(&[1]).is_some_and(|found| found == expected) {
        return Ok(());
    }
    let (expected, found) = (format!("{expected:?}"), labels.shape().to_vec());
    Err(InputError::Shape { argument: "labels", expected, found }.into())
}

/// Checks that every class that `counts` is in 0..C.
fn check_classes(
    logits: &Tensor,
    classes: &Tensor,
    argument: &'static str,
    counts: impl Fn(i64) -> bool,
) -> Result<()> {
    let width = logits.size().last().copied().unwrap_or_default();
    let all = Vec::<i64>::try_from(classes.f_reshape([-1])?)?;
    let wrong = |class: i64| counts(class) && !(0..width).contains(&class);
    let Some((at, &value)) = all.iter().enumerate().find(|&(_, &class)| wrong(class)) else {
        return Ok(());
    };
    let shape = super::tensors::shape(classes);
    let limit = usize::try_from(width).unwrap_or_default();
    Err(InputError::OutOfRange { argument, at: coordinates(at, &shape), value, limit }.into())
}
