//! What a file is by its name: the names that frameworks and their tools give.

use deberta_converters::adapter::CONFIGURATION as ADAPTER_CONFIG;
use deberta_converters::companions::{CONFIGURATION, MORE_OF_TOKENIZERS, TOKENIZER};
use deberta_converters::containers;
use deberta_converters::source::is_index;

/// What a name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Settings of the model or of a tool.
    Configuration,
    /// A part of the tokenizer.
    Tokenizer,
    /// The index of the shards of a weight file.
    Index,
    /// Weights or a graph, in a format that is read here.
    Weights,
    /// Weights in a format that nothing here reads: whose it is.
    Foreign(&'static str),
    /// The weights of an adapter (LoRA, IA3), which are no model without its base.
    Adapter,
    /// What makes transformers put the adapter beside it upon the base model.
    AdapterConfig,
    /// Nothing of the model, and what it is if that is worth a word.
    Aside(&'static str),
    /// Only the bytes can tell.
    Unknown,
}

/// Settings of other tools.
const MORE_OF_CONFIGURATIONS: [&str; 6] = [
    "generation_config.json",
    "modules.json",
    "ort_config.json",
    "preprocessor_config.json",
    "quantize_config.json",
    "sentence_bert_config.json",
];

/// How the names of files start that a training can be resumed from.
const TRAINING: [&str; 8] = [
    "events.out.tfevents",
    "optimizer",
    "random_states",
    "rng_state",
    "scaler.",
    "scheduler",
    "trainer_state",
    "training_args",
];

/// How the names of weights in PyTorch's format start: others end in `.bin`, too.
const PYTORCH: [&str; 2] = ["pytorch_model", "pytorch.model"];

/// Extensions of formats that are read here.
const WEIGHTS: [&str; 6] = ["safetensors", "onnx", "h5", "hdf5", "pt", "pth"];

/// Extensions of documents, programs and data.
const ASIDE: [&str; 44] = [
    "asc", "arrow", "bib", "c", "cff", "cfg", "cpp", "css", "csv", "gif", "h", "htm", "html", "ico", "ini",
    "ipynb", "jinja", "jpeg", "jpg", "js", "json", "jsonl", "lock", "log", "md", "md5", "parquet", "pdf",
    "png", "py", "pyc", "rs", "rst", "sh", "sha256", "sig", "svg", "toml", "ts", "tsv", "txt", "webp",
    "yaml", "yml",
];

/// What the file at `path`, relative to the model's folder with `/` between folders, is by its name.
pub(super) fn kind(path: &str) -> Kind {
    let path = path.to_lowercase();
    let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let starts = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    if name == ADAPTER_CONFIG {
        return Kind::AdapterConfig;
    }
    if name.starts_with("adapter_model") {
        return Kind::Adapter;
    }
    if starts(&TRAINING) {
        return Kind::Aside("of a training");
    }
    if TOKENIZER.contains(&name) || MORE_OF_TOKENIZERS.contains(&name) {
        return Kind::Tokenizer;
    }
    if CONFIGURATION.contains(&name) || MORE_OF_CONFIGURATIONS.contains(&name) {
        return Kind::Configuration;
    }
    if is_index(name) && is_of_weights(name) {
        return Kind::Index;
    }
    if let Some(container) = containers::by_folder(&path) {
        return Kind::Foreign(container.name);
    }
    if WEIGHTS.contains(&extension) || (extension == "bin" && starts(&PYTORCH)) {
        return Kind::Weights;
    }
    if let Some(container) = containers::by_name(&path) {
        return Kind::Foreign(container.name);
    }
    if ASIDE.contains(&extension) || name.starts_with('.') {
        return Kind::Aside("");
    }
    Kind::Unknown
}

/// Whether an index is one of weights, and not of a search: `pytorch_model.bin.index.fp16.json`.
fn is_of_weights(index: &str) -> bool {
    let indexed = index.rsplit_once(".index").map_or("", |(indexed, _)| indexed);
    let extension = indexed.rsplit_once('.').map_or("", |(_, extension)| extension);
    WEIGHTS.contains(&extension) || extension == "bin"
}

#[cfg(test)]
mod tests {
    use deberta_converters::format::Format;
    use deberta_converters::source::is_shard;

    use super::*;

    #[test]
    fn what_transformers_writes_is_weights() {
        for format in Format::ALL {
            assert_eq!(kind(format.file_name()), Kind::Weights);
            let shard = format.shard_name(1, 3);
            assert!(is_shard(&shard) && kind(&shard) == Kind::Weights, "{shard}");
            assert_eq!(kind(&format.index_name()), Kind::Index);
        }
        for name in [
            "model.fp16.safetensors",
            "pytorch_model.fp16.bin",
            "pytorch_model-00001-of-00002.fp16.bin",
            "onnx/model_quantized.onnx",
            "pytorch.model.bin",
            "checkpoint-500/model.safetensors",
        ] {
            assert_eq!(kind(name), Kind::Weights, "{name}");
        }
    }

    #[test]
    fn what_others_write_is_named() {
        for (name, whose) in [
            ("flax_model.msgpack", "Flax"),
            ("rust_model.ot", "tch-rs (rust-bert)"),
            ("openvino/openvino_model.bin", "OpenVINO"),
            ("openvino_model.xml", "OpenVINO"),
            ("model.mlpackage/Data/com.apple.CoreML/weights/weight.bin", "Core ML"),
            ("saved_model/variables/variables.data-00000-of-00001", "TensorFlow (SavedModel, frozen graph)"),
            ("deberta.ckpt.data-00000-of-00001", "TensorFlow's checkpoints"),
        ] {
            assert_eq!(kind(name), Kind::Foreign(whose), "{name}");
        }
    }

    #[test]
    fn what_is_no_model_is_told() {
        for name in
            ["optimizer.pt", "training_args.bin", "rng_state_0.pth", "runs/events.out.tfevents.1.host"]
        {
            assert_eq!(kind(name), Kind::Aside("of a training"), "{name}");
        }
        for name in ["README.md", ".gitattributes", "eval/all_results.json"] {
            assert_eq!(kind(name), Kind::Aside(""), "{name}");
        }
        assert_eq!(kind("LICENSE"), Kind::Unknown);
        assert_eq!(kind("faiss.index.json"), Kind::Aside(""));
        assert_eq!(kind("pytorch_model.bin.index.fp16.json"), Kind::Index);
        assert_eq!(kind("adapter_model.bin"), Kind::Adapter);
        assert!(!is_shard("model-of-00001.bin") && !is_shard("part-1-of-2.bin"));
    }
}
