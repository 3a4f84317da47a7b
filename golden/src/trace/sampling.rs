//! A trace made into one of samples and statistics.

use std::path::Path;

use deberta_converters::error::{Error, Result};

use super::file::{Trace, stage_tensors};
use super::padding::Padding;
use super::samples::{FORMAT, SAMPLES, STATISTICS, Sampled, TENSORS};
use super::tensor::{Data, Tensor};

/// What a sampled trace has.
pub(crate) struct SampledTrace {
    metadata: Vec<(String, String)>,
    inputs: Vec<Tensor>,
    points: Vec<Sampled>,
}

/// The samples and statistics of a tensor; nothing of integers. `padding` says which of its numbers belong to tokens.
pub(crate) fn sampled(tensor: &Tensor, padding: &Padding) -> Option<Sampled> {
    let values = tensor.data.floats()?;
    let tokens = padding.of_tensor(&tensor.name, &tensor.shape);
    Some(Sampled::of(&tensor.name, &tensor.shape, &values, tokens.as_deref()))
}

impl SampledTrace {
    /// The samples and statistics of a trace in f32. `padding` says which of its numbers belong to tokens.
    pub(crate) fn of(trace: &Trace, padding: &Padding) -> SampledTrace {
        let (inputs, points): (Vec<&Tensor>, Vec<&Tensor>) =
            trace.tensors.iter().partition(|tensor| tensor.name.starts_with("inputs."));
        SampledTrace {
            metadata: trace.metadata.clone(),
            inputs: inputs.into_iter().cloned().collect(),
            points: points.into_iter().filter_map(|tensor| sampled(tensor, padding)).collect(),
        }
    }

    /// Writes the file, replacing an existing one in one step.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let listed: Vec<(&str, &[usize])> =
            self.points.iter().map(|point| (point.name.as_str(), point.shape.as_slice())).collect();
        let listed = serde_json::to_string(&listed).map_err(|error| Error::malformed(error.to_string()))?;
        let mut metadata = self.metadata.clone();
        metadata.push((TENSORS.to_owned(), listed));
        let samples = self.points.iter().map(|point| {
            let mut row = point.samples.clone();
            row.resize(SAMPLES, 0.0);
            row
        });
        let statistics = self.points.iter().map(|point| point.statistics.row().to_vec());
        let mut tensors = self.inputs.clone();
        tensors.push(self.table("samples", SAMPLES, samples.collect()));
        tensors.push(self.table("statistics", STATISTICS, statistics.collect()));
        stage_tensors(path, FORMAT, &metadata, &tensors)?.commit(true)
    }

    /// A row for every point: [points, width].
    fn table(&self, name: &str, width: usize, rows: Vec<Vec<f32>>) -> Tensor {
        let shape = vec![self.points.len(), width];
        Tensor { name: name.to_owned(), shape, data: Data::Floats(rows.concat()) }
    }
}

#[cfg(test)]
mod tests {
    use deberta_reference::Inputs;
    use ndarray::arr2;

    use super::*;
    use crate::trace::file::{Recorded, TraceFile};
    use deberta_reference::Head;

    #[test]
    fn what_is_sampled_is_read_back() {
        let tensor =
            |name: &str, shape: &[usize], data| Tensor { name: name.into(), shape: shape.into(), data };
        let numbers: Vec<f32> = (0..40).map(|number| number as f32 / 7.0).collect();
        let trace = Trace {
            metadata: vec![("class".into(), "DebertaModel".into())],
            tensors: vec![
                tensor("inputs.input_ids", &[1, 2], Data::Integers(vec![5, 6])),
                tensor("outputs.last_hidden_state", &[1, 2, 20], Data::Floats(numbers.clone())),
                tensor("outputs.logits", &[2], Data::Floats(vec![0.5, 1.0])),
            ],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sampled.safetensors");
        let padding = Padding::of(&Inputs::from_ids(arr2(&[[5, 6]])), Head::Base);
        SampledTrace::of(&trace, &padding).write(&path).unwrap();
        let file = TraceFile::open(&path).unwrap();
        assert!(file.is_sampled());
        assert_eq!(file.metadata("class"), Some("DebertaModel"));
        let name = "outputs.last_hidden_state";
        let want = Sampled::of(name, &[1, 2, 20], &numbers, None);
        assert_eq!(file.recorded(name).unwrap(), Some(Recorded::Sampled(want)));
        let Some(Recorded::Sampled(logits)) = file.recorded("outputs.logits").unwrap() else { panic!() };
        assert_eq!(logits.samples, [0.5, 1.0]);
    }
}
