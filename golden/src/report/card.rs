//! A section for a model's card on the hub: what was verified, and with what, in the words of a card; and facts that fit its
//! `model-index`.

use deberta_reference::Head;

use super::document::judged;
use super::escape::{markdown, plain};
use super::growth::shares;
use super::numbers::{count, grouped, share};
use super::verdict::outcome;
use super::{Document, FileReport, Finding, FindingKind, Report, RunReport};
use crate::judge::verdict::Outcome;

/// The section.
pub(super) fn render(document: &Document<'_>) -> String {
    let mut out = String::from("## Verification\n");
    for report in document.reports {
        let said = section(document, report);
        out.push_str(&said);
    }
    out
}

fn section(document: &Document<'_>, report: &Report) -> String {
    let producer = markdown(&report.producer);
    let mut out = format!(
        "\n{} was verified by {producer}: **{}**, {} compared.\n\n",
        code(&report.model),
        outcome(report.outcome),
        count(report.compared(), "number")
    );
    let producers = distinct(runs(report).map(|run| run.producer.as_str()));
    if !producers.is_empty() {
        let goldens = distinct(runs(report).map(|run| run.golden.as_str()));
        let [goldens, producers] = [goldens, producers].map(|names| names.join(", "));
        out.push_str(&format!(
            "Compared with {}, recorded by {}.\n\n",
            markdown(&goldens),
            markdown(&producers)
        ));
    }
    out.push_str("| file | format | weights | weight digest | largest difference | outcome |\n|---|---|---|---|---|---|\n");
    for file in &report.files {
        let or_dash = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), markdown);
        let largest =
            largest(file).map_or("-".to_owned(), |largest| format!("{} of the tolerance", share(largest)));
        out.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            code(&file.file),
            or_dash(&file.format),
            or_dash(&file.precision),
            file.digest.as_deref().map_or("-".to_owned(), code),
            markdown(&largest),
            outcome(file.outcome)
        ));
    }
    for tokenizer in &report.tokenizers {
        out.push_str(&format!(
            "| {} | tokenizer | - | {} | - | {} |\n",
            code(&tokenizer.files.join(", ")),
            tokenizer.digest.as_deref().map_or("-".to_owned(), code),
            outcome(tokenizer.outcome)
        ));
    }
    let said = said(document, report);
    if !said.is_empty() {
        out.push('\n');
        said.iter().for_each(|finding| out.push_str(&format!("- {}\n", markdown(&finding.message))));
    }
    out.push_str(&index(report));
    out
}

/// What a reader of the card must know: what was not shown, how good the model is, and what is wrong.
fn said<'r>(document: &Document<'_>, report: &'r Report) -> Vec<&'r Finding> {
    let all = report.findings.iter().chain(report.files.iter().flat_map(|file| &file.findings));
    let told = [FindingKind::NoGolden, FindingKind::Task, FindingKind::Coverage, FindingKind::HalfPrecision];
    let mut found: Vec<&Finding> = Vec::new();
    for finding in all {
        let wrong = document.rules.finding(finding) != Outcome::Pass;
        if (wrong || told.contains(&finding.kind))
            && !found.iter().any(|known| known.message == finding.message)
        {
            found.push(finding);
        }
    }
    found
}

/// The facts for the card's head, where the hub reads `model-index`.
fn index(report: &Report) -> String {
    let Some(first) = runs(report).next() else { return String::new() };
    let head = Head::from_class_name(first.class.strip_prefix("TF").unwrap_or(&first.class));
    let task = match head {
        Some(Head::SequenceClassification) => "text-classification",
        Some(Head::TokenClassification) => "token-classification",
        Some(Head::QuestionAnswering) => "question-answering",
        Some(Head::MultipleChoice) => "multiple-choice",
        Some(Head::MaskedLm | Head::MaskDecoder) => "fill-mask",
        _ => "feature-extraction",
    };
    let points = runs(report).flat_map(|run| &run.points).filter(|point| judged(point));
    let (agree, all) = points.fold((0_usize, 0_usize), |(agree, all), point| {
        (agree + usize::from(point.verdict.outcome() == Outcome::Pass), all + 1)
    });
    if all == 0 {
        return String::new();
    }
    let goldens = distinct(runs(report).map(|run| run.golden.as_str())).join(", ");
    let name = report.model.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let lines = [
        "model-index:".to_owned(),
        format!("- name: {}", yaml(name)),
        "  results:".to_owned(),
        format!("  - task: {{type: {task}}}"),
        format!("    dataset: {{type: deberta-verify-golden, name: {}}}", yaml(&goldens)),
        "    metrics:".to_owned(),
        format!(
            "    - {{type: agreeing_points, name: Points that agree, value: {}}}",
            agree as f64 / all as f64
        ),
        format!("    - {{type: compared_numbers, name: Numbers compared, value: {}}}", report.compared()),
    ];
    format!(
        "\nFor the head of the card ({} of {} points agree):\n\n```yaml\n{}\n```\n",
        grouped(agree),
        grouped(all),
        lines.join("\n")
    )
}

fn runs(report: &Report) -> impl Iterator<Item = &RunReport> {
    report.files.iter().flat_map(|file| &file.runs)
}

/// How much of the tolerance the numbers of a file take, at most.
fn largest(file: &FileReport) -> Option<f64> {
    file.runs.iter().flat_map(|run| &run.points).filter_map(|point| shares(point).real).reduce(f64::max)
}

/// The names without those that are there already, and without empty ones.
fn distinct<'n>(names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let mut found: Vec<&str> = Vec::new();
    for name in names {
        if !name.is_empty() && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// Text in the type of code, where nothing ends it.
fn code(text: &str) -> String {
    format!("<code>{}</code>", markdown(text))
}

/// A string of YAML: that of JSON, of which all of YAML's are a kind; in a block of code, which nothing in it ends.
fn yaml(text: &str) -> String {
    serde_json::Value::String(plain(text).replace('`', "'")).to_string()
}
