//! The losses. PyTorch's classes return the mean, as an array without axes; TensorFlow's differ in what they average,
//! what they ignore, and what shape they return.
//!
//! A mean over nothing is NaN, as in both frameworks, unless said otherwise.

use ndarray::{Array1, Array2, ArrayD, ArrayView1, Axis, Dimension, arr0};

use crate::config::ProblemType;
use crate::error::{InputError, Result};
use crate::inputs::{Inputs, Labels};
use crate::ops::softplus;
use crate::real::Real;

/// The label that PyTorch's cross-entropy ignores.
const IGNORED: i64 = -100;

/// Mean cross-entropy over the tokens whose label is not -100. `logits` [b, n, C], `labels` [b, n]. Masked language
/// modelling is the same with C = V. Source: `CrossEntropyLoss`.
pub(crate) fn token_classification<F: Real>(logits: &ArrayD<F>, labels: &Labels) -> Result<ArrayD<F>> {
    tokens(logits, labels, |class| class != IGNORED)
}

/// The same over the tokens whose label `counts`.
pub(crate) fn tokens<F: Real>(
    logits: &ArrayD<F>,
    labels: &Labels,
    counts: impl Fn(i64) -> bool,
) -> Result<ArrayD<F>> {
    let classes = classes_of(logits, labels)?;
    Ok(arr0(mean_cross_entropy(logits, &classes, counts)?).into_dyn())
}

/// Mean binary cross-entropy over the tokens of the mask: whether the label is a token, above 0, and another one than
/// that of `input_ids`. `logits` [b, n], `labels` [b, n]. Source: Microsoft's `replaced_token_detection_model.py`.
pub(crate) fn replaced_tokens<F: Real>(
    logits: &ArrayD<F>,
    labels: &Labels,
    inputs: &Inputs,
) -> Result<ArrayD<F>> {
    let Some(ids) = &inputs.input_ids else {
        return Err(InputError::Kind { argument: "input_ids", expected: "the tokens, for this loss" }.into());
    };
    let labels = classes_of(&logits.view().insert_axis(Axis(2)).to_owned(), labels)?; // [b, n]
    let mask = inputs.attention_mask.as_ref();
    let (mut sum, mut count) = (0.0, 0.0);
    for (at, ((logit, label), id)) in logits.iter().zip(&labels).zip(ids).enumerate() {
        // A mask of pairs [b, n, n] has a row for every token.
        let is_token = mask.is_none_or(|mask| {
            let width = mask.len() / ids.len();
            mask.iter().skip(at * width).take(width).any(|m| *m > 0.0)
        });
        if is_token {
            let z = if *label > 0 && label != id { F::one() } else { F::zero() };
            sum += (softplus(*logit) - *logit * z).in_f64();
            count += 1.0;
        }
    }
    Ok(arr0(F::of(sum / count)).into_dyn())
}

/// The loss that `problem_type` names. `logits` [b, C]. Source: `DebertaForSequenceClassification.forward`.
pub(crate) fn sequence_classification<F: Real>(
    logits: &ArrayD<F>,
    labels: &Labels,
    problem_type: Option<ProblemType>,
) -> Result<ArrayD<F>> {
    let (b, count) = (logits.shape()[0], logits.shape()[1]);
    let one_each = labels.shape() == [b] || labels.shape() == [b, 1];
    let loss = match problem_type {
        Some(ProblemType::Regression) => squared_error(logits, labels)?,
        Some(ProblemType::SingleLabelClassification) => {
            let Labels::Classes(_) = labels else {
                return Err(InputError::Kind { argument: "labels", expected: "integers, the classes" }.into());
            };
            mean_cross_entropy(logits, &classes_of(logits, labels)?, |class| class != IGNORED)?
        }
        Some(ProblemType::MultiLabelClassification) => {
            // -z ln σ(x) - (1 - z) ln(1 - σ(x)) = softplus(x) - x z
            mean(logits, &values_of(logits, labels)?, |x, z| softplus(x) - x * z)
        }
        None if count == 1 => squared_error(logits, labels)?,
        None if one_each => {
            let classes = classes_of(logits, labels)?;
            match classes.iter().any(|class| *class >= 0) {
                true => mean_cross_entropy(logits, &classes, |class| class >= 0)?,
                false => F::zero(),
            }
        }
        None => {
            // Soft labels: the mean over the sequences of -Σ z ln softmax(x)
            let labels = values_of(logits, labels)?;
            let rows = logits.rows().into_iter().zip(labels.rows());
            let losses = rows.map(|(x, z)| {
                let total = log_sum_exp(x);
                x.iter().zip(z).map(|(x, z)| (total - *x) * *z).sum::<F>() // Σ z (ln Σ exp(x) - x)
            });
            losses.sum::<F>() / F::of(b as f64)
        }
    };
    Ok(arr0(loss).into_dyn())
}

/// The mean of the losses for start and end. Logits [b, n], positions [b]; a position is clamped to 0..=n, and n is
/// ignored. Source: `DebertaForQuestionAnswering.forward`.
pub(crate) fn question_answering<F: Real>(
    start_logits: &Array2<F>,
    end_logits: &Array2<F>,
    start: &Array1<i64>,
    end: &Array1<i64>,
) -> Result<ArrayD<F>> {
    let side = |logits: &Array2<F>, positions: &Array1<i64>, argument| -> Result<F> {
        check_positions(logits, positions, argument)?;
        let n = logits.dim().1 as i64;
        let classes = positions.mapv(|position| position.clamp(0, n)).into_dyn();
        mean_cross_entropy(&logits.view().into_dyn().to_owned(), &classes, |class| class != n)
    };
    let start = side(start_logits, start, "start_positions")?;
    let end = side(end_logits, end, "end_positions")?;
    Ok(arr0((start + end) / F::of(2.0)).into_dyn())
}

/// TensorFlow's losses. Source: `modeling_tf_utils.py`.
pub(crate) mod tensorflow {
    use super::*;

    /// Mean cross-entropy over the tokens whose label is not -100, where any other negative label counts as class 0:
    /// [1]. Source: `TFMaskedLanguageModelingLoss`.
    pub(crate) fn masked_lm<F: Real>(logits: &ArrayD<F>, labels: &Labels) -> Result<ArrayD<F>> {
        let classes = classes_of(logits, labels)?;
        let classes = classes.mapv(|class| if class < 0 && class != IGNORED { 0 } else { class });
        let loss = mean_cross_entropy(logits, &classes, |class| class != IGNORED)?;
        Ok(arr0(loss).into_dyn().insert_axis(Axis(0)))
    }

    /// Mean cross-entropy over the tokens whose label is not negative: [1]. Source: `TFTokenClassificationLoss`.
    pub(crate) fn token_classification<F: Real>(logits: &ArrayD<F>, labels: &Labels) -> Result<ArrayD<F>> {
        let loss = mean_cross_entropy(logits, &classes_of(logits, labels)?, |class| class >= 0)?;
        Ok(arr0(loss).into_dyn().insert_axis(Axis(0)))
    }

    /// One loss a sequence, squared error for one label and cross-entropy for more, whatever `problem_type` says:
    /// [b]. Source: `TFSequenceClassificationLoss`.
    pub(crate) fn sequence_classification<F: Real>(logits: &ArrayD<F>, labels: &Labels) -> Result<ArrayD<F>> {
        if logits.shape()[1] == 1 {
            let labels = values_of(logits, labels)?;
            // (x - z)², [b, 1] to [b]
            return Ok((logits - &labels).mapv(|difference| difference * difference).sum_axis(Axis(1)));
        }
        Ok(cross_entropies(logits, &classes_of(logits, labels)?, "labels")?.into_dyn())
    }

    /// One loss a question: [b]. `logits` [b, c]. Source: `TFMultipleChoiceLoss`.
    pub(crate) fn multiple_choice<F: Real>(logits: &ArrayD<F>, labels: &Labels) -> Result<ArrayD<F>> {
        Ok(cross_entropies(logits, &classes_of(logits, labels)?, "labels")?.into_dyn())
    }

    /// One loss a sequence, the mean of those for start and end: [b]. Positions outside 0..n are an error, as they
    /// are for TensorFlow on a CPU. Source: `TFQuestionAnsweringLoss`.
    pub(crate) fn question_answering<F: Real>(
        start_logits: &Array2<F>,
        end_logits: &Array2<F>,
        start: &Array1<i64>,
        end: &Array1<i64>,
    ) -> Result<ArrayD<F>> {
        let side = |logits: &Array2<F>, positions: &Array1<i64>, argument| -> Result<Array1<F>> {
            check_positions(logits, positions, argument)?;
            cross_entropies(&logits.view().into_dyn().to_owned(), &positions.clone().into_dyn(), argument)
        };
        let start = side(start_logits, start, "start_positions")?;
        let end = side(end_logits, end, "end_positions")?;
        Ok(((start + end) / F::of(2.0)).into_dyn())
    }
}

/// The mean of the cross-entropies of the rows whose class `counts`.
fn mean_cross_entropy<F: Real>(
    logits: &ArrayD<F>,
    classes: &ArrayD<i64>,
    counts: impl Fn(i64) -> bool,
) -> Result<F> {
    let (mut sum, mut count) = (0.0_f64, 0.0);
    for ((at, &class), row) in classes.indexed_iter().zip(logits.rows()) {
        if counts(class) {
            sum += cross_entropy(row, class, "labels", at.slice())?.in_f64();
            count += 1.0;
        }
    }
    Ok(F::of(sum / count))
}

/// The cross-entropy of every row.
fn cross_entropies<F: Real>(
    logits: &ArrayD<F>,
    classes: &ArrayD<i64>,
    argument: &'static str,
) -> Result<Array1<F>> {
    let rows = classes.indexed_iter().zip(logits.rows());
    rows.map(|((at, &class), row)| cross_entropy(row, class, argument, at.slice())).collect()
}

/// -ln softmax(x)[class]
fn cross_entropy<F: Real>(
    x: ArrayView1<'_, F>,
    class: i64,
    argument: &'static str,
    at: &[usize],
) -> Result<F> {
    let logit = usize::try_from(class)
        .ok()
        .and_then(|class| x.get(class))
        .ok_or_else(|| InputError::OutOfRange { argument, at: at.to_vec(), value: class, limit: x.len() })?;
    Ok(log_sum_exp(x) - *logit)
}

/// ln Σ exp(x)
fn log_sum_exp<F: Real>(x: ArrayView1<'_, F>) -> F {
    // = max + ln Σ exp(x - max), which does not overflow
    let max = x.iter().copied().fold(F::neg_infinity(), F::max);
    let sum: f64 = x.iter().map(|x| F::exp_of(*x - max).in_f64()).sum();
    F::of(max.in_f64() + sum.ln())
}

/// The mean of the squared differences.
fn squared_error<F: Real>(logits: &ArrayD<F>, labels: &Labels) -> Result<F> {
    Ok(mean(logits, &values_of(logits, labels)?, |x, z| (x - z) * (x - z)))
}

/// The mean of `loss` over all numbers.
fn mean<F: Real>(logits: &ArrayD<F>, labels: &ArrayD<F>, loss: impl Fn(F, F) -> F) -> F {
    let sum: f64 = logits.iter().zip(labels).map(|(x, z)| loss(*x, *z).in_f64()).sum();
    F::of(sum / logits.len() as f64)
}

/// Labels as one class a row of `logits` […, C]; a last axis of length 1 may be there too. Real numbers are cut off.
fn classes_of<F: Real>(logits: &ArrayD<F>, labels: &Labels) -> Result<ArrayD<i64>> {
    let rows = &logits.shape()[..logits.ndim() - 1];
    check_labels(labels, rows)?;
    let mut classes = match labels {
        Labels::Classes(classes) => classes.clone(),
        Labels::Values(values) => values.mapv(|value| value as i64),
    };
    if classes.ndim() > rows.len() {
        classes = classes.index_axis_move(Axis(rows.len()), 0);
    }
    Ok(classes)
}

/// Labels as one real number for each of `logits` [b, C]; for C = 1 the last axis may be absent.
fn values_of<F: Real>(logits: &ArrayD<F>, labels: &Labels) -> Result<ArrayD<F>> {
    let shape = logits.shape();
    check_labels(labels, if shape[1] == 1 { &shape[..1] } else { shape })?;
    let mut values = match labels {
        Labels::Classes(classes) => classes.mapv(|class| F::of(class as f64)),
        Labels::Values(values) => values.mapv(F::exactly),
    };
    if values.ndim() < logits.ndim() {
        values = values.insert_axis(Axis(1));
    }
    Ok(values)
}

/// Checks that labels have the shape `expected`, perhaps with a last axis of length 1.
fn check_labels(labels: &Labels, expected: &[usize]) -> Result<()> {
    let found = labels.shape();
    if found == expected
        || (found.len() == expected.len() + 1 && found.starts_with(expected) && found.ends_with(&[1]))
    {
        return Ok(());
    }
    let expected = format!("{expected:?}");
    Err(InputError::Shape { argument: "labels", expected, found: found.to_vec() }.into())
}

fn check_positions<F: Real>(
    logits: &Array2<F>,
    positions: &Array1<i64>,
    argument: &'static str,
) -> Result<()> {
    let b = logits.dim().0;
    if positions.len() == b {
        return Ok(());
    }
    let (expected, found) = (format!("[{b}]"), positions.shape().to_vec());
    Err(InputError::Shape { argument, expected, found }.into())
}
