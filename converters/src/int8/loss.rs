//! What rounding weights cost.

use std::fmt;

use serde::Serialize;

use crate::forward::Rounded;

/// How far the numbers of a weight are from what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Noise {
    /// The furthest, in steps: a step is the scale of the row.
    pub(crate) steps: f64,
    /// The sum of the squares of the numbers.
    signal: f64,
    /// The sum of the squares of the differences.
    noise: f64,
}

impl Noise {
    /// Adds a number and what became of it.
    pub(crate) fn add(&mut self, was: f32, is: f32, scale: f32) {
        let off = f64::from(is) - f64::from(was);
        self.steps = self.steps.max(off.abs() / f64::from(scale));
        self.signal += f64::from(was) * f64::from(was);
        self.noise += off * off;
    }

    /// That of two weights taken together.
    fn and(self, other: Noise) -> Noise {
        Noise {
            steps: self.steps.max(other.steps),
            signal: self.signal + other.signal,
            noise: self.noise + other.noise,
        }
    }

    /// The ratio of signal to noise in decibels; nothing without noise.
    fn sqnr_db(self) -> Option<f64> {
        (self.noise > 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }
}

/// The account of weights that were rounded to integers of 8 bits.
#[derive(Clone, Debug, Serialize)]
pub struct Int8Ledger {
    /// The largest code.
    pub largest_code: i8,
    /// Every rounded weight.
    pub tensors: Vec<TensorLoss>,
    /// The weights that stay in f32 because they were named.
    pub kept: Vec<String>,
    /// The names of `--keep-f32` that only parameters have which int8 does not round.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needless: Vec<String>,
    /// Bytes of all parameters in f32.
    pub bytes_in_f32: u64,
    /// Bytes of all parameters as they are stored.
    pub bytes: u64,
    /// The ratio of signal to noise of all rounded weights together, in decibels; absent if nothing changed.
    pub sqnr_db: Option<f64>,
}

/// What rounding cost a weight.
#[derive(Clone, Debug, Serialize)]
pub struct TensorLoss {
    /// The parameter.
    pub tensor: String,
    /// The number furthest from what it was, in steps of its row's scale.
    pub steps: f64,
    /// The ratio of signal to noise in decibels; absent if nothing changed.
    pub sqnr_db: Option<f64>,
}

/// The account of these weights.
pub(crate) fn account<'a>(
    weights: impl Iterator<Item = (&'a str, Noise)>,
    Rounded { kept, needless, .. }: Rounded,
    largest_code: i8,
    [bytes_in_f32, bytes]: [u64; 2],
) -> Int8Ledger {
    let (mut tensors, mut all) = (Vec::new(), Noise::default());
    for (name, noise) in weights {
        all = all.and(noise);
        tensors.push(TensorLoss { tensor: name.to_owned(), steps: noise.steps, sqnr_db: noise.sqnr_db() });
    }
    Int8Ledger { largest_code, tensors, kept, needless, bytes_in_f32, bytes, sqnr_db: all.sqnr_db() }
}

impl fmt::Display for Int8Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (self.bytes_in_f32, self.bytes);
        let share = after as f64 / before.max(1) as f64;
        let bits = if self.largest_code == i8::MAX { "" } else { " of 7 bits" };
        writeln!(
            f,
            "{:<11} {} weights rounded{bits}: {after} bytes for {before} in f32 ({share:.2})",
            "int8",
            self.tensors.len()
        )?;
        let furthest = self.tensors.iter().max_by(|one, other| one.steps.total_cmp(&other.steps));
        if let Some(furthest) = furthest {
            writeln!(f, "{:<11} at most {:.3} steps (in {})", "loss", furthest.steps, furthest.tensor)?;
        }
        let noisiest = self.tensors.iter().filter_map(|of| Some((of.sqnr_db?, &of.tensor)));
        if let (Some(all), Some((least, tensor))) =
            (self.sqnr_db, noisiest.min_by(|one, other| one.0.total_cmp(&other.0)))
        {
            writeln!(f, "{:<11} {all:.1} dB signal to noise, least {least:.1} dB (in {tensor})", "")?;
        }
        for name in &self.kept {
            writeln!(f, "{:<11} {name}", "in f32")?;
        }
        for name in &self.needless {
            writeln!(f, "{:<11} {name}: int8 does not round it, --keep-f32 or not", "in f32")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_by_weight_and_together() {
        let (mut one, mut other) = (Noise::default(), Noise::default());
        one.add(3.0, 3.0, 1.0);
        one.add(4.0, 4.5, 1.0);
        other.add(0.5, 0.0, 2.0);
        let of_names =
            || Rounded { kept: vec!["c".into()], needless: vec!["d".into()], ..Rounded::default() };
        let ledger = account([("a", one), ("b", other)].into_iter(), of_names(), 127, [400, 100]);
        assert_eq!((ledger.tensors[0].steps, ledger.tensors[1].steps), (0.5, 0.25));
        // 25 / 0.25, 0.25 / 0.25, and 25.25 / 0.5.
        let decibels = ledger.tensors.iter().filter_map(|of| of.sqnr_db).chain(ledger.sqnr_db);
        assert_eq!(decibels.map(|of| (of * 100.0).round()).collect::<Vec<_>>(), [2000.0, 0.0, 1703.0]);
        let said = ledger.to_string();
        for text in [
            "2 weights rounded: 100 bytes for 400 in f32 (0.25)",
            "at most 0.500 steps (in a)",
            "in f32      c\n",
            "in f32      d: int8 does not round it, --keep-f32 or not",
        ] {
            assert!(said.contains(text), "{said}");
        }
        assert!(said.contains("17.0 dB signal to noise, least 0.0 dB (in b)"), "{said}");
    }
}
