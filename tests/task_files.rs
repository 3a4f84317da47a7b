//! `deberta-verify task` on files of every kind: tables with commas and tabs, lines of JSON, lists in JSON.

use std::fs;
use std::path::Path;

use deberta_tests::run;
use serde_json::Value;

use crate::VERIFY;
use crate::tasks::{file, report, trained, undecided};

/// The rows of `dev_matched.tsv`: sentence1, sentence2, gold_label.
fn matched() -> Vec<[String; 3]> {
    let text = fs::read_to_string(trained("data/mnli/dev_matched.tsv")).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let at = ["sentence1", "sentence2", "gold_label"]
        .map(|name| header.iter().position(|cell| *cell == name).unwrap());
    lines.map(|cells| at.map(|at| cells[at].to_owned())).take(30).collect()
}

#[test]
fn classification_is_the_same_from_every_kind_of_file() {
    let rows = matched();
    let csv: String = rows.iter().map(|[a, b, label]| format!("\"{a}\",\"{b}\",{label}\n")).collect();
    let object = |[premise, hypothesis, label]: &[String; 3]| serde_json::json!({"premise": premise, "hypothesis": hypothesis, "label": label});
    let lines: String = rows.iter().map(|row| format!("{}\n", object(row))).collect();
    let list = Value::Array(rows.iter().map(object).collect()).to_string();
    let tsv = trained("data/mnli/dev_matched.tsv");
    let mnli = report("mnli", "nli", "mnli/dev_matched.tsv", 0, &["--limit", "30"]);
    let mut reports = vec![report(
        "classify",
        "nli",
        "mnli/dev_matched.tsv",
        0,
        &["--limit", "30", "--label-column", "gold_label"],
    )];
    assert!(Path::new(&tsv).is_file());
    for (name, text) in
        [("a.csv", format!("premise,hypothesis,label\n{csv}")), ("a.jsonl", lines), ("a.json", list)]
    {
        let (_keep, path) = file(name, &text);
        for task in ["classify", "mnli"] {
            let path = path.to_str().unwrap();
            let options = ["task", task, "--model", &trained("nli"), "--data", path, "--format", "json"];
            let run = run(VERIFY, &options);
            assert_eq!(run.code, 0, "{task} of {name}: {}", run.stderr);
            reports.push(serde_json::from_str(&run.stdout).unwrap());
        }
    }
    for report in &reports {
        assert_eq!(report["metrics"]["accuracy"], mnli["metrics"]["accuracy"]);
        assert_eq!(report["confusion"], mnli["confusion"]);
        assert_eq!(report["examples"], 30);
        let counts = report["confusion"]["counts"].as_array().unwrap();
        let all: u64 =
            counts.iter().flat_map(|row| row.as_array().unwrap()).map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(all, 30);
    }
}

#[test]
fn scores_are_the_same_from_every_kind_of_file() {
    let of_glue = report("stsb", "similarity", "stsb/dev.tsv", 0, &["--limit", "20"]);
    let text = fs::read_to_string(trained("data/stsb/dev.tsv")).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let at =
        ["sentence1", "sentence2", "score"].map(|name| header.iter().position(|cell| *cell == name).unwrap());
    let rows: Vec<[&str; 3]> = lines.map(|cells| at.map(|at| cells[at])).take(20).collect();
    let csv: String = rows.iter().map(|[a, b, score]| format!("\"{a}\",\"{b}\",{score}\n")).collect();
    let object =
        |[a, b, score]: &[&str; 3]| serde_json::json!({"sentence1": a, "sentence2": b, "label": score});
    let list = Value::Array(rows.iter().map(object).collect()).to_string();
    // GLUE's test data have -1 for what nobody tells.
    let csv = format!("sentence1,sentence2,score\n{csv}a,b,-1\n");
    for (name, text) in [("a.csv", csv), ("a.json", list)] {
        let (_keep, path) = file(name, &text);
        let (model, path) = (trained("similarity"), path.to_str().unwrap());
        let run = run(VERIFY, &["task", "stsb", "--model", &model, "--data", path, "--format", "json"]);
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!((&report["metrics"], &report["examples"]), (&of_glue["metrics"], &of_glue["examples"]));
    }
}

#[test]
fn classification_takes_single_texts_empty_ones_and_labels_that_are_not_there() {
    let text = "text,target\nThe kite is red.,entailment\n,neutral\nA text.,NaN\n";
    let (_keep, path) = file("a.csv", text);
    let path = path.to_str().unwrap();
    let run_on = |more: &[&str]| {
        run(VERIFY, &[&["task", "classify", "--model", &trained("nli"), "--data", path], more].concat())
    };
    let ended = run_on(&[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("2 examples, 2 sequences"), "{}", ended.stdout);
    assert!(ended.stdout.contains("note: 1 examples have no label"), "{}", ended.stdout);
    assert!(ended.stdout.contains("expected, predicted"), "{}", ended.stdout);
    let against = run_on(&["--against", &trained("nli/tf_model.h5"), "--max", "flips=0"]);
    assert_eq!(against.code, 0, "{}", against.stderr);
    assert!(against.stdout.contains(", of the other model 0."), "{}", against.stdout);
    assert!(undecided(&run_on(&["--text-column", "tweet"])).ends_with("there are text, target"));
    let pair =
        run(VERIFY, &["task", "mnli", "--model", &trained("nli"), "--data", path, "--text-column", "text"]);
    assert!(undecided(&pair).contains("text-column is an option of classify, not of mnli"));
}
