//! Padding that is left out changes no number of a token, for every class of the project's goldens.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use deberta_reference::{Inputs, Probe, Real};
use ndarray::{Array2, Array3, Axis};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/data");

/// The inputs of a trace three times, behind which there are 20 positions of padding more, the second time those of half its
/// length too, the third time those of all but one; and how many tokens each sequence has.
fn padded(inputs: &Inputs) -> Option<(Inputs, Vec<usize>)> {
    let ids = inputs.input_ids.as_ref().filter(|ids| inputs.choices.is_none() && ids.dim().1 < 100)?;
    let (n, longer) = (ids.dim().1, ids.dim().1 + 20);
    let lengths = vec![n, n.div_ceil(2), 1];
    let repeated = Array2::from_shape_fn((3, longer), |(_, at)| ids[[0, at % n]]);
    let mask = Array2::from_shape_fn((3, longer), |(b, at)| if at < lengths[b] { 1.0 } else { 0.0 });
    Some((Inputs { attention_mask: Some(mask.into_dyn()), ..Inputs::from_ids(repeated) }, lengths))
}

/// A trace of a case whose weights are there.
fn trace_of(folder: &Path) -> Option<PathBuf> {
    let is_trace = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "safetensors")
            && support::name(path) != "model.safetensors"
    };
    let traces = || support::list(folder).into_iter().find(is_trace);
    folder.join("model.safetensors").exists().then(traces).flatten()
}

fn check<F: Real>() -> usize {
    let mut checked = 0;
    for folder in support::list(Path::new(DATA)) {
        let Some(path) = trace_of(&folder) else { continue };
        let trace = support::File::open(&path);
        let Some((inputs, lengths)) = padded(&support::inputs(&trace)) else { continue };
        let run = |skip_padding| {
            let inputs = Inputs { skip_padding, ..inputs.clone() };
            support::run_on::<F>(&folder, &trace, &inputs, &mut Probe::off())
        };
        // Some models have positions for fewer tokens.
        let (Ok(all), Ok(tokens)) = (run(false), run(true)) else { continue };
        for ((name, all), (_, tokens)) in all.iter().zip(&tokens) {
            if all.ndim() < 2 || all.shape()[1] != inputs.input_ids.as_ref().unwrap().dim().1 {
                assert!(all == tokens, "{}: {name}", path.display());
                continue;
            }
            for (b, &length) in lengths.iter().enumerate() {
                let rows = |x: &ndarray::ArrayD<F>| {
                    x.index_axis(Axis(0), b).slice_axis(Axis(0), (..length).into()).to_owned()
                };
                assert!(rows(all) == rows(tokens), "{}: {name} of sequence {b}", path.display());
            }
        }
        checked += 1;
    }
    checked
}

#[test]
fn tokens_are_the_same_to_the_bit() {
    let checked = check::<f32>();
    assert!(checked >= 40, "{checked} models");
    let checked = check::<f64>();
    assert!(checked >= 40, "{checked} models");
}

#[test]
fn hidden_states_of_padding_are_zero() {
    let folder = Path::new(DATA).join("model");
    let trace = support::File::open(&trace_of(&folder).unwrap());
    let (inputs, lengths) = padded(&support::inputs(&trace)).unwrap();
    let inputs = Inputs { skip_padding: true, ..inputs };
    let outputs = support::run_on::<f32>(&folder, &trace, &inputs, &mut Probe::off()).unwrap();
    let hidden: Array3<f32> = outputs[0].1.clone().into_dimensionality().unwrap();
    for (sequence, &length) in hidden.axis_iter(Axis(0)).zip(&lengths) {
        assert!(sequence.slice_axis(Axis(0), (length..).into()).iter().all(|&x| x == 0.0));
        assert!(sequence.slice_axis(Axis(0), (..length).into()).iter().any(|&x| x != 0.0));
    }
}
