//! Damaged tokenizer files: an error or a tokenizer, never a panic.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use deberta_reference::{DebertaTokenizer, DebertaTokenizerFast, EncodeOptions, PreTrainedTokenizerBase};
use serde_json::json;
use tempfile::TempDir;

const TEXT: &str = "lower the [MASK] <x> é \u{3000}";

/// The files of a small tokenizer.
fn files() -> Vec<(&'static str, String)> {
    let tokens =
        ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "l", "o", "w", "e", "r", "Ġ", "lo", "low", "er", "[MASK]"];
    let vocabulary = json!(tokens.iter().zip(0..).collect::<std::collections::BTreeMap<_, u32>>());
    let token = |id: u32, content: &str, lstrip: bool| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": lstrip, "rstrip": false,
            "normalized": false, "special": true })
    };
    let special = |id: u32, content: &str| json!({ "id": content, "ids": [id], "tokens": [content] });
    let piece = |content: &str| json!({ "SpecialToken": { "id": content, "type_id": 0 } });
    let sequence = |name: &str, type_id: u32| json!({ "Sequence": { "id": name, "type_id": type_id } });
    let (cls, sep) = (piece("[CLS]"), piece("[SEP]"));
    let single = [cls.clone(), sequence("A", 0), sep.clone()];
    let pair = [cls, sequence("A", 0), sep.clone(), sequence("B", 1), sep];
    let tokenizer = json!({
        "version": "1.0",
        "truncation": { "direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0 },
        "padding": null,
        "added_tokens": [token(0, "[PAD]", false), token(13, "[MASK]", true), token(14, "<x>", false)],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": { "type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": { "[CLS]": special(1, "[CLS]"), "[SEP]": special(2, "[SEP]") } },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary.clone(), "merges": [["l", "o"], ["lo", "w"], ["e", "r"]] },
    });
    let config = json!({
        "add_prefix_space": true, "errors": "replace", "padding_side": "left", "model_max_length": 9,
        "added_tokens_decoder": { "14": token(14, "<x>", true) }, "additional_special_tokens": ["<x>"],
    });
    vec![
        ("vocab.json", vocabulary.to_string()),
        ("merges.txt", "#version: 0.2\nl o\nlo w\ne r\n".into()),
        ("special_tokens_map.json", json!({ "mask_token": token(13, "[MASK]", true) }).to_string()),
        ("added_tokens.json", json!({ "<x>": 14 }).to_string()),
        ("tokenizer_config.json", config.to_string()),
        ("tokenizer.json", tokenizer.to_string()),
    ]
}

/// Reads both tokenizers and uses what can be read; gives how many could.
fn use_both(folder: &Path) -> usize {
    let options = EncodeOptions { max_length: Some(6), ..EncodeOptions::default() };
    let mut read = 0;
    if let Ok(slow) = DebertaTokenizer::from_pretrained(folder) {
        read += 1;
        let ids = slow.encode(TEXT, Some(TEXT), &options).unwrap();
        let _ = slow.decode(&ids, false, None);
    }
    if let Ok(fast) = DebertaTokenizerFast::from_pretrained(folder) {
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

#[test]
fn damage_is_an_error_or_harmless() {
    let files = files();
    let folder = TempDir::new().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let undo = || files.iter().for_each(|(name, content)| write(name, content.as_bytes()));
    undo();
    assert_eq!(use_both(folder.path()), 2);

    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut read, mut refused) = (0, 0);
    let pieces: Vec<&str> = vec![
        "null",
        "\"\"",
        "-1",
        "4294967295",
        "1e99",
        "{}",
        "[]",
        "true",
        "\u{3000}",
        "\"B\"",
        "\\u0000",
        "\n",
    ];
    for round in 0..2400 {
        let (name, content) = &files[round % files.len()];
        let mut bytes = content.clone().into_bytes();
        for _ in 0..=numbers.below(3) {
            let at = numbers.below(bytes.len());
            match numbers.below(5) {
                0 => bytes.truncate(at),
                1 => drop(bytes.splice(at..at, [numbers.below(256) as u8])),
                2 => drop(bytes.drain(at..(at + 1 + numbers.below(12)).min(bytes.len()))),
                3 => {
                    // A value for another one.
                    let end = bytes[at..]
                        .iter()
                        .position(|b| matches!(b, b',' | b'}' | b']'))
                        .map_or(bytes.len(), |n| at + n);
                    bytes.splice(at..end, pieces[numbers.below(pieces.len())].bytes());
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << numbers.below(8);
                    }
                }
            }
        }
        write(name, &bytes);
        // With and without tokenizer.json the fast class reads other files.
        if *name != "tokenizer.json" && round % 2 == 0 {
            let _ = std::fs::remove_file(folder.path().join("tokenizer.json"));
        }
        let usable = use_both(folder.path());
        read += usable;
        refused += 2 - usable;
        undo();
    }
    assert!(read > 500 && refused > 500, "{read} tokenizers read, {refused} refused");
}
