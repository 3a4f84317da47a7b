//! Probe points: every activation has a name, and can be recorded or replaced in one word.
//!
//! `let x = probe.keep("dense", dense(x))?;` returns its argument. A probe that is off does nothing else; a
//! probe of a [`Trace`] records the value, or replaces it by another one.

use std::collections::HashMap;
use std::fmt::Display;

use ndarray::{Array, ArrayD, Dimension};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::real::Real;
use crate::stop;

/// The activations of one run, in the order of execution, and what is to be done to them.
#[derive(Debug)]
pub struct Trace<F = f32> {
    /// Name and value of every activation that was recorded.
    pub activations: Vec<(String, ArrayD<F>)>,
    /// The largest magnitude of every activation, recorded or not, of [`Trace::with_magnitudes`].
    pub magnitudes: Vec<(String, F)>,
    measures: bool,
    patterns: Vec<String>,
    replacements: HashMap<String, ArrayD<F>>,
}

impl<F: Real> Trace<F> {
    /// A trace that records every activation.
    pub fn of_everything() -> Self {
        Trace::of(["*"])
    }

    /// A trace that records the activations whose name one of `patterns` matches; `*` stands for any text.
    pub fn of<S: Into<String>>(patterns: impl IntoIterator<Item = S>) -> Self {
        let patterns = patterns.into_iter().map(Into::into).collect();
        let (activations, magnitudes, replacements) = (Vec::new(), Vec::new(), HashMap::new());
        Trace { activations, magnitudes, measures: false, patterns, replacements }
    }

    /// The same, which also notes the largest magnitude of every activation that is computed, recorded or not. The parts of
    /// the scores are computed one by one if attentions are asked for, or one of these parts is.
    pub fn with_magnitudes(mut self) -> Self {
        self.measures = true;
        self
    }

    /// Replaces the activation `name` by `value`: all that follows is computed from `value`. What is recorded is the
    /// activation that was computed.
    pub fn replacing(mut self, name: impl Into<String>, value: ArrayD<F>) -> Self {
        self.replacements.insert(name.into(), value);
        self
    }

    /// The probe to run a model with.
    pub fn probe(&mut self) -> Probe<'_, F> {
        Probe { trace: Some(self), path: String::new() }
    }

    fn wants(&self, name: &str) -> bool {
        self.replacements.contains_key(name) || self.patterns.iter().any(|pattern| matches(pattern, name))
    }

    fn keep<D: Dimension>(&mut self, name: String, mut value: Array<F, D>) -> Result<Array<F, D>> {
        if stop::is_asked_for() {
            return Err(Error::Stopped);
        }
        if self.measures {
            let magnitude = match value.as_slice_memory_order() {
                Some(values) => magnitude(values),
                None => value.iter().fold(F::zero(), larger),
            };
            self.magnitudes.push((name.clone(), magnitude));
        }
        if self.patterns.iter().any(|pattern| matches(pattern, &name)) {
            self.activations.push((name.clone(), value.to_owned().into_dyn()));
        }
        if let Some(replacement) = self.replacements.get(&name) {
            if replacement.shape() != value.shape() {
                let (expected, found) = (value.shape().to_vec(), replacement.shape().to_vec());
                return Err(Error::Replacement { name, expected, found });
            }
            value.iter_mut().zip(replacement).for_each(|(value, replacement)| *value = *replacement);
        }
        Ok(value)
    }
}

/// A place in the model, from which activations are named.
#[derive(Debug)]
pub struct Probe<'t, F = f32> {
    trace: Option<&'t mut Trace<F>>,
    path: String,
}

impl<F: Real> Probe<'_, F> {
    /// A probe that does nothing.
    pub fn off() -> Probe<'static, F> {
        Probe { trace: None, path: String::new() }
    }

    /// Whether it does nothing.
    pub(crate) fn is_off(&self) -> bool {
        self.trace.is_none()
    }

    /// The probe of the part `name` of this place.
    pub fn at(&mut self, name: impl Display) -> Probe<'_, F> {
        match self.trace.as_deref_mut() {
            None => Probe::off(),
            Some(trace) => Probe { path: join(&self.path, &name), trace: Some(trace) },
        }
    }

    /// Whether the activation `name` of this place must be computed although nothing else needs it.
    pub fn wants(&self, name: &str) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.wants(&join(&self.path, &name)))
    }

    /// Records the activation `name` of this place (the place itself if the name is empty) and returns it, or its
    /// replacement.
    ///
    /// # Errors
    /// A replacement of another shape; a [`stop`] that is asked for, if this is the probe of a [`Trace`].
    pub fn keep<D: Dimension>(&mut self, name: &str, value: Array<F, D>) -> Result<Array<F, D>> {
        match self.trace.as_deref_mut() {
            None => Ok(value),
            Some(trace) => trace.keep(join(&self.path, &name), value),
        }
    }
}

/// The largest magnitude of numbers; 0 if there are none. NaN has none.
pub fn magnitude<F: Real>(values: &[F]) -> F {
    /// As many at once as fit into the vectors of a processor.
    const LANES: usize = 16;
    const CHUNK: usize = 1 << 16;
    let of_chunk = |chunk: &[F]| {
        let mut lanes = [F::zero(); LANES];
        let (whole, rest) = chunk.as_chunks::<LANES>();
        for values in whole {
            lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane = larger(*lane, value));
        }
        rest.iter().chain(&lanes).fold(F::zero(), larger)
    };
    if values.len() <= CHUNK {
        return of_chunk(values);
    }
    values.par_chunks(CHUNK).map(of_chunk).reduce(F::zero, |one, other| larger(one, &other))
}

/// The larger magnitude.
fn larger<F: Real>(largest: F, value: &F) -> F {
    let value = value.abs();
    if value > largest { value } else { largest }
}

fn join(path: &str, name: &dyn Display) -> String {
    match (path, name.to_string()) {
        ("", name) => name,
        (path, name) if name.is_empty() => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    }
}

/// Whether `pattern`, in which `*` stands for any text, matches all of `name`. Time is at most the product of
/// the lengths.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    #[test]
    fn patterns_match_names() {
        for (pattern, name, expected) in [
            ("*", "pooler", true),
            ("", "pooler", false),
            ("pooler", "pooler", true),
            ("pooler", "pooler.dense", false),
            ("pooler*", "pooler.dense", true),
            ("*.probs", "encoder.layer.0.attention.self.probs", true),
            ("*layer.*.self.*", "encoder.layer.0.attention.self.probs", true),
            ("*layer.1.*", "encoder.layer.0.attention.self.probs", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn activations_are_recorded_in_order_under_their_path() {
        let mut trace = Trace::of(["*dense", "encoder"]);
        let mut probe = trace.probe();
        let mut encoder = probe.at("encoder");
        let mut layer = encoder.at(format_args!("layer.{}", 1));
        layer.keep("dense", arr1(&[1.0])).unwrap();
        layer.keep("other", arr1(&[2.0])).unwrap();
        encoder.keep("", arr1(&[3.0])).unwrap();
        let names: Vec<&str> = trace.activations.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["encoder.layer.1.dense", "encoder"]);
    }

    #[test]
    fn a_replacement_takes_the_place_of_the_value() {
        let mut trace = Trace::of_everything().replacing("x", arr1(&[5.0]).into_dyn());
        let x = trace.probe().keep("x", arr1(&[1.0])).unwrap();
        assert_eq!((x[0], trace.activations[0].1[0]), (5.0, 1.0));
        let error = trace.probe().keep("x", arr1(&[1.0, 2.0])).unwrap_err().to_string();
        assert_eq!(error, "x: the activation has shape [2], its replacement [1]");
    }

    #[test]
    fn magnitudes_are_of_every_activation() {
        let mut trace = Trace::of(["x"]).with_magnitudes();
        let mut probe = trace.probe();
        probe.keep("x", arr1(&[1.0, -5.0, f32::NAN])).unwrap();
        let long: Vec<f32> = (0..200_000).map(|at| if at == 150_001 { -3e9 } else { at as f32 }).collect();
        probe.keep("y", ndarray::Array1::from(long)).unwrap();
        probe.keep("z", ndarray::arr2(&[[1.0, 2.0], [9.0, 4.0]]).slice_move(ndarray::s![.., 1])).unwrap();
        probe.keep("none", arr1::<f32>(&[])).unwrap();
        let expected = [("x", 5.0), ("y", 3e9), ("z", 4.0), ("none", 0.0)];
        assert_eq!(trace.magnitudes, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(trace.activations.len(), 1);
    }

    #[test]
    fn a_probe_that_is_off_wants_nothing() {
        let mut probe = Probe::<f32>::off();
        assert!(!probe.at("layer").wants("probs"));
    }
}
