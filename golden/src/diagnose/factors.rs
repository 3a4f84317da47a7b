//! Parameters that are a multiple of what they should be, have the other sign, or belong elsewhere.

use deberta_reference::Param;

use super::hypothesis::Hypothesis;
use super::residual::Residual;
use crate::fault::{Change, Model};

/// A parameter and, perhaps, what is added behind it.
pub(super) struct Scaled<'s> {
    /// The weight, γ or kernel.
    pub(super) weight: &'s str,
    /// The bias or β.
    pub(super) bias: Option<&'s str>,
    /// How many parts every head's rows have, and how many rows each part; one part of any size where there are no heads.
    pub(super) parts: [usize; 2],
}

/// The factor by which all numbers differ but for the bias, or the bias included; of a projection of several parts, for one of
/// them.
pub(super) fn scaled(model: &Model, of: &Scaled<'_>, residual: &Residual<'_>) -> Vec<Hypothesis> {
    let [parts, d] = of.parts;
    let own = of.bias.and_then(|bias| model.values(bias));
    let rows = model.shape(of.weight).and_then(|shape| shape.first().copied()).unwrap_or(0);
    let mut found = Vec::new();
    for part in 0..parts.max(1) {
        let concerns = |channel: usize| parts < 2 || channel / d.max(1) % parts == part;
        let ranges = (parts > 1).then(|| {
            let starts = (0..rows / d.max(1)).filter(|block| block % parts == part);
            starts.map(|block| block * d..(block + 1) * d).collect::<Vec<_>>()
        });
        let scale = |name: &str, factor: f64| Change::Scale {
            name: name.to_owned(),
            rows: ranges.clone(),
            factor: factor as f32,
        };
        let without =
            |channel: usize| own.and_then(|own| own.get(channel)).map_or(0.0, |&own| f64::from(own));
        if let Some(factor) = residual.factor(concerns, without) {
            found.push(by(of.weight, factor).undone_by([scale(of.weight, factor)]));
        }
        if let (Some(bias), Some(factor)) = (of.bias, residual.factor(concerns, |_| 0.0))
            && own.is_some_and(|own| own.iter().any(|&own| own != 0.0))
        {
            let both = format!("{} and {bias}", of.weight);
            found.push(by(&both, factor).undone_by([of.weight, bias].map(|name| scale(name, factor))));
        }
    }
    found
}

/// A parameter that must be multiplied by `factor`.
pub(super) fn by(name: &str, factor: f64) -> Hypothesis {
    let repair = "restore it from the original model";
    if (factor + 1.0).abs() < 1e-4 {
        return Hypothesis::new("negated-parameter", format!("{name}: the other sign"), repair);
    }
    let cause = format!("{name}: {:.5} times what it should be", 1.0 / factor);
    let evidence = "every number is off by the same factor";
    Hypothesis::new("scaled-parameter", cause, repair).because(evidence).fitting(1)
}

/// What a difference that is the same in all rows says of a bias besides that it is off: it has the other sign, or is that of
/// another module.
pub(super) fn of_bias(
    model: &Model,
    params: &[Param],
    bias: &str,
    residual: &Residual<'_>,
) -> Vec<Hypothesis> {
    let (Some(own), Some(shifts)) = (model.values(bias), residual.constants()) else { return Vec::new() };
    let near =
        |value: f64, other: f32| (value - f64::from(other)).abs() < 1e-5 + 1e-4 * f64::from(other.abs());
    let wanted: Vec<f64> = own.iter().zip(&shifts).map(|(&own, shift)| f64::from(own) + shift).collect();
    let is = |values: &[f32]| {
        values.len() == wanted.len() && wanted.iter().zip(values).all(|(&wanted, &value)| near(wanted, value))
    };
    let mut found = Vec::new();
    let negated: Vec<f32> = own.iter().map(|own| -own).collect();
    if is(&negated) && own.iter().any(|&own| own != 0.0) {
        let change = Change::Scale { name: bias.to_owned(), rows: None, factor: -1.0 };
        found.push(by(bias, -1.0).undone_by([change]));
    }
    let vector = |param: &&Param| param.name != bias && param.shape.len() == 1;
    for other in params.iter().filter(vector) {
        if !model.values(&other.name).is_some_and(is) {
            continue;
        }
        let other = other.name.as_str();
        let hypothesis = || {
            let repair = "convert the original model again: parameters were mixed up";
            Hypothesis::new("misplaced-parameter", format!("{other} belongs to {bias}"), repair)
                .because(format!("with the numbers of {other} it agrees"))
        };
        found.push(hypothesis().undone_by([Change::Swap(other.to_owned(), bias.to_owned())]));
        found.push(hypothesis().undone_by([Change::Copy { from: other.to_owned(), to: bias.to_owned() }]));
    }
    found
}
