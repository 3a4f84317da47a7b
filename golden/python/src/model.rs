//! A model that runs on numpy's arrays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::Result;
use deberta_converters::hub::{Wanted, resolve};
use deberta_converters::loading::Parameters;
use deberta_converters::progress::Progress;
use deberta_converters::source::Source;
use deberta_golden::backend::{Arithmetic, Backend as _, Reference};
use deberta_golden::trace::class::Class;
use deberta_golden::trace::inputs::inputs;
use deberta_golden::{Data, Tensor, Trace};
use deberta_reference::{DebertaConfig, Inputs, MaskedRows};
use ndarray::{ArrayD, IxDyn};
use numpy::{IntoPyArray as _, PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArrayMethods as _};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call::{Call, Told};

/// A model of any class, by the reference implementation.
#[pyclass(frozen, module = "deberta_verify._native")]
pub(crate) struct Model {
    loaded: Arc<Loaded>,
}

struct Loaded {
    model: Reference,
    class: Class,
    config: DebertaConfig,
    digest: String,
}

/// A name and an array.
type Named<'py> = (String, Bound<'py, PyAny>);

/// An argument of a model: integers or real numbers.
#[derive(FromPyObject)]
enum Argument<'py> {
    Integers(PyReadonlyArrayDyn<'py, i64>),
    Floats(PyReadonlyArrayDyn<'py, f32>),
}

#[pymethods]
impl Model {
    /// Loads a model from a folder, a weight file, a shard index or the hub.
    #[staticmethod]
    #[pyo3(signature = (model, *, config=None, revision=None, class_name=None, masked_rows=None, double=false, progress=None))]
    #[allow(clippy::too_many_arguments)]
    fn load(
        py: Python<'_>,
        model: PathBuf,
        config: Option<PathBuf>,
        revision: Option<String>,
        class_name: Option<String>,
        masked_rows: Option<&str>,
        double: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Model> {
        let unknown =
            |word: &str| PyValueError::new_err(format!("masked_rows={word:?}: \"uniform\" or \"zero\""));
        let rows =
            masked_rows.map(|word| MaskedRows::from_word(word).ok_or_else(|| unknown(word))).transpose()?;
        let loaded = Call { progress, threads: None }.run(py, move |told: &Told| {
            let path = resolve(&model, revision.as_deref(), &Wanted::any(), told)?;
            let class = class_name.as_deref().map(Class::from_name).transpose()?;
            Loaded::open(&path, config.as_deref(), class, rows, double, told)
        })?;
        Ok(Model { loaded: Arc::new(loaded) })
    }

    /// Runs the model: the outputs, and the activations whose names one of the patterns matches.
    fn run<'py>(
        &self,
        py: Python<'py>,
        arguments: Vec<(String, Argument<'py>)>,
        points: Vec<String>,
        hidden_states: bool,
        attentions: bool,
    ) -> PyResult<Vec<Named<'py>>> {
        let tensors = arguments.into_iter().map(|(name, argument)| argument.tensor(&name)).collect();
        let loaded = Arc::clone(&self.loaded);
        let trace = Call::default().run(py, move |_: &Told| {
            let given = inputs(&Trace { metadata: Vec::new(), tensors })?;
            let given =
                Inputs { output_hidden_states: hidden_states, output_attentions: attentions, ..given };
            let points: Vec<&str> = points.iter().map(String::as_str).collect();
            loaded.model.run(&given, &points, Vec::new())
        })?;
        trace.tensors.into_iter().map(|tensor| Ok((tensor.name.clone(), array(py, tensor)?))).collect()
    }

    /// The class, by its name in transformers or in Microsoft's code.
    #[getter]
    fn class_name(&self) -> String {
        self.loaded.class.to_string()
    }

    /// The weight digest.
    #[getter]
    fn digest(&self) -> &str {
        &self.loaded.digest
    }

    /// The name of a label.
    fn label(&self, label: usize) -> String {
        self.loaded.config.label(label)
    }
}

impl Loaded {
    fn open(
        path: &Path,
        config: Option<&Path>,
        class: Option<Class>,
        rows: Option<MaskedRows>,
        double: bool,
        told: &Told,
    ) -> Result<Loaded> {
        let source = Source::locate(path, None, None)?;
        let (read, mut checkpoint) = Checkpoint::open(source, config, class.map(|class| class.head))?;
        for warning in read.config.warnings() {
            told.warn(&format!("{}: {warning}", read.path.display()));
        }
        checkpoint.check_copies()?;
        let class = class.unwrap_or_else(|| Class::of_checkpoint(&checkpoint));
        class.require(&checkpoint)?;
        told.start("hashing", checkpoint.data_len());
        let digest = checkpoint.digest(&checkpoint.tensor_digests(told)?).to_string();
        told.step("loading");
        let config = checkpoint.config.clone();
        let parameters = Parameters::new(checkpoint)?;
        let model = Reference::load(&parameters, class, rows.unwrap_or(class.masked_rows()))?;
        for bad in model.not_finite() {
            told.warn(&bad);
        }
        let model = model.computing_in(if double { Arithmetic::F64 } else { Arithmetic::F32 });
        Ok(Loaded { model, class, config, digest })
    }
}

impl Argument<'_> {
    /// The argument as a trace has it.
    fn tensor(&self, name: &str) -> Tensor {
        let (shape, data) = match self {
            Argument::Integers(array) => {
                (array.shape().to_vec(), Data::Integers(array.as_array().iter().copied().collect()))
            }
            Argument::Floats(array) => {
                (array.shape().to_vec(), Data::Floats(array.as_array().iter().copied().collect()))
            }
        };
        Tensor { name: format!("inputs.{name}"), shape, data }
    }
}

/// The numbers of a tensor, without a copy.
fn array(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyAny>> {
    fn shaped<'py, T: numpy::Element>(
        py: Python<'py>,
        shape: &[usize],
        values: Vec<T>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let array = ArrayD::from_shape_vec(IxDyn(shape), values);
        let array = array.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let array: Bound<'py, PyArrayDyn<T>> = array.into_pyarray(py);
        Ok(array.into_any())
    }
    match tensor.data {
        Data::Integers(values) => shaped(py, &tensor.shape, values),
        Data::Floats(values) => shaped(py, &tensor.shape, values),
        Data::Doubles(values) => shaped(py, &tensor.shape, values),
    }
}
