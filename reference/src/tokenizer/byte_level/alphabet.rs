//! The characters that stand for bytes in vocab.json and merges.txt, there and back.

use std::sync::LazyLock;

use foldhash::HashMap;

use crate::error::{Error, Result};
use crate::tokenizer::settings::DecodeErrors;

/// Byte -> the character that stands for it in vocab.json and merges.txt.
///
/// Printable characters of Latin-1 stand for themselves; the other 68 bytes, in order, are U+0100 and so on (a space
/// is `Ġ`), so that a vocabulary holds no spaces or control characters.
pub(crate) fn byte_alphabet() -> [char; 256] {
    let mut next = 0x100_u32;
    std::array::from_fn(|byte| match byte as u8 {
        printable @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => char::from(printable),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        }
    })
}

/// The byte that each character stands for.
static BYTES: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| byte_alphabet().into_iter().zip(0..=255).collect());

/// The text that tokens spell: `Ġthe` is ` the`, and `Ã`, `©` are `é` together.
pub(super) fn text_of(tokens: &[&str], errors: DecodeErrors) -> Result<String> {
    let byte = |(token, character): (&str, char)| {
        let unknown =
            || Error::Tokenizer(format!("token {token:?}: the character {character:?} stands for no byte"));
        BYTES.get(&character).copied().ok_or_else(unknown)
    };
    let characters = tokens.iter().flat_map(|token| token.chars().map(|character| (*token, character)));
    let bytes = characters.map(byte).collect::<Result<Vec<u8>>>()?;
    match errors {
        DecodeErrors::Replace => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        DecodeErrors::Ignore => Ok(bytes.utf8_chunks().map(|chunk| chunk.valid()).collect()),
        DecodeErrors::Strict => String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::Tokenizer(format!("byte {at} of the decoded text: not UTF-8"))
        }),
    }
}
