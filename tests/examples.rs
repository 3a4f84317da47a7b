//! The examples as processes, on models so small that their results are known, and on the trained ones.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use deberta_reference::{DebertaConfig, Head, params};
use deberta_tests::{fail, succeed};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

const FILL_MASK: &str = env!("CARGO_BIN_EXE_fill-mask-under-test");
const CHOOSE_ANSWER: &str = env!("CARGO_BIN_EXE_choose-answer-under-test");
const CLASSIFY_TEXT: &str = env!("CARGO_BIN_EXE_classify-text-under-test");
const CLASSIFY_TOKENS: &str = env!("CARGO_BIN_EXE_classify-tokens-under-test");
const ANSWER_QUESTION: &str = env!("CARGO_BIN_EXE_answer-question-under-test");
const TOKENIZE: &str = env!("CARGO_BIN_EXE_tokenize-under-test");

/// The small vocabulary of transformers' tests, and the special tokens.
const TOKENS: [&str; 24] = [
    "l", "o", "w", "e", "r", "s", "t", "i", "d", "n", "Ġ", "Ġl", "Ġn", "Ġlo", "Ġlow", "er", "Ġlowest",
    "Ġnewer", "Ġwider", "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]",
];

/// H, and also the number of features that [`model`] tells tokens apart by.
const HIDDEN: usize = 4;

/// The feature of a token, by its id: 1 for `w`, 2 for `er`, 3 for special tokens, 0 for the rest.
fn feature(id: usize) -> usize {
    match id {
        2 => 1,
        15 => 2,
        20.. => 3,
        _ => 0,
    }
}

fn write_tokenizer(folder: &Path) {
    let ids = TOKENS.iter().zip(0..).map(|(token, id)| (token.to_string(), Value::from(id)));
    let vocabulary = Value::Object(ids.collect()).to_string();
    std::fs::write(folder.join("vocab.json"), vocabulary).unwrap();
    std::fs::write(folder.join("merges.txt"), "#version: 0.2\nĠ l\nĠl o\nĠlo w\ne r\n").unwrap();
}

/// A folder with a tokenizer and a model of one layer, whose linear layers are 0, so that a token's hidden state is
/// √3 at its feature and -1/√3 at the three others. `head` gives the parameters of the head that are not 0.
fn model(head: Head, architecture: &str, labels: &[&str], values: &[(&str, &[f32])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let id2label: HashMap<String, &str> =
        labels.iter().enumerate().map(|(id, label)| (id.to_string(), *label)).collect();
    let config = json!({
        "model_type": "deberta", "architectures": [architecture], "vocab_size": TOKENS.len(), "hidden_size": HIDDEN,
        "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 16,
        "relative_attention": true, "pos_att_type": ["c2p", "p2c"], "position_biased_input": false,
        "type_vocab_size": 0, "id2label": id2label,
        "label2id": labels.iter().zip(0..).map(|(label, id)| (label.to_string(), id)).collect::<HashMap<_, i32>>(),
    })
    .to_string();
    let parameters = params(&DebertaConfig::from_json(&config).unwrap(), head);
    for (name, _) in values {
        assert!(parameters.iter().any(|parameter| parameter.name == *name), "{name}");
    }
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = parameters
        .into_iter()
        .filter(|parameter| parameter.required)
        .map(|parameter| {
            let given = values.iter().find(|(name, _)| parameter.name == *name);
            let count = parameter.shape.iter().product();
            let numbers: Vec<f32> = match given {
                Some((_, values)) => values.to_vec(),
                None if parameter.name.ends_with("LayerNorm.weight") => vec![1.0; count],
                None if parameter.name.ends_with("word_embeddings.weight") => {
                    (0..count).map(|at| f32::from(u8::from(feature(at / HIDDEN) == at % HIDDEN))).collect()
                }
                None => vec![0.0; count],
            };
            assert_eq!(numbers.len(), count, "{}", parameter.name);
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            (parameter.name, parameter.shape, bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    write_tokenizer(folder.path());
    folder
}

/// A folder of a model as an argument.
fn path(folder: &TempDir) -> &str {
    folder.path().to_str().unwrap()
}

#[test]
fn fill_mask_ranks_tokens() {
    // The decoder sees nothing but its bias: probabilities 4/8, 2/8 and 1/8, and the rest shared by 21 tokens.
    let mut bias = [(1.0_f32 / 21.0).ln(); TOKENS.len()];
    (bias[14], bias[15], bias[17]) = (4_f32.ln(), 2_f32.ln(), 0.0);
    let folder =
        model(Head::MaskedLm, "DebertaForMaskedLM", &["no", "yes"], &[("cls.predictions.bias", &bias)]);
    let printed = succeed(FILL_MASK, &[path(&folder), "lower [MASK] newer"]);
    // [CLS] l o w er [MASK]
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        lines[..4],
        ["token 5", "   50.00 %  \" low\"", "   25.00 %  \"er\"", "   12.50 %  \" newer\""],
        "{printed}"
    );
    assert_eq!(lines.len(), 6, "{printed}");
    assert_eq!(succeed(FILL_MASK, &[path(&folder), "lower"]), "");
}

#[test]
fn classify_text_gives_each_label_its_probability() {
    // [CLS] is √3 at feature 3; the pooler's output is gelu of that, twice.
    let mut dense = [0.0; HIDDEN * HIDDEN];
    dense[3] = 2.0; // the first output reads feature 3
    let folder = model(
        Head::SequenceClassification,
        "DebertaForSequenceClassification",
        &["no", "yes"],
        &[
            ("pooler.dense.weight", &dense),
            ("classifier.weight", &[0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
            ("classifier.bias", &[0.25, 0.0]),
        ],
    );
    // gelu(2 √3) = 3.46318; the softmax of 0.25 and that.
    for texts in [&["lower"][..], &["lower", "newer"]] {
        let printed = succeed(CLASSIFY_TEXT, &[&[path(&folder)], texts].concat());
        assert_eq!(printed, "  3.87 %  logit   0.2500  no\n 96.13 %  logit   3.4632  yes\n");
    }
}

#[test]
fn classify_tokens_labels_each_token() {
    let mut classifier = [0.0; 3 * HIDDEN];
    (classifier[1], classifier[HIDDEN + 2], classifier[2 * HIDDEN + 3]) = (1.0, 1.0, 1.0);
    let folder = model(
        Head::TokenClassification,
        "DebertaForTokenClassification",
        &["W", "ER", "SPECIAL"],
        &[("classifier.weight", &classifier)],
    );
    let printed = succeed(CLASSIFY_TOKENS, &[path(&folder), "wer"]);
    assert_eq!(
        printed,
        "\"[CLS]\"          SPECIAL  logit   1.7321\n\
         \"w\"              W  logit   1.7321\n\
         \"er\"             ER  logit   1.7321\n\
         \"[SEP]\"          SPECIAL  logit   1.7321\n"
    );
}

#[test]
fn answer_question_finds_the_span_in_the_text() {
    // `w` starts an answer and `er` ends it; the question has both too.
    let folder = model(
        Head::QuestionAnswering,
        "DebertaForQuestionAnswering",
        &["no", "yes"],
        &[("qa_outputs.weight", &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])],
    );
    let printed = succeed(ANSWER_QUESTION, &[path(&folder), "wer", "tower lo"]);
    // [CLS] w er [SEP] t o w er Ġlo [SEP]
    assert_eq!(printed, "\"wer\"  tokens 6 to 7, score 3.4641\nno answer scores -1.1547\n");
    assert_eq!(fail(ANSWER_QUESTION, &[path(&folder), "wer", ""]), "error: the text has no tokens");
}

#[test]
fn trained_models_make_sense() {
    // The commands of the README.
    let trained = |name: &str| format!("{}/../golden/trained/{name}", env!("CARGO_MANIFEST_DIR"));
    let printed =
        succeed(FILL_MASK, &[&trained("masked-lm"), "Ada lives in [MASK] and works as a carpenter."]);
    assert!(printed.starts_with("token 4\n") || printed.starts_with("token 5\n"), "{printed}");
    assert!(printed.lines().nth(1).unwrap().ends_with(" %  \" Caldmoor\""), "{printed}");

    let pair = ["Ada owns a red kite and lives in Selby.", "The kite is red."];
    let printed = succeed(CLASSIFY_TEXT, &[&trained("nli"), pair[0], pair[1]]);
    assert_eq!(likeliest(&printed), "ENTAILMENT", "{printed}");
    let printed = succeed(CLASSIFY_TEXT, &[&trained("nli"), pair[0], "The kite is blue."]);
    assert_eq!(likeliest(&printed), "CONTRADICTION", "{printed}");

    let text = "In Selby a baker saw Ada .";
    let printed = succeed(CLASSIFY_TOKENS, &[&trained("entities"), text]);
    for (token, label) in [("\" Selby\"", "B-LOC"), ("\" a\"", "O"), ("\" Ada\"", "B-PER")] {
        let line =
            printed.lines().find(|line| line.starts_with(token)).unwrap_or_else(|| panic!("{printed}"));
        assert!(line.contains(&format!(" {label}  logit")), "{printed}");
    }

    let text = "Ben likes honey. Ada lives in Selby. Clara slept well.";
    let printed = succeed(ANSWER_QUESTION, &[&trained("questions"), "Where does Ada live?", text]);
    assert!(printed.starts_with("\"Selby\""), "{printed}");
}

#[test]
fn trained_models_of_version_3_make_sense() {
    let trained = |name: &str| format!("{}/../golden/trained/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = "Clara lives in Caldmoor. Jonas likes apples. Jonas works as a potter.";
    let question = ["Which food does Jonas like?", "cheese", "apples", "soup"];
    let printed = succeed(CHOOSE_ANSWER, &[&[trained("v3-choices").as_str(), text], &question[..]].concat());
    assert_eq!(likeliest(&printed), "apples", "{printed}");

    let printed =
        succeed(FILL_MASK, &[&trained("v3-masked-lm"), "Ada lives in [MASK] and works as a carpenter."]);
    assert!(printed.lines().nth(1).unwrap().contains("Cal"), "{printed}");

    let pair = ["Ada owns a red kite and lives in Selby.", "The kite is red."];
    let printed = succeed(CLASSIFY_TEXT, &[&trained("v3-nli"), pair[0], pair[1]]);
    assert_eq!(likeliest(&printed), "ENTAILMENT", "{printed}");
    let printed = succeed(CLASSIFY_TEXT, &[&trained("v3-nli"), pair[0], "The kite is blue."]);
    assert_eq!(likeliest(&printed), "CONTRADICTION", "{printed}");

    let printed = succeed(CLASSIFY_TOKENS, &[&trained("v3-entities"), "In Selby a baker saw Ada ."]);
    assert!(printed.contains(" B-LOC  logit") && printed.contains(" B-PER  logit"), "{printed}");

    let text = "Ben likes honey. Ada lives in Selby. Clara slept well.";
    let printed = succeed(ANSWER_QUESTION, &[&trained("v3-questions"), "Where does Ada live?", text]);
    assert!(printed.starts_with("\"Selby\""), "{printed}");
}

/// The label with the highest share.
fn likeliest(printed: &str) -> &str {
    let share = |line: &str| line.split('%').next().unwrap().trim().parse::<f64>().unwrap();
    let best = printed.lines().max_by(|a, b| share(a).total_cmp(&share(b))).unwrap();
    best.rsplit(' ').next().unwrap()
}

#[test]
fn tokenize_answers_every_line() {
    let folder = TempDir::new().unwrap();
    write_tokenizer(folder.path());
    let mut process = Command::new(TOKENIZE)
        .args([path(&folder), "fast"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let requests = "{\"text\": \"lower\", \"pair\": \" low\"}\n{\"ids\": [14, 15]}\n{}\n";
    process.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers[0]["input_ids"], json!([20, 0, 1, 2, 15, 21, 14, 21]));
    assert_eq!(answers[0]["offset_mapping"][4], json!([3, 5]));
    assert_eq!(answers[1..], [json!({ "text": " lower" }), json!({ "error": "no text" })]);

    let text = folder.path().join("text");
    std::fs::write(&text, "lower newer\n\nlow").unwrap();
    let printed = succeed(TOKENIZE, &[path(&folder), "slow", "--bench", text.to_str().unwrap()]);
    assert_eq!(printed.lines().count(), 5, "{printed}");
    assert_eq!(fail(TOKENIZE, &[path(&folder), "medium"]), "error: \"medium\" is neither slow nor fast");
}

#[test]
fn usage_is_printed_when_asked_for_and_when_arguments_are_wrong() {
    for (program, usage) in [
        (FILL_MASK, "usage: fill_mask FOLDER TEXT"),
        (CLASSIFY_TEXT, "usage: classify_text FOLDER TEXT [TEXT]"),
        (CLASSIFY_TOKENS, "usage: classify_tokens FOLDER TEXT"),
        (ANSWER_QUESTION, "usage: answer_question FOLDER QUESTION TEXT"),
        (CHOOSE_ANSWER, "usage: choose_answer FOLDER TEXT QUESTION ANSWER ANSWER…"),
        (TOKENIZE, "usage: tokenize FOLDER slow|fast [--bench FILE]"),
    ] {
        assert_eq!(succeed(program, &["--help"]), format!("{usage}\n"));
        assert_eq!(fail::<&str>(program, &[]), format!("error: {usage}"));
    }
}

#[test]
fn errors_name_the_file() {
    let empty = TempDir::new().unwrap();
    for (program, rest) in [
        (FILL_MASK, &["x"][..]),
        (CLASSIFY_TEXT, &["x"]),
        (CLASSIFY_TOKENS, &["x"]),
        (ANSWER_QUESTION, &["x", "y"]),
        (TOKENIZE, &["slow"]),
    ] {
        let line = fail(program, &[&[path(&empty)], rest].concat());
        assert!(line.contains("vocab.json"), "{line}");
    }
    // A tokenizer, but no model; then one whose file is cut off.
    write_tokenizer(empty.path());
    let line = fail(CLASSIFY_TEXT, &[path(&empty), "x"]);
    assert!(line.contains(path(&empty)), "{line}");
    let folder = model(Head::TokenClassification, "DebertaForTokenClassification", &["a", "b"], &[]);
    let file = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let line = fail(CLASSIFY_TOKENS, &[path(&folder), "x"]);
    assert!(line.contains("model.safetensors"), "{line}");
}
