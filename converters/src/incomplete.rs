//! Why a checkpoint is not complete, in words that lead on.

use deberta_reference::{Head, Module, Param, Role, locate, params};

use crate::checkpoint::Checkpoint;
use crate::containers::by_name;
use crate::error::{Error, Kind, Result};
use crate::format::TensorFile;
use crate::matching::{Problem, ProblemKind};
use crate::naming::{Naming, onnx};
use crate::source::{index_of, is_one_of_several};

impl Checkpoint {
    /// Turns problems into an error that names the file and the first tensor.
    pub(crate) fn require(&self, problems: &[&Problem]) -> Result<()> {
        let Some(&first) = problems.first() else { return Ok(()) };
        let (first, mut message) = if let Some(why) = self.is_one_shard() {
            (first, why)
        } else if self.files.iter().filter_map(|file| file.graph()).any(onnx::is_quantized) {
            (
                first,
                format!(
                    "{}; this looks like a quantized model, whose weights cannot be recovered",
                    first.what
                ),
            )
        } else if let Some(other) = self.other_model {
            (first, format!("{}; {other}", first.what))
        } else if let Some((missing, why)) = self.missing_positions(problems) {
            (missing, format!("{}: {why}", missing.what))
        } else if let Some(message) = self.missing_head(problems) {
            (first, message)
        } else if let Some((tensor, message)) = self.missing_in_decoder(problems) {
            (tensor, message)
        } else if let (Head::Base, ProblemKind::Unexpected) = (self.head, &first.what)
            && self.left_out_of_encoder().next().is_none()
        {
            (
                first,
                format!("{} (--drop-head takes the base model, and lists what it leaves out)", first.what),
            )
        } else {
            (first, first.what.to_string())
        };
        // DeepSpeed's files may hold some layers, or a part of every tensor.
        let name = self.source.path.to_string_lossy();
        if let Some(container) = by_name(&name).filter(|container| container.name == "DeepSpeed") {
            message.push_str(&container.and_lead());
        }
        if problems.len() > 1 {
            message.push_str(&format!(
                "; {} problems in all, which `deberta-convert inspect` lists",
                problems.len()
            ));
        }
        let error = Error::new(Kind::Model, message).in_tensor(&first.tensor).in_file(&self.source.path);
        Err(error.wanting_if(first.what.want_and_got()))
    }

    /// What to say of a file that is one of several shards.
    fn is_one_shard(&self) -> Option<String> {
        let [file] = self.source.files.as_slice() else { return None };
        let name = file.file_name()?.to_string_lossy();
        let index = index_of(file);
        if self.source.weight_map.is_some() || index.is_none() && !is_one_of_several(&name) {
            return None;
        }
        let lead = match index {
            Some(index) if index.ends_with(self.format.index_name()) => {
                format!("name their index, {}, or the folder", index.display())
            }
            Some(index) => format!("name their index, {}", index.display()),
            None => format!(
                "their index, {}, is not beside it: download it, and name it",
                self.format.index_name()
            ),
        };
        Some(format!("missing: the file is one of several shards, which is no model alone: {lead}"))
    }

    /// The first parameter that a graph is without and relative positions are made from, and why it may be.
    fn missing_positions<'p>(&self, problems: &[&'p Problem]) -> Option<(&'p Problem, &'static str)> {
        use Module::*;
        let makes_positions = |problem: &&Problem| {
            let module = problem.tensor.rsplit_once('.').and_then(|(path, _)| locate(path));
            module.is_some_and(|(_, module)| {
                matches!(
                    module,
                    RelEmbeddings | TableLayerNorm | PosProj | PosQProj | PosKeyProj | PosQueryProj
                )
            })
        };
        let mut missing = problems.iter().copied().filter(|problem| problem.what == ProblemKind::Missing);
        let missing = missing.find(makes_positions).filter(|_| self.naming == Naming::Onnx)?;
        let why = if !self.config.c2p() && !self.config.p2c() {
            "nothing in this model computes with it, so that graphs do not hold it"
        } else if self.unexpected().next().is_some() {
            "the graph holds only what was computed from it, since relative positions depend on weights alone, and \
             the exporter or an optimizer folded them into constants; export without constant folding, or take the \
             PyTorch, TensorFlow or safetensors file"
        } else {
            return None;
        };
        Some((missing, why))
    }

    /// All of the head and nothing else is missing: the commonest mistake, worth its own words.
    fn missing_head(&self, problems: &[&Problem]) -> Option<String> {
        let params = params(&self.config, self.head);
        let head_params = params.iter().filter(|param| param.module.in_head() && param.required);
        let names: Vec<String> = head_params.map(|param| self.naming.stored(param).name).collect();
        let all_missing = problems
            .iter()
            .all(|problem| problem.what == ProblemKind::Missing && names.contains(&problem.tensor));
        (self.head != Head::Base && all_missing && problems.len() == names.len()).then(|| {
            format!(
                "missing, like all of the head: {} made from these weights would have a random head \
                 (--head base converts the base model alone)",
                self.class_with_article()
            )
        })
    }

    /// What a checkpoint of another class lacks to be a mask decoder: its head, or else the positions.
    fn missing_in_decoder<'p>(&self, problems: &[&'p Problem]) -> Option<(&'p Problem, String)> {
        if self.head != Head::MaskDecoder {
            return None;
        }
        let params = params(&self.config, self.head);
        let missing = |of: &dyn Fn(&Param) -> bool, why: &str| {
            let known =
                |problem: &&Problem| params.iter().any(|param| param.name == problem.tensor && of(param));
            let missing = problems.iter().filter(|problem| problem.what == ProblemKind::Missing);
            let first = missing.copied().find(known)?;
            Some((first, format!("missing: the enhanced mask decoder {why}")))
        };
        missing(&|param| param.module.in_head(), "needs the head lm_predictions").or_else(|| {
            let positions = |param: &Param| param.role == Role::PositionEmbedding;
            missing(&positions, "adds the positions just before it predicts")
        })
    }
}

/// What files are of whose tensors many are empty. DeepSpeed leaves small ones whole, which are more than half.
pub(crate) fn without_weights(files: &[Box<dyn TensorFile>]) -> Option<&'static str> {
    let shapes = || files.iter().flat_map(|file| file.tensors()).map(|tensor| tensor.shape.as_slice());
    let empty = shapes().filter(|shape| shape.contains(&0)).count();
    (empty > 0 && empty * 4 > shapes().count()).then_some(
        "many tensors of this file are empty, as DeepSpeed leaves them under ZeRO stage 3: the weights are in the \
         zero_pp_rank_… files beside it, and `python zero_to_fp32.py CHECKPOINT_FOLDER OUTPUT_FOLDER` (DeepSpeed puts that \
         program into the folder) makes whole weights of them",
    )
}
