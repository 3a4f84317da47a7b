//! What each framework calls a parameter, and whether it stores it transposed.
//!
//! Only the direction parameter → stored name is written down. The inverse is built by enumerating
//! [`deberta_reference::params()`], so that missing and unexpected tensors fall out of it.

use deberta_reference::{DebertaConfig, Param};

pub mod keras;
pub mod onnx;
pub mod prefixes;
pub mod torch;

/// The key under which a file that has room for text holds the model's `config.json`.
pub const CONFIG_KEY: &str = "config.json";

/// The name of a parameter in a file, and its layout there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The name in the file's own naming.
    pub name: String,
    /// Whether the axes of the file's tensor are those of the canonical one in reverse: the transpose of a matrix.
    pub transposed: bool,
}

/// What other model these tensors are of, told by names that no model of this configuration has.
pub fn other_model<'a>(config: &DebertaConfig, names: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    const OTHERS: [(&str, &str); 3] = [
        (
            "attention.self.query_proj",
            "the tensors are those of DeBERTa version 2 or 3, the configuration is one of version 1 (model_type deberta)",
        ),
        (
            "attention.self.q_bias",
            "the tensors are those of DeBERTa version 1, the configuration is one of version 2 or 3 (model_type deberta-v2)",
        ),
        ("attention.self.query.", "this looks like a BERT or RoBERTa checkpoint"),
    ];
    // Keras' paths have slashes.
    let names: Vec<String> = names.map(|name| name.replace('/', ".")).collect();
    let own = if config.has_in_proj() { "attention.self.q_bias" } else { "attention.self.query_proj" };
    let mut others = OTHERS.iter().filter(|(part, _)| *part != own);
    let found = others.find(|(part, _)| names.iter().any(|name| name.contains(part)));
    found.map(|(_, words)| *words)
}

/// The naming that a file follows. It is told by the names, not by the format: safetensors files hold either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// PyTorch's `state_dict` keys, with the prefixes and old spellings found in the wild.
    Torch,
    /// Keras' variable paths, `deberta/encoder/layer_._0/…/kernel:0`.
    Keras,
    /// Whatever the nodes of a graph say that their operands are, in PyTorch's names.
    Onnx,
}

impl Naming {
    /// The naming that most of `names` follow, for files without a graph.
    pub fn of<'a>(names: impl Iterator<Item = &'a str>) -> Naming {
        let (mut keras, mut total) = (0_usize, 0_usize);
        for name in names {
            total += 1;
            keras += usize::from(name.ends_with(":0") && name.contains('/'));
        }
        if keras * 2 > total { Naming::Keras } else { Naming::Torch }
    }

    /// What a file of this naming should call `param`.
    pub(crate) fn stored(self, param: &Param) -> Stored {
        match self {
            Naming::Torch | Naming::Onnx => torch::stored(param),
            Naming::Keras => keras::stored(param),
        }
    }
}
