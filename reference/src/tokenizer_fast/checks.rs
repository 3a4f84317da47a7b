//! Parts of tokenizer.json that the `tokenizers` crate would take and then panic on.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::tokenizer::files::fault;
use crate::tokenizer::sentence_piece::charsmap::Charsmap;
use crate::tokenizer::sentence_piece::model::LONGEST_PIECE;

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
