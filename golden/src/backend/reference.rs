//! The reference implementation as a backend.

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::loading::Parameters;
use deberta_reference::{
    self as reference, Conventions, DebertaConfig, DebertaForMaskedLM, DebertaForMultipleChoice,
    DebertaForQuestionAnswering, DebertaForSequenceClassification, DebertaForTokenClassification,
    DebertaModel, DebertaPreTrainedModel, EnhancedMaskDecoder, Head, Inputs, LoadReport, MaskedRows,
    ModelOutput, Probe, Real, ReplacedTokenDetectionModel, TFDebertaPreTrainedModel, TensorSource,
    tf::TFLoss,
};
use ndarray::ArrayD;
use serde::Serialize;

use super::interface::{check_choices, metadata};
use super::{Backend, BackendName, Magnitudes};
use crate::trace::class::{Class, Code};
use crate::trace::file::Trace;
use crate::trace::tensor::{Data, Tensor};

/// A model that the reference implementation computes.
pub struct Reference {
    model: Box<dyn Run + Send + Sync>,
    class: Class,
    masked_rows: MaskedRows,
    report: LoadReport,
    arithmetic: Arithmetic,
}

/// What a model computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// As the frameworks do
    #[default]
    F32,
    /// Double precision, to judge the others by; the parameters are the same f32 numbers
    F64,
}

/// This implementation and its version.
const PRODUCER: &str = concat!("deberta-reference ", env!("CARGO_PKG_VERSION"));

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
        let (model, report) =
            load(config, parameters, class, masked_rows).map_err(|error| said(Kind::Model, &error))?;
        Ok(Reference { model, class, masked_rows, report, arithmetic: Arithmetic::F32 })
    }

    /// The same model, to compute in f32 or in f64: then what it records is [`Data::Doubles`].
    pub fn computing_in(self, arithmetic: Arithmetic) -> Reference {
        Reference { arithmetic, ..self }
    }

    /// Runs the model and records it.
    fn record(&self, inputs: &Inputs, recording: Recording<'_>) -> Result<(Trace, Magnitudes)> {
        check_choices(self.class, inputs)?;
        let ((tensors, magnitudes), producer) = match self.arithmetic {
            Arithmetic::F32 => {
                let run = |probe: &mut Probe<'_>| self.model.run(inputs, probe);
                (recording.of(Data::Floats, run)?, PRODUCER.to_owned())
            }
            Arithmetic::F64 => {
                let run = |probe: &mut Probe<'_, f64>| self.model.run_f64(inputs, probe);
                (recording.of(Data::Doubles, run)?, format!("{PRODUCER} in f64"))
            }
        };
        let metadata = metadata(self.name(), producer, Some(self.class), self.masked_rows);
        Ok((Trace { metadata, tensors }, magnitudes))
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
        let recording = Recording { points, replaced, measures: false };
        self.record(inputs, recording).map(|(trace, _)| trace)
    }

    fn run_and_measure(&self, inputs: &Inputs, points: &[&str]) -> Result<(Trace, Magnitudes)> {
        self.record(inputs, Recording { points, replaced: Vec::new(), measures: true })
    }

    fn run_only(&self, inputs: &Inputs) -> Result<()> {
        check_choices(self.class, inputs)?;
        match self.arithmetic {
            Arithmetic::F32 => self.model.run(inputs, &mut Probe::off()).map(drop),
            Arithmetic::F64 => self.model.run_f64(inputs, &mut Probe::off()).map(drop),
        }
        .map_err(request)
    }

    fn report(&self) -> Option<&LoadReport> {
        Some(&self.report)
    }
}

/// What a run is to record.
struct Recording<'r> {
    points: &'r [&'r str],
    replaced: Vec<(String, ArrayD<f32>)>,
    /// Whether to note the largest magnitude of every activation.
    measures: bool,
}

impl Recording<'_> {
    /// Runs a model and takes the activations and outputs by their names in a trace, and the magnitudes.
    fn of<F: Real>(
        self,
        data: fn(Vec<F>) -> Data,
        run: impl FnOnce(&mut Probe<'_, F>) -> Outputs<F>,
    ) -> Result<(Vec<Tensor>, Magnitudes)> {
        let mut activations = reference::Trace::of(self.points.iter().copied());
        for (name, value) in self.replaced {
            activations = activations.replacing(name, value.mapv(F::exactly));
        }
        if self.measures {
            activations = activations.with_magnitudes();
        }
        let outputs = run(&mut activations.probe()).map_err(request)?;
        let magnitudes = activations.magnitudes.into_iter();
        let magnitudes = magnitudes.map(|(name, magnitude)| (name, magnitude.in_f64() as f32)).collect();
        Ok((tensors(activations.activations, outputs, data), magnitudes))
    }
}

/// Activations and outputs by their names in a trace.
pub(super) fn tensors<F: Real>(
    activations: impl IntoIterator<Item = (String, ArrayD<F>)>,
    outputs: Vec<(String, ArrayD<F>)>,
    data: fn(Vec<F>) -> Data,
) -> Vec<Tensor> {
    let tensor = |prefix: &str, (name, values): (String, ArrayD<F>)| Tensor {
        name: format!("{prefix}.{name}"),
        shape: values.shape().to_vec(),
        data: data(flat(values)),
    };
    let activations = activations.into_iter().map(|value| tensor("activations", value));
    activations.chain(outputs.into_iter().map(|value| tensor("outputs", value))).collect()
}

/// The numbers in row-major order: moved where they are so in memory, which is faster than one by one.
pub(super) fn flat<F: Real>(values: ArrayD<F>) -> Vec<F> {
    let count = values.len();
    if !values.is_standard_layout() {
        return values.iter().copied().collect();
    }
    match values.into_raw_vec_and_offset() {
        (numbers, None | Some(0)) if numbers.len() == count => numbers,
        (numbers, offset) => numbers.into_iter().skip(offset.unwrap_or(0)).take(count).collect(),
    }
}

/// What a model puts out, by the names in transformers.
type Outputs<F> = reference::Result<Vec<(String, ArrayD<F>)>>;

/// A model of any class.
trait Run {
    /// In f32.
    fn run(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> Outputs<f32>;

    /// In f64.
    fn run_f64(&self, inputs: &Inputs, probe: &mut Probe<'_, f64>) -> Outputs<f64>;
}

/// A class of transformers' PyTorch code, or one of Microsoft's.
struct PyTorch<M>(M);

impl<M: DebertaPreTrainedModel> Run for PyTorch<M> {
    fn run(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> Outputs<f32> {
        Ok(named(&self.0.forward(inputs, probe)?))
    }

    fn run_f64(&self, inputs: &Inputs, probe: &mut Probe<'_, f64>) -> Outputs<f64> {
        Ok(named(&self.0.forward_in(inputs, probe)?))
    }
}

impl<M: TFLoss> Run for TFDebertaPreTrainedModel<M> {
    fn run(&self, inputs: &Inputs, probe: &mut Probe<'_>) -> Outputs<f32> {
        Ok(named(&self.call(inputs, probe)?))
    }

    fn run_f64(&self, inputs: &Inputs, probe: &mut Probe<'_, f64>) -> Outputs<f64> {
        Ok(named(&self.call_in(inputs, probe)?))
    }
}

fn named<F: Real>(output: &impl ModelOutput<F>) -> Vec<(String, ArrayD<F>)> {
    output.tensors().into_iter().map(|(name, values)| (name, values.to_owned())).collect()
}

type Loaded = reference::Result<(Box<dyn Run + Send + Sync>, LoadReport)>;

fn load(config: DebertaConfig, parameters: &dyn TensorSource, class: Class, rows: MaskedRows) -> Loaded {
    let conventions = Conventions { masked_rows: rows, ..class.conventions() };
    match (class.code, class.head) {
        (Code::TensorFlow, Head::Base) => tensorflow::<DebertaModel>(config, parameters, conventions),
        (Code::TensorFlow, Head::MaskedLm) => {
            tensorflow::<DebertaForMaskedLM>(config, parameters, conventions)
        }
        (Code::TensorFlow, Head::SequenceClassification) => {
            tensorflow::<DebertaForSequenceClassification>(config, parameters, conventions)
        }
        (Code::TensorFlow, Head::TokenClassification) => {
            tensorflow::<DebertaForTokenClassification>(config, parameters, conventions)
        }
        (Code::TensorFlow, Head::QuestionAnswering) => {
            tensorflow::<DebertaForQuestionAnswering>(config, parameters, conventions)
        }
        (Code::TensorFlow, Head::MultipleChoice) => {
            tensorflow::<DebertaForMultipleChoice>(config, parameters, conventions)
        }
        (_, Head::Base) => pytorch::<DebertaModel>(config, parameters, conventions),
        (_, Head::MaskedLm) => pytorch::<DebertaForMaskedLM>(config, parameters, conventions),
        (_, Head::MaskDecoder) => pytorch::<EnhancedMaskDecoder>(config, parameters, conventions),
        (_, Head::SequenceClassification) => {
            pytorch::<DebertaForSequenceClassification>(config, parameters, conventions)
        }
        (_, Head::TokenClassification) => {
            pytorch::<DebertaForTokenClassification>(config, parameters, conventions)
        }
        (_, Head::QuestionAnswering) => {
            pytorch::<DebertaForQuestionAnswering>(config, parameters, conventions)
        }
        (_, Head::MultipleChoice) => pytorch::<DebertaForMultipleChoice>(config, parameters, conventions),
        (_, Head::ReplacedTokens) => pytorch::<ReplacedTokenDetectionModel>(config, parameters, conventions),
    }
}

fn pytorch<M: DebertaPreTrainedModel + Send + Sync + 'static>(
    config: DebertaConfig,
    parameters: &dyn TensorSource,
    conventions: Conventions,
) -> Loaded {
    let (model, report) = M::from_pretrained(config, parameters)?;
    Ok((Box::new(PyTorch(model.with_conventions(conventions))), report))
}

fn tensorflow<M: TFLoss + Send + Sync + 'static>(
    config: DebertaConfig,
    parameters: &dyn TensorSource,
    conventions: Conventions,
) -> Loaded {
    let (model, report) = TFDebertaPreTrainedModel::<M>::from_pretrained(config, parameters)?;
    Ok((Box::new(model.with_conventions(conventions)), report))
}

fn request(error: reference::Error) -> Error {
    let kind = if matches!(error, reference::Error::Stopped) { Kind::Stopped } else { Kind::Request };
    said(kind, &error)
}

/// An error of the reference, with its place and its numbers.
fn said(kind: Kind, error: &reference::Error) -> Error {
    let said = Error::new(kind, error.to_string()).wanting_if(error.want_and_got());
    error.tensor().into_iter().fold(said, Error::naming)
}
