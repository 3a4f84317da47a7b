//! How far numbers may be off.

use std::collections::BTreeMap;

use deberta_converters::tensor::Dtype;
use deberta_reference::probe::matches;
use serde::{Deserialize, Serialize};

mod limits;

pub use limits::Limits;

/// How far a number may be off: by `atol + rtol · |expected| + scale · max |expected|`, the largest of the tensor.
///
/// What is added up to make a number decides how far it may be off, and the largest number of the tensor tells more of that
/// than the number itself, which may be a small sum of large terms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// The absolute part.
    pub atol: f64,
    /// The part that grows with the expected number.
    #[serde(default)]
    pub rtol: f64,
    /// The part that grows with the largest expected number of the tensor.
    #[serde(default)]
    pub scale: f64,
}

/// The precision that a model's weights were stored with, as far as it decides how close it can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits of significand, or more.
    F32,
    /// 11 bits of significand.
    F16,
    /// 8 bits of significand.
    Bf16,
    /// Integers in the place of numbers: how close a model comes then is no matter of rounding, and must be said.
    Quantized,
}

/// The tolerances of all tensors of a case.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerances {
    default: Tolerance,
    #[serde(default)]
    patterns: Vec<PatternTolerance>,
    #[serde(default)]
    dtypes: BTreeMap<Precision, Tolerance>,
    /// How much rounding may cost.
    #[serde(default)]
    quantization: Option<Limits>,
    /// Whether nothing of f32 is judged more strictly than where nothing is said.
    #[serde(skip)]
    usual_at_least: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PatternTolerance {
    pattern: String,
    atol: f64,
    #[serde(default)]
    rtol: f64,
    #[serde(default)]
    scale: f64,
    #[serde(default = "f32")]
    dtype: Precision,
}

fn f32() -> Precision {
    Precision::F32
}

/// What the softmax makes, and what it weighs: where nothing is said, it may be further off than other numbers of f32. The
/// error of a probability goes with the scores, which are many times as large as probabilities. How the number was found:
/// `docs/golden.md`.
const OF_THE_SOFTMAX: [&str; 4] = [
    "outputs.attentions.*",
    "activations.*attention.self.probs",
    "activations.*attention.self.head_weights_proj",
    "activations.*attention.self",
];
const SOFTMAX: Tolerance = Tolerance { atol: 5e-6, rtol: 1e-5, scale: 5e-5 };

impl Precision {
    /// The precision of weights of which some are stored as `dtypes`: the lowest.
    pub fn of(dtypes: impl IntoIterator<Item = Dtype>) -> Precision {
        let precision = |dtype| match dtype {
            Dtype::F16 => Precision::F16,
            Dtype::BF16 => Precision::Bf16,
            _ => Precision::F32,
        };
        dtypes.into_iter().map(precision).max().unwrap_or(Precision::F32)
    }

    /// Whether a number may become another one when it is stored with this precision: the nearest, or one of its neighbours,
    /// because some tools cut digits off; 0 for what is too small, and the largest or infinity for what is too large.
    pub fn rounds(self, exact: f32, rounded: f32) -> bool {
        // How many bits follow the first one, the smallest number that has them all, the largest.
        let (bits, smallest, largest) = match self {
            Precision::F32 | Precision::Quantized => return exact == rounded,
            Precision::F16 => (10, f32::from_bits(0x3880_0000), 65_504.0),
            Precision::Bf16 => (7, f32::MIN_POSITIVE, f32::MAX),
        };
        let size = exact.abs();
        if size > largest {
            return rounded.abs() >= largest && rounded.is_sign_positive() == exact.is_sign_positive();
        }
        // The power of two below it: its exponent alone.
        let power = f32::from_bits(size.max(smallest).to_bits() & 0x7f80_0000);
        let step = f64::from(power) / f64::from(1_u32 << bits);
        (f64::from(rounded) - f64::from(exact)).abs() <= step || (rounded == 0.0 && size < smallest)
    }

    /// The tolerance where nothing else is said. How the numbers were found: `docs/golden.md`.
    pub fn tolerance(self) -> Tolerance {
        match self {
            Precision::F32 | Precision::Quantized => Tolerance { atol: 5e-6, rtol: 1e-5, scale: 1e-5 },
            Precision::F16 => Tolerance { atol: 1e-3, rtol: 1e-3, scale: 8e-3 },
            Precision::Bf16 => Tolerance { atol: 1e-2, rtol: 1e-2, scale: 5e-2 },
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
            Precision::Quantized => "quantized",
        })
    }
}

impl Default for Tolerances {
    fn default() -> Tolerances {
        let Tolerance { atol, rtol, scale } = SOFTMAX;
        let of_the_softmax = |pattern: &str| PatternTolerance {
            pattern: pattern.to_owned(),
            atol,
            rtol,
            scale,
            dtype: Precision::F32,
        };
        Tolerances {
            patterns: OF_THE_SOFTMAX.into_iter().map(of_the_softmax).collect(),
            ..Tolerances::uniform(Precision::F32.tolerance())
        }
    }
}

impl Tolerances {
    /// The tolerance of the tensor `name` (`outputs.logits`, `activations.pooler`) for weights stored with a
    /// precision: of the first pattern that matches, or else the default. `*` stands for any text.
    pub fn of(&self, name: &str, precision: Precision) -> Tolerance {
        let matching = |entry: &&PatternTolerance| entry.dtype == precision && matches(&entry.pattern, name);
        let stated = match (self.patterns.iter().find(matching), precision) {
            (Some(entry), _) => entry.tolerance(),
            (None, Precision::F32) => self.default,
            (None, half) => self.dtypes.get(&half).copied().unwrap_or(half.tolerance()),
        };
        match precision {
            Precision::F32 if self.usual_at_least => {
                stated.widened(Tolerances::default().of(name, precision))
            }
            _ => stated,
        }
    }

    /// The same tolerances, but nothing of f32 is judged more strictly than where nothing is said: a case whose model is
    /// stored in half precision states what is stricter for f32 without having tried it.
    pub fn usual_at_least(&self) -> Tolerances {
        Tolerances { usual_at_least: true, ..self.clone() }
    }

    /// Whether anything is said about a precision.
    pub fn say(&self, precision: Precision) -> bool {
        self.dtypes.contains_key(&precision) || self.patterns.iter().any(|entry| entry.dtype == precision)
    }

    /// How much rounding may cost, if anything is said about it.
    pub fn quantization(&self) -> Option<Limits> {
        self.quantization
    }

    /// The same tolerance for every tensor.
    pub fn uniform(tolerance: Tolerance) -> Tolerances {
        Tolerances {
            default: tolerance,
            patterns: Vec::new(),
            dtypes: BTreeMap::new(),
            quantization: None,
            usual_at_least: false,
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.default.check().map_err(|error| format!("tolerances.default.{error}"))?;
        for (precision, tolerance) in &self.dtypes {
            tolerance.check().map_err(|error| format!("tolerances.dtypes.{precision}.{error}"))?;
        }
        self.quantization.as_ref().map_or(Ok(()), Limits::check)?;
        if self.dtypes.contains_key(&Precision::F32) {
            return Err("tolerances.dtypes.f32: this is tolerances.default".to_owned());
        }
        self.patterns.iter().enumerate().try_for_each(|(index, entry)| {
            entry.tolerance().check().map_err(|error| format!("tolerances.patterns[{index}].{error}"))
        })
    }
}

impl PatternTolerance {
    fn tolerance(&self) -> Tolerance {
        Tolerance { atol: self.atol, rtol: self.rtol, scale: self.scale }
    }
}

impl Tolerance {
    /// The same for every number.
    pub const fn absolute(atol: f64) -> Tolerance {
        Tolerance { atol, rtol: 0.0, scale: 0.0 }
    }

    /// Each part as wide as the wider of both has it.
    fn widened(self, other: Tolerance) -> Tolerance {
        Tolerance {
            atol: self.atol.max(other.atol),
            rtol: self.rtol.max(other.rtol),
            scale: self.scale.max(other.scale),
        }
    }

    /// How far a number may be from `expected` in a tensor in which `largest` is the largest that is expected.
    pub fn allowance(&self, expected: f32, largest: f32) -> f64 {
        self.atol + self.rtol * f64::from(expected).abs() + self.scale * f64::from(largest).abs()
    }

    /// Whether zeros would be noticed in place of a tensor whose largest number is `largest`, by its absolute value. Where that
    /// number may be as far off as it is large, all smaller ones may be, too.
    pub fn notices_zeros(&self, largest: f32) -> bool {
        self.allowance(largest, largest) < f64::from(largest).abs()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        for (key, value) in [("atol", self.atol), ("rtol", self.rtol), ("scale", self.scale)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(format!("{key}: expected a number from 0, found {value}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_widens_what_is_stated() {
        let strict = Tolerances::uniform(Tolerance::absolute(1e-5));
        assert_eq!(strict.of("outputs.logits", Precision::F32), Tolerance::absolute(1e-5));
        let usual = strict.usual_at_least();
        let (logits, probs) = ("outputs.logits", "activations.encoder.layer.0.attention.self.probs");
        assert_eq!(usual.of(logits, Precision::F32), Tolerance { atol: 1e-5, rtol: 1e-5, scale: 1e-5 });
        assert_eq!(usual.of(probs, Precision::F32).scale, SOFTMAX.scale);
        assert_eq!(usual.of(logits, Precision::F16), strict.of(logits, Precision::F16));
    }

    fn tolerances() -> Tolerances {
        let text = r#"
default: {atol: 5.0e-6}
dtypes: {f16: {atol: 0.001}}
patterns:
  - {pattern: "outputs.attentions.*", atol: 0, rtol: 0.5, scale: 0.03125}
  - {pattern: "outputs.*", atol: 1, dtype: f16}
"#;
        crate::yaml::parse(text, "list of tolerances").unwrap()
    }

    #[test]
    fn the_first_pattern_decides_the_tolerance() {
        let of = |name| tolerances().of(name, Precision::F32);
        assert_eq!(of("outputs.logits"), Tolerance::absolute(5e-6));
        assert_eq!(of("outputs.attentions.3").allowance(-2.0, 8.0), 1.25);
    }

    #[test]
    fn zeros_are_noticed_in_place_of_numbers_that_are_larger_than_the_tolerance() {
        let default = Precision::F32.tolerance();
        assert!(default.notices_zeros(-1e-3) && !default.notices_zeros(4e-6) && !default.notices_zeros(0.0));
        assert!(!Tolerance::absolute(1e9).notices_zeros(3.0));
        assert!(!Tolerance { scale: 10.0, ..default }.notices_zeros(3.0));
        assert!(!Tolerance { rtol: 1.0, ..Tolerance::absolute(0.0) }.notices_zeros(3.0));
        assert!(Tolerance { rtol: 0.5, ..Tolerance::absolute(1.0) }.notices_zeros(3.0));
    }

    #[test]
    fn rounding_takes_a_number_to_its_neighbours() {
        let one = |precision: Precision, exact: f32, rounded: f32| precision.rounds(exact, rounded);
        assert!(one(Precision::F16, 1.0 + 1e-4, 1.0) && one(Precision::F16, 1.0 + 9e-4, 1.0));
        assert!(!one(Precision::F16, 1.0, 1.0 + 3e-3) && !one(Precision::F16, 1.0, -1.0));
        assert!(one(Precision::F16, 1e-5, 0.0) && !one(Precision::F16, 1e-3, 0.0));
        assert!(one(Precision::F16, 1e6, f32::INFINITY) && one(Precision::F16, -1e6, -65_504.0));
        assert!(one(Precision::Bf16, 3.0, 3.01) && !one(Precision::Bf16, 3.0, 3.05));
        assert!(!one(Precision::F32, 1.0, 1.0 + f32::EPSILON));
    }

    #[test]
    fn probabilities_may_be_further_off() {
        let of = |name: &str| Tolerances::default().of(name, Precision::F32);
        for name in [
            "outputs.attentions.3",
            "activations.deberta.encoder.layer.0.attention.self",
            "activations.emd.1.attention.self.probs",
        ] {
            assert_eq!(of(name), SOFTMAX, "{name}");
        }
        for name in [
            "outputs.logits",
            "activations.encoder.layer.0.attention",
            "activations.encoder.layer.0.attention.self.scores",
        ] {
            assert_eq!(of(name), Precision::F32.tolerance(), "{name}");
        }
        assert_eq!(
            Tolerances::default().of("outputs.attentions.3", Precision::F16),
            Precision::F16.tolerance()
        );
        assert_eq!(
            Tolerances::uniform(Tolerance::absolute(1.0)).of("outputs.attentions.3", Precision::F32).atol,
            1.0
        );
    }

    #[test]
    fn a_precision_has_tolerances_of_its_own() {
        let of = |name, precision| tolerances().of(name, precision).atol;
        assert_eq!(of("outputs.attentions.3", Precision::F16), 1.0);
        assert_eq!(of("activations.pooler", Precision::F16), 0.001);
        assert_eq!(of("activations.pooler", Precision::Bf16), Precision::Bf16.tolerance().atol);
        assert_eq!(Precision::of([Dtype::F32, Dtype::BF16, Dtype::F16]), Precision::Bf16);
        assert_eq!(Precision::of([Dtype::F64]), Precision::F32);
    }
}
