//! From pieces back to a text.
//!
//! Source: sentencepiece 0.2.3, `sentencepiece_processor.cc`, `SentencePieceProcessor::Decode`.

use super::model::{Kind, Model};
use super::normalizer::SPACE_SYMBOL;

/// The text that pieces spell. One that the model lacks is itself.
pub(super) fn decode(model: &Model, pieces: &[&str]) -> String {
    let mut text = String::new();
    let mut bytes = Vec::new();
    // Whether the space of a piece is the one that was put in front of the text.
    let mut at_front = true;
    let mut space_seen = false;
    let spec = &model.normalizer_spec;
    for piece in pieces {
        let kind = model.ids.get(*piece).and_then(|id| Some(model.pieces.get(*id as usize)?.kind));
        if let Some(Kind::Byte(byte)) = kind {
            bytes.push(byte);
            continue;
        }
        push_bytes(&mut text, &std::mem::take(&mut bytes));
        at_front &= !space_seen && text.is_empty();
        space_seen = false;
        match kind {
            Some(Kind::Control) => {}
            Some(Kind::Unknown) => text.push_str(&model.unk_surface),
            None => text.push_str(piece),
            Some(_) => {
                let front = at_front && (spec.add_dummy_prefix() || spec.remove_extra_whitespaces());
                let rest = piece.strip_prefix(SPACE_SYMBOL).filter(|_| front);
                space_seen = rest.is_some() && !spec.remove_extra_whitespaces();
                text.push_str(&rest.unwrap_or(piece).replace(SPACE_SYMBOL, " "));
            }
        }
    }
    push_bytes(&mut text, &bytes);
    text
}

/// Appends what bytes spell; U+FFFD for each that is in no character.
fn push_bytes(text: &mut String, mut bytes: &[u8]) {
    while let Some((_, behind)) = bytes.split_first() {
        let valid = |length: usize| std::str::from_utf8(bytes.get(..length)?).ok();
        let character = (1..=4).find_map(valid);
        text.push_str(character.unwrap_or("\u{fffd}"));
        bytes = character.map_or(behind, |character| bytes.get(character.len()..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::push_bytes;

    #[test]
    fn bytes_that_are_no_character_are_replaced_one_by_one() {
        let text = |bytes: &[u8]| {
            let mut text = String::new();
            push_bytes(&mut text, bytes);
            text
        };
        assert_eq!(text("aé🙂".as_bytes()), "aé🙂");
        assert_eq!(text(&[0xf0, 0x9f, 0x99, 0x41]), "\u{fffd}\u{fffd}\u{fffd}A");
        assert_eq!(text(&[0xed, 0xa0, 0x80]), "\u{fffd}".repeat(3));
    }
}
