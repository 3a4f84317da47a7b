//! Recorded traces: reading them, running the class that a trace names, and comparing.

#![allow(dead_code, reason = "each test uses a part")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use deberta_reference::*;
use half::{bf16, f16};
use ndarray::{Array, ArrayD, Dimension, IxDyn};
use safetensors::{Dtype, SafeTensors};

/// A safetensors file in memory.
pub(crate) struct File(Vec<u8>);

impl File {
    pub(crate) fn open(path: &Path) -> File {
        File(std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    pub(crate) fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    pub(crate) fn metadata(&self, key: &str) -> String {
        let (_, metadata) = SafeTensors::read_metadata(&self.0).unwrap();
        metadata.metadata().as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    }

    pub(crate) fn f32(&self, name: &str) -> Option<ArrayD<f32>> {
        let tensor = self.tensors().tensor(name).ok()?.to_owned_parts();
        let pairs = || tensor.2.chunks_exact(2).map(|b| <[u8; 2]>::try_from(b).unwrap());
        let values: Vec<f32> = match tensor.1 {
            Dtype::F32 => {
                tensor.2.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            }
            Dtype::F64 => self.f64(name)?.iter().map(|&x| x as f32).collect(),
            Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
            Dtype::I64 => {
                tensor.2.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
            }
            other => panic!("{name}: {other:?}"),
        };
        Some(ArrayD::from_shape_vec(tensor.0, values).unwrap())
    }

    /// The numbers of a tensor in f64, or those of one in f32.
    pub(crate) fn f64(&self, name: &str) -> Option<ArrayD<f64>> {
        let tensor = self.tensors().tensor(name).ok()?.to_owned_parts();
        if tensor.1 != Dtype::F64 {
            return self.f32(name).map(|array| array.mapv(f64::from));
        }
        let values = tensor.2.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
        Some(ArrayD::from_shape_vec(tensor.0, values).unwrap())
    }

    pub(crate) fn i64<D: Dimension>(&self, name: &str) -> Option<Array<i64, D>> {
        let tensor = self.tensors().tensor(name).ok()?.to_owned_parts();
        assert_eq!(tensor.1, Dtype::I64, "{name}");
        let values = tensor.2.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
        Some(ArrayD::from_shape_vec(tensor.0, values).unwrap().into_dimensionality().unwrap())
    }
}

trait OwnedParts {
    fn to_owned_parts(&self) -> (Vec<usize>, Dtype, Vec<u8>);
}

impl OwnedParts for safetensors::tensor::TensorView<'_> {
    fn to_owned_parts(&self) -> (Vec<usize>, Dtype, Vec<u8>) {
        (self.shape().to_vec(), self.dtype(), self.data().to_vec())
    }
}

impl TensorSource for File {
    fn names(&self) -> Vec<String> {
        self.tensors().names().into_iter().map(str::to_owned).collect()
    }

    fn tensor(&self, name: &str) -> std::result::Result<Option<Tensor>, Box<dyn Error + Send + Sync>> {
        Ok(self.f32(name).map(|array| {
            let shape = array.shape().to_vec();
            Tensor::new(shape, array.into_raw_vec_and_offset().0)
        }))
    }
}

pub(crate) fn config(folder: &Path) -> DebertaConfig {
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    DebertaConfig::from_json(&text).unwrap()
}

/// The inputs of a trace.
pub(crate) fn inputs(trace: &File) -> Inputs {
    let labels = match trace.tensors().tensor("inputs.labels") {
        Err(_) => None,
        Ok(labels) if labels.dtype() == Dtype::I64 => trace.i64("inputs.labels").map(Labels::Classes),
        Ok(_) => trace.f32("inputs.labels").map(Labels::Values),
    };
    // Multiple choice has the axes [b, c, n].
    let ids = trace.i64::<IxDyn>("inputs.input_ids");
    let embeds = trace.f32("inputs.inputs_embeds");
    let choices = match (&ids, &embeds) {
        (Some(ids), _) if ids.ndim() == 3 => Some(ids.shape()[1]),
        (None, Some(embeds)) if embeds.ndim() == 4 => Some(embeds.shape()[1]),
        _ => None,
    };
    let integers = |name: &str| {
        let flat = trace.i64(name).map(|ids| by_sequence(ids, choices));
        flat.map(|ids| ids.into_dimensionality().unwrap())
    };
    Inputs {
        input_ids: integers("inputs.input_ids"),
        inputs_embeds: embeds.map(|x| by_sequence(x, choices).into_dimensionality().unwrap()),
        attention_mask: trace.f32("inputs.attention_mask").map(|mask| by_sequence(mask, choices)),
        token_type_ids: integers("inputs.token_type_ids"),
        position_ids: integers("inputs.position_ids"),
        choices,
        labels,
        start_positions: trace.i64("inputs.start_positions"),
        end_positions: trace.i64("inputs.end_positions"),
        output_hidden_states: true,
        output_attentions: true,
        skip_padding: false,
    }
}

/// [b, c, …] as [b c, …].
fn by_sequence<T>(x: ArrayD<T>, choices: Option<usize>) -> ArrayD<T> {
    let mut shape = x.shape().to_vec();
    if choices.is_some() {
        shape.splice(..2, [shape[0] * shape[1]]);
    }
    ArrayD::from_shape_vec(shape, x.into_raw_vec_and_offset().0).unwrap()
}

/// Outputs and activations by their names in a trace.
type Named<F> = Vec<(String, ArrayD<F>)>;

fn named<F: Real>(output: &impl ModelOutput<F>) -> Named<F> {
    output.tensors().into_iter().map(|(name, x)| (format!("outputs.{name}"), x.to_owned())).collect()
}

fn pytorch<M: DebertaPreTrainedModel, F: Real>(
    config: DebertaConfig,
    source: &File,
    rows: MaskedRows,
    inputs: &Inputs,
    probe: &mut Probe<'_, F>,
) -> Result<Named<F>> {
    let (model, report) = M::from_pretrained(config, source)?;
    assert_eq!(report.not_finite, []);
    Ok(named(&model.with_masked_rows(rows).forward_in(inputs, probe)?))
}

fn tensorflow<M: tf::TFLoss, F: Real>(
    config: DebertaConfig,
    source: &File,
    inputs: &Inputs,
    probe: &mut Probe<'_, F>,
) -> Result<Named<F>> {
    Ok(named(&TFDebertaPreTrainedModel::<M>::from_pretrained(config, source)?.0.call_in(inputs, probe)?))
}

/// Runs the class of a trace, as the framework of the trace does. Returns outputs and activations by their names in
/// the trace.
pub(crate) fn run<F: Real>(folder: &Path, trace: &File) -> Result<Named<F>> {
    let mut activations = Trace::<F>::of_everything();
    let mut named = run_on(folder, trace, &inputs(trace), &mut activations.probe())?;
    let activations = activations.activations.into_iter();
    named.extend(activations.map(|(name, value)| (format!("activations.{name}"), value)));
    Ok(named)
}

/// Runs the class of a trace on some inputs. Returns the outputs.
pub(crate) fn run_on<F: Real>(
    folder: &Path,
    trace: &File,
    inputs: &Inputs,
    probe: &mut Probe<'_, F>,
) -> Result<Named<F>> {
    let (config, source) = (config(folder), File::open(&folder.join("model.safetensors")));
    let rows = match trace.metadata("masked_rows").as_str() {
        "uniform" => MaskedRows::Uniform,
        "zero" => MaskedRows::Zero,
        other => panic!("masked_rows {other:?}"),
    };
    let class = trace.metadata("class");
    let class = class.trim_start_matches("TF").replace("DebertaV2", "Deberta");
    Ok(match (trace.metadata("framework").as_str(), class.as_str()) {
        ("microsoft", "ReplacedTokenDetectionModel") => named(
            &ReplacedTokenDetectionModel::from_pretrained(config, &source)?.0.forward_in(inputs, probe)?,
        ),
        ("microsoft", _) => {
            named(&EnhancedMaskDecoder::from_pretrained(config, &source)?.0.forward_in(inputs, probe)?)
        }
        ("tensorflow", "DebertaModel") => tensorflow::<DebertaModel, F>(config, &source, inputs, probe)?,
        ("tensorflow", "DebertaForMaskedLM") => {
            tensorflow::<DebertaForMaskedLM, F>(config, &source, inputs, probe)?
        }
        ("tensorflow", "DebertaForSequenceClassification") => {
            tensorflow::<DebertaForSequenceClassification, F>(config, &source, inputs, probe)?
        }
        ("tensorflow", "DebertaForTokenClassification") => {
            tensorflow::<DebertaForTokenClassification, F>(config, &source, inputs, probe)?
        }
        ("tensorflow", "DebertaForQuestionAnswering") => {
            tensorflow::<DebertaForQuestionAnswering, F>(config, &source, inputs, probe)?
        }
        ("tensorflow", "DebertaForMultipleChoice") => {
            tensorflow::<DebertaForMultipleChoice, F>(config, &source, inputs, probe)?
        }
        (_, "DebertaModel") => pytorch::<DebertaModel, F>(config, &source, rows, inputs, probe)?,
        (_, "DebertaForMaskedLM") => pytorch::<DebertaForMaskedLM, F>(config, &source, rows, inputs, probe)?,
        (_, "DebertaForSequenceClassification") => {
            pytorch::<DebertaForSequenceClassification, F>(config, &source, rows, inputs, probe)?
        }
        (_, "DebertaForTokenClassification") => {
            pytorch::<DebertaForTokenClassification, F>(config, &source, rows, inputs, probe)?
        }
        (_, "DebertaForQuestionAnswering") => {
            pytorch::<DebertaForQuestionAnswering, F>(config, &source, rows, inputs, probe)?
        }
        (_, "DebertaForMultipleChoice") => {
            pytorch::<DebertaForMultipleChoice, F>(config, &source, rows, inputs, probe)?
        }
        other => panic!("no class for {other:?}"),
    })
}

/// What the comparison of a trace found.
pub(crate) struct Comparison {
    pub(crate) points: usize,
    pub(crate) numbers: usize,
    /// The largest absolute error, and where it is.
    pub(crate) worst: (f64, String),
    /// The same, as a share of the largest number of a tensor where that is more than 1.
    pub(crate) worst_share: f64,
    /// Points that are missing, have another shape, or hold NaN where the trace does not.
    pub(crate) failures: String,
}

/// Compares every `outputs.*` and `activations.*` of a trace.
pub(crate) fn compare<F: Real>(trace: &File, found: &Named<F>) -> Comparison {
    let mut comparison = Comparison {
        points: 0,
        numbers: 0,
        worst: (0.0, String::new()),
        worst_share: 0.0,
        failures: String::new(),
    };
    let tensors = trace.tensors();
    let mut names: Vec<&str> =
        tensors.names().into_iter().filter(|name| !name.starts_with("inputs.")).collect();
    names.sort_unstable();
    for name in names {
        let expected = trace.f64(name).unwrap();
        let Some((_, value)) = found.iter().find(|(found, _)| found == name) else {
            writeln!(comparison.failures, "{name}: missing").unwrap();
            continue;
        };
        if value.shape() != expected.shape() {
            let (value, expected) = (value.shape(), expected.shape());
            writeln!(comparison.failures, "{name}: shape {value:?}, expected {expected:?}").unwrap();
            continue;
        }
        comparison.points += 1;
        comparison.numbers += expected.len();
        let largest = expected.iter().fold(1.0, |largest, x| x.abs().max(largest));
        for (value, expected) in value.iter().zip(&expected) {
            let value = value.in_f64();
            let error = if value.is_nan() && expected.is_nan() { 0.0 } else { (value - expected).abs() };
            if error.is_nan() {
                writeln!(comparison.failures, "{name}: {value}, expected {expected}").unwrap();
                break;
            }
            comparison.worst_share = comparison.worst_share.max(error / largest);
            if error > comparison.worst.0 {
                comparison.worst = (error, name.to_owned());
            }
        }
    }
    comparison
}

/// What [`verify_all`] compared.
pub(crate) struct Count {
    pub(crate) folders: usize,
    pub(crate) traces: usize,
    pub(crate) points: usize,
    pub(crate) numbers: usize,
    /// The largest absolute error, and where it is.
    pub(crate) worst: (f64, String),
}

/// How far a number may be off.
#[derive(Clone, Copy)]
pub(crate) enum Allowed {
    /// By so much.
    Absolute(f64),
    /// By that share of the largest number of its tensor, where that is more than 1.
    Share(f64),
}

/// Runs every trace of every case below `cases`, but for the folders named in `without_weights`, which must hold no
/// model. Prints a line for each trace. Fails if a folder has nothing to compare.
pub(crate) fn verify_all<F: Real>(cases: &Path, without_weights: &[&str], tolerance: Allowed) -> Count {
    let mut failures = String::new();
    let mut count = Count { folders: 0, traces: 0, points: 0, numbers: 0, worst: (0.0, String::new()) };
    for folder in list(cases).into_iter().filter(|path| path.is_dir()) {
        let case = name(&folder);
        if without_weights.contains(&case.as_str()) {
            println!("{case}: without weights, not computed here");
            assert!(!folder.join("model.safetensors").exists(), "{case} has weights");
            continue;
        }
        let before = count.numbers;
        for path in list(&folder) {
            if path.extension().is_none_or(|extension| extension != "safetensors")
                || name(&path) == "model.safetensors"
            {
                continue;
            }
            let label = format!("{case}/{}", name(&path));
            let trace = File::open(&path);
            let comparison =
                compare(&trace, &run::<F>(&folder, &trace).unwrap_or_else(|e| panic!("{label}: {e}")));
            let (error, at) = &comparison.worst;
            println!(
                "{label:60} {:3} points {:7} numbers  max error {error:.1e} at {at}",
                comparison.points, comparison.numbers
            );
            count.traces += 1;
            count.points += comparison.points;
            count.numbers += comparison.numbers;
            let exceeds = match tolerance {
                Allowed::Absolute(most) => *error > most,
                Allowed::Share(most) => comparison.worst_share > most,
            };
            if !comparison.failures.is_empty() || exceeds || comparison.points == 0 {
                write!(failures, "\n{label}: max error {error:e} at {at}\n{}", comparison.failures).unwrap();
            }
            if *error > count.worst.0 {
                count.worst = (*error, format!("{label}, {at}"));
            }
        }
        if count.numbers == before {
            write!(failures, "\n{case}: nothing to compare").unwrap();
        }
        count.folders += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    println!(
        "{} cases, {} traces: {} tensors, {} numbers; largest error {:.1e} at {}",
        count.folders, count.traces, count.points, count.numbers, count.worst.0, count.worst.1
    );
    count
}

pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

pub(crate) fn list(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}
