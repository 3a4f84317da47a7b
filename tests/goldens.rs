//! Goldens that are damaged, empty, of another model or another convention: `deberta-verify` never passes what it did not
//! compare.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_golden::goldens::Golden;
use deberta_golden::judge::verdict::{Outcome, Verdict};
use deberta_golden::report::{FindingKind, Report};
use deberta_golden::trace::folder::find;
use deberta_golden::verify::{VerifyRequest, verify};
use deberta_golden::{Data, Trace};
use deberta_tests::cases::each;
use deberta_tests::{run, shared_fixtures, shared_fixtures_of_version_2};

use crate::{CONVERT, VERIFY};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(name)
}

/// A golden made of one trace, without `case.yaml`.
fn golden(trace: &Trace) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    trace.write(&folder.path().join("t.safetensors")).unwrap();
    folder
}

/// The report on a model of golden/data.
fn report_on(model: &Path, golden: &Path, isolate: bool) -> Report {
    let request = VerifyRequest {
        name: "model".to_owned(),
        model: model.to_owned(),
        goldens: vec![Golden::open(golden).unwrap()],
        isolate,
        ..VerifyRequest::default()
    };
    verify(&request, &()).unwrap()
}

/// The report on the masked LM of golden/data, compared with one trace.
fn report(trace: &Trace) -> Report {
    report_on(&data("masked-lm"), golden(trace).path(), false)
}

fn plain() -> Trace {
    Trace::read(&data("masked-lm").join("plain.safetensors")).unwrap()
}

fn computed(trace: &Trace) -> Vec<usize> {
    (0..trace.tensors.len()).filter(|&at| !trace.tensors[at].name.starts_with("inputs.")).collect()
}

fn has(report: &Report, kind: FindingKind) -> bool {
    let of_runs = report.files.iter().flat_map(|file| &file.runs).flat_map(|run| &run.findings);
    let of_files = report.files.iter().flat_map(|file| &file.findings);
    of_runs.chain(of_files).chain(&report.findings).any(|finding| finding.kind == kind)
}

fn verdicts(report: &Report) -> impl Iterator<Item = &Verdict> {
    report.files.iter().flat_map(|file| &file.runs).flat_map(|run| &run.points).map(|point| &point.verdict)
}

fn exit(arguments: &[&str]) -> (i32, String) {
    let output = run(VERIFY, arguments);
    (output.code, output.stderr)
}

#[test]
fn every_recorded_golden_passes_alone_and_isolated() {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(data("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("model.safetensors").exists());
    folders.extend(shared_fixtures());
    folders.extend(shared_fixtures_of_version_2());
    let ways = folders.into_iter().flat_map(|folder| [false, true].map(|isolate| (folder.clone(), isolate)));
    let traces = each(ways, |(folder, isolate)| {
        let report = report_on(folder, folder, *isolate);
        assert_eq!(report.outcome, Outcome::Pass, "{report:#?}");
        for run in report.files.iter().flat_map(|file| &file.runs) {
            // A graph has one convention for masked rows, and the fixtures' graphs have PyTorch's.
            let other = run.backend == "onnx" && run.masked_rows == "zero";
            let agrees = |verdict: &Verdict| match verdict {
                Verdict::Padding => other,
                verdict => *verdict == Verdict::Match,
            };
            assert!(run.points.iter().all(|point| agrees(&point.verdict)), "{run:#?}");
        }
        assert!(report.files.iter().all(|file| file.runs.iter().all(|run| run.compared() > 0)));
        report.files.iter().map(|file| file.runs.len()).sum::<usize>()
    });
    let traces: usize = traces.into_iter().sum();
    assert!(traces >= 2 * 168, "{traces}");
}

#[test]
fn a_tensor_that_was_removed_or_renamed_is_noticed() {
    let whole = plain();
    assert_eq!(report(&whole).outcome, Outcome::Pass);
    for at in computed(&whole) {
        let mut trace = whole.clone();
        let removed = trace.tensors.remove(at).name;
        let after = report(&trace);
        assert_eq!(after.outcome, Outcome::Undecided, "{removed} was removed");
        assert!(has(&after, FindingKind::GoldenIncomplete), "{removed}");

        let mut trace = whole.clone();
        trace.tensors[at].name.push('x');
        let after = report(&trace);
        assert_eq!(after.outcome, Outcome::Divergence, "{removed} was renamed");
        assert!(verdicts(&after).any(|verdict| *verdict == Verdict::MissingInCandidate), "{removed}");
    }
}

#[test]
fn a_tensor_of_another_shape_or_without_numbers_is_noticed() {
    let whole = plain();
    for at in computed(&whole) {
        let name = &whole.tensors[at].name;
        let mut turned = whole.clone();
        turned.tensors[at].shape.push(1);
        assert_eq!(report(&turned).outcome, Outcome::Divergence, "{name} was reshaped");

        let mut nan = whole.clone();
        let Data::Floats(values) = &mut nan.tensors[at].data else { panic!("{name}: no floats") };
        *values.last_mut().unwrap() = f32::NAN;
        let after = report(&nan);
        assert_eq!(after.outcome, Outcome::Undecided, "{name} has NaN");
        assert!(verdicts(&after).any(|verdict| matches!(verdict, Verdict::GoldenNotFinite { count: 1, .. })));

        let mut empty = whole.clone();
        (empty.tensors[at].shape, empty.tensors[at].data) = (vec![0], Data::Floats(vec![]));
        assert_ne!(report(&empty).outcome, Outcome::Pass, "{name} is empty");

        let mut integers = whole.clone();
        let Data::Floats(values) = &whole.tensors[at].data else { panic!("{name}: no floats") };
        integers.tensors[at].data = Data::Integers(values.iter().map(|&value| value as i64).collect());
        assert_ne!(report(&integers).outcome, Outcome::Pass, "{name} holds integers");
    }
}

#[test]
fn a_golden_of_another_model_is_noticed() {
    for other in ["model", "sequence-classification", "token-classification", "masked-lm-new", "mask-decoder"]
    {
        for trace in find(&data(other)).unwrap() {
            let report = report(&Trace::read(&trace).unwrap());
            assert_ne!(report.outcome, Outcome::Pass, "{}", trace.display());
        }
    }
}

#[test]
fn nothing_to_compare_is_no_success() {
    let mut inputs_only = plain();
    inputs_only.tensors.retain(|tensor| tensor.name.starts_with("inputs."));
    assert_eq!(report(&inputs_only).outcome, Outcome::Undecided);
    let model = data("masked-lm");
    let empty = tempfile::tempdir().unwrap();
    let (code, error) =
        exit(&["--model", model.to_str().unwrap(), "--golden", empty.path().to_str().unwrap()]);
    assert!(code == 2 && error.contains("no golden in this folder"), "{code} {error}");
    let (code, error) =
        exit(&["--model", empty.path().to_str().unwrap(), "--golden", model.to_str().unwrap()]);
    assert!(code == 2 && error.contains("no weights in this folder"), "{code} {error}");
}

#[test]
fn a_weight_file_without_runs_does_not_pass() {
    let model = data("masked-lm");
    let nothing = Golden { case: None, traces: Vec::new(), ..Golden::open(&model).unwrap() };
    let request = VerifyRequest { model, goldens: vec![nothing], ..VerifyRequest::default() };
    let report = verify(&request, &()).unwrap();
    assert_eq!((report.files[0].runs.len(), report.files[0].outcome), (0, Outcome::Undecided));
    assert_eq!(report.outcome, Outcome::Undecided);
}

/// A trace of padded inputs, as a release of transformers records it whose masked rows are zero.
fn of_an_old_release() -> Trace {
    let mut trace = Trace::read(&data("masked-lm").join("padded.tf.safetensors")).unwrap();
    trace.metadata = vec![
        ("framework".into(), "pytorch".into()),
        ("class".into(), "DebertaForMaskedLM".into()),
        ("producer".into(), "transformers 4.46.3".into()),
    ];
    trace
}

#[test]
fn padding_of_another_convention_is_explained() {
    for isolate in [false, true] {
        let folder = golden(&of_an_old_release());
        let report = report_on(&data("masked-lm"), folder.path(), isolate);
        assert_eq!(report.outcome, Outcome::Pass, "{report:#?}");
        assert!(has(&report, FindingKind::MaskedRows));
        assert!(verdicts(&report).any(|verdict| *verdict == Verdict::Padding));
        assert_eq!(report.files[0].runs[0].first_divergence, None);
    }
}

#[test]
fn padding_that_no_convention_explains_is_a_divergence() {
    let mut trace = of_an_old_release();
    let Data::Integers(mask) = &trace.get("inputs.attention_mask").unwrap().data else {
        panic!("no integers")
    };
    let padded = mask.iter().position(|&token| token == 0).unwrap();
    let logits = trace.tensors.iter_mut().find(|tensor| tensor.name == "outputs.logits").unwrap();
    let Data::Floats(values) = &mut logits.data else { panic!("no floats") };
    values[padded * logits.shape[2]] += 0.5;
    let report = report(&trace);
    assert_eq!(report.outcome, Outcome::Divergence);
    assert!(has(&report, FindingKind::PaddingDiffers));
}

/// A copy of a folder of golden/data.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn weights_that_no_input_reaches_are_compared_by_digest() {
    let folder = copy("masked-lm");
    let path = folder.path().join("case.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let digest = text.lines().find_map(|line| line.strip_prefix("digest: ")).unwrap();
    fs::write(&path, text.replace(digest, &format!("\"{}\"", "0".repeat(64)))).unwrap();
    let report = report_on(folder.path(), folder.path(), false);
    assert!(verdicts(&report).all(|verdict| *verdict == Verdict::Match));
    assert!(has(&report, FindingKind::WeightsDiffer));
    assert_eq!(report.outcome, Outcome::Divergence);
}

#[test]
fn a_case_and_its_folder_say_the_same() {
    let folder = copy("masked-lm");
    fs::copy(folder.path().join("plain.safetensors"), folder.path().join("stray.safetensors")).unwrap();
    let (code, error) = exit(&["--model", folder.path().to_str().unwrap()]);
    assert!(code == 2 && error.contains("a trace that case.yaml does not list"), "{code} {error}");

    let folder = copy("masked-lm");
    let path = folder.path().join("case.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let changed = text.replacen(
        "class: DebertaForMaskedLM, masked_rows: uniform",
        "class: DebertaModel, masked_rows: uniform",
        1,
    );
    assert_ne!(text, changed);
    fs::write(&path, changed).unwrap();
    let report = report_on(folder.path(), folder.path(), false);
    assert!(has(&report, FindingKind::Error) && report.outcome != Outcome::Pass);
}

#[test]
fn malformed_goldens_are_errors() {
    let model = data("masked-lm");
    let verify =
        |folder: &Path| exit(&["--model", model.to_str().unwrap(), "--golden", folder.to_str().unwrap()]);
    let bomb = ["a: &a [x, x, x, x, x, x, x, x, x, x]".to_owned()]
        .into_iter()
        .chain((b'b'..=b'i').map(|name| {
            let (name, last) = (char::from(name), char::from(name - 1));
            format!("{name}: &{name} [{}]", vec![format!("*{last}"); 10].join(", "))
        }))
        .collect::<Vec<_>>()
        .join("\n");
    for (text, expected) in [
        (bomb.as_str(), "not a case"),
        ("[[[[", "not a case"),
        (&"[".repeat(100_000), "not a case"),
        ("model: ../x", "leads out of the folder"),
        ("", "not a case"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("case.yaml"), text).unwrap();
        let (code, error) = verify(folder.path());
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("case.yaml") && error.len() < 2000, "{error}");
        assert!(error.contains(expected) || error.contains("error"), "{error}");
    }

    let good = fs::read(model.join("plain.safetensors")).unwrap();
    let with = |part: &[u8], replacement: &[u8]| {
        let at = good.windows(part.len()).position(|window| window == part).unwrap();
        [&good[..at], replacement, &good[at + part.len()..]].concat()
    };
    for (what, bytes) in [
        ("truncated", good[..good.len() / 2].to_vec()),
        ("another format", with(b"deberta-trace-1", b"deberta-trace-9")),
        ("a tensor of no trace", with(b"outputs.logits", b"weights.logits")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("t.safetensors"), bytes).unwrap();
        let output =
            run(VERIFY, &["--model", model.to_str().unwrap(), "--golden", folder.path().to_str().unwrap()]);
        assert_eq!(output.code, 2, "{what}");
    }
}

#[test]
fn weight_files_that_differ_are_named() {
    let folder = copy("masked-lm");
    let output = run(
        CONVERT,
        &[
            "st2pt",
            folder.path().to_str().unwrap(),
            "-o",
            &format!("{}/", folder.path().display()),
            "--force",
        ],
    );
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(report_on(folder.path(), folder.path(), false).outcome, Outcome::Pass);

    // One number of the safetensors file changes.
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let report = report_on(folder.path(), folder.path(), false);
    assert!(has(&report, FindingKind::FilesDiffer), "{report:#?}");
    assert_eq!(report.outcome, Outcome::Divergence);
}

#[test]
fn published_values_are_compared() {
    let whole = plain();
    let (Data::Integers(ids), Data::Floats(logits)) =
        (&whole.get("inputs.input_ids").unwrap().data, &whole.get("outputs.logits").unwrap().data)
    else {
        panic!("other types")
    };
    let words = whole.get("outputs.logits").unwrap().shape[2];
    let row = &logits[2 * words..3 * words];
    let total: f32 = row.iter().map(|logit| logit.exp()).sum();
    let case = |first: f32| {
        format!(
            "model: owner/model\nclass: DebertaForMaskedLM\nproducer: a test\ntolerances:\n  default: {{atol: 1.0e-5}}\n\
             inputs:\n  input_ids: [{ids:?}]\nslices:\n\
             - {{output: logits, ranges: [[0, 1], [2, 3], [0, 2]], values: [[[{first}, {}]]], atol: 1.0e-5}}\n\
             - {{output: logits, function: softmax, ranges: [[0, 1], [2, 3], [5, 6]], values: [[[{}]]], atol: 1.0e-5}}\n\
             - {{activation: deberta.embeddings, ranges: [[0, 1], [0, 1], [0, 1]], values: [[[{}]]], atol: 1.0e-5}}\n",
            row[1],
            row[5].exp() / total,
            match &whole.get("activations.deberta.embeddings").unwrap().data {
                Data::Floats(values) => values[0],
                _ => panic!("not f32"),
            }
        )
    };
    let judged = |text: String| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("case.yaml"), text).unwrap();
        report_on(&data("masked-lm"), folder.path(), false)
    };
    let right = judged(case(row[0]));
    assert_eq!((right.outcome, right.compared()), (Outcome::Pass, 4), "{right:#?}");
    let wrong = judged(case(row[0] + 1e-3));
    assert_eq!(wrong.outcome, Outcome::Divergence);
    let first = wrong.files[0].runs[0].first_divergence.as_deref();
    assert_eq!(first, Some("outputs.logits[0:1, 2:3, 0:2]"));
    let beyond = judged(case(row[0]).replace("[2, 3], [0, 2]", "[98, 99], [0, 2]"));
    assert_eq!(beyond.outcome, Outcome::Undecided);
}

#[test]
fn published_tokens_are_compared_where_there_is_a_vocabulary() {
    let trained = data("../trained/v3-masked-lm");
    let case = |ids: &str, more: &str| {
        format!(
            "model: owner/model\nclass: DebertaV2Model\nproducer: a test\ntolerances:\n  default: {{atol: 0.0}}\n{more}\
             tokenizer:\n- {{text: \"The kite is red.\", ids: {ids}}}\n\
             - {{text: \"🤔 a[MASK]b\", pair: x, ids: [1, 260, 244, 163, 168, 152, 263, 540, 260, 388, 2, 260, 511, 2]}}\n"
        )
    };
    let judged = |model: &Path, text: String| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("case.yaml"), text).unwrap();
        report_on(model, folder.path(), false)
    };
    let ids = "[1, 302, 332, 287, 262, 303, 261, 2]";
    let right = judged(&trained, case(ids, ""));
    assert_eq!((right.outcome, right.compared()), (Outcome::Pass, 22), "{right:#?}");
    let wrong = judged(&trained, case("[1, 302, 332, 287, 262, 303, 260, 2]", ""));
    assert_eq!(wrong.outcome, Outcome::Divergence);
    let first = wrong.files[0].runs[0].first_divergence.as_deref();
    assert_eq!(first, Some("tokenizer: \"The kite is red.\""));
    let short = judged(&trained, case("[1, 302, 2]", ""));
    assert!(matches!(short.files[0].runs[0].points[0].verdict, Verdict::Shape { .. }), "{short:#?}");

    // Without a vocabulary, values are still compared, and nothing is said to be wrong with tokens.
    let no_vocabulary = data("v2-model");
    let alone = judged(&no_vocabulary, case(ids, ""));
    assert!(alone.files[0].runs.is_empty() && has(&alone, FindingKind::NotJudged), "{alone:#?}");
    assert!(has(&alone, FindingKind::NothingCompared) && alone.outcome == Outcome::Undecided, "{alone:#?}");
    let slices = "inputs:\n  input_ids: [[5, 6]]\nslices:\n\
                  - {output: last_hidden_state, ranges: [[0, 1], [0, 1], [0, 1]], values: [[[1.08]]], atol: 1.0e-4, rtol: 0.01}\n";
    let both = judged(&no_vocabulary, case(ids, slices));
    assert_eq!((both.outcome, both.compared()), (Outcome::Pass, 1), "{both:#?}");
    assert!(both.files[0].runs[0].findings.iter().any(|finding| finding.kind == FindingKind::NotJudged));
    let strict = judged(&no_vocabulary, case(ids, &slices.replace(", rtol: 0.01", "")));
    assert_eq!(strict.outcome, Outcome::Divergence, "{strict:#?}");
}

#[test]
fn published_values_follow_the_conventions_of_their_class() {
    let case = |class: &str| {
        format!(
            "model: owner/model\nclass: {class}\nproducer: a test\ntolerances:\n  default: {{atol: 9.0}}\n\
             inputs:\n  input_ids: [[5, 6]]\nslices:\n\
             - {{output: last_hidden_state, ranges: [[0, 1], [0, 1], [0, 1]], values: [[[0.0]]], atol: 99.0}}\n"
        )
    };
    for (class, rows) in [("DebertaV2Model", "uniform"), ("TFDebertaV2Model", "zero")] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("case.yaml"), case(class)).unwrap();
        let report = report_on(&data("v2-model"), folder.path(), false);
        assert_eq!(report.files[0].runs[0].masked_rows, rows, "{report:#?}");
    }
}
