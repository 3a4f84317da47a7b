//! Whether a graph in f16, which `rten` computes in f32, keeps to the range of f16.

use std::path::Path;
use std::sync::Arc;

use deberta_converters::error::Result;
use deberta_converters::format::onnx::{self, Types};
use deberta_converters::lowering::{Activations, Options, lower};
use deberta_converters::mapped::Mapped;
use deberta_reference::Inputs;

use super::process::{Loading, Process, Size};
use super::runtime::Runtime;
use super::{BackendName, Onnx, Threaded, contradiction, load_rten, rewriting};
use crate::trace::tensor::Tensor;

/// The largest number of f16, and half a step more: what rounds to it.
const EDGE: f32 = 65_520.0;

/// What becomes of numbers beyond the range of f16.
pub struct Overflow {
    /// The node whose result is the first beyond the range.
    pub node: String,
    /// The largest magnitude there.
    pub magnitude: f32,
    /// The outputs of the graph when numbers beyond the range become infinite, by their names in a trace.
    pub outputs: Vec<Tensor>,
}

/// A graph with the range of f16.
pub(super) struct Restricted {
    runtime: Arc<dyn Runtime>,
    /// The values that become infinite, in the order of execution, each with the node that makes it.
    values: Vec<(String, String)>,
}

impl Onnx {
    /// Runs the graph once more with numbers that become infinite where f16 ends. Nothing if none is beyond.
    pub(super) fn run_restricted(&self, inputs: &Inputs) -> Result<Option<Overflow>> {
        let given = self.feed.given(inputs)?;
        let Restricted { runtime, values } = match self.restricted.get() {
            Some(restricted) => restricted,
            None => {
                let loaded = Restricted::load(&self.path, self.size)?;
                self.restricted.get_or_init(|| loaded)
            }
        };
        let names: Vec<String> = self.outputs.iter().map(|(_, name)| name.clone()).collect();
        let extremes = values.iter().flat_map(|(value, _)| rewriting::extremes(value));
        let wanted: Vec<String> = names.iter().cloned().chain(extremes).collect();
        let mut computed = runtime.run(given, &wanted)?;
        let extremes = computed.split_off(names.len().min(computed.len()));
        let magnitude = |tensor: &Tensor| tensor.data.floats().and_then(|values| values.first().copied());
        let beyond = values.iter().zip(extremes.chunks(2)).find_map(|((_, node), extremes)| {
            let magnitude = extremes.iter().filter_map(magnitude).map(f32::abs).fold(0.0, f32::max);
            (magnitude >= EDGE && magnitude.is_finite()).then(|| (node.clone(), magnitude))
        });
        Ok(beyond.map(|(node, magnitude)| {
            for (tensor, (name, _)) in computed.iter_mut().zip(&self.outputs) {
                tensor.name.clone_from(name);
            }
            Overflow { node, magnitude, outputs: computed }
        }))
    }
}

impl Restricted {
    fn load(path: &Path, size: Size) -> Result<Restricted> {
        match Process::start(path, BackendName::Onnx, Loading::Restricted, size)? {
            Some(process) => Ok(Restricted { values: process.values().to_vec(), runtime: Arc::new(process) }),
            None => Restricted::here(path),
        }
    }

    /// The runtime, and the values that become infinite.
    pub(super) fn parts(self) -> (Arc<dyn Runtime>, Vec<(String, String)>) {
        (self.runtime, self.values)
    }

    /// Loads a graph with the range of f16 in this process.
    pub(super) fn here(path: &Path) -> Result<Restricted> {
        let bytes = Mapped::open(path)?;
        let file = onnx::open(Mapped::open(path)?)?;
        let types = Types::infer(&file).map_err(contradiction)?;
        let mut values = Vec::new();
        let mut model = lower(&file, bytes, Options::new(Activations::Rounded))?.model;
        if let Some(graph) = &mut model.graph {
            values = rewriting::restrict(graph, &types);
        }
        Ok(Restricted { runtime: Threaded::of(load_rten(onnx::encoded(&model), &file)?), values })
    }
}
