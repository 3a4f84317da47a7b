//! Files that lie: an error that names file and place. Damaged files: an error or a tokenizer, never a panic.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use deberta_reference::{
    DebertaTokenizer, DebertaTokenizerFast, EncodeOptions, Error, PreTrainedTokenizerBase,
};
use serde_json::{Value, json};
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

/// A folder with vocab.json and merges.txt alone.
fn vocabulary() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, content) in files().iter().filter(|(name, _)| ["vocab.json", "merges.txt"].contains(name)) {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

#[test]
fn malformed_files_are_errors_with_file_and_place() {
    let cases: [(&str, &[u8], &str); 19] = [
        ("vocab.json", b"", "line 1 column 0: EOF while parsing a value"),
        ("vocab.json", b"{\"a\": 1,\n}", "line 2 column 1: trailing comma"),
        ("vocab.json", b"[1]", "line 1 column 0: invalid type: sequence, expected a map"),
        ("vocab.json", b"{\"a\": -1}", "\"a\": -1 is not an id, an integer from 0 to 4294967295"),
        ("vocab.json", b"{\"a\": \"x\"}", "\"a\": \"x\" is not an id, an integer from 0 to 4294967295"),
        ("vocab.json", b"{\"\xff\": 1}", "byte 2: not UTF-8"),
        (
            "vocab.json",
            b"{}",
            "\"Ā\": this byte or merge has no id, and there is no \"[UNK]\" to stand for it",
        ),
        ("merges.txt", b"#\na b c\n", "line 2: \"a b c\" is not a merge, two symbols with a space between"),
        ("merges.txt", b"#\na b\n\nc\n", "line 4: \"c\" is not a merge, two symbols with a space between"),
        ("merges.txt", b"#\n\x80\n", "byte 2: not UTF-8"),
        ("tokenizer_config.json", b"{", "line 1 column 1: EOF while parsing an object"),
        (
            "tokenizer_config.json",
            b"{\"errors\": 3}",
            "errors: 3 is not \"replace\", \"ignore\" or \"strict\"",
        ),
        ("tokenizer_config.json", b"{\"mask_token\": []}", "mask_token: [] is not a token"),
        ("tokenizer_config.json", b"{\"add_prefix_space\": 1}", "add_prefix_space: 1 is not true or false"),
        (
            "tokenizer_config.json",
            b"{\"added_tokens_decoder\": {\"x\": {}}}",
            "added_tokens_decoder.x: \"x\" is not an id",
        ),
        ("special_tokens_map.json", b"{\"cls_token\": {}}", "cls_token: the token has no \"content\""),
        (
            "added_tokens.json",
            b"{\"<x>\": 1.5}",
            "\"<x>\": 1.5 is not an id, an integer from 0 to 4294967295",
        ),
        ("tokenizer.json", b"{}", "added_tokens: there is no such list"),
        ("tokenizer.json", b"{\"added_tokens\": [3]}", "added_tokens[0]: 3 is not a token"),
    ];
    for (name, content, expected) in cases {
        let folder = vocabulary();
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let slow = DebertaTokenizer::from_pretrained(folder.path()).map(|_| ()).unwrap_err();
        let fast = DebertaTokenizerFast::from_pretrained(folder.path()).map(|_| ()).unwrap_err();
        assert!(matches!(slow, Error::TokenizerFile { .. }), "{slow:?}");
        assert_eq!(slow.to_string(), format!("{}: {expected}", file.display()));
        assert_eq!(slow.to_string(), fast.to_string());
    }
    let error = DebertaTokenizer::from_pretrained(vocabulary().path().join("none")).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("none/vocab.json: No such file"), "{error}");
}

#[test]
fn malformed_tokenizer_json_is_an_error() {
    let folder = vocabulary();
    let file = folder.path().join("tokenizer.json");
    let model = json!({ "type": "BPE", "vocab": { "a": 0 }, "merges": [["a", "b"]] });
    let wordpiece = json!({ "type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "#", "max_input_chars_per_word": 9, "vocab": { "a": 0 } });
    let whole = |model: Value| {
        json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": model })
    };
    let cases = [
        (json!({ "added_tokens": [] }).to_string(), "Model missing"),
        (whole(model).to_string(), "Token `b` out of vocabulary"),
        (whole(wordpiece).to_string(), "model.type: not BPE"),
        ("{\"added_tokens\": []".to_string(), "line 1 column 19: EOF while parsing an object"),
    ];
    for (content, expected) in cases {
        std::fs::write(&file, &content).unwrap();
        let error = DebertaTokenizerFast::from_pretrained(folder.path()).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::TokenizerFile { .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.starts_with(&file.display().to_string()) && error.contains(expected), "{error}");
    }
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
