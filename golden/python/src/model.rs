//! A model that runs on numpy's arrays.

use std::path::PathBuf;
use std::sync::Arc;

use deberta_golden::backend::BackendName;
use deberta_golden::trace::inputs::inputs;
use deberta_golden::{Data, Tensor, Trace};
use deberta_reference::{Inputs, MaskedRows};
use ndarray::{ArrayD, IxDyn};
use numpy::{IntoPyArray as _, PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArrayMethods as _};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call::{Call, Told};
use crate::loading::{Loaded, Request, backend};
use crate::raised::raised;

/// A model of any class, by the reference implementation, or a graph by a runtime.
#[pyclass(frozen, module = "deberta_verify._native")]
pub(crate) struct Model {
    loaded: Arc<Loaded>,
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
    #[pyo3(signature = (
        model, *, config=None, revision=None, class_name=None, masked_rows=None, double=false, backend=None, ort_library=None,
        progress=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn load(
        py: Python<'_>,
        model: PathBuf,
        config: Option<PathBuf>,
        revision: Option<String>,
        class_name: Option<String>,
        masked_rows: Option<&str>,
        double: bool,
        #[pyo3(from_py_with = backend)] backend: Option<BackendName>,
        ort_library: Option<PathBuf>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Model> {
        let unknown =
            |word: &str| PyValueError::new_err(format!("masked_rows={word:?}: \"uniform\" or \"zero\""));
        let masked_rows =
            masked_rows.map(|word| MaskedRows::from_word(word).ok_or_else(|| unknown(word))).transpose()?;
        let request =
            Request { model, config, revision, class_name, masked_rows, double, backend, ort_library };
        let loaded = Call { progress, threads: None }.run(py, move |told: &Told| request.load(told))?;
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
            loaded.run(given, &points)
        })?;
        trace.tensors.into_iter().map(|tensor| Ok((tensor.name.clone(), array(py, tensor)?))).collect()
    }

    /// The class, by its name in transformers or in Microsoft's code.
    #[getter]
    fn class_name(&self) -> String {
        self.loaded.class.to_string()
    }

    /// What computes.
    #[getter]
    fn backend(&self) -> &'static str {
        self.loaded.backend()
    }

    /// The weight digest.
    #[getter]
    fn digest(&self, py: Python<'_>) -> PyResult<&str> {
        self.loaded.digest.as_deref().map_err(|error| raised(py, error))
    }

    /// The name of a label.
    fn label(&self, label: usize) -> String {
        self.loaded.config.label(label)
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
