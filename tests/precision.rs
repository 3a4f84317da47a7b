//! Weights in half precision, and tolerances that judge nothing.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_golden::goldens::Golden;
use deberta_golden::judge::verdict::{Outcome, Verdict};
use deberta_golden::report::{FindingKind, Report};
use deberta_golden::verify::{VerifyRequest, verify};
use deberta_tests::{run, succeed};

use crate::{CONVERT, VERIFY};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data").join(name)
}

/// A copy of the model of a case, with another activation.
fn with_activation(case: &str, activation: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(data(case).join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["hidden_act"] = activation.into();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    fs::copy(data(case).join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    folder
}

fn report(model: &Path, golden: &Path) -> Report {
    let goldens = vec![Golden::open(golden).unwrap()];
    let request =
        VerifyRequest { name: "m".to_owned(), model: model.to_owned(), goldens, ..VerifyRequest::default() };
    verify(&request, &()).unwrap()
}

fn rounded(report: &Report) -> usize {
    let points = report.files.iter().flat_map(|file| &file.runs).flat_map(|run| &run.points);
    points.filter(|point| point.verdict == Verdict::Rounded).count()
}

#[test]
fn weights_in_half_precision_that_are_the_golden_s_are_judged_as_f32() {
    for case in ["model-f16", "model-bf16", "v2-model-f16"] {
        let good = report(&data(case), &data(case));
        assert_eq!((good.outcome, rounded(&good)), (Outcome::Pass, 0), "{case}");
        let faulty = with_activation(case, "gelu_new");
        let report = report(faulty.path(), &data(case));
        assert_eq!(report.outcome, Outcome::Divergence, "{case}");
    }
}

#[test]
fn what_was_rounded_since_is_counted_and_a_policy_can_refuse_it() {
    let folder = tempfile::tempdir().unwrap();
    let half = folder.path().join("half");
    fs::create_dir(&half).unwrap();
    let model = data("masked-lm");
    let output = format!("{}/", half.display());
    succeed(CONVERT, &["st2pt", model.to_str().unwrap(), "--dtype", "f16", "-o", &output]);

    let report = report(&half, &model);
    assert_eq!(report.outcome, Outcome::Pass, "{report:#?}");
    let runs = &report.files[0].runs;
    let counted = runs.iter().flat_map(|run| &run.findings);
    let counted: Vec<_> = counted.filter(|finding| finding.kind == FindingKind::HalfPrecision).collect();
    assert!(rounded(&report) > 0 && counted.len() == runs.len(), "{report:#?}");
    assert!(counted[0].message.contains(" points agree within its wider tolerance"), "{counted:?}");

    fs::create_dir(folder.path().join("golden")).unwrap();
    fs::copy(model.join("plain.safetensors"), folder.path().join("golden/plain.safetensors")).unwrap();
    for (rule, code) in [("allow", 0), ("fail", 1)] {
        let policy = folder.path().join("verify.yaml");
        let text = format!("models: [{{model: ./half, goldens: [./golden]}}]\nhalf_precision: {rule}\n");
        fs::write(&policy, text).unwrap();
        let run = run(VERIFY, &["--policy", policy.to_str().unwrap()]);
        assert_eq!(run.code, code, "{rule}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn what_no_rounding_explains_is_seen_where_the_golden_s_model_is_at_hand() {
    let folder = tempfile::tempdir().unwrap();
    let model = data("masked-lm");
    for dtype in ["f16", "bf16"] {
        let half = folder.path().join(dtype);
        let output = format!("{}/", half.display());
        succeed(CONVERT, &["st2pt", model.to_str().unwrap(), "--dtype", dtype, "-o", &output]);
        let good = report(&half, &model);
        assert_eq!(good.outcome, Outcome::Pass, "{good:#?}");
        // The configuration.
        let config = fs::read_to_string(model.join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config["hidden_act"] = "gelu_new".into();
        fs::write(half.join("config.json"), config.to_string()).unwrap();
        let faulty = report(&half, &model);
        let said = &faulty.files[0].findings;
        assert_eq!(faulty.outcome, Outcome::Divergence, "{dtype}: {faulty:#?}");
        assert!(said.iter().any(|finding| finding.message.contains("gelu_new")), "{said:?}");
        fs::copy(model.join("config.json"), half.join("config.json")).unwrap();
        // One number of a bias, so small that the wider tolerance hides it.
        let other = folder.path().join(format!("{dtype}-other"));
        fs::create_dir(&other).unwrap();
        let output = other.join("model.safetensors");
        succeed(CONVERT, &["pt2st", half.to_str().unwrap(), "-o", output.to_str().unwrap()]);
        fs::copy(model.join("config.json"), other.join("config.json")).unwrap();
        assert_eq!(report(&other, &model).outcome, Outcome::Pass, "{dtype}");
        let mut bytes = fs::read(&output).unwrap();
        let last = bytes.len() - 2;
        // A bit in the middle of the last number: about a hundredth of it.
        bytes[last] ^= if dtype == "f16" { 0x20 } else { 0x04 };
        fs::write(&output, bytes).unwrap();
        let damaged = report(&other, &model);
        assert!(
            damaged.files[0].findings.iter().any(|finding| finding.kind == FindingKind::WeightsDiffer),
            "{dtype}: {damaged:#?}"
        );
    }
}

#[test]
fn a_tolerance_under_which_zeros_pass_is_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let case = fs::read_to_string(data("masked-lm").join("case.yaml")).unwrap();
    let trace = "plain.safetensors";
    fs::copy(data("masked-lm").join(trace), folder.path().join(trace)).unwrap();
    for tolerance in ["{atol: 1.0e9}", "{atol: 0, scale: 10}", "{atol: 0, rtol: 2}"] {
        let (head, _) = case.split_once("tolerances:").unwrap();
        let text = format!(
            "{head}tolerances:\n  default: {tolerance}\ntraces:\n  - {{file: {trace}, framework: pytorch, class: \
             DebertaForMaskedLM, masked_rows: uniform}}\n"
        );
        fs::write(folder.path().join("case.yaml"), text.replace("model: \".\"", "model: owner/model"))
            .unwrap();
        let report = report(&data("masked-lm"), folder.path());
        assert_eq!((report.outcome, report.compared()), (Outcome::Undecided, 0), "{tolerance}: {report:#?}");
    }
    let trace = data("masked-lm").join(trace);
    let trace = trace.to_str().unwrap();
    for (atol, code) in [("1e9", 2), ("1e-3", 0)] {
        let run = run(VERIFY, &["compare", trace, trace, "--atol", atol]);
        assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout.contains("so wide that zeros would agree"), code == 2, "{}", run.stdout);
    }
}
