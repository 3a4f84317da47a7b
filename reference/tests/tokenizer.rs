//! The tokenizers: published values, small vocabularies, and agreement of the two classes.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use deberta_reference::{
    AddedToken, DebertaTokenizer, DebertaTokenizerFast, EncodeOptions, Encoding, PaddingStrategy,
    PreTrainedTokenizerBase, Side, TruncationStrategy,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The folder with DeBERTa's vocabulary; none, and a line that says so, if it is absent.
fn real_folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("DEBERTA_SHARED").map_or(beside, PathBuf::from);
    let folder = shared.join("tokenizer");
    if folder.join("vocab.json").is_file() {
        return Some(folder);
    }
    println!("absent: {}, so DeBERTa's own vocabulary is not tested", folder.display());
    None
}

fn folder(files: &[(&str, String)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn vocabulary(tokens: &[String]) -> String {
    let ids = tokens.iter().zip(0..).map(|(token, id)| (token.clone(), Value::from(id)));
    Value::Object(ids.collect()).to_string()
}

/// The small vocabulary of transformers' tests.
fn upstream() -> TempDir {
    let tokens = "l o w e r s t i d n Ġ Ġl Ġn Ġlo Ġlow er Ġlowest Ġnewer Ġwider [UNK]";
    let tokens: Vec<String> = tokens.split(' ').map(String::from).collect();
    let merges = "#version: 0.2\nĠ l\nĠl o\nĠlo w\ne r\n".to_string();
    folder(&[("vocab.json", vocabulary(&tokens)), ("merges.txt", merges)])
}

/// A vocabulary with the special tokens, all bytes, and a few merges.
fn bytes() -> TempDir {
    bytes_with(&[])
}

const MERGES: [&str; 9] = ["Ġ t", "h e", "Ġt he", "l o", "lo w", "e r", "low er", "Ġ low", "a a"];

fn bytes_with(files: &[(&str, Value)]) -> TempDir {
    let mut tokens: Vec<String> = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"].map(String::from).to_vec();
    let mut next = 0x100;
    for byte in 0..=255_u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable { u32::from(byte) } else { next };
        next += u32::from(!printable);
        tokens.push(char::from_u32(code).unwrap().to_string());
    }
    tokens.extend(MERGES.map(|merge| merge.replace(' ', "")));
    tokens.push("[MASK]".into());
    let merges = format!("#version: 0.2\n{}\n", MERGES.join("\n"));
    let mut all = vec![("vocab.json", vocabulary(&tokens)), ("merges.txt", merges)];
    all.extend(files.iter().map(|(name, value)| (*name, value.to_string())));
    folder(&all)
}

fn both(folder: impl AsRef<Path>) -> (DebertaTokenizer, DebertaTokenizerFast) {
    let folder = folder.as_ref();
    (
        DebertaTokenizer::from_pretrained(folder).unwrap(),
        DebertaTokenizerFast::from_pretrained(folder).unwrap(),
    )
}

fn options() -> EncodeOptions {
    EncodeOptions::default()
}

fn truncation(strategy: TruncationStrategy, max_length: usize) -> EncodeOptions {
    EncodeOptions { truncation: Some(strategy), max_length: Some(max_length), ..options() }
}

#[test]
fn published_ids_of_deberta_base() {
    let Some(folder) = real_folder() else { return };
    let (slow, fast) = both(folder);
    let published: [(&str, &[u32]); 4] = [
        ("Hello world", &[1, 31414, 232, 2]),
        (" Hello world", &[1, 20920, 232, 2]),
        (
            "ALBERT incorporates two parameter reduction techniques",
            &[1, 2118, 11126, 565, 24536, 80, 43797, 4878, 7373, 2],
        ),
        (
            "ALBERT: A Lite BERT for Self-supervised Learning of Language Representations",
            &[
                1, 2118, 11126, 565, 35, 83, 25191, 163, 18854, 13, 12156, 12, 16101, 25376, 13807, 9, 22205,
                27893, 1635, 2,
            ],
        ),
    ];
    for (text, ids) in published {
        assert_eq!(slow.encode(text, None, &options()).unwrap(), ids, "{text}");
        assert_eq!(fast.encode(text, None, &options()).unwrap(), ids, "{text}");
        assert_eq!(slow.decode(ids, true, None).unwrap(), text);
        assert_eq!(fast.decode(ids, true, None).unwrap(), text);
    }
    for (vocab_size, len) in [(slow.vocab_size(), slow.len()), (fast.vocab_size(), fast.len())] {
        assert_eq!((vocab_size, len), (50265, 50265));
    }
    let special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "no such token"];
    let ids = [0, 1, 2, 3, 50264, 3].map(Some);
    assert_eq!(slow.convert_tokens_to_ids(&special), ids);
    assert_eq!(fast.convert_tokens_to_ids(&special), ids);
    assert_eq!(slow.encode("a \u{3000}[MASK] b", None, &options()).unwrap(), [1, 102, 50264, 741, 2]);
    assert_eq!(fast.encode("a \u{3000}[MASK] b", None, &options()).unwrap(), [1, 102, 50264, 741, 2]);
}

#[test]
fn the_small_vocabulary_of_transformers() {
    let (slow, fast) = both(upstream());
    let tokens = ["l", "o", "w", "er", "Ġ", "n", "e", "w", "er"];
    let ids = [0, 1, 2, 15, 10, 9, 3, 2, 15];
    assert_eq!(slow.tokenize("lower newer"), tokens);
    assert_eq!(fast.tokenize("lower newer").unwrap(), tokens);
    let plain = EncodeOptions { add_special_tokens: false, ..options() };
    assert_eq!(slow.encode("lower newer", None, &plain).unwrap(), ids);
    assert_eq!(fast.encode("lower newer", None, &plain).unwrap(), ids);
    assert_eq!(slow.convert_tokens_to_ids(&["er", "[UNK]", "x"]), [Some(15), Some(19), Some(19)]);

    // Special tokens get ids from the end of the vocabulary.
    assert_eq!((slow.vocab_size(), slow.len(), fast.vocab_size(), fast.len()), (20, 24, 20, 24));
    let special = ["[CLS]", "[SEP]", "[PAD]", "[MASK]"];
    assert_eq!(slow.convert_tokens_to_ids(&special), [20, 21, 22, 23].map(Some));
    assert_eq!(fast.convert_tokens_to_ids(&special), [20, 21, 22, 23].map(Some));

    let pair = slow.encode_plus("Hello", Some("World"), &options()).unwrap();
    assert_eq!(pair.token_type_ids, [vec![0; 7], vec![1; 6]].concat());
    // The fast class leaves out what the vocabulary lacks.
    assert_eq!(slow.tokenize("Hello"), ["H", "e", "l", "l", "o"]);
    assert_eq!(slow.encode("Hello", None, &plain).unwrap(), [19, 3, 0, 0, 1]);
    assert_eq!(fast.encode("Hello", None, &plain).unwrap(), [3, 0, 0, 1]);
}

#[test]
fn special_tokens_and_types() {
    let (slow, fast) = both(bytes());
    let (a, b) = (&[5, 6][..], &[7][..]);
    assert_eq!(slow.build_inputs_with_special_tokens(a, None), [1, 5, 6, 2]);
    assert_eq!(slow.build_inputs_with_special_tokens(a, Some(b)), [1, 5, 6, 2, 7, 2]);
    assert_eq!(slow.create_token_type_ids_from_sequences(a, Some(b)), [0, 0, 0, 0, 1, 1]);
    assert_eq!(slow.get_special_tokens_mask(a, Some(b), false).unwrap(), [1, 0, 0, 1, 0, 1]);
    assert_eq!(slow.get_special_tokens_mask(&[1, 5, 2, 0], None, true).unwrap(), [1, 0, 1, 1]);
    assert!(slow.get_special_tokens_mask(a, Some(b), true).is_err());
    for pair in [None, Some(b)] {
        assert_eq!(
            slow.build_inputs_with_special_tokens(a, pair),
            fast.build_inputs_with_special_tokens(a, pair)
        );
        assert_eq!(
            slow.create_token_type_ids_from_sequences(a, pair),
            fast.create_token_type_ids_from_sequences(a, pair)
        );
        assert_eq!(
            slow.num_special_tokens_to_add(pair.is_some()),
            fast.num_special_tokens_to_add(pair.is_some())
        );
    }
}

#[test]
fn the_classes_agree() {
    let (slow, fast) = both(bytes());
    let texts = [
        "",
        " ",
        "\n\n \u{3000}",
        "the lower the loweraaaaa",
        " 's we'll I'M 12½ a\u{301}",
        "[MASK] x [CLS][MASK]\u{85} [MASK] [MASK",
        "👩\u{200d}👩\u{200d}👧 \u{0}\u{1c}\u{200b}",
        "zażółć 中文 ไทย",
    ];
    for text in texts {
        for pair in [None, Some("lower ")] {
            let ours = slow.encode_plus(text, pair, &options()).unwrap();
            let theirs = fast.encode_plus(text, pair, &options()).unwrap();
            assert_eq!(ours, theirs.encoding, "{text:?}");
            assert_eq!(ours.input_ids, fast.encode(text, pair, &options()).unwrap());
        }
        let ids = slow.encode(text, None, &options()).unwrap();
        assert_eq!(slow.decode(&ids, false, None).unwrap(), fast.decode(&ids, false, None).unwrap());
        assert_eq!(slow.tokenize(text).concat().replace("[MASK]", ""), {
            let tokens = fast.tokenize(text).unwrap();
            tokens.iter().filter(|token| !token.contains("[MASK]")).cloned().collect::<String>()
        });
    }
}

#[test]
fn the_classes_differ_as_documented() {
    let (mut slow, mut fast) = both(bytes());
    let ids = |slow: &DebertaTokenizer, text: &str| slow.encode(text, None, &options()).unwrap();
    let fast_ids = |fast: &DebertaTokenizerFast, text: &str| fast.encode(text, None, &options()).unwrap();
    // U+001C is white space to `[MASK]` in the slow class.
    assert_eq!(ids(&slow, "\u{1c}[MASK]").len(), 3);
    assert_eq!(fast_ids(&fast, "\u{1c}[MASK]").len(), 4);
    // An empty second text.
    assert_eq!(slow.encode("a", Some(""), &options()).unwrap().len(), 4);
    assert_eq!(fast.encode("a", Some(""), &options()).unwrap().len(), 3);
    assert_eq!(fast.batch_encode_plus(&[("a", Some(""))], &options()).unwrap()[0].encoding.len(), 4);
    // Unknown ids.
    assert!(slow.decode(&[1, 9999], false, None).is_err());
    assert_eq!(fast.decode(&[1, 9999], false, None).unwrap(), "[CLS]");
    // Added tokens that are not special.
    let token = AddedToken::new("qq", false);
    assert_eq!(slow.add_tokens(std::slice::from_ref(&token)), 1);
    fast.add_tokens(&[token]).unwrap();
    let ids = ids(&slow, "aqqa");
    assert_eq!(ids, fast_ids(&fast, "aqqa"));
    assert_eq!(slow.decode(&ids, true, None).unwrap(), "a qq a");
    assert_eq!(fast.decode(&ids, true, None).unwrap(), "aqqa");
    assert_eq!((slow.len(), fast.len()), (271, 271));

    let (slow, fast) = both(bytes_with(&[("tokenizer_config.json", json!({ "add_prefix_space": true }))]));
    assert_eq!(slow.tokenize("the[SEP]the"), ["Ġthe", "[SEP]", "t", "he"]);
    assert_eq!(fast.tokenize("the[SEP]the").unwrap(), ["Ġthe", "[SEP]", "Ġthe"]);
    assert_eq!(slow.tokenize("\nthe"), ["Ċ", "t", "he"]);
    assert_eq!(fast.tokenize("\nthe").unwrap(), ["Ġ", "Ċ", "t", "he"]);
}

#[test]
fn truncation_takes_tokens_from_the_right_sequence() {
    let (mut slow, mut fast) = both(bytes());
    let check =
        |slow: &DebertaTokenizer, fast: &DebertaTokenizerFast, options: &EncodeOptions, text: &str| {
            let encoding = slow.encode_plus("1234567", Some("abc"), options).unwrap();
            assert_eq!(encoding, fast.encode_plus("1234567", Some("abc"), options).unwrap().encoding);
            assert_eq!(encoding.input_ids, fast.encode("1234567", Some("abc"), options).unwrap());
            assert_eq!(slow.decode(&encoding.input_ids, false, None).unwrap(), text);
        };
    use TruncationStrategy::{DoNotTruncate, LongestFirst, OnlyFirst, OnlySecond};
    check(&slow, &fast, &truncation(LongestFirst, 10), "[CLS]1234[SEP]abc[SEP]");
    check(&slow, &fast, &truncation(LongestFirst, 8), "[CLS]123[SEP]ab[SEP]");
    check(&slow, &fast, &truncation(OnlyFirst, 8), "[CLS]12[SEP]abc[SEP]");
    check(&slow, &fast, &truncation(OnlySecond, 11), "[CLS]1234567[SEP]a[SEP]");
    check(&slow, &fast, &truncation(DoNotTruncate, 8), "[CLS]1234567[SEP]abc[SEP]");
    (slow.truncation_side, fast.truncation_side) = (Side::Left, Side::Left);
    check(&slow, &fast, &truncation(LongestFirst, 8), "[CLS]567[SEP]bc[SEP]");
    // Too short: nothing happens in the slow class.
    assert_eq!(slow.encode("12", Some("abc"), &truncation(OnlyFirst, 6)).unwrap().len(), 8);
    assert!(fast.encode("12", Some("abc"), &truncation(OnlyFirst, 6)).is_err());
}

#[test]
fn padding_fills_every_list() {
    let (slow, fast) = both(bytes());
    let batch = [("abc", None), ("a", Some("b"))];
    let padded =
        EncodeOptions { padding: PaddingStrategy::Longest, pad_to_multiple_of: Some(4), ..options() };
    let encodings = slow.batch_encode_plus(&batch, &padded).unwrap();
    let [first, second] = &encodings[..] else { panic!("two encodings") };
    assert_eq!(first.input_ids[..], [1, 4 + b'a' as u32, 4 + b'b' as u32, 4 + b'c' as u32, 2, 0, 0, 0]);
    assert_eq!(first.attention_mask, [1, 1, 1, 1, 1, 0, 0, 0]);
    assert_eq!(first.special_tokens_mask, [1, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(second.token_type_ids, [0, 0, 0, 1, 1, 0, 0, 0]);
    let theirs = fast.batch_encode_plus(&batch, &padded).unwrap();
    assert_eq!(theirs.into_iter().map(|fast| fast.encoding).collect::<Vec<_>>(), encodings);

    let left = EncodeOptions {
        padding: PaddingStrategy::MaxLength,
        max_length: Some(5),
        padding_side: Some(Side::Left),
        ..options()
    };
    let encoding = slow.encode_plus("a", None, &left).unwrap();
    assert_eq!(encoding.attention_mask, [0, 0, 1, 1, 1]);
    assert_eq!(encoding, fast.encode_plus("a", None, &left).unwrap().encoding);

    let inputs = Encoding::inputs(&encodings).unwrap();
    assert_eq!(inputs.input_ids.unwrap().dim(), (2, 8));
    let error = Encoding::inputs(&slow.batch_encode_plus(&[("a", None), ("ab", None)], &options()).unwrap());
    assert_eq!(error.unwrap_err().to_string(), "the sequences have lengths [3, 4]: pad to the longest");
}

#[test]
fn offsets_are_characters() {
    let (_, fast) = both(bytes());
    let encoded = fast.encode_plus("é the [MASK]", Some("x"), &options()).unwrap();
    assert_eq!(encoded.tokens, ["[CLS]", "Ã", "©", "Ġthe", " [MASK]", "[SEP]", "x", "[SEP]"]);
    assert_eq!(encoded.offsets, [(0, 0), (0, 1), (0, 1), (1, 5), (5, 12), (0, 0), (0, 1), (0, 0)]);
    let words = [None, Some(0), Some(0), Some(1), Some(2), None, Some(0), None];
    assert_eq!(encoded.word_ids, words);
    let sequences = [None, Some(0), Some(0), Some(0), Some(0), None, Some(1), None];
    assert_eq!(encoded.sequence_ids, sequences);
}

#[test]
fn decoding_cleans_up_when_asked() {
    let (slow, fast) = both(bytes());
    let ids = slow.encode("do n't , I 'm . ' x ' \u{fffd}", None, &options()).unwrap();
    for (clean, text) in [(None, "do n't , I 'm . ' x ' \u{fffd}"), (Some(true), "don't, I'm.'x'\u{fffd}")] {
        assert_eq!(slow.decode(&ids, true, clean).unwrap(), text);
        assert_eq!(fast.decode(&ids, true, clean).unwrap(), text);
    }
    // A byte that is not UTF-8.
    let broken = slow.convert_tokens_to_ids(&["Ã", "a"]).into_iter().flatten().collect::<Vec<u32>>();
    assert_eq!(slow.decode(&broken, true, None).unwrap(), "\u{fffd}a");
    assert_eq!(fast.decode(&broken, true, None).unwrap(), "\u{fffd}a");
}

#[test]
fn long_words_take_no_quadratic_time() {
    let (slow, fast) = both(bytes());
    for unit in ["a", "the", " ", "!", "loweraa", "🙂"] {
        let text = unit.repeat(100_000);
        let ids = slow.encode(&text, None, &options()).unwrap();
        assert_eq!(ids, fast.encode(&text, None, &options()).unwrap(), "{unit:?}");
        assert_eq!(slow.decode(&ids, true, None).unwrap(), text);
    }
}

#[test]
fn saved_vocabularies_are_read_back() {
    let original = bytes();
    let (slow, fast) = both(&original);
    let saved = TempDir::new().unwrap();
    slow.save_vocabulary(saved.path(), None).unwrap();
    let again = DebertaTokenizer::from_pretrained(saved.path()).unwrap();
    let text = "the lower [MASK] thé";
    assert_eq!(again.encode(text, None, &options()).unwrap(), slow.encode(text, None, &options()).unwrap());
    let merges = |folder: &Path| std::fs::read_to_string(folder.join("merges.txt")).unwrap();
    assert_eq!(merges(saved.path()), merges(original.path()));

    let (vocab_file, merges_file) = slow.save_vocabulary(saved.path(), Some("x")).unwrap();
    assert_eq!(vocab_file, saved.path().join("x-vocab.json"));
    let text_of = std::fs::read_to_string(vocab_file).unwrap();
    assert!(text_of.starts_with("{\n  \"!\": 37,\n  \"\\\"\": 38,\n"), "{text_of}");
    assert!(text_of.ends_with("\n}\n"));
    assert!(merges_file.is_file());

    let saved = TempDir::new().unwrap();
    fast.save_vocabulary(saved.path(), None).unwrap();
    let again = DebertaTokenizer::from_pretrained(saved.path()).unwrap();
    assert_eq!(again.encode(text, None, &options()).unwrap(), slow.encode(text, None, &options()).unwrap());
}

#[test]
fn files_of_added_tokens_are_read() {
    let config = json!({
        "add_prefix_space": false, "padding_side": "left", "model_max_length": 6,
        "added_tokens_decoder": {
            "270": { "content": "<x>", "special": true },
            "271": { "content": "yy", "rstrip": true },
        },
        "additional_special_tokens": ["<x>"],
    });
    let (slow, fast) = both(bytes_with(&[("tokenizer_config.json", config)]));
    assert_eq!((slow.len(), fast.len()), (272, 272));
    assert_eq!((slow.padding_side, slow.model_max_length), (Side::Left, Some(6)));
    assert_eq!(slow.tokenize("a<x>yy  b"), ["a", "<x>", "yy", "b"]);
    let longest = EncodeOptions { truncation: Some(TruncationStrategy::LongestFirst), ..options() };
    let ids = slow.encode("<x>yy aaaaaa", None, &longest).unwrap();
    assert_eq!(ids, fast.encode("<x>yy aaaaaa", None, &longest).unwrap());
    assert_eq!(ids.len(), 6);
    assert_eq!(slow.decode(&[270, 271], true, None).unwrap(), "yy");

    let legacy = [
        ("added_tokens.json", json!({ "<x>": 300 })),
        ("special_tokens_map.json", json!({ "additional_special_tokens": ["<x>"], "mask_token": "[MASK]" })),
    ];
    let (slow, fast) = both(bytes_with(&legacy));
    // The fast class gives its own ids.
    assert_eq!(slow.convert_tokens_to_ids(&["<x>"]), [Some(300)]);
    assert_eq!(fast.convert_tokens_to_ids(&["<x>"]), [Some(270)]);
    assert_eq!(slow.get_special_tokens_mask(&[300, 270], None, true).unwrap(), [1, 0]);
}
