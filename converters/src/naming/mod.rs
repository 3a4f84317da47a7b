//! What each framework calls a parameter, and whether it stores it transposed.
//!
//! Only the direction parameter → stored name is written down. The inverse is built by enumerating
//! [`deberta_reference::params()`], so that missing and unexpected tensors fall out of it.

pub mod keras;
pub mod onnx;
pub mod torch;

/// The key under which a file that has room for text holds the model's `config.json`.
pub const CONFIG_KEY: &str = "config.json";

/// The name of a parameter in a file, and its layout there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The name in the file's own naming.
    pub name: String,
    /// Whether the file holds the transpose of the canonical matrix.
    pub transposed: bool,
}

/// The model whose tensors these are, told by names that no DeBERTa of version 1 has.
pub fn other_model<'a>(unexpected: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    const OTHERS: [(&str, &str); 2] = [
        ("attention.self.query_proj", "DeBERTa version 2 or 3"),
        ("attention.self.query.", "a BERT or RoBERTa checkpoint"),
    ];
    // Keras' paths have slashes.
    let names: Vec<String> = unexpected.map(|name| name.replace('/', ".")).collect();
    let found = OTHERS.iter().find(|(part, _)| names.iter().any(|name| name.contains(part)));
    found.map(|(_, model)| *model)
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
}
