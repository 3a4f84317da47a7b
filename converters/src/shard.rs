//! The files of the output, and where everything goes in them.

use std::path::{Path, PathBuf};

use deberta_reference::tied_names;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Kind, Result};
use crate::format::{
    FilePlan, Format, keras as keras_format, onnx as onnx_format, safetensors, torch as torch_format,
};
use crate::forward;
use crate::naming::keras;
use crate::request::Request;
use crate::targets::Target;
use crate::tensor::{Dtype, TensorInfo};

/// One file of the output.
pub(crate) struct Shard<'a> {
    pub(crate) path: PathBuf,
    pub(crate) targets: Vec<&'a Target>,
    pub(crate) plan: Box<dyn FilePlan>,
    /// Second names that share the tensor of a target.
    pub(crate) aliases: Vec<String>,
}

impl<'a> Shard<'a> {
    /// The files in the order in which they get their names: one that needs another comes after it.
    ///
    /// # Errors
    /// A model that the format cannot hold.
    pub(crate) fn plan_all(
        input: &Checkpoint,
        request: &Request,
        targets: &'a [Target],
    ) -> Result<Vec<Shard<'a>>> {
        let plan: fn(&Checkpoint, &[TensorInfo]) -> Result<Planned> = match request.to {
            Format::Safetensors => plan_safetensors,
            Format::TensorFlow => plan_keras,
            Format::PyTorch => plan_torch,
            Format::Onnx => return plan_onnx(input, request, targets),
        };
        let groups = split(targets, request.max_shard_size)?;
        let count = groups.len();
        let folder = request.output.parent().unwrap_or(Path::new(""));
        let path = |number: usize| match count {
            1 => request.output.clone(),
            _ => folder.join(request.to.shard_name(number + 1, count)),
        };
        let shard = |(number, targets): (usize, Vec<&'a Target>)| {
            let infos: Vec<TensorInfo> = targets.iter().map(|target| target.info.clone()).collect();
            let Planned { plan, aliases } = plan(input, &infos)?;
            Ok(Shard { path: path(number), targets, plan, aliases })
        };
        groups.into_iter().enumerate().map(shard).collect()
    }
}

/// The plan of a file, and the second names in it.
struct Planned {
    plan: Box<dyn FilePlan>,
    aliases: Vec<String>,
}

fn plan_safetensors(_: &Checkpoint, infos: &[TensorInfo]) -> Result<Planned> {
    let plan = safetensors::plan(infos, &[("format", "pt")])?;
    Ok(Planned { plan: Box::new(plan), aliases: Vec::new() })
}

fn plan_keras(input: &Checkpoint, infos: &[TensorInfo]) -> Result<Planned> {
    let layers: Vec<String> = keras::layers(input.head).iter().map(|&name| name.to_owned()).collect();
    Ok(Planned { plan: Box::new(keras_format::plan(&layers, infos)?), aliases: Vec::new() })
}

fn plan_torch(input: &Checkpoint, infos: &[TensorInfo]) -> Result<Planned> {
    let tied = tied_names(&input.config, input.head);
    let aliases: Vec<torch_format::Alias<'_>> = tied
        .iter()
        .filter_map(|tied| {
            let of = infos.iter().position(|info| info.name == tied.of)?;
            Some(torch_format::Alias { name: &tied.name, of })
        })
        .collect();
    let plan = torch_format::plan(infos, &aliases)?;
    let aliases = aliases.iter().map(|alias| alias.name.to_owned()).collect();
    Ok(Planned { plan: Box::new(plan), aliases })
}

/// A model with its weights, or after a file with the weights.
fn plan_onnx<'a>(input: &Checkpoint, request: &Request, targets: &'a [Target]) -> Result<Vec<Shard<'a>>> {
    /// What a model takes besides its weights, generously.
    const GRAPH: u64 = 64 << 20;
    let options = &request.onnx.forward;
    let model = forward::model(&input.config, input.head, only_dtype(input, targets)?, options)?;
    let infos: Vec<TensorInfo> = targets.iter().map(|target| target.info.clone()).collect();
    let data = infos.iter().try_fold(0_u64, |sum, info| Ok::<_, Error>(sum + info.byte_len()? as u64))?;
    let shard = |path: PathBuf, targets: Vec<&'a Target>, plan: onnx_format::OnnxPlan| Shard {
        path,
        targets,
        plan: Box::new(plan),
        aliases: Vec::new(),
    };
    if !request.onnx.external_data && data + GRAPH <= onnx_format::LARGEST_MESSAGE {
        let plan = onnx_format::plan(model, &infos, forward::DIGEST_KEY)?;
        return Ok(vec![shard(request.output.clone(), targets.iter().collect(), plan)]);
    }
    let path = external_path(&request.output);
    let location = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (model, data) = onnx_format::plan_external(model, &infos, forward::DIGEST_KEY, &location)?;
    Ok(vec![shard(path, targets.iter().collect(), data), shard(request.output.clone(), Vec::new(), model)])
}

/// The file beside `model` that holds its data.
fn external_path(model: &Path) -> PathBuf {
    let mut name = model.file_name().unwrap_or_default().to_owned();
    name.push(".data");
    model.with_file_name(name)
}

/// The dtype of all tensors.
fn only_dtype(input: &Checkpoint, targets: &[Target]) -> Result<Dtype> {
    let mut dtypes = targets.iter().map(|target| target.info.dtype);
    let first = dtypes.next().unwrap_or(Dtype::F32);
    match dtypes.find(|&dtype| dtype != first) {
        None => Ok(first),
        Some(other) => {
            let why =
                format!("its parameters are {first} and {other}, a graph computes in one: choose a --dtype");
            Err(Error::new(Kind::Request, why).in_file(&input.source.path))
        }
    }
}

/// Groups tensors in their order into shards of at most `most` bytes; a larger tensor has one of its own.
fn split(targets: &[Target], most: Option<u64>) -> Result<Vec<Vec<&Target>>> {
    let mut groups: Vec<Vec<&Target>> = vec![Vec::new()];
    let mut size = 0_u64;
    for target in targets {
        let len = target.info.byte_len()? as u64;
        if most.is_some_and(|most| size.saturating_add(len) > most) && size > 0 {
            groups.push(Vec::new());
            size = 0;
        }
        size = size.saturating_add(len);
        if let Some(group) = groups.last_mut() {
            group.push(target);
        }
    }
    Ok(groups)
}
