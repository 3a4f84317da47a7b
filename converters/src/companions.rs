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

/// Further files of tokenizers: of other models that teams start from, and of older code.
pub const MORE_OF_TOKENIZERS: [&str; 8] = [
    "bpe_encoder.bin",
    "chat_template.jinja",
    "chat_template.json",
    "dict.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "vocab.txt",
];

/// Everything that goes with the weights of a model but its configuration, wherever they go.
pub fn taken_along() -> impl Iterator<Item = &'static str> {
    TOKENIZER.into_iter().chain(MORE_OF_TOKENIZERS).chain(MORE_SETTINGS)
}

/// Settings besides the configuration that transformers reads with a model.
pub const MORE_SETTINGS: [&str; 2] = ["generation_config.json", "preprocessor_config.json"];
