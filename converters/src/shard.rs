//! The files of the output, and where everything goes in them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use deberta_reference::tied_names;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Kind, Result};
use crate::format::{
    FilePlan, Format, TensorFile, keras as keras_format, onnx as onnx_format, open_file, safetensors,
    torch as torch_format,
};
use crate::forward;
use crate::naming::keras;
use crate::output::Staged;
use crate::request::{OnnxRequest, Request};
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

/// All files of the output, in the order in which they get their names: one that needs another comes after it.
pub(crate) struct Shards<'a> {
    /// The format of each.
    pub(crate) format: Format,
    /// The only file, or the one whose name those of several shards are made from, or the ONNX model beside its data.
    pub(crate) path: PathBuf,
    pub(crate) shards: Vec<Shard<'a>>,
}

impl<'a> Shards<'a> {
    /// Places every byte of every file.
    ///
    /// # Errors
    /// A model that the format cannot hold.
    pub(crate) fn plan(input: &Checkpoint, request: &Request, targets: &'a [Target]) -> Result<Shards<'a>> {
        let (format, path) = (request.to, request.output.clone());
        let plan: fn(&Checkpoint, &[TensorInfo]) -> Result<Planned> = match format {
            Format::Safetensors => plan_safetensors,
            Format::TensorFlow => plan_keras,
            Format::PyTorch => plan_torch,
            Format::Onnx => {
                let shards = plan_onnx(input, &path, &request.onnx, targets)?;
                return Ok(Shards { format, path, shards });
            }
        };
        let groups = split(targets, request.max_shard_size)?;
        let count = groups.len();
        let path_of = |number: usize| match count {
            1 => path.clone(),
            _ => path.with_file_name(format.shard_name(number + 1, count)),
        };
        let shard = |(number, targets): (usize, Vec<&'a Target>)| {
            let infos: Vec<TensorInfo> = targets.iter().map(|target| target.info.clone()).collect();
            let Planned { plan, aliases } = plan(input, &infos)?;
            Ok(Shard { path: path_of(number), targets, plan, aliases })
        };
        let shards = groups.into_iter().enumerate().map(shard).collect::<Result<_>>()?;
        Ok(Shards { format, path, shards })
    }

    /// The paths of all of them.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// The tensors in all of them.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &'a Target> + '_ {
        self.shards.iter().flat_map(|shard| shard.targets.iter().copied())
    }

    /// Their bytes together.
    pub(crate) fn byte_len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.plan.file_len()).sum()
    }

    /// Where the index goes that several shards need.
    pub(crate) fn index_path(&self) -> Option<PathBuf> {
        let is_sharded = self.shards.len() > 1 && self.format != Format::Onnx;
        is_sharded.then(|| self.path.with_file_name(self.format.index_name()))
    }

    /// The index: which tensor is in which shard.
    pub(crate) fn index_text(&self) -> Result<String> {
        let mut weight_map = BTreeMap::new();
        let mut total_size = 0_u64;
        for shard in &self.shards {
            let name = shard.path.file_name().unwrap_or_default().to_string_lossy();
            for target in &shard.targets {
                total_size += target.info.byte_len()? as u64;
                weight_map.insert(target.info.name.clone(), name.clone());
            }
            for alias in &shard.aliases {
                weight_map.insert(alias.clone(), name.clone());
            }
        }
        let index = serde_json::json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
        serde_json::to_string_pretty(&index)
            .map(|text| text + "\n")
            .map_err(|error| Error::malformed(format!("cannot make a shard index: {error}")))
    }

    /// Opens the files, which have no names yet, with the ordinary reader.
    pub(crate) fn open(&self, files: &[Staged]) -> Result<Vec<Box<dyn TensorFile>>> {
        let ([.., model], Format::Onnx) = (files, self.format) else {
            return files.iter().map(|file| Ok(open_file(file.map()?)?.1)).collect();
        };
        let external = |location: &Path| {
            let mut all = self.shards.iter().zip(files);
            match all.find(|(shard, _)| shard.path.file_name() == Some(location.as_os_str())) {
                Some((_, file)) => file.map(),
                None => Err(Error::malformed("no such external data").in_file(location)),
            }
        };
        Ok(vec![Box::new(onnx_format::open_with(model.map()?, &external)?)])
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
fn plan_onnx<'a>(
    input: &Checkpoint,
    path: &Path,
    onnx: &OnnxRequest,
    targets: &'a [Target],
) -> Result<Vec<Shard<'a>>> {
    /// What a model takes besides its weights, generously.
    const GRAPH: u64 = 64 << 20;
    let dtype = only_dtype(input, targets)?;
    let model = forward::model(&input.config, input.head, dtype, &onnx.forward)?;
    let infos: Vec<TensorInfo> = targets.iter().map(|target| target.info.clone()).collect();
    let data = infos.iter().try_fold(0_u64, |sum, info| Ok::<_, Error>(sum + info.byte_len()? as u64))?;
    let shard = |path: &Path, targets: Vec<&'a Target>, plan: onnx_format::OnnxPlan| Shard {
        path: path.to_owned(),
        targets,
        plan: Box::new(plan),
        aliases: Vec::new(),
    };
    let targets: Vec<&Target> = targets.iter().collect();
    if !onnx.external_data && data + GRAPH <= onnx_format::LARGEST_MESSAGE {
        let plan = onnx_format::plan(model, &infos, forward::DIGEST_KEY)?;
        return Ok(vec![shard(path, targets, plan)]);
    }
    let external = external_path(path);
    let location = external.file_name().and_then(OsStr::to_str).filter(|name| !name.contains('\\'));
    let location = location.ok_or_else(|| {
        let why = "the graph names this file, and graphs have only names in UTF-8 without a backslash: choose another with -o";
        Error::new(Kind::Request, why).in_file(&external)
    })?;
    let (model, data) = onnx_format::plan_external(model, &infos, forward::DIGEST_KEY, location)?;
    Ok(vec![shard(&external, targets, data), shard(path, Vec::new(), model)])
}

/// The file beside `model` that holds its data.
fn external_path(model: &Path) -> PathBuf {
    let mut name = model.file_name().unwrap_or_default().to_owned();
    name.push(".data");
    model.with_file_name(name)
}

/// The dtype of all tensors but those that are rounded to int8, beside which the rest is in f32.
fn only_dtype(input: &Checkpoint, targets: &[Target]) -> Result<Dtype> {
    let whole = targets.iter().filter(|target| target.int8.is_none());
    let mut dtypes = whole.map(|target| target.info.dtype);
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
