//! spm.model files that lie: an error that names file and place. Damaged files: an error or a tokenizer, never a panic.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use deberta_reference::{
    DebertaV2Tokenizer, DebertaV2TokenizerFast, EncodeOptions, Error, PreTrainedTokenizerBase,
};
use tempfile::TempDir;

const TEXT: &str = "a name … ﬁ [MASK] <ent> 🙂 e\u{301} \u{3000}New York\r\n";

/// A field of a message: a varint.
fn number(tag: u8, value: u64) -> Vec<u8> {
    let mut bytes = vec![tag << 3];
    let mut rest = value;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// A field of a message: bytes.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = number(tag, content.len() as u64);
    bytes[0] |= 2;
    [bytes, content.to_vec()].concat()
}

fn piece(text: &[u8], score: f32, kind: u64) -> Vec<u8> {
    let score = [vec![2 << 3 | 5], score.to_le_bytes().to_vec()].concat();
    field(1, &[field(1, text), score, number(3, kind)].concat())
}

/// The pieces that every model needs.
fn special() -> Vec<u8> {
    let control = ["[PAD]", "[CLS]", "[SEP]"].map(|text| piece(text.as_bytes(), 0.0, 3)).concat();
    [control, piece(b"[UNK]", 0.0, 2)].concat()
}

/// A map of characters: a trie of units, and texts.
fn charsmap(units: &[u32], texts: &[u8]) -> Vec<u8> {
    let trie: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let size = u32::try_from(trie.len()).unwrap().to_le_bytes();
    let blob = [&size[..], &trie, texts].concat();
    [special(), field(3, &field(2, &blob))].concat()
}

/// `trainer_spec.model_type`
fn of_type(kind: u64) -> Vec<u8> {
    [special(), field(2, &number(3, kind))].concat()
}

fn with(extra: &[Vec<u8>]) -> Vec<u8> {
    [special(), extra.concat()].concat()
}

#[test]
fn malformed_models_are_errors_with_file_and_place() {
    let long = "a".repeat(513);
    // Units: every family begins at 0; the unit of `a` leads to itself.
    let mut circle = vec![0_u32; 256];
    circle[usize::from(b'a')] = u32::from(b'a') | u32::from(b'a') << 10;
    let mut outside = vec![0_u32; 256];
    outside[usize::from(b'a')] = u32::from(b'a') | 0x1000 << 10;
    let mut no_text = vec![0_u32; 512];
    no_text[usize::from(b'a')] = u32::from(b'a') | 1 << 8 | (0x100 ^ u32::from(b'a')) << 10;
    no_text[256] = 1 << 31 | 77;
    let mut long_text = no_text.clone();
    long_text[256] = 1 << 31;
    let cases: [(Vec<u8>, &str); 18] = [
        (vec![], "pieces: 0 pieces of the type unknown, one is needed"),
        (special()[..9].to_vec(), "failed to decode Protobuf message"),
        (vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "failed to decode Protobuf message"),
        (of_type(2), "trainer_spec.model_type: 2 (BPE), DeBERTa's is 1 (unigram)"),
        (of_type(3), "trainer_spec.model_type: 3 (word), DeBERTa's is 1 (unigram)"),
        (of_type(4), "trainer_spec.model_type: 4 (char), DeBERTa's is 1 (unigram)"),
        (of_type(9), "trainer_spec.model_type: 9, DeBERTa's is 1 (unigram)"),
        (with(&[piece(b"", -1.0, 1)]), "pieces[4]: empty, a piece has text"),
        (with(&[piece(b"a", -1.0, 1), piece(b"a", -2.0, 4)]), "pieces[5]: \"a\", which pieces[4] is already"),
        (with(&[piece(b"a", f32::NAN, 1)]), "pieces[4]: score NaN, a finite number is needed"),
        (with(&[piece(b"a\xff", -1.0, 1)]), "failed to decode Protobuf message"),
        (with(&[piece(b"a", -1.0, 8)]), "pieces[4]: type 8, 1 to 6 are known"),
        (with(&[piece(b"<0x41>", -1.0, 6)]), "pieces[4]: \"<0x41>\" is a byte, but byte_fallback is false"),
        (with(&[piece(long.as_bytes(), -1.0, 1)]), "pieces[4]: a piece of 513 bytes, at most 512 are read"),
        (
            charsmap(&circle, b"\0"),
            "normalizer_spec.precompiled_charsmap: unit 97 is in a key of more than 256 bytes",
        ),
        (
            charsmap(&outside, b"\0"),
            "normalizer_spec.precompiled_charsmap: unit 97 leads to 4193, the trie has 256",
        ),
        (charsmap(&no_text, b"\0"), "normalizer_spec.precompiled_charsmap: unit 256: no text begins at 77"),
        (
            charsmap(&long_text, &[b'x'; 300]),
            "normalizer_spec.precompiled_charsmap: unit 256: a text of more than 256 bytes at 0",
        ),
    ];
    for (bytes, expected) in cases {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("spm.model");
        std::fs::write(&file, bytes).unwrap();
        let slow = DebertaV2Tokenizer::from_pretrained(folder.path()).map(|_| ()).unwrap_err();
        let fast = DebertaV2TokenizerFast::from_pretrained(folder.path()).map(|_| ()).unwrap_err();
        assert!(matches!(slow, Error::TokenizerFile { .. }), "{slow:?}");
        assert!(
            slow.to_string().starts_with(&format!("{}: {expected}", file.display())),
            "{slow}: {expected}"
        );
        assert_eq!(slow.to_string(), fast.to_string());
    }
    let error = DebertaV2Tokenizer::from_pretrained("/nowhere").map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/spm.model: No such file"), "{error}");
}

/// Reads both tokenizers and uses what can be read; gives how many could.
fn use_both(folder: &Path) -> usize {
    let options = EncodeOptions { max_length: Some(9), ..EncodeOptions::default() };
    let mut read = 0;
    if let Ok(slow) = DebertaV2Tokenizer::from_pretrained(folder) {
        read += 1;
        let ids = slow.encode(TEXT, Some(TEXT), &options).unwrap();
        slow.decode(&ids, false, None).unwrap();
    }
    if let Ok(fast) = DebertaV2TokenizerFast::from_pretrained(folder) {
        read += 1;
        let _ = fast.encode(TEXT, Some(TEXT), &options);
        if let Ok(encoded) = fast.encode_plus(TEXT, Some(TEXT), &options) {
            let _ = fast.decode(&encoded.encoding.input_ids, false, None);
        }
    }
    read
}

/// Numbers that look random (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn damage(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        match numbers.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, [numbers.below(256) as u8])),
            2 => drop(bytes.drain(at..(at + 1 + numbers.below(12)).min(bytes.len()))),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << numbers.below(8);
                }
            }
        }
    }
}

#[test]
fn damage_is_an_error_or_harmless() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for name in ["plain", "bytes"] {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sentence_piece").join(name);
        let model = std::fs::read(original.join("spm.model")).unwrap();
        let fast = DebertaV2TokenizerFast::from_pretrained(&original).unwrap();
        let json = fast.backend().to_string(false).unwrap().into_bytes();
        let folder = TempDir::new().unwrap();
        let (mut read, mut refused) = (0, 0);
        for round in 0..300 {
            let (mut model, mut json) = (model.clone(), json.clone());
            // The fast class reads tokenizer.json, or else spm.model.
            let file = folder.path().join("tokenizer.json");
            if round % 3 == 0 {
                damage(&mut json, &mut numbers);
                std::fs::write(&file, json).unwrap();
            } else {
                damage(&mut model, &mut numbers);
                let _ = std::fs::remove_file(&file);
            }
            std::fs::write(folder.path().join("spm.model"), model).unwrap();
            let usable = use_both(folder.path());
            read += usable;
            refused += 2 - usable;
        }
        assert!(read > 50 && refused > 50, "{read} tokenizers read, {refused} refused");
    }
}
