//! Parts of tokenizer.json that the `tokenizers` crate would take and then panic on, or make texts without end of.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::tokenizer::files::fault;
use crate::tokenizer::limits::{check_added, check_count};
use crate::tokenizer::sentence_piece::charsmap::Charsmap;
use crate::tokenizer::sentence_piece::model::LONGEST_PIECE;

/// The components that are run, by the key that they stand under.
const COMPONENTS: [(&str, &str, &[&str]); 4] = [
    (
        "normalizer",
        "normalizers",
        &[
            "Sequence",
            "Precompiled",
            "Replace",
            "Lowercase",
            "Strip",
            "StripAccents",
            "NFC",
            "NFD",
            "NFKC",
            "NFKD",
            "Nmt",
            "Prepend",
            "ByteLevel",
            "Bert",
            "BertNormalizer",
        ],
    ),
    (
        "pre_tokenizer",
        "pretokenizers",
        &[
            "Sequence",
            "ByteLevel",
            "Metaspace",
            "Whitespace",
            "WhitespaceSplit",
            "Punctuation",
            "Split",
            "Digits",
            "UnicodeScripts",
            "BertPreTokenizer",
            "CharDelimiterSplit",
            "Delimiter",
        ],
    ),
    (
        "post_processor",
        "processors",
        &["Sequence", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel"],
    ),
    (
        "decoder",
        "decoders",
        &[
            "Sequence",
            "ByteLevel",
            "Metaspace",
            "Replace",
            "Fuse",
            "Strip",
            "ByteFallback",
            "BPEDecoder",
            "WordPiece",
            "CTC",
        ],
    ),
];

/// The most components under a key.
const MOST_COMPONENTS: usize = 32;
/// How often a byte of a text may become as many as there are, by all components together.
const MOST_GROWTH: usize = 64;
/// The longest text of a component, in bytes.
const LONGEST_SETTING: usize = 1024;
/// The most pieces of a template.
const MOST_PIECES: usize = 32;

/// Checks that every component is one that is run here, and that all of them together do not make a long text of a short
/// one.
pub(super) fn components(file: &Path, tokenizer: &Value) -> Result<()> {
    for (key, parts, known) in COMPONENTS {
        let mut found = Found { file, parts, known, count: 0, growth: 1 };
        found.look(key, tokenizer.get(key).unwrap_or(&Value::Null))?;
    }
    let model = tokenizer.get("model").unwrap_or(&Value::Null);
    // The crate cuts it off what each merge has on its right.
    if model.get("continuing_subword_prefix").and_then(Value::as_str).is_some_and(|prefix| !prefix.is_empty())
    {
        let problem = "a prefix of tokens within words, which no tokenizer of DeBERTa has";
        return Err(fault(file, "model.continuing_subword_prefix", problem));
    }
    Ok(())
}

struct Found<'f> {
    file: &'f Path,
    /// The key of the components of a sequence.
    parts: &'static str,
    known: &'static [&'static str],
    count: usize,
    growth: usize,
}

impl Found<'_> {
    fn look(&mut self, place: &str, component: &Value) -> Result<()> {
        let wrong = |place: &str, problem: String| Err(fault(self.file, place, problem));
        if component.is_null() {
            return Ok(());
        }
        self.count += 1;
        if self.count > MOST_COMPONENTS {
            return wrong(place, format!("more than {MOST_COMPONENTS} components"));
        }
        if let Some(kind) = component.get("type") {
            let kind = kind.as_str().unwrap_or_default();
            if !self.known.contains(&kind) {
                return wrong(place, format!("{kind:?} is no component that is run here"));
            }
            let is_charsmap = |value: &Value| value.is_string();
            if kind == "Precompiled" && !component.get("precompiled_charsmap").is_some_and(is_charsmap) {
                return wrong(&format!("{place}.precompiled_charsmap"), "not a map of characters".to_owned());
            }
        }
        let settings =
            component.as_object().into_iter().flatten().filter(|(key, _)| *key != "precompiled_charsmap");
        for (key, value) in settings {
            let texts = [Some(value), value.get("String"), value.get("Regex")].into_iter().flatten();
            if let Some(text) = texts.filter_map(Value::as_str).find(|text| text.len() > LONGEST_SETTING) {
                let problem = format!("{} bytes, at most {LONGEST_SETTING} are read", text.len());
                return wrong(&format!("{place}.{key}"), problem);
            }
        }
        if let Some(pattern) = component.get("pattern") {
            let text = pattern.get("String").or_else(|| pattern.get("Regex")).and_then(Value::as_str);
            if text == Some("") {
                return wrong(
                    &format!("{place}.pattern"),
                    "an empty pattern, which is everywhere".to_owned(),
                );
            }
            // What an expression finds has a byte or more.
            let found = pattern.get("String").and_then(Value::as_str).map_or(1, str::len).max(1);
            let content = component.get("content").and_then(Value::as_str).map_or(0, str::len);
            self.growth = self.growth.saturating_mul(content.div_ceil(found).max(1));
        }
        if component.get("type").and_then(Value::as_str) == Some("ByteLevel") {
            self.growth = self.growth.saturating_mul(2);
        }
        if self.growth > MOST_GROWTH {
            let problem =
                format!("texts become more than {MOST_GROWTH} times as long by the components up to here");
            return Err(fault(self.file, place, problem));
        }
        let Some(Value::Array(parts)) = component.get(self.parts) else { return Ok(()) };
        for (at, part) in parts.iter().enumerate() {
            let place = format!("{place}.{}[{at}]", self.parts);
            self.look(&place, part)?;
        }
        Ok(())
    }
}

/// Checks the added tokens of a file.
pub(super) fn added_tokens(file: &Path, tokenizer: &Value) -> Result<()> {
    let tokens =
        tokenizer.get("added_tokens").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    check_count(file, "added_tokens", tokens.len())?;
    for (at, token) in tokens.iter().enumerate() {
        let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
        check_added(file, &format!("added_tokens[{at}]"), content)?;
    }
    Ok(())
}

/// Checks that every map of characters of a normalizer can be followed.
pub(super) fn normalizers(file: &Path, place: &str, normalizer: &Value) -> Result<()> {
    if let Some(Value::Array(parts)) = normalizer.get("normalizers") {
        for (at, part) in parts.iter().enumerate() {
            normalizers(file, &format!("{place}.normalizers[{at}]"), part)?;
        }
    }
    let Some(Value::String(blob)) = normalizer.get("precompiled_charsmap") else { return Ok(()) };
    let wrong = |problem: String| fault(file, format!("{place}.precompiled_charsmap"), problem);
    let blob = STANDARD.decode(blob).map_err(|error| wrong(error.to_string()))?;
    Charsmap::new(&blob).map_err(wrong)?;
    Ok(())
}

/// Checks that no piece of a unigram model takes long to be looked for.
pub(super) fn pieces(file: &Path, model: &Value) -> Result<()> {
    let Some(Value::Array(pieces)) = model.get("vocab") else { return Ok(()) };
    for (at, piece) in pieces.iter().enumerate() {
        let length = piece.get(0).and_then(Value::as_str).map_or(0, str::len);
        if length > LONGEST_PIECE {
            let problem = format!("a piece of {length} bytes, at most {LONGEST_PIECE} are read");
            return Err(fault(file, format!("model.vocab[{at}]"), problem));
        }
    }
    Ok(())
}

/// Checks that every template of a post-processor names tokens that it defines, and texts that there are: A in
/// `single`, A and B in `pair`.
pub(super) fn templates(file: &Path, place: &str, processor: &Value) -> Result<()> {
    if let Some(Value::Array(processors)) = processor.get("processors") {
        for (at, processor) in processors.iter().enumerate() {
            templates(file, &format!("{place}.processors[{at}]"), processor)?;
        }
    }
    let none = Map::new();
    let defined = processor.get("special_tokens").and_then(Value::as_object).unwrap_or(&none);
    for (id, token) in defined {
        let length = |key: &str| token.get(key).and_then(Value::as_array).map(Vec::len);
        if length("ids") != length("tokens") {
            let problem = "not as many \"ids\" as \"tokens\"";
            return Err(fault(file, format!("{place}.special_tokens.{id}"), problem));
        }
    }
    for (template, texts) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
        let Some(Value::Array(pieces)) = processor.get(template) else { continue };
        if pieces.len() > MOST_PIECES {
            let problem = format!("{} pieces, at most {MOST_PIECES} are read", pieces.len());
            return Err(fault(file, format!("{place}.{template}"), problem));
        }
        for (at, piece) in pieces.iter().enumerate() {
            let id = |kind: &str| piece.get(kind)?.get("id")?.as_str();
            let problem = match (id("SpecialToken"), id("Sequence")) {
                (Some(id), _) if !defined.contains_key(id) => {
                    format!("special_tokens does not define {id:?}")
                }
                (_, Some(id)) if !texts.contains(&id) => format!("there is no text {id}"),
                _ => continue,
            };
            return Err(fault(file, format!("{place}.{template}[{at}]"), problem));
        }
    }
    Ok(())
}
