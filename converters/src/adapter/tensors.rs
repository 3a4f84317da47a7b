//! Which tensor of an adapter belongs to which parameter.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::format::TensorFile;
use crate::naming::onnx::local;

/// The tensors of an adapter, by what they are of.
pub(super) struct Tensors {
    /// By the name of the module that is changed, or of the parameter that is replaced, both without the prefix of the base
    /// model.
    pub(super) parts: BTreeMap<String, Part>,
}

/// What an adapter has for a module or a parameter.
pub(super) enum Part {
    /// The two matrices whose product is added to its weight, by their numbers in the file.
    Added { a: Option<usize>, b: Option<usize>, is_embedding: bool },
    /// A parameter of its own.
    Own(usize),
}

impl Tensors {
    pub(super) fn sort(file: &dyn TensorFile) -> Result<Tensors> {
        let mut parts = BTreeMap::new();
        for (index, info) in file.tensors().iter().enumerate() {
            let name = info.name.as_str();
            let unknown = |why: &str| Error::unsupported(why.to_owned()).in_tensor(name);
            if name.contains(".lora_magnitude_vector") {
                return Err(unknown("is of DoRA, which is not merged here: merge it with peft"));
            }
            // What peft saves has no name of the adapter, what a state dict has is called `default`.
            let plain = name.replace(".default", "");
            let plain = plain.trim_end_matches(".weight");
            let added = [(".lora_A", true, false), (".lora_B", false, false)]
                .into_iter()
                .chain([(".lora_embedding_A", true, true), (".lora_embedding_B", false, true)])
                .find_map(|(end, is_a, is_embedding)| Some((plain.strip_suffix(end)?, is_a, is_embedding)));
            if let Some((module, is_a, embedding)) = added {
                let module = local(module).ok_or_else(|| unknown("is of no module of DeBERTa"))?;
                let part =
                    parts.entry(module).or_insert(Part::Added { a: None, b: None, is_embedding: embedding });
                let Part::Added { a, b, is_embedding } = part else { return Err(unknown("comes twice")) };
                if *is_embedding != embedding || (if is_a { a } else { b }).replace(index).is_some() {
                    return Err(unknown("comes twice"));
                }
                continue;
            }
            if super::is_tensor(name) && !name.contains(".base_layer.") {
                return Err(unknown("is of no kind of adapter that is merged here: merge it with peft"));
            }
            if name.contains(".original_module.") {
                continue;
            }
            let own = name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".");
            let own = own.replace(".base_layer.", ".");
            let own = local(&own).ok_or_else(|| unknown("is of no parameter of DeBERTa"))?;
            // With biases of all modules, peft saves those of `modules_to_save` under two names.
            match parts.insert(own, Part::Own(index)) {
                None => {}
                Some(Part::Own(other)) if file.read(other)? == file.read(index)? => {}
                Some(_) => return Err(unknown("comes twice")),
            }
        }
        Ok(Tensors { parts })
    }
}
