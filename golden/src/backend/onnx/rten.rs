//! `rten`, in Rust: computes every node as the file has it, without fusing any.

use std::path::Path;
use std::sync::Arc;

use deberta_converters::error::Result;
use rten::{
    DataType, Dimension, Model, ModelOptions, NodeId, RunOptions, ThreadPool, ValueOrView, ValueType,
};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

use super::feed::{Given, Input, Kind, Numbers};
use super::runtime::{Runtime, no_numbers, not_run, not_taken};
use crate::trace::tensor::{self, Data};

/// A graph that `rten` has loaded.
pub(super) struct Rten {
    model: Model,
    threads: Arc<ThreadPool>,
}

impl Rten {
    /// Loads a graph, given the files beside it by the names that it gives them.
    ///
    /// # Errors
    /// Operators that `rten` does not know, among others.
    pub(super) fn load(bytes: Vec<u8>, external: Vec<(String, Vec<u8>)>) -> Result<Rten> {
        let mut options = options();
        for (name, data) in external {
            options.external_data(&name, data);
        }
        options.load(bytes).map(Rten::of).map_err(|error| not_taken(&error))
    }

    /// Loads a graph that holds its data itself.
    ///
    /// # Errors
    /// As [`Rten::load`].
    pub(super) fn load_file(path: &Path) -> Result<Rten> {
        options().load_file(path).map(Rten::of).map_err(|error| not_taken(&error))
    }

    fn of(model: Model) -> Rten {
        Rten { model, threads: Arc::new(ThreadPool::with_num_threads(rayon::current_num_threads())) }
    }

    fn id(&self, ids: &[NodeId], name: &str) -> Result<NodeId> {
        let named = |id: &&NodeId| self.name(**id) == Some(name);
        ids.iter().find(named).copied().ok_or_else(|| not_run(&format!("no value {name}")))
    }

    fn name(&self, id: NodeId) -> Option<&str> {
        self.model.node_info(id)?.name()
    }
}

impl Runtime for Rten {
    fn producer(&self) -> String {
        "rten 0.27".to_owned()
    }

    fn inputs(&self) -> Result<Vec<Input>> {
        let input = |&id: &NodeId| {
            let node = self.model.node_info(id)?;
            let kind = match node.dtype() {
                Some(ValueType::Tensor(DataType::Float)) => Kind::F32,
                _ => Kind::I32,
            };
            let free = |dimension| match dimension {
                Dimension::Fixed(length) => Some(length),
                Dimension::Symbolic(_) => None,
            };
            let shape = node.shape().map(|shape| shape.into_iter().map(free).collect());
            Some(Input { name: node.name().unwrap_or_default().to_owned(), kind, shape })
        };
        Ok(self.model.input_ids().iter().filter_map(input).collect())
    }

    fn outputs(&self) -> Vec<String> {
        self.model.output_ids().iter().filter_map(|&id| self.name(id)).map(str::to_owned).collect()
    }

    fn run(&self, given: Vec<Given>, outputs: &[String]) -> Result<Vec<tensor::Tensor>> {
        let value = |Given { name, shape, numbers }: Given| {
            let value: rten::Value = match numbers {
                Numbers::F32(numbers) => Tensor::from_data(&shape, numbers).into(),
                Numbers::I32(numbers) => Tensor::from_data(&shape, numbers).into(),
                #[cfg(feature = "onnxruntime")]
                Numbers::I64(_) => return Err(not_run(&format!("{name}: rten has no i64"))),
            };
            Ok((self.id(self.model.input_ids(), &name)?, ValueOrView::from(value)))
        };
        let values = given.into_iter().map(value).collect::<Result<Vec<_>>>()?;
        let ids = outputs.iter().map(|name| self.id(self.model.output_ids(), name));
        let ids = ids.collect::<Result<Vec<NodeId>>>()?;
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        let computed = self.model.run(values, &ids, Some(options)).map_err(|error| not_run(&error))?;
        outputs.iter().zip(computed).map(|(name, value)| read(name, value)).collect()
    }
}

fn options() -> ModelOptions {
    let mut options = ModelOptions::with_all_ops();
    options.enable_optimization(false);
    options
}

fn read(name: &str, value: rten::Value) -> Result<tensor::Tensor> {
    let (shape, data) = match value {
        rten::Value::FloatTensor(values) => (values.shape().to_vec(), Data::Floats(values.into_data())),
        rten::Value::Int32Tensor(values) => {
            let integers = values.iter().map(|&integer| i64::from(integer)).collect();
            (values.shape().to_vec(), Data::Integers(integers))
        }
        other => return Err(no_numbers(name, &other.dtype())),
    };
    Ok(tensor::Tensor { name: name.to_owned(), shape, data })
}
