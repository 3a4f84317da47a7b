//! The reference implementation as a backend.

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::loading::Parameters;
use deberta_reference::{
    self as reference, DebertaConfig, DebertaForMaskedLM, DebertaForQuestionAnswering,
    DebertaForSequenceClassification, DebertaForTokenClassification, DebertaModel, DebertaPreTrainedModel,
    EnhancedMaskDecoder, Head, Inputs, LoadReport, MaskedRows, ModelOutput, Probe, TFDebertaPreTrainedModel,
    TensorSource, tf::TFLoss,
};
use ndarray::ArrayD;

use super::{Backend, BackendName};
use crate::class::{Class, masked_rows_name};
use crate::trace_file::{Data, Tensor, Trace};

/// A model that the reference implementation computes.
pub struct Reference {
    model: Box<dyn Run + Send + Sync>,
    class: Class,
    masked_rows: MaskedRows,
    report: LoadReport,
}

impl Reference {
    /// Makes `class` from the parameters of a checkpoint that was opened for its head.
    ///
    /// # Errors
    /// A configuration that the class cannot be built from.
    pub fn load(parameters: &Parameters, class: Class, masked_rows: MaskedRows) -> Result<Reference> {
        let checkpoint = parameters.checkpoint();
        Reference::of(checkpoint.config.clone(), parameters, class, masked_rows)
            .map_err(|error| error.in_file(&checkpoint.source.path))
    }

    /// Makes `class` from parameters of any source.
    ///
    /// # Errors
    /// Missing and misshapen parameters; a configuration that the class cannot be built from.
    pub fn of(
        config: DebertaConfig,
        parameters: &dyn TensorSource,
        class: Class,
        masked_rows: MaskedRows,
    ) -> Result<Reference> {
        let (model, report) = load(config, parameters, class, masked_rows)
            .map_err(|error| Error::new(Kind::Model, error.to_string()))?;
        Ok(Reference { model, class, masked_rows, report })
    }

    /// What becomes of attention rows whose every key is masked.
    pub fn masked_rows(&self) -> MaskedRows {
        self.masked_rows
    }
}

impl Backend for Reference {
    fn name(&self) -> &'static str {
        BackendName::Reference.as_str()
    }

    fn run(&self, inputs: &Inputs, points: &[&str], replaced: Vec<(String, ArrayD<f32>)>) -> Result<Trace> {
        let mut activations = reference::Trace::of(points.iter().copied());
        for (name, value) in replaced {
            activations = activations.replacing(name, value);
        }
        let outputs = self.model.run(inputs, &mut activations.probe()).map_err(request)?;
        let metadata = [
            ("framework", self.name().to_owned()),
            ("producer", concat!("deberta-reference ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("class", self.class.to_string()),
            ("masked_rows", masked_rows_name(self.masked_rows).to_owned()),
        ];
        let named = |prefix: &str, (name, values): (String, ArrayD<f32>)| Tensor {
            name: format!("{prefix}.{name}"),
            shape: values.shape().to_vec(),
            data: Data::Floats(flat(values)),
        };
        let activations = activations.activations.into_iter().map(|value| named("activations", value));
        Ok(Trace {
            metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            tensors: activations.chain(outputs.into_iter().map(|value| named("outputs", value))).collect(),
        })
    }

    fn run_only(&self, inputs: &Inputs) -> Result<()> {
        self.model.run(inputs, &mut Probe::off()).map(drop).map_err(request)
    }

    fn report(&self) -> Option<&LoadReport> {
        Some(&self.report)
    }
}

/// The numbers in row-major order: moved where they are so in memory, which is faster than one by one.
fn flat(values: ArrayD<f32>) -> Vec<f32> {
    let count = values.len();
    if !values.is_standard_layout() {
        return values.iter().copied().collect();
    }
    match values.into_raw_vec_and_offset() {
        (numbers, None | Some(0)) if numbers.len() == count => numbers,
        (numbers, offset) => numbers.into_iter().skip(offset.unwrap_or(0)).take(count).collect(),
    }
}

/// A model of any class.
trait Run {
    /// The outputs by their names in transformers.
    fn run(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> reference::Result<Vec<(String, ArrayD<f32>)>>;
}

/// A class of transformers' PyTorch code.
struct PyTorch<M>(M);

impl<M: DebertaPreTrainedModel> Run for PyTorch<M> {
    fn run(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> reference::Result<Vec<(String, ArrayD<f32>)>> {
        Ok(named(&self.0.forward(inputs, probe)?))
    }
}

impl<M: TFLoss> Run for TFDebertaPreTrainedModel<M> {
    fn run(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> reference::Result<Vec<(String, ArrayD<f32>)>> {
        Ok(named(&self.call(inputs, probe)?))
    }
}

impl Run for EnhancedMaskDecoder {
    fn run(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> reference::Result<Vec<(String, ArrayD<f32>)>> {
        Ok(named(&self.forward(inputs, probe)?))
    }
}

fn named(output: &impl ModelOutput) -> Vec<(String, ArrayD<f32>)> {
    output.tensors().into_iter().map(|(name, values)| (name, values.to_owned())).collect()
}

type Loaded = reference::Result<(Box<dyn Run + Send + Sync>, LoadReport)>;

fn load(config: DebertaConfig, parameters: &dyn TensorSource, class: Class, rows: MaskedRows) -> Loaded {
    match class {
        Class::MaskDecoder => {
            let (model, report) = EnhancedMaskDecoder::from_pretrained(config, parameters)?;
            Ok((Box::new(model.with_masked_rows(rows)), report))
        }
        Class::PyTorch(Head::Base) => pytorch::<DebertaModel>(config, parameters, rows),
        Class::PyTorch(Head::MaskedLm) => pytorch::<DebertaForMaskedLM>(config, parameters, rows),
        Class::PyTorch(Head::SequenceClassification) => {
            pytorch::<DebertaForSequenceClassification>(config, parameters, rows)
        }
        Class::PyTorch(Head::TokenClassification) => {
            pytorch::<DebertaForTokenClassification>(config, parameters, rows)
        }
        Class::PyTorch(Head::QuestionAnswering) => {
            pytorch::<DebertaForQuestionAnswering>(config, parameters, rows)
        }
        Class::TensorFlow(Head::Base) => tensorflow::<DebertaModel>(config, parameters, rows),
        Class::TensorFlow(Head::MaskedLm) => tensorflow::<DebertaForMaskedLM>(config, parameters, rows),
        Class::TensorFlow(Head::SequenceClassification) => {
            tensorflow::<DebertaForSequenceClassification>(config, parameters, rows)
        }
        Class::TensorFlow(Head::TokenClassification) => {
            tensorflow::<DebertaForTokenClassification>(config, parameters, rows)
        }
        Class::TensorFlow(Head::QuestionAnswering) => {
            tensorflow::<DebertaForQuestionAnswering>(config, parameters, rows)
        }
    }
}

fn pytorch<M: DebertaPreTrainedModel + Send + Sync + 'static>(
    config: DebertaConfig,
    parameters: &dyn TensorSource,
    rows: MaskedRows,
) -> Loaded {
    let (model, report) = M::from_pretrained(config, parameters)?;
    Ok((Box::new(PyTorch(model.with_masked_rows(rows))), report))
}

fn tensorflow<M: TFLoss + Send + Sync + 'static>(
    config: DebertaConfig,
    parameters: &dyn TensorSource,
    rows: MaskedRows,
) -> Loaded {
    let (model, report) = TFDebertaPreTrainedModel::<M>::from_pretrained(config, parameters)?;
    Ok((Box::new(model.with_masked_rows(rows)), report))
}

fn request(error: reference::Error) -> Error {
    Error::new(Kind::Request, error.to_string())
}
