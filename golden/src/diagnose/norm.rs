//! What the difference at a normalisation says about γ and β.

use deberta_reference::{Param, Role};

use super::hypothesis::Hypothesis;
use super::residual::{Residual, shifted};
use crate::fault::{Change, Model};

/// What can be read from the difference of a normalisation, `weight` and `bias` of the module at `path`.
pub(super) fn norm(model: &Model, params: &[Param], path: &str, residual: &Residual<'_>) -> Vec<Hypothesis> {
    let (weight, bias) = (format!("{path}.weight"), format!("{path}.bias"));
    let channels = residual.channels();
    let mut found: Vec<Hypothesis> = shifted(model, params, &bias, residual, &channels).into_iter().collect();
    let (Some(gamma), Some(beta)) = (model.values(&weight), model.values(&bias)) else { return found };
    if residual.rows < 2 {
        return found;
    }
    // want = γ' x̂ + β' with x̂ = (got - β) / γ, for every channel by least squares.
    let mut fit = Vec::new();
    for (channel, (&gamma, &beta)) in gamma.iter().zip(beta).enumerate() {
        let n = residual.rows as f64;
        let normal = |got: f64| (got - f64::from(beta)) / f64::from(gamma);
        // Rows of padding are 0 behind some normalisations.
        let seen = || residual.channel(channel).filter(|(want, got, _)| *want != 0.0 || *got != 0.0);
        let n = (seen().count() as f64).max(1.0).min(n);
        let points = || seen().map(|(want, got, _)| (normal(got), want));
        let (sx, sy) = points().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x / n, sy + y / n));
        let (sxx, sxy) = points()
            .fold((0.0, 0.0), |(sxx, sxy), (x, y)| (sxx + (x - sx) * (x - sx), sxy + (x - sx) * (y - sy)));
        let slope = if sxx > 0.0 { sxy / sxx } else { f64::from(gamma) };
        let shift = sy - slope * sx;
        let explained =
            seen().all(|(want, got, off)| (want - slope * normal(got) - shift).abs() <= 2.0 * off);
        if !explained || !slope.is_finite() || !shift.is_finite() {
            return found;
        }
        fit.push((slope as f32, shift as f32));
    }
    let far = |at: usize, name: &str, value: f32| {
        model.values(name).and_then(|values| values.get(at)).is_none_or(|&own| (own - value).abs() > 2e-4)
    };
    let same = |name: &str, part: fn(&(f32, f32)) -> f32| {
        fit.iter().enumerate().all(|(at, fitted)| !far(at, name, part(fitted)))
    };
    for other in params.iter().filter(|param| param.role != Role::LayerNormScale && param.name != bias) {
        let name = other.name.as_str();
        if model.shape(name) == model.shape(&weight) && same(name, |fit| fit.0) {
            let repair = "convert the original model again: parameters were mixed up";
            let evidence = format!("γ of the golden is {name}");
            let change = Change::Swap(name.to_owned(), weight.clone());
            let cause = format!("{name} belongs to {weight}");
            let hypothesis = Hypothesis::new("misplaced-parameter", cause, repair).because(evidence);
            found.push(hypothesis.undone_by([change]));
        }
    }
    let mut scales: Vec<&Param> =
        params.iter().filter(|param| param.role == Role::LayerNormScale && param.name != weight).collect();
    scales.sort_by(|one, other| one.name.cmp(&other.name));
    for scale in scales {
        let (name, module) = (scale.name.as_str(), scale.path());
        let its_bias = format!("{module}.bias");
        if same(name, |fit| fit.0) && model.shape(name) == model.shape(&weight) {
            let swap = |part: &str| Change::Swap(format!("{path}.{part}"), format!("{module}.{part}"));
            let copy =
                |part: &str| Change::Copy { from: format!("{module}.{part}"), to: format!("{path}.{part}") };
            let both = same(&its_bias, |fit| fit.1);
            let hypothesis = || {
                let cause = format!("the parameters of {module} belong to {path}");
                let repair = "put each normalisation's parameters under its own name (deberta-convert names lists them)";
                Hypothesis::new("misplaced-parameter", cause, repair)
                    .because(format!("γ of {module} is what the golden was computed with"))
            };
            let parts: &[&str] = if both { &["weight", "bias"] } else { &["weight"] };
            found.push(hypothesis().undone_by(parts.iter().map(|part| swap(part))));
            found.push(hypothesis().undone_by(parts.iter().map(|part| copy(part))));
        }
    }
    let off: Vec<usize> =
        (0..fit.len()).filter(|&at| fit.get(at).is_none_or(|&(slope, _)| far(at, &weight, slope))).collect();
    let fresh = gamma.iter().all(|&gamma| gamma == 1.0) && beta.iter().all(|&beta| beta == 0.0);
    let restore = "restore them from the original model";
    let hypothesis = match (off.as_slice(), channels.as_slice()) {
        _ if fresh => Hypothesis::new(
            "fresh-layer-norm",
            format!("{path} is as before training: γ is 1, β is 0"),
            restore,
        ),
        ([at], [_]) => {
            let by = fit.get(*at).zip(gamma.get(*at)).map_or(0.0, |(fit, gamma)| gamma - fit.0);
            Hypothesis::new("changed-weight", format!("{weight}[{at}] is off by {by:.3e}"), restore)
        }
        _ => Hypothesis::new(
            "changed-layer-norm",
            format!("γ and β of {path}: {} channels", channels.len()),
            restore,
        ),
    };
    let (slopes, shifts) = fit.into_iter().unzip();
    found.push(
        hypothesis
            .because("every channel is a multiple of what it should be, plus a constant")
            .undone_by([Change::Replace(weight, slopes), Change::Replace(bias, shifts)])
            .fitting(2 * channels.len())
            .says_what(fresh || 2 * channels.len() < residual.pair.width),
    );
    found
}
