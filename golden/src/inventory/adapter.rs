//! Adapters: what `peft` trains beside a model that stays as it is.
//!
//! Source: transformers 4.57.6, `modeling_utils.py`, `PreTrainedModel.from_pretrained`, and `models/auto/auto_factory.py`:
//! if the folder itself has an `adapter_config.json`, and `peft` is there, its adapter is applied; the `Auto…` classes take
//! the base model that this file names. In a folder of the folder it is not looked for.

use std::path::Path;

use deberta_converters::adapter::CONFIGURATION as ADAPTER_CONFIG;
pub(crate) use deberta_converters::adapter::is_tensor;
use deberta_converters::mapped::Mapped;
use serde_json::{Map, Value};

use super::names::{Kind, kind};
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind};

/// The longest `adapter_config.json` that is read, in bytes.
const LONGEST: usize = 1 << 20;

/// Whether the file, which is in the model's own folder, is of an adapter.
pub(super) fn is_of_adapter(file: &str) -> bool {
    !file.contains('/') && matches!(kind(file), Kind::Adapter | Kind::AdapterConfig)
}

/// What to say of a folder with `adapter_config.json`, whose settings are read if it is in `folder`.
pub(super) fn applied(folder: Option<&Path>) -> Finding {
    let settings = folder.map(|folder| settings(&folder.join(ADAPTER_CONFIG))).unwrap_or_default();
    let text = |key: &str| settings.get(key).and_then(Value::as_str);
    let kind = text("peft_type").map(|kind| format!(" ({kind})")).unwrap_or_default();
    let base = text("base_model_name_or_path")
        .map(|base| format!(", and its Auto classes take the weights of {base:?} in place of these"))
        .unwrap_or_default();
    let message = format!(
        "{ADAPTER_CONFIG} is beside the weights: transformers with peft applies the adapter{kind}{base}, so that the \
         weights of this folder alone are not the model. Merge it (`deberta-convert convert FOLDER --merge-adapter FOLDER`), \
         or move it into a folder of its own"
    );
    Finding::new(FindingKind::Adapter, Outcome::Undecided, message)
}

fn settings(path: &Path) -> Map<String, Value> {
    let bytes = Mapped::open(path).ok().filter(|bytes| bytes.len() <= LONGEST);
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// What to say of the tensors of a weight file that no class has a use for, if some are an adapter's.
pub(crate) fn unmerged<'t>(unexpected: impl Iterator<Item = &'t str>) -> Option<Finding> {
    let found: Vec<&str> = unexpected.filter(|name| is_tensor(name)).collect();
    let first = found.first()?;
    let message = format!(
        "{} tensors of an adapter are in this file and not merged into the weights, {first} among them: transformers \
         leaves them out, and so what was trained; merge them (merge_and_unload, then save_pretrained)",
        found.len()
    );
    Some(Finding::new(FindingKind::Adapter, Outcome::Undecided, message))
}
