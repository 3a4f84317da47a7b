//! The files beside the weights of a model, by the names that transformers and Microsoft's code give them.

/// The configuration of a model: Hugging Face's, or else Microsoft's.
pub const CONFIGURATION: [&str; 2] = ["config.json", "model_config.json"];

/// The tokenizer of a model.
pub const TOKENIZER: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spm.model",
];
