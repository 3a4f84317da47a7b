//! The same graph in standard operators, in a file of its own that a backend opens as any other.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Result};
use deberta_converters::fidelity::{Dequantized, Fidelity};
use deberta_converters::format::TensorFile as _;
use deberta_converters::format::onnx::proto::tensor_proto::DataLocation;
use deberta_converters::format::onnx::proto::{GraphProto, ModelProto, TensorProto};
use deberta_converters::format::onnx::{OnnxFile, encoded, from_model, open, put_floats};
use deberta_converters::loading::Parameters;
use deberta_converters::lowering::{Activations, Lowered, Options, Switched, lower};
use deberta_converters::mapped::Mapped;
use deberta_converters::matching::Bound;
use deberta_converters::output::temporary::{self, OWNER, Temporary};

use super::tables::Tables;
use crate::backend::{self, BackendName};
use crate::verify::graph::candidate::{GraphCandidate, Judged, Weights};

/// A graph in standard operators, in a folder that goes when it does.
pub(super) struct Variant {
    folder: Temporary,
}

/// How the folders of graphs are called.
const PREFIX: &str = "deberta-graph-";

impl Variant {
    /// With the weights of the model in the place of the rounded ones and of those that are not the model's, and its tables.
    pub(super) fn with_weights_of(
        graph: &Dequantized,
        model: &Checkpoint,
        fidelity: &Fidelity,
        tables: &Tables,
    ) -> Result<Variant> {
        let numbers = |held: &Bound, bound: &Bound| {
            let differs = graph.stored(&held.stored_name).is_some()
                || fidelity.broken().any(|tensor| tensor.tensor == held.param.name);
            differs.then(|| Dequantized::in_layout_of(held, model, bound)).transpose()
        };
        Variant::with(graph, model, tables, numbers)
    }

    /// With the weights of the model rounded to the nearest, where the graph stores them in blocks of integers.
    pub(super) fn with_nearest_of(graph: &Dequantized, model: &Checkpoint) -> Result<Variant> {
        Variant::with(graph, model, &Tables::default(), |held, bound| graph.nearest(held, model, bound))
    }

    /// With these numbers in the place of the weights, where there are any.
    fn with(
        graph: &Dequantized,
        model: &Checkpoint,
        tables: &Tables,
        numbers: impl Fn(&Bound, &Bound) -> Result<Option<Vec<f32>>>,
    ) -> Result<Variant> {
        let mut lowered = graph.lowered.model.clone();
        let Some(tensors) = lowered.graph.as_mut().map(|graph| &mut graph.initializer) else {
            return Err(Error::malformed("an ONNX model without a graph"));
        };
        for held in graph.held() {
            let bound = model.parameter(&held.param.name);
            let tensor = tensors.iter_mut().find(|tensor| tensor.name() == held.stored_name);
            let (Some(bound), Some(tensor)) = (bound, tensor) else { continue };
            if bound.param.shape != held.param.shape {
                continue;
            }
            if let Some(numbers) = numbers(&held, bound)? {
                put(tensor, &numbers);
            }
        }
        for tensor in tensors {
            if let Some(numbers) = tables.exact.get(tensor.name()) {
                put(tensor, numbers);
            }
        }
        Variant::of(lowered, graph)
    }

    /// With its own weights, dequantized.
    pub(super) fn with_own_weights(graph: &Dequantized) -> Result<Variant> {
        Variant::of(graph.lowered.model.clone(), graph)
    }

    /// With nodes that compute with the weights of the model and without rounding where they are told so; and these nodes.
    pub(super) fn switched(graph: &Dequantized, model: &Checkpoint) -> Result<(Variant, Switched)> {
        let path = &graph.checkpoint.source.path;
        let file = open(Mapped::open(path)?)?;
        let options = Options::of_a_model(Activations::Switched, &model.config);
        let Lowered { model: mut lowered, switched, .. } = lower(&file, Mapped::open(path)?, options)?;
        let held = graph.held();
        for (name, of) in &switched.exact {
            let is_of =
                |held: &&Bound| graph.stored(&held.stored_name).is_some_and(|stored| stored.name == *of);
            let Some(held) = held.iter().find(is_of) else { continue };
            let bound =
                model.parameter(&held.param.name).filter(|bound| bound.param.shape == held.param.shape);
            let mut tensors = lowered.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
            let tensor = tensors.find(|tensor| tensor.name() == name);
            let (Some(bound), Some(tensor)) = (bound, tensor) else { continue };
            let Some(stored) = graph.stored(&held.stored_name) else { continue };
            // The nodes that multiply by the factors are still there.
            let numbers = Dequantized::in_layout_of(held, model, bound)?;
            let divided = numbers.iter().enumerate().map(|(at, number)| number / stored.factor_at(at));
            put(tensor, &divided.collect::<Vec<f32>>());
        }
        Ok((Variant::of(lowered, graph)?, switched))
    }

    fn of(mut model: ModelProto, graph: &Dequantized) -> Result<Variant> {
        let file = from_model(model.clone(), &graph.checkpoint.source.path)?;
        if let Some(graph) = &mut model.graph {
            embed(graph, &file)?;
        }
        let parent = std::env::temp_dir();
        temporary::clear(&parent, PREFIX, "");
        let folder = Temporary::folder(&parent, PREFIX, "", OWNER)
            .map_err(|error| Error::io(&parent, "create a folder in", error))?;
        let variant = Variant { folder };
        let path = variant.path();
        std::fs::write(&path, encoded(&model)).map_err(|error| Error::io(&path, "write", error))?;
        Ok(variant)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("lowered.onnx")
    }

    /// The graph in the runtime that is part of this program. Once it is loaded the file is not needed any more.
    pub(super) fn open(&self) -> Result<Box<dyn backend::Graph>> {
        BackendName::Onnx.open(&self.path(), None)
    }
}

impl<'v> GraphCandidate<'v> {
    /// The candidate with another graph and the parameters of the model.
    pub(super) fn lowered(
        &self,
        graph: Box<dyn backend::Graph>,
        parameters: &Rc<Parameters>,
        judged: Judged,
    ) -> Result<GraphCandidate<'v>> {
        let class =
            self.class().unwrap_or(crate::trace::class::Class::of_checkpoint(parameters.checkpoint()));
        let weights = Ok(Weights { parameters: Rc::clone(parameters), class, own: false });
        Ok(GraphCandidate {
            file: self.file,
            graph,
            weights,
            config: self.config.clone(),
            meanings: self.meanings.clone(),
            judged: Some(judged),
            model: OnceCell::new(),
            moved_distances: OnceCell::new(),
        })
    }
}

/// Puts the data of other files into the message.
fn embed(graph: &mut GraphProto, file: &OnnxFile) -> Result<()> {
    for tensor in &mut graph.initializer {
        if tensor.data_location() != DataLocation::External {
            continue;
        }
        let index = file.tensors().iter().position(|info| info.name == tensor.name());
        if let Some(index) = index {
            tensor.raw_data = Some(Bytes::from(file.read(index)?.into_owned()));
            tensor.data_location = Some(DataLocation::Default.into());
            tensor.external_data.clear();
        }
    }
    Ok(())
}

fn put(tensor: &mut TensorProto, numbers: &[f32]) {
    put_floats(tensor, numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
}
