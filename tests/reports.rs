//! The reports of `deberta-verify`: what people read is held by snapshots, what programs read is parsed again. The numbers
//! are made up, so that they are the same on every machine.

use std::collections::BTreeSet;

use deberta_golden::coverage::{Covered, Exercised, Feature};
use deberta_golden::inventory::{Entry, Role};
use deberta_golden::judge::difference::Difference;
use deberta_golden::judge::tolerance::Tolerance;
use deberta_golden::judge::verdict::{Arbitration, Basis, Offset, Outcome, PointReport, Verdict, Worse};
use deberta_golden::report::{
    Diagnosis, Document, FileReport, Finding, FindingKind, PaddingRule, PolicyShard, Report, ReportFormat,
    Rules, RunReport, Style, TokenizerReport, annotations,
};
use deberta_golden::trace::samples::Statistic;
use serde_json::Value;

const TOLERANCE: Tolerance = Tolerance { atol: 5e-6, rtol: 1e-5, scale: 0.0 };

/// Numbers of which the worst is off by `share` of the tolerance.
fn difference(share: f64) -> Difference {
    let (want, off) = (0.5_f32, share * 1e-5);
    Difference {
        count: 40,
        beyond: if share > 1.0 { 7 } else { 0 },
        max_abs: off,
        max_rel: off * 2.0,
        max_ulp: (share * 100.0) as u64,
        cosine: 1.0,
        sqnr_db: if share == 0.0 { f64::INFINITY } else { 90.0 },
        share,
        at: vec![0, 3, 1],
        want,
        got: want + off as f32,
    }
}

fn point(name: &str, real: f64, padded: Option<f64>) -> PointReport {
    let verdict = match (real > 1.0, padded.is_some_and(|share| share > 1.0)) {
        (true, _) => Verdict::Diverges,
        (false, true) => Verdict::Padding,
        _ => Verdict::Match,
    };
    PointReport {
        name: name.to_owned(),
        verdict,
        shape: vec![2, 5, 4],
        tolerance: TOLERANCE,
        real: Some(difference(real)),
        padded: padded.map(difference),
        statistic: None,
        arbiter: None,
    }
}

fn with(verdict: Verdict, name: &str) -> PointReport {
    PointReport { verdict, real: None, padded: None, ..point(name, 0.0, None) }
}

fn run(trace: Option<&str>, points: Vec<PointReport>) -> RunReport {
    RunReport {
        golden: "base".to_owned(),
        trace: trace.map(str::to_owned),
        producer: "torch 2.13.0 + transformers 4.57.6".to_owned(),
        class: "DebertaModel".to_owned(),
        masked_rows: "uniform".to_owned(),
        backend: "reference".to_owned(),
        isolated: false,
        arbiter: None,
        outcome: Outcome::Pass,
        first_divergence: None,
        findings: Vec::new(),
        diagnoses: Vec::new(),
        points,
        seconds: 0.25,
    }
}

fn file(name: &str, format: &str, runs: Vec<RunReport>) -> FileReport {
    FileReport {
        file: name.to_owned(),
        format: Some(format.to_owned()),
        precision: Some("f32".to_owned()),
        graph: None,
        quantization: None,
        digest: Some("0123456789abcdef".repeat(4)),
        used_digest: None,
        outcome: Outcome::Pass,
        findings: Vec::new(),
        runs,
    }
}

fn report(model: &str, files: Vec<FileReport>) -> Report {
    let mut report = Report::new(model, files, Vec::new());
    Rules::DEFAULT.judge(&mut report);
    report
}

/// What the goldens exercise of two features.
fn coverage(positions: usize) -> Vec<Covered> {
    let partly = if positions < 8 { Exercised::Partly } else { Exercised::Yes };
    let covered = |feature, exercised, seen, of, detail: &str| Covered {
        feature,
        exercised,
        seen,
        of,
        detail: detail.to_owned(),
    };
    vec![
        covered(Feature::RelativePositions, partly, positions, Some(8), "rows of the relative table"),
        covered(Feature::Padding, Exercised::Yes, 1, None, "right"),
    ]
}

const NAMES: [&str; 8] = [
    "activations.deberta.embeddings.LayerNorm",
    "activations.deberta.embeddings",
    "activations.deberta.encoder.layer.0.attention.self.in_proj",
    "activations.deberta.encoder.layer.0",
    "activations.deberta.encoder.layer.1.attention.self.in_proj",
    "activations.deberta.encoder.layer.1",
    "activations.pooler",
    "outputs.logits",
];

fn passing() -> Report {
    let points = NAMES.iter().zip([0.0, 0.002, 0.1, 0.2, 0.3, 0.4, 0.1, 0.05]);
    let plain =
        run(Some("plain.safetensors"), points.map(|(name, share)| point(name, share, None)).collect());
    let padded = NAMES.iter().map(|name| point(name, 0.2, Some(if *name == NAMES[5] { 3.0 } else { 0.1 })));
    let mut padded = run(Some("padded.safetensors"), padded.collect());
    let message = "tokens agree. Padding differs, because of the other convention";
    padded.findings.push(Finding::new(FindingKind::MaskedRows, Outcome::Pass, message));
    let published = run(None, vec![point("outputs.logits[0:1, 0:3] (softmax)", 0.5, None)]);
    let mut report = report(
        "./release",
        vec![
            file("model.safetensors", "safetensors", vec![plain.clone(), padded, published]),
            file("pytorch_model.bin", "PyTorch", vec![plain]),
        ],
    );
    report.coverage = coverage(8);
    report
}

/// Everything that a report can have.
fn failing() -> Report {
    let shares = NAMES.iter().zip([0.0, 0.002, 0.1, 0.2, 4120.0, 300.0, 1.2, f64::INFINITY]);
    let mut points: Vec<PointReport> = shares.map(|(name, share)| point(name, share, Some(0.1))).collect();
    points[5].padded = Some(difference(20.0));
    points[6].statistic =
        Some(Statistic { name: "projection 2".to_owned(), want: 0.5, got: 0.51, allowed: 0.02, share: 0.5 });
    points.extend([
        with(Verdict::NotFinite { count: 3, at: vec![0, 1] }, "outputs.hidden_states.1"),
        with(Verdict::Shape { found: vec![2, 4, 5] }, "outputs.hidden_states.2"),
        with(Verdict::Dtype, "outputs.attentions.0"),
        with(Verdict::MissingInCandidate, "outputs.attentions.1"),
        with(Verdict::GoldenNotFinite { count: 1, at: vec![4] }, "outputs.last_hidden_state"),
        with(Verdict::MissingInGolden, "outputs.start_logits"),
        with(Verdict::Empty, "outputs.end_logits"),
        with(Verdict::ZerosPass, "outputs.attentions.2"),
        PointReport { verdict: Verdict::Rounded, ..point("outputs.loss", 0.9, None) },
        point("outputs.other", 0.5, Some(2.0)),
    ]);
    let offset =
        |max_abs: f64| Offset { max_abs, rms: max_abs / 3.0, share: max_abs / 1e-5, at: vec![0, 3, 1] };
    points[4].arbiter =
        Some(Arbitration { worse: Worse::Candidate, golden: offset(4e-7), candidate: offset(4.12e-2) });
    let mut deep = run(Some("padded.safetensors"), points);
    deep.isolated = true;
    deep.arbiter = Some(Basis::Golden);
    deep.findings.push(Finding::new(FindingKind::Arbiter, Outcome::Pass, "arbiter: the candidate is off"));
    deep.findings.push(Finding::new(
        FindingKind::GoldenIncomplete,
        Outcome::Undecided,
        "the golden lacks a point",
    ));
    deep.diagnoses.push(Diagnosis {
        kind: "transposed-kernel".to_owned(),
        cause: "encoder.layer.1.attention.self.in_proj.weight is transposed".to_owned(),
        evidence: "with it transposed all 17 points agree".to_owned(),
        repair: "convert the weights again with deberta-convert".to_owned(),
        confirmed: true,
    });
    let coarse = run(Some("plain.safetensors"), vec![point("outputs.logits", 12.0, None)]);
    let mut weights = file("model.safetensors", "safetensors", vec![coarse, deep]);
    weights.findings.push(Finding::new(
        FindingKind::WeightsDiffer,
        Outcome::Divergence,
        "the digests differ",
    ));
    let mut broken = file("tf_model.h5", "TensorFlow", Vec::new());
    (broken.format, broken.precision, broken.digest) = (None, None, None);
    let error = "tf_model.h5: truncated: 12 bytes, expected 96";
    broken.findings.push(Finding::new(FindingKind::Error, Outcome::Undecided, error));
    let mut report = report("./release", vec![weights, broken]);
    report.inventory = [
        ("config.json", Role::Configuration, None, None),
        ("flax_model.msgpack", Role::NotJudged, Some("Flax: not read"), Some(Outcome::Pass)),
        ("model.safetensors", Role::Judged, Some("safetensors: weights by reference"), None),
        ("model.onnx", Role::NotJudged, Some("a pipe, not a file"), Some(Outcome::Undecided)),
        ("tf_model.h5", Role::NotJudged, Some("nothing of it was compared"), None),
    ]
    .map(|(file, role, detail, outcome)| Entry {
        file: file.to_owned(),
        role,
        detail: detail.map(str::to_owned),
        outcome,
    })
    .to_vec();
    report.findings.push(Finding::new(FindingKind::Note, Outcome::Pass, "for information"));
    report.coverage = coverage(5);
    report
}

/// Names as an attacker would choose them.
fn hostile() -> Report {
    const NAME: &str = "x\u{1b}[31m</code></script><script>alert(1)</script>\r\n::error::y|`@someone #1 ]]>\u{0}\u{202e}\u{ffff}&\"'";
    let mut run = run(Some(NAME), vec![point(NAME, 9.0, None), with(Verdict::Dtype, NAME)]);
    (run.golden, run.producer, run.class) = (NAME.to_owned(), NAME.to_owned(), NAME.to_owned());
    run.findings.push(Finding::new(FindingKind::Note, Outcome::Divergence, NAME));
    let word = || NAME.to_owned();
    let (kind, cause, evidence, repair) = (word(), word(), word(), word());
    run.diagnoses.push(Diagnosis { kind, cause, evidence, repair, confirmed: false });
    let mut file = file(NAME, NAME, vec![run]);
    file.findings.push(Finding::new(FindingKind::Error, Outcome::Undecided, NAME));
    let mut report = report(NAME, vec![file]);
    let (file, detail, outcome) = (NAME.to_owned(), Some(NAME.to_owned()), Some(Outcome::Undecided));
    report.inventory.push(Entry { file, role: Role::NotJudged, detail, outcome });
    report
}

fn render(format: ReportFormat, report: &Report) -> String {
    format.render(&Document::of(report), Style::default())
}

#[test]
fn text() {
    insta::assert_snapshot!("text_passing", render(ReportFormat::Text, &passing()));
    insta::assert_snapshot!("text_failing", render(ReportFormat::Text, &failing()));
    let all = Style { color: true, all_points: true, ..Style::default() };
    insta::assert_snapshot!("text_all_points", ReportFormat::Text.render(&Document::of(&failing()), all));
}

#[test]
fn the_text_starts_with_the_divergence_and_ends_with_what_was_compared() {
    let text = render(ReportFormat::Text, &failing());
    assert!(text.starts_with("FIRST DIVERGENCE in model.safetensors, padded.safetensors\n"), "{text}");
    let end = "divergence: 2 files, 2 traces, 15 points, 800 numbers compared; not judged: 4 points, 1 trace, 3 files\n";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn markdown() {
    insta::assert_snapshot!("markdown_passing", render(ReportFormat::Markdown, &passing()));
    insta::assert_snapshot!("markdown_failing", render(ReportFormat::Markdown, &failing()));
}

#[test]
fn markdown_fits_into_a_comment() {
    let points =
        (0..5000).map(|layer| point(&format!("activations.encoder.layer.{layer}.output"), 2.0, None));
    let long = run(Some("plain.safetensors"), points.collect());
    let report = report("./release", vec![file("model.safetensors", "safetensors", vec![long; 200])]);
    let text = render(ReportFormat::Markdown, &report);
    assert!(text.chars().count() < 65_536, "{}", text.chars().count());
    assert!(text.contains("activations.encoder.layer.0.output") && text.contains("more lines did not fit"));
    assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
}

#[test]
fn html() {
    // Styles change without anybody reading them here.
    let without_style = |text: String| {
        let (start, end) = (text.find("<style>").unwrap(), text.find("</style>").unwrap());
        format!("{}{}", &text[..start], &text[end..])
    };
    insta::assert_snapshot!("html_passing", without_style(render(ReportFormat::Html, &passing())));
    insta::assert_snapshot!("html_failing", without_style(render(ReportFormat::Html, &failing())));
}

#[test]
fn html_needs_nothing_else() {
    for report in [passing(), failing(), hostile()] {
        let page = render(ReportFormat::Html, &report);
        for foreign in ["<script", "http://", "https://", "src=", "@import", "url(", "<link"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        // The page is well-formed: its void elements are the only ones without an end.
        let closed = page.replace("<!doctype html>\n", "");
        let closed: String = closed
            .split_inclusive('>')
            .map(|part| match part.contains("<meta ") && part.ends_with('>') {
                true => format!("{}/>", part.trim_end_matches('>')),
                false => part.to_owned(),
            })
            .collect();
        roxmltree::Document::parse(&closed).unwrap();
    }
}

#[test]
fn junit() {
    insta::assert_snapshot!("junit_passing", render(ReportFormat::Junit, &passing()));
    insta::assert_snapshot!("junit_failing", render(ReportFormat::Junit, &failing()));
}

#[test]
fn junit_counts_what_it_lists() {
    for report in [passing(), failing(), hostile()] {
        let text = render(ReportFormat::Junit, &report);
        let document = roxmltree::Document::parse(&text).unwrap();
        let root = document.root_element();
        let count = |node: roxmltree::Node<'_, '_>, name: &str| {
            node.descendants().filter(|node| node.has_tag_name(name)).count().to_string()
        };
        for node in root
            .descendants()
            .filter(|node| node.has_tag_name("testsuites") || node.has_tag_name("testsuite"))
        {
            for (attribute, element) in [("tests", "testcase"), ("failures", "failure"), ("errors", "error")]
            {
                assert_eq!(node.attribute(attribute).unwrap(), count(node, element), "{attribute}");
            }
        }
        let bad: usize = ["failures", "errors"]
            .map(|name| root.attribute(name).unwrap().parse::<usize>().unwrap())
            .iter()
            .sum();
        assert_eq!(bad == 0, report.outcome == Outcome::Pass);
    }
}

#[test]
fn hostile_names_stay_text() {
    let report = hostile();
    for format in [ReportFormat::Text, ReportFormat::Junit, ReportFormat::Markdown, ReportFormat::Html] {
        let text = render(format, &report);
        assert!(!text.contains(['\u{1b}', '\0', '\r', '\u{202e}', '\u{ffff}']), "{format:?}");
        let command = text.lines().find(|line| line.trim_start().starts_with("::"));
        assert_eq!(command, None, "{format:?}");
        if format != ReportFormat::Text {
            assert!(!text.contains("<script>") && !text.contains("]]>"), "{format:?}");
        }
    }
    let markdown = render(ReportFormat::Markdown, &report);
    assert!(
        !markdown.contains("@someone") && !markdown.contains(" #1") && !markdown.contains('`'),
        "{markdown}"
    );
    for line in annotations::annotations(&Document::of(&report), |_, _| Some("a:b,c".to_owned())) {
        assert!(line.starts_with("::error file=a%3Ab%2Cc,title="), "{line}");
        assert!(!line.contains(['\n', '\r', '\u{1b}']), "{line}");
    }
}

#[test]
fn github_annotations() {
    let lines =
        annotations::annotations(&Document::of(&failing()), |_, file| Some(format!("release/{file}")));
    insta::assert_snapshot!("annotations", lines.join("\n"));
    assert!(annotations::annotations(&Document::of(&passing()), |_, _| None).is_empty());
}

#[test]
fn json() {
    insta::assert_snapshot!("json_passing", render(ReportFormat::Json, &passing()));
}

/// The paths of all values: `files[].runs[].points[].name`.
fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                found.insert(path.clone());
                paths(value, &path, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| paths(value, &format!("{path}[]"), found)),
        _ => {}
    }
}

#[test]
fn every_field_of_the_json_report_is_documented_and_the_reverse() {
    let mut report = failing();
    report
        .tokenizers
        .push(TokenizerReport { files: vec!["vocab.json".to_owned()], ..TokenizerReport::default() });
    let mut found = BTreeSet::new();
    paths(&serde_json::from_str(&render(ReportFormat::Json, &report)).unwrap(), "", &mut found);
    let shard = Some(PolicyShard { index: 1, count: 2, models: 2 });
    let gate = Document { policy: Some("verify.yaml"), shard, ..Document::of(&report) };
    let text = ReportFormat::Json.render(&gate, Style::default());
    let mut of_gate = BTreeSet::new();
    paths(&serde_json::from_str(&text).unwrap(), "", &mut of_gate);
    found.extend(of_gate.into_iter().filter(|path| !path.starts_with("models[]")));

    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/report.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (tables, _) = page.split_once("### Verdicts").unwrap();
    let documented: BTreeSet<String> = tables
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(path, _)| path.to_owned()))
        .collect();
    assert_eq!(found, documented);
    // Every word that stands for something is explained.
    let kinds = serde_json::to_value(&report).unwrap();
    for point in kinds["files"][0]["runs"][1]["points"].as_array().unwrap() {
        let kind = point["verdict"]["kind"].as_str().unwrap();
        assert!(page.contains(&format!("`{kind}`")), "{kind}");
    }
}

#[test]
fn numbers_that_are_not_finite_never_pass_for_small_ones() {
    let json: Value = serde_json::from_str(&render(ReportFormat::Json, &failing())).unwrap();
    let points = &json["files"][0]["runs"][1]["points"];
    assert_eq!(points[7]["real"]["share"], "Infinity");
    assert_eq!(points[0]["real"]["sqnr_db"], "Infinity");
}

#[test]
fn rules_decide_what_fails() {
    let judged = |mut report: Report, rules: Rules| {
        rules.judge(&mut report);
        report.outcome
    };
    let padding = |padding| Rules { padding, ..Rules::DEFAULT };
    assert_eq!(judged(passing(), Rules::DEFAULT), Outcome::Pass);
    assert_eq!(judged(passing(), padding(PaddingRule::Fail)), Outcome::Divergence);
    let mut unexplained = passing();
    unexplained.files[0].runs[1].findings.clear();
    assert_eq!(judged(unexplained.clone(), Rules::DEFAULT), Outcome::Divergence);
    assert_eq!(judged(unexplained, padding(PaddingRule::Allow)), Outcome::Pass);

    let allow = Rules { undecided: deberta_golden::report::Rule::Allow, ..Rules::DEFAULT };
    let mut incomplete = passing();
    incomplete.files[0].runs[0].points.push(with(Verdict::MissingInGolden, "outputs.loss"));
    assert_eq!(judged(incomplete.clone(), Rules::DEFAULT), Outcome::Undecided);
    assert_eq!(judged(incomplete, allow), Outcome::Pass);
    // Nothing compared is never a pass, nor is an error.
    let nothing =
        report("x", vec![file("f", "safetensors", vec![run(None, vec![with(Verdict::Empty, "a")])])]);
    assert_eq!(judged(nothing, allow), Outcome::Undecided);
    assert_eq!(judged(report("x", Vec::new()), allow), Outcome::Undecided);
    let mut error = passing();
    error.files[1].findings.push(Finding::new(FindingKind::Error, Outcome::Undecided, "truncated"));
    assert_eq!(judged(error, allow), Outcome::Undecided);
    let notes = Rules { notes: deberta_golden::report::Rule::Fail, ..Rules::DEFAULT };
    let mut noted = passing();
    noted.findings.push(Finding::new(FindingKind::Note, Outcome::Pass, "a note"));
    assert_eq!(judged(noted.clone(), Rules::DEFAULT), Outcome::Pass);
    assert_eq!(judged(noted, notes), Outcome::Divergence);
}
