//! `deberta-verify task` where something cannot be judged: data, labels, tokenizers and requests that are wrong.

use std::fs;

use deberta_tests::run;
use tempfile::TempDir;

use crate::VERIFY;
use crate::tasks::{file, task, trained, undecided};

#[test]
fn data_that_are_wrong_are_told_with_file_and_line() {
    for (name, model, file_name, contents, message) in [
        ("mnli", "nli", "a.tsv", "sentence1\tsentence2\n", "a.tsv: line 1: no column \"gold_label\""),
        (
            "mnli",
            "nli",
            "a.tsv",
            "sentence1\tsentence2\tgold_label\na\tb\n",
            "a.tsv: line 2: 2 columns, the header has 3",
        ),
        ("mnli", "nli", "a.tsv", "sentence1\tsentence2\tgold_label\n", "a.tsv: no examples"),
        (
            "mnli",
            "nli",
            "a.jsonl",
            "{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": 1}",
            "a.jsonl: line 1: label 1: --labels must name",
        ),
        ("mnli", "nli", "a.jsonl", "{\"premise\": \"a\"}\n", "a.jsonl: line 1: column 16: missing field"),
        (
            "mnli",
            "nli",
            "a.jsonl",
            "{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": \"maybe\"}",
            "a.jsonl:1: label \"maybe\", the model has CONTRADICTION",
        ),
        (
            "stsb",
            "similarity",
            "a.tsv",
            "sentence1\tsentence2\tscore\na\tb\thigh\n",
            "a.tsv: line 2: score \"high\": no number",
        ),
        ("mnli", "nli", "a.csv", "premise,hypothesis,label\na,b,1\n", "a.csv:2: label 1: --labels must name"),
        ("mnli", "nli", "a.json", "[{\"text\": \"a\"}]", "a.json: entry 0: neither columns sentence1 and"),
        (
            "stsb",
            "similarity",
            "a.csv",
            "sentence1,sentence2,score\na,b,high\n",
            "a.csv:2: score \"high\": no number",
        ),
        ("tokens", "entities", "a.txt", "Ada B-PER\nsings\n", "a.txt: line 2: one column"),
        ("squad", "questions", "a.json", "{\"data\": 1}", "a.json: line 1: invalid type"),
        (
            "race",
            "choices",
            "a.txt",
            "{\"article\": \"x\", \"questions\": [\"?\"], \"options\": [[\"a\"]], \"answers\": [\"A\"]}",
            "a.txt: line 1: question 0: 1 options, expected 4",
        ),
        ("mlm", "masked-lm", "a.txt", "\n\n", "a.txt: no examples"),
        (
            "race",
            "v3-choices",
            "a.txt",
            "{\"article\": \"x\", \"questions\": [\"?\"], \"options\": [[\"a\", \"b\", \"c\"]], \"answers\": [\"D\"]}",
            "a.txt: line 1: question 0: answer \"D\", expected A, B or C",
        ),
        (
            "swag",
            "v3-choices",
            "a.csv",
            ",sent1,sent2,ending0,ending1\n",
            "a.csv: line 1: no column \"label\"",
        ),
        (
            "swag",
            "v3-choices",
            "a.csv",
            "sent1,sent2,ending0,ending1,label\n\"a\nb\",c,d,e,2\n",
            "a.csv: line 2: label \"2\", expected 0 to 1",
        ),
        ("zero-shot", "v3-nli", "a.jsonl", "{\"text\": \"a\"}", "a.jsonl: line 1: neither label nor labels"),
        (
            "rtd",
            "v3-replaced-tokens",
            "a.tsv",
            "original\treplaced\na b\ta\n",
            "a.tsv: line 2: original has 2 words, replaced 1",
        ),
    ] {
        let (_folder, path) = file(file_name, contents);
        let run = run(VERIFY, &["task", name, "--model", &trained(model), "--data", path.to_str().unwrap()]);
        assert!(undecided(&run).contains(message), "{}", run.stderr);
    }
}

#[test]
fn requests_that_mean_nothing_are_refused() {
    for (more, message) in [
        (&["--scheme", "iob2"][..], "scheme is an option of tokens, not of mnli"),
        (&["--seed", "1"], "seed is an option of rtd, not of mnli"),
        (&["--max-length", "3"], "--max-length 3: 3 tokens of a pair are special"),
        (&["--against-backend", "reference"], "the model and its backend are the same"),
        (&["--backend", "tch"], "libtorch"),
    ] {
        let run = task("mnli", "nli", "mnli/dev_matched.tsv", more);
        assert!(undecided(&run).contains(message), "{}", run.stderr);
    }
    let run = task("squad", "questions", "squad/dev-v2.json", &["--max-length", "32", "--doc-stride", "60"]);
    assert!(
        undecided(&run).contains("shares 60 with the next: --max-length must be larger"),
        "{}",
        run.stderr
    );
}

#[test]
fn tokenizers_that_are_absent_or_of_the_other_version_are_named() {
    let nothing = TempDir::new().unwrap();
    for (model, tokenizer, message) in [
        (
            "v3-nli",
            trained("nli"),
            "nli/vocab.json: a tokenizer of \"deberta\", the model_type is \"deberta-v2\"",
        ),
        (
            "nli",
            trained("v3-choices"),
            "v3-choices/spm.model: a tokenizer of \"deberta-v2\", the model_type is \"deberta\"",
        ),
        (
            "v3-nli",
            nothing.path().to_str().unwrap().to_owned(),
            "/spm.model: no tokenizer: neither spm.model nor tokenizer.json",
        ),
        (
            "nli",
            nothing.path().to_str().unwrap().to_owned(),
            "/vocab.json: no tokenizer: neither vocab.json nor tokenizer.json",
        ),
    ] {
        let run = task("mnli", model, "mnli/dev_matched.tsv", &["--limit", "2", "--tokenizer", &tokenizer]);
        assert!(undecided(&run).contains(message), "{}", run.stderr);
    }
}

#[test]
fn a_model_without_entailment_has_no_zero_shot_labels() {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(trained("v3-nli")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let judge = |name: &str| {
        fs::write(&config, text.replace("ENTAILMENT", name)).unwrap();
        let (model, data) = (folder.path().to_str().unwrap(), trained("data/zero-shot/colours.tsv"));
        run(VERIFY, &["task", "zero-shot", "--limit", "4", "--model", model, "--data", &data])
    };
    assert_eq!(judge("Entailed").code, 0);
    let failed = judge("yes");
    let message = "config.json: 0 labels start with \"entail\", one is needed: the model has CONTRADICTION, NEUTRAL, yes";
    assert!(undecided(&failed).contains(message), "{}", failed.stderr);
}
