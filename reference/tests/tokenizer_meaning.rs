//! What tokenizers make of texts, whatever files say it.

// Tests unwrap and panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use deberta_reference::{EncodeOptions, Meaning, PreTrainedTokenizerBase as _, Tokenizer};
use serde_json::{Value, json};

fn trained(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/trained").join(name)
}

/// A copy of the tokenizer of a trained model, with the tokenizer.json that the fast class writes.
fn both(name: &str) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    for file in ["vocab.json", "merges.txt", "spm.model", "tokenizer_config.json", "added_tokens.json"] {
        let from = trained(name).join(file);
        if from.exists() {
            std::fs::copy(from, folder.path().join(file)).unwrap();
        }
    }
    let json = Tokenizer::fast_from_vocabulary(folder.path()).unwrap().to_json().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), &json).unwrap();
    (folder, serde_json::from_str(&json).unwrap())
}

fn meanings(folder: &Path) -> [Meaning; 2] {
    let vocabulary = Tokenizer::fast_from_vocabulary(folder).unwrap();
    [vocabulary.meaning(), Tokenizer::fast_from_pretrained(folder).unwrap().meaning()]
}

#[test]
fn a_vocabulary_and_what_the_fast_class_writes_mean_the_same() {
    // The tokenizer.json of v3-nli was written by transformers.
    let [vocabulary, file] = meanings(&trained("v3-nli"));
    assert_eq!(vocabulary, file);
    assert_eq!(vocabulary.tokens.len(), 540);
    assert_eq!(vocabulary.templates, ["1:0 A:0 2:0", "1:0 A:0 2:0 B:1 2:1"]);
    for name in ["nli", "v3-masked-lm"] {
        let (folder, _) = both(name);
        let [vocabulary, file] = meanings(folder.path());
        assert_eq!(vocabulary, file, "{name}");
    }
}

#[test]
fn what_changes_tokens_changes_the_meaning() {
    let (folder, json) = both("nli");
    let [good, _] = meanings(folder.path());
    type Fault = (&'static str, fn(&mut Value));
    let faults: [Fault; 6] = [
        ("merges", |json| json["model"]["merges"].as_array_mut().unwrap().swap(3, 4)),
        ("vocabulary", |json| {
            let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
            let [a, b] = ["Ġ", "a"].map(|token| vocabulary[token].clone());
            vocabulary.insert("Ġ".into(), b);
            vocabulary.insert("a".into(), a);
        }),
        ("flag", |json| json["added_tokens"][4]["lstrip"] = json!(false)),
        ("template", |json| {
            json["post_processor"]["single"].as_array_mut().unwrap().pop();
        }),
        ("normalizer", |json| json["normalizer"] = json!({"type": "Lowercase"})),
        ("pre-tokenizer", |json| json["pre_tokenizer"]["use_regex"] = json!(false)),
    ];
    for (name, fault) in faults {
        let mut json = json.clone();
        fault(&mut json);
        std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
        let [vocabulary, file] = meanings(folder.path());
        assert_eq!(vocabulary, good, "{name}");
        assert_ne!(file, good, "{name}");
        let lines = |meaning: &Meaning| meaning.lines().collect::<String>();
        assert_ne!(lines(&file), lines(&good), "{name}");
    }
}

#[test]
fn dropout_is_ignored_and_said() {
    let (folder, mut json) = both("nli");
    let [good, _] = meanings(folder.path());
    json["model"]["dropout"] = json!(0.5);
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    let fast = Tokenizer::fast_from_pretrained(folder.path()).unwrap();
    let [warning] = &fast.warnings()[..] else { panic!("{:?}", fast.warnings()) };
    assert!(warning.contains("model.dropout 0.5") && warning.contains("ignored"), "{warning}");
    assert_eq!(fast.meaning(), good);
    let text = "The kite is red, and the little boat is green.";
    let options = EncodeOptions::default();
    let slow = Tokenizer::slow_from_pretrained(folder.path()).unwrap().encode(text, None, &options).unwrap();
    for _ in 0..20 {
        assert_eq!(fast.encode(text, None, &options).unwrap(), slow);
        assert_eq!(fast.encode_plus(text, None, &options).unwrap().encoding.input_ids, slow);
    }
}
