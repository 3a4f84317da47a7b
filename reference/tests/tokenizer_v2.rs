//! The tokenizers of DeBERTa v2 and v3 against what transformers makes of texts, in `sentence_piece` and, where they are,
//! of larger models.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use deberta_reference::{
    AddedToken, DebertaV2Tokenizer, DebertaV2TokenizerFast, EncodeOptions, Normalization, PaddingStrategy,
    PreTrainedTokenizerBase, Tokenizer, TruncationStrategy,
};
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sentence_piece").join(name)
}

/// The folder of larger models; none, and a line that says so, if it is absent.
fn larger() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("DEBERTA_SHARED").map_or(beside, PathBuf::from);
    let folder = shared.join("tokenizer-v2");
    if folder.join("spm.model").is_file() {
        return Some(folder);
    }
    println!("absent: {}, so larger models than those of the repository are not tested", folder.display());
    None
}

/// A folder with the spm.model of another one and a tokenizer_config.json.
fn configured(folder: &Path, config: &Value) -> TempDir {
    let new = TempDir::new().unwrap();
    std::fs::copy(folder.join("spm.model"), new.path().join("spm.model")).unwrap();
    std::fs::write(new.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    new
}

fn both(folder: impl AsRef<Path>) -> (DebertaV2Tokenizer, DebertaV2TokenizerFast) {
    let folder = folder.as_ref();
    (
        DebertaV2Tokenizer::from_pretrained(folder).unwrap(),
        DebertaV2TokenizerFast::from_pretrained(folder).unwrap(),
    )
}

fn options() -> EncodeOptions {
    EncodeOptions::default()
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

/// Checks one text against what is written down of it.
fn check(slow: &DebertaV2Tokenizer, fast: &DebertaV2TokenizerFast, line: &Value) {
    let text = line["text"].as_str().unwrap();
    let (slow_ids, fast_ids) = (ids(&line["slow"]), ids(&line["fast"]));
    assert_eq!(slow.encode(text, None, &options()).unwrap(), slow_ids, "slow {text:?}");
    assert_eq!(fast.encode(text, None, &options()).unwrap(), fast_ids, "fast {text:?}");
    let encoded = fast.encode_plus(text, None, &options()).unwrap();
    assert_eq!(encoded.encoding.input_ids, fast_ids, "fast {text:?}");
    let compare = |key: &str, ours: Value| {
        if let Some(expected) = line.get(key) {
            assert_eq!(&ours, expected, "{key} {text:?}");
        }
    };
    compare("slow_tokens", json!(slow.tokenize(text)));
    compare("fast_tokens", json!(encoded.tokens));
    compare("offsets", json!(encoded.offsets));
    compare("word_ids", json!(encoded.word_ids));
    compare("slow_decode", json!(slow.decode(&slow_ids, true, None).unwrap()));
    compare("slow_decode_all", json!(slow.decode(&slow_ids, false, None).unwrap()));
    compare("fast_decode", json!(fast.decode(&fast_ids, true, None).unwrap()));
}

/// Checks the texts that were recorded under each of the options, `do_lower_case` and `split_by_punct`.
fn check_options(folder: &Path, recorded: &[Value], options: &[(bool, bool)]) {
    for &(do_lower_case, split_by_punct) in options {
        let config = json!({ "do_lower_case": do_lower_case, "split_by_punct": split_by_punct });
        let (slow, fast) = both(configured(folder, &config));
        let flag = |line: &Value, key: &str| line.get(key).and_then(Value::as_bool).unwrap_or(false);
        let mine = recorded.iter().filter(|line| {
            flag(line, "do_lower_case") == do_lower_case && flag(line, "split_by_punct") == split_by_punct
        });
        let checked = mine.map(|line| check(&slow, &fast, line)).count();
        assert!(checked > 50, "{checked} texts");
    }
}

#[test]
fn the_models_of_the_repository() {
    for name in ["plain", "bytes"] {
        let folder = fixture(name);
        let recorded = lines(&folder.join("expected.jsonl"));
        check_options(&folder, &recorded, &[(false, false), (true, false), (false, true), (true, true)]);
    }
}

#[test]
fn larger_models() {
    let Some(folder) = larger() else { return };
    for folder in [folder.clone(), folder.join("byte-fallback")] {
        let (slow, fast) = both(&folder);
        for line in lines(&folder.join("texts.jsonl")) {
            check(&slow, &fast, &line);
        }
        // From spm.model alone the fast class is the same.
        let (_, converted) = both(configured(&folder, &json!({})));
        for line in lines(&folder.join("texts.jsonl")) {
            check(&slow, &converted, &line);
        }
        let recorded = lines(&folder.join("options.jsonl"));
        check_options(&folder, &recorded, &[(true, false), (false, true), (true, true)]);
        for line in lines(&folder.join("pairs.jsonl")) {
            let (text, pair) = (line["text"].as_str().unwrap(), line["pair"].as_str());
            let max_length = line["max_length"].as_u64().map(|length| usize::try_from(length).unwrap());
            let options = EncodeOptions {
                max_length,
                truncation: max_length.map(|_| TruncationStrategy::LongestFirst),
                ..options()
            };
            let ours = slow.encode_plus(text, pair, &options).unwrap();
            let theirs = fast.encode_plus(text, pair, &options).unwrap().encoding;
            for (class, encoding) in [("slow", ours), ("fast", theirs)] {
                assert_eq!(encoding.input_ids, ids(&line[format!("{class}_input_ids")]), "{class} {text:?}");
                assert_eq!(encoding.token_type_ids, ids(&line[format!("{class}_token_type_ids")]));
                assert_eq!(encoding.special_tokens_mask, ids(&line[format!("{class}_special_tokens_mask")]));
            }
        }
    }
}

/// The fast way and the crate alone make the same of a text.
#[test]
fn encodings_are_those_of_the_crate() {
    let pieces = [
        "a",
        "the",
        " the",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\u{a0}",
        "\u{3000}",
        "\u{200b}",
        "\u{feff}",
        "\u{85}",
        "\u{1}",
        "\u{7f}",
        "ä",
        "a\u{308}",
        "e\u{301}",
        "\u{301}",
        "中",
        "👩\u{200d}👧",
        "…",
        "ﬁ",
        "Ⅷ",
        "¨",
        "▁",
        "½",
        "ﷺ",
        "\u{600}",
        "[SEP]",
        "[UNK]",
        "［UNK］",
        " [MASK]",
        "<ent>",
        "New York",
        "x▁y",
        "<r> ",
        "w",
        "[MAS",
        "name",
        "tokenizer",
        "İ",
        "Σ",
        "\u{10ffff}",
    ];
    for (name, lower) in [("plain", false), ("bytes", false), ("bytes", true)] {
        let folder = configured(&fixture(name), &json!({ "do_lower_case": lower }));
        let (_, mut fast) = both(&folder);
        let added = [
            AddedToken { rstrip: true, ..AddedToken::new("<r>", false) },
            AddedToken { single_word: true, normalized: false, ..AddedToken::new("w", false) },
        ];
        fast.add_tokens(&added).unwrap();
        let mut state = 1_u32;
        for _ in 0..6000 {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                usize::try_from(state >> 16).unwrap()
            };
            let text: String = (0..next() % 9).map(|_| pieces[next() % pieces.len()]).collect();
            let ours = fast.encode_plus(&text, None, &options()).unwrap();
            assert_eq!(ours.encoding.input_ids, fast.encode(&text, None, &options()).unwrap(), "{text:?}");
            let theirs = fast.backend().encode_char_offsets(text.as_str(), false).unwrap();
            let inner = 1..ours.tokens.len() - 1;
            assert_eq!(&ours.encoding.input_ids[inner.clone()], theirs.get_ids(), "{text:?}");
            assert_eq!(&ours.tokens[inner.clone()], theirs.get_tokens(), "{text:?}");
            assert_eq!(&ours.offsets[inner.clone()], theirs.get_offsets(), "{text:?}");
            assert_eq!(&ours.word_ids[inner], theirs.get_word_ids(), "{text:?}");
        }
    }
}

#[test]
fn special_tokens_and_types() {
    let (slow, fast) = both(fixture("bytes"));
    let (a, b) = (&[5, 6][..], &[7][..]);
    assert_eq!(slow.build_inputs_with_special_tokens(a, Some(b)), [1, 5, 6, 2, 7, 2]);
    assert_eq!(slow.create_token_type_ids_from_sequences(a, Some(b)), [0, 0, 0, 0, 1, 1]);
    assert_eq!(slow.get_special_tokens_mask(a, Some(b), false).unwrap(), [1, 0, 0, 1, 0, 1]);
    assert_eq!(slow.get_special_tokens_mask(&[1, 5, 2, 0], None, true).unwrap(), [1, 0, 1, 1]);
    assert!(slow.get_special_tokens_mask(a, Some(b), true).is_err());
    // [MASK] is no piece: it is added at their number.
    let mask = u32::try_from(slow.vocab_size()).unwrap();
    for base in [&slow as &dyn PreTrainedTokenizerBase, &fast] {
        assert_eq!(base.mask_token_id(), Some(mask));
        assert_eq!((base.cls_token_id(), base.sep_token_id(), base.pad_token_id()), (1, 2, 0));
        assert_eq!(base.len(), base.vocab_size() + 1);
        assert_eq!(base.num_special_tokens_to_add(true), 3);
    }
    let padded = EncodeOptions { padding: PaddingStrategy::Longest, ..options() };
    let batch = slow.batch_encode_plus(&[("a", None), ("a", Some("name"))], &padded).unwrap();
    assert_eq!(batch[0].len(), batch[1].len());
    assert_eq!(batch[0].attention_mask.last(), Some(&0));
    // An id that no piece has is the unknown token.
    assert_eq!(slow.convert_ids_to_tokens(&[99_999], false), [Some("[UNK]")]);
}

#[test]
fn the_folder_decides_the_class() {
    let folder = configured(&fixture("bytes"), &json!({}));
    let slow = Tokenizer::Slow(Tokenizer::slow_from_pretrained(folder.path()).unwrap());
    // Bytes in the slow class, [UNK] in the fast one, which AutoTokenizer takes with or without a tokenizer.json.
    assert_eq!(slow.tokenize("🙂").unwrap().len(), 5);
    let fast = Tokenizer::from_pretrained(folder.path()).unwrap();
    assert!(matches!(fast, Tokenizer::Fast(_)));
    assert_eq!(fast.tokenize("🙂").unwrap(), ["▁", "🙂"]);
    assert!(slow.warnings().is_empty() && fast.warnings().is_empty());

    let trained = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/trained/nli");
    let first = Tokenizer::from_pretrained(trained).unwrap();
    assert!(first.tokenize("a b").unwrap().iter().any(|token| token.starts_with('Ġ')));
    // Both vocabularies: the configuration decides.
    std::fs::write(folder.path().join("vocab.json"), "{}").unwrap();
    std::fs::write(folder.path().join("config.json"), json!({ "model_type": "deberta-v2" }).to_string())
        .unwrap();
    assert_eq!(Tokenizer::from_pretrained(folder.path()).unwrap().vocab_size(), slow.vocab_size());
    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        json!({ "tokenizer_class": "DebertaTokenizer" }).to_string(),
    )
    .unwrap();
    assert!(Tokenizer::from_pretrained(folder.path()).is_err());
}

#[test]
fn the_normalizer_of_transformers_5_is_named() {
    let folder = configured(&fixture("bytes"), &json!({}));
    let (_, fast) = both(folder.path());
    assert_eq!(fast.normalization(), Normalization::Precompiled);
    let mut file: Value = serde_json::from_str(&fast.backend().to_string(false).unwrap()).unwrap();
    let replace = |pattern: Value| json!({ "type": "Replace", "pattern": pattern, "content": " " });
    file["normalizer"] = json!({ "type": "Sequence", "normalizers": [
        replace(json!({ "String": "\n" })), replace(json!({ "Regex": " {2,}" })), { "type": "NFC" },
        { "type": "Strip", "strip_left": false, "strip_right": true },
    ] });
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let tokenizer = Tokenizer::from_pretrained(folder.path()).unwrap();
    assert!(tokenizer.warnings()[0].contains("transformers 5"), "{:?}", tokenizer.warnings());
    let fast = DebertaV2TokenizerFast::from_pretrained(folder.path()).unwrap();
    assert_eq!(fast.normalization(), Normalization::Nfc);
    assert_eq!(fast.tokenize("ﬁ").unwrap(), ["▁", "ﬁ"]);
}

#[test]
fn saved_vocabularies_are_read_back() {
    let folder = fixture("plain");
    let (slow, fast) = both(&folder);
    let saved = TempDir::new().unwrap();
    assert_eq!(slow.save_vocabulary(saved.path(), None).unwrap(), saved.path().join("spm.model"));
    assert_eq!(fast.save_vocabulary(saved.path(), Some("x")).unwrap(), saved.path().join("x-spm.model"));
    let original = std::fs::read(folder.join("spm.model")).unwrap();
    for name in ["spm.model", "x-spm.model"] {
        assert_eq!(std::fs::read(saved.path().join(name)).unwrap(), original);
    }
}

#[test]
fn added_tokens_are_found_and_decoded() {
    let (mut slow, mut fast) = both(fixture("plain"));
    let token = AddedToken::new("qq", false);
    assert_eq!(slow.add_tokens(std::slice::from_ref(&token)), 1);
    fast.add_tokens(&[token]).unwrap();
    let ids = slow.encode("a qq name", None, &options()).unwrap();
    assert_eq!(slow.decode(&ids, true, None).unwrap(), "a qq name");
    assert!(fast.tokenize("a qq name").unwrap().contains(&"qq".to_string()));
}

#[test]
fn long_words_take_no_quadratic_time() {
    let (slow, fast) = both(fixture("bytes"));
    for unit in ["a", "name", " ", "!", "🙂", "[MASK]", "▁", "\u{301}", "a\u{a0}"] {
        let text = unit.repeat(1_000_000 / unit.len());
        let ids = slow.encode(&text, None, &options()).unwrap();
        let _ = slow.decode(&ids, true, None).unwrap();
        let ids = fast.encode(&text, None, &options()).unwrap();
        let _ = fast.decode(&ids, true, None).unwrap();
    }
}
