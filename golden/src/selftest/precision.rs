//! Faults that a wide tolerance hides: of weights in half precision, and of the tolerance itself. The verification of the folder
//! must see them, or say that it judged nothing.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::config_file::ConfigFile;
use deberta_converters::convert::convert;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::loading::Parameters;
use deberta_converters::progress::Progress;
use deberta_converters::recipe::Recipe;
use deberta_converters::request::{OnnxRequest, Request};
use deberta_converters::source::Source;
use deberta_converters::tensor::Dtype;
use deberta_reference::Head;
use serde_json::Value;

use super::files::{configure, copy, write};
use super::{Fate, FaultReport, SubjectReport};
use crate::backend::{Backend as _, Reference};
use crate::case::FILE_NAME;
use crate::goldens::Golden;
use crate::judge::verdict::Outcome;
use crate::report::{FindingKind, Report, Rule, Rules};
use crate::trace::class::Class;
use crate::trace::file::Trace;
use crate::trace::inputs::inputs;
use crate::trace::tensor::{Data, Tensor};
use crate::verify::{VerifyRequest, verify};
use crate::workshop::Workshop;

/// The configuration of the model.
const CONFIG: &str = r#"{
    "vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": 16, "relative_attention": true, "pos_att_type": "c2p|p2c", "type_vocab_size": 0,
    "hidden_act": "gelu"
}"#;

const WEIGHTS: &str = "model.safetensors";

/// What the golden was computed with, and the folder has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ComputedWith {
    /// The weights of the release, in half precision.
    Same,
    /// Those that the release was rounded from.
    Rounded,
    /// The same, and they are not at hand: traces alone.
    Traces,
}

/// A fault, and whose golden it is judged by.
struct Fault {
    kind: &'static str,
    description: &'static str,
    golden: ComputedWith,
    /// The tolerance of `case.yaml`.
    tolerance: &'static str,
    put: fn(&Path) -> Result<()>,
}

/// That of f32.
const USUAL: &str = "{atol: 5.0e-6, rtol: 1.0e-5, scale: 5.0e-5}";

const FAULTS: [Fault; 7] = [
    Fault {
        kind: "half-precision-activation",
        description: "hidden_act is gelu_new; the golden was computed with the same halves",
        golden: ComputedWith::Same,
        tolerance: USUAL,
        put: |release| configure(release, "hidden_act", Value::from("gelu_new")),
    },
    Fault {
        kind: "half-precision-activation",
        description: "hidden_act is gelu_new; the golden's folder has the weights before rounding",
        golden: ComputedWith::Rounded,
        tolerance: USUAL,
        put: |release| configure(release, "hidden_act", Value::from("gelu_new")),
    },
    Fault {
        kind: "half-precision-activation",
        description: "hidden_act is gelu_new; the golden has traces alone, and the policy refuses points that need more than f32",
        golden: ComputedWith::Traces,
        tolerance: USUAL,
        put: |release| configure(release, "hidden_act", Value::from("gelu_new")),
    },
    Fault {
        kind: "half-precision-weight",
        description: "one number is a few steps of f16 off",
        golden: ComputedWith::Rounded,
        tolerance: USUAL,
        put: nudge,
    },
    Fault {
        kind: "zeros-pass",
        description: "atol is so wide that zeros pass",
        golden: ComputedWith::Same,
        tolerance: "{atol: 1.0e9}",
        put: |release| configure(release, "hidden_act", Value::from("relu")),
    },
    Fault {
        kind: "zeros-pass",
        description: "scale is so wide that zeros pass",
        golden: ComputedWith::Same,
        tolerance: "{atol: 0, scale: 10}",
        put: |release| configure(release, "hidden_act", Value::from("relu")),
    },
    Fault {
        kind: "zeros-pass",
        description: "rtol is so wide that zeros pass",
        golden: ComputedWith::Same,
        tolerance: "{atol: 0, rtol: 2}",
        put: |_| Ok(()),
    },
];

/// Puts every fault into a release in half precision of its own, and verifies it. `progress` is told what is being done.
///
/// # Errors
/// A release without a fault that does not pass; files that cannot be written.
pub fn precision(progress: &dyn Progress) -> Result<SubjectReport> {
    let workshop = Workshop::new(None, 1 << 20)?;
    let config = ConfigFile::parse(Path::new("config.json"), CONFIG.to_owned())?;
    let (full, _) = workshop.make(&Recipe::new(&config, Head::MaskedLm, 1)?, "full", &())?;
    let half = workshop.path().join("half");
    round(&full, &half)?;
    for (golden, name) in [(ComputedWith::Same, "same"), (ComputedWith::Rounded, "rounded")] {
        let folder = golden_of(golden, USUAL, &full, &half, &workshop.path().join(name))?;
        let report = verified(&half, &folder, Rules::DEFAULT)?;
        if report.outcome != Outcome::Pass {
            let message = "weights in half precision without a fault must pass";
            return Err(Error::new(Kind::Request, message).in_file(&half));
        }
    }
    let mut faults = Vec::with_capacity(FAULTS.len());
    for (at, fault) in FAULTS.iter().enumerate() {
        progress.step(&format!("half precision: {}", fault.description));
        let place = workshop.path().join(format!("fault-{at}"));
        let golden = golden_of(fault.golden, fault.tolerance, &full, &half, &place.join("golden"))?;
        let release = place.join("release");
        copy_model(&half, &release)?;
        (fault.put)(&release)?;
        let strict = Rules { half_precision: Rule::Fail, ..Rules::DEFAULT };
        let rules = if fault.golden == ComputedWith::Traces { strict } else { Rules::DEFAULT };
        let report = verified(&release, &golden, rules)?;
        let seen = report.outcome != Outcome::Pass;
        faults.push(FaultReport {
            kind: fault.kind,
            description: fault.description.to_owned(),
            fate: if seen { Fate::Killed } else { Fate::Survived },
            in_place: seen,
            diagnosed: seen,
            reason: said(&report),
            ..FaultReport::default()
        });
    }
    Ok(SubjectReport { model: "weights in half precision".to_owned(), faults, absent: Vec::new() })
}

/// What the report says of precision, or of weights.
fn said(report: &Report) -> Option<String> {
    let of_files = report.files.iter().flat_map(|file| &file.findings);
    let mut findings =
        of_files.chain(report.files.iter().flat_map(|file| &file.runs).flat_map(|run| &run.findings));
    let telling = |kind| matches!(kind, FindingKind::HalfPrecision | FindingKind::WeightsDiffer);
    findings.find(|finding| telling(finding.kind)).map(|finding| finding.message.clone())
}

fn verified(release: &Path, golden: &Path, rules: Rules) -> Result<Report> {
    let goldens = vec![Golden::open(golden)?];
    let model = release.to_owned();
    let request = VerifyRequest { model, goldens, diagnose: false, ..VerifyRequest::default() };
    let mut report = verify(&request, &())?;
    rules.judge(&mut report);
    Ok(report)
}

/// Writes a model with its weights as f16.
fn round(model: &Path, to: &Path) -> Result<()> {
    let request = Request {
        to: Format::Safetensors,
        output: to.join(WEIGHTS),
        companions: Vec::new(),
        dtype: Some(Dtype::F16),
        max_shard_size: None,
        replace: false,
        onnx: OnnxRequest::default(),
    };
    write(&to.join("config.json"), CONFIG.as_bytes())?;
    let (_, mut checkpoint) = Checkpoint::open(Source::locate(model, None, None)?, None, None)?;
    convert(&mut checkpoint, &request, &()).map(drop)
}

/// Makes a golden with that tolerance, of the model before it was rounded or after.
fn golden_of(of: ComputedWith, tolerance: &str, full: &Path, half: &Path, to: &Path) -> Result<PathBuf> {
    let model = if of == ComputedWith::Same { half } else { full };
    let parameters = Parameters::open(model, Head::MaskedLm)?;
    let checkpoint = parameters.checkpoint();
    let class = Class::of_checkpoint(checkpoint);
    let (sequences, tokens) = (3, 9);
    let ids = (0..27).map(|at| (at * 5 + at / 7 + 3) % 37).collect();
    let ids = Tensor {
        name: "inputs.input_ids".to_owned(),
        shape: vec![sequences, tokens],
        data: Data::Integers(ids),
    };
    let mut trace = Trace { metadata: vec![("class".to_owned(), class.to_string())], tensors: vec![ids] };
    let reference = Reference::load(&parameters, class, class.masked_rows())?;
    trace.tensors.extend(reference.run(&inputs(&trace)?, &["*"], Vec::new())?.tensors);
    fs::create_dir_all(to).map_err(|error| Error::io(to, "create", error))?;
    trace.write(&to.join("plain.safetensors"))?;
    if of == ComputedWith::Traces {
        return Ok(to.to_owned());
    }
    copy_model(model, to)?;
    let digest = checkpoint.digest(&checkpoint.tensor_digests(&())?);
    let rows = class.masked_rows();
    let case = format!(
        "model: \".\"\nclass: {class}\nproducer: selftest\ndigest: \"{digest}\"\ntolerances: {{default: {tolerance}}}\n\
         traces: [{{file: plain.safetensors, framework: reference, class: {class}, masked_rows: {rows}}}]\n"
    );
    write(&to.join(FILE_NAME), case.as_bytes())?;
    Ok(to.to_owned())
}

/// Changes the last number of the file by four of its last bits.
fn nudge(release: &Path) -> Result<()> {
    let path = release.join(WEIGHTS);
    let mut bytes = fs::read(&path).map_err(|error| Error::io(&path, "read", error))?;
    if let [.., low, _] = bytes.as_mut_slice() {
        *low ^= 4;
    }
    write(&path, &bytes)
}

/// Copies the model of a folder into another one.
fn copy_model(from: &Path, to: &Path) -> Result<()> {
    ["config.json", WEIGHTS].iter().try_for_each(|name| copy(&from.join(name), &to.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_that_a_wide_tolerance_hides_is_seen() {
        let report = precision(&()).unwrap();
        for fault in &report.faults {
            assert_eq!(fault.fate, Fate::Killed, "{fault:?}");
        }
    }
}
