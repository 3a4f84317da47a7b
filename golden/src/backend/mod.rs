//! Backends: who computes.
//!
//! [`BackendName`] names all of them. Those that compute with the weights of a checkpoint are loaded by
//! [`BackendName::load`]; those that run a file as it is, by [`BackendName::open`].

mod interface;
mod onnx;
mod reference;
#[cfg(feature = "tch")]
mod tch;

pub use interface::{Backend, BackendName, Graph, Magnitudes};
#[cfg(feature = "parquet")]
pub(crate) use onnx::apart;
pub use onnx::{GRAPH_PROCESS, peak_memory_of_graphs, serve, use_graph_program};
pub use onnx::{Onnx, Overflow, contradiction_in, evaluate, said};
#[cfg(feature = "onnxruntime")]
pub use onnx::{library, use_library};
pub use reference::{Arithmetic, Reference};

#[cfg(feature = "tch")]
pub use self::tch::{Script, Tch};

use std::path::Path;

use deberta_converters::error::Result;
use deberta_converters::loading::Parameters;
use deberta_reference::MaskedRows;

use crate::trace::class::Class;

impl BackendName {
    /// Loads `class` with the parameters of a checkpoint that was opened for its head.
    ///
    /// # Errors
    /// An incomplete checkpoint; a configuration that the class cannot be built from; a backend that runs graphs, or that
    /// this program was built without.
    pub fn load(
        self,
        parameters: &Parameters,
        class: Class,
        masked_rows: MaskedRows,
    ) -> Result<Box<dyn Backend>> {
        self.require()?;
        match self {
            BackendName::Reference => Ok(Box::new(Reference::load(parameters, class, masked_rows)?)),
            #[cfg(feature = "tch")]
            BackendName::Tch => {
                let checkpoint = parameters.checkpoint();
                let model = Tch::load(checkpoint.config.clone(), parameters, class, masked_rows);
                Ok(Box::new(model.map_err(|error| error.in_file(&checkpoint.source.path))?))
            }
            #[cfg(not(feature = "tch"))]
            BackendName::Tch => Err(self.cannot("was not built")),
            BackendName::Onnx | BackendName::OnnxRuntime => {
                Err(self.cannot("runs the graph of a file, and is not made from weights"))
            }
        }
    }

    /// Opens a file that holds a computation. What it does not say itself is in the configuration `config`, or else in the
    /// one beside the file.
    ///
    /// # Errors
    /// A file that holds none, or one that the backend cannot run; a backend that computes with weights, or that this
    /// program was built without.
    #[cfg_attr(not(feature = "tch"), expect(unused_variables, reason = "ONNX files name their class"))]
    pub fn open(self, path: &Path, config: Option<&Path>) -> Result<Box<dyn Graph>> {
        self.require()?;
        match self {
            BackendName::Onnx | BackendName::OnnxRuntime => Ok(Box::new(Onnx::open(path, self)?)),
            #[cfg(feature = "tch")]
            BackendName::Tch => Ok(Box::new(Script::open(path, config)?)),
            #[cfg(not(feature = "tch"))]
            BackendName::Tch => Err(self.cannot("was not built")),
            BackendName::Reference => Err(self.cannot("does not run graphs").in_file(path)),
        }
    }
}
