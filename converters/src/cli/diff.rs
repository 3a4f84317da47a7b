//! `diff`: whether two checkpoints are the same model.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use clap::Args;
use deberta_reference::DebertaConfig;
use serde::Serialize;

use super::arguments::{HeadName, HubArgs, ModelArgs, PartArgs};
use super::bar::Bar;
use super::exit_status::ExitStatus;
use super::print::{Output, print_json, print_text};
use crate::checkpoint::Checkpoint;
use crate::digest::TensorDigest;
use crate::error::Result;
use crate::fidelity::{Dequantized, Fidelity};
use crate::format::onnx::GraphKind;
use crate::hub::Wanted;
use crate::matching::Bound;
use crate::progress::Progress;
use crate::source::Source;
use crate::tensor::Dtype;

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// Weight file, shard index, model folder or hub id
    a: PathBuf,
    /// The one to compare with it, of any format
    b: PathBuf,
    /// Configuration of both; found beside each when not given
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Class of both; told by the configuration and the tensors when not given
    #[arg(long, value_name = "HEAD")]
    head: Option<HeadName>,
    #[command(flatten)]
    part: PartArgs,
    #[command(flatten)]
    hub: HubArgs,
    /// How the findings are printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Output,
}

/// What `diff --format json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: &'static str,
    same: bool,
    a: Side,
    b: Side,
    /// Settings that change what the model computes.
    configuration: Vec<Setting>,
    only_in_a: Vec<String>,
    only_in_b: Vec<String>,
    differing: Vec<Difference>,
    equal: usize,
    /// If one side is a quantized graph, how its tensors are from those of the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    rounded: Option<Fidelity>,
}

#[derive(Debug, Serialize)]
struct Side {
    path: PathBuf,
    format: String,
    class: &'static str,
    digest: Option<String>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: &'static str,
    a: String,
    b: String,
}

#[derive(Debug, Serialize)]
struct Difference {
    tensor: String,
    shape_a: Vec<usize>,
    shape_b: Vec<usize>,
    /// Values that are not the same bits as f32; null when the shapes differ.
    differing_values: Option<usize>,
    /// The largest absolute difference; null when the shapes differ or a value is NaN.
    max_abs: Option<f64>,
    /// Whether b holds the transpose of a.
    transposed: bool,
}

impl DiffArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let report = self.report(&Bar::default())?;
        match self.format {
            Output::Json => print_json(&report)?,
            Output::Text => print_text(report.text().trim_end())?,
        }
        Ok(if report.same { ExitStatus::Success } else { ExitStatus::Failure })
    }

    /// Compares the two.
    pub(super) fn report(&self, progress: &dyn Progress) -> Result<Report> {
        let model = ModelArgs {
            config: self.config.clone(),
            head: self.head,
            part: self.part.clone(),
            hub: self.hub.clone(),
        };
        self.hub.check(&[&self.a, &self.b])?;
        let open = |path: &Path| {
            let path = self.hub.path(path, &Wanted::any())?;
            let (_, mut checkpoint) = model.open(Source::locate(&path, None, None)?, None, progress)?;
            checkpoint.check_copies()?;
            Ok(checkpoint)
        };
        let (a, b) = (open(&self.a)?, open(&self.b)?);
        match (is_quantized(&a), is_quantized(&b)) {
            (false, true) => rounded(&a, &b, &b, &a),
            (true, false) => rounded(&a, &b, &a, &b),
            _ => compare(&a, &b),
        }
    }
}

/// Whether a graph computes with integers or codes.
fn is_quantized(checkpoint: &Checkpoint) -> bool {
    checkpoint.graph_kind().is_some_and(GraphKind::is_quantized)
}

/// Compares a quantized graph with the weights that it must have rounded.
fn rounded(a: &Checkpoint, b: &Checkpoint, graph: &Checkpoint, model: &Checkpoint) -> Result<Report> {
    let mut report = Report::new(a, b, &a.tensor_digests(&())?, &b.tensor_digests(&())?);
    let opened = Dequantized::open(&graph.source.path, &graph.config, graph.head, model)?;
    let fidelity = opened.compare(model)?;
    report.equal = fidelity.tensors.len() - fidelity.broken().count();
    report.same =
        report.equal == fidelity.tensors.len() && report.equal > 0 && report.configuration.is_empty();
    report.rounded = Some(fidelity);
    Ok(report)
}

fn compare(a: &Checkpoint, b: &Checkpoint) -> Result<Report> {
    let (digests_a, digests_b) = (a.tensor_digests(&())?, b.tensor_digests(&())?);
    let mut report = Report::new(a, b, &digests_a, &digests_b);
    for (bound, digest) in a.bound.iter().zip(&digests_a) {
        let name = &bound.param.name;
        let other = b.bound.iter().zip(&digests_b).find(|(other, _)| other.param.name == *name);
        match other {
            None => report.only_in_a.push(name.clone()),
            Some((_, other_digest)) if same_values(digest, other_digest) => report.equal += 1,
            Some((other, _)) => report.differing.push(difference(a, bound, b, other)?),
        }
    }
    let in_b = b.bound.iter().map(|bound| &bound.param.name);
    report.only_in_b = in_b.filter(|name| a.parameter(name).is_none()).cloned().collect();
    report.same = report.equal > 0
        && report.differing.is_empty()
        && report.only_in_a.is_empty()
        && report.only_in_b.is_empty()
        && report.configuration.is_empty()
        && report.a.problems.is_empty()
        && report.b.problems.is_empty();
    Ok(report)
}

/// Two f64 tensors are compared to the last bit; otherwise values count as f32, the narrower side's precision.
fn same_values(a: &TensorDigest, b: &TensorDigest) -> bool {
    a.values == b.values && (a.exact.is_none() || b.exact.is_none() || a.exact == b.exact)
}

fn side(checkpoint: &Checkpoint, digests: &[TensorDigest]) -> Side {
    let problems = &checkpoint.problems;
    Side {
        path: checkpoint.source.path.clone(),
        format: checkpoint.format.to_string(),
        class: checkpoint.class_name(),
        digest: problems.is_empty().then(|| checkpoint.digest(digests).to_string()),
        problems: problems.iter().map(|problem| format!("{}: {}", problem.tensor, problem.what)).collect(),
    }
}

/// The settings that change what the same weights compute.
fn settings(a: &DebertaConfig, b: &DebertaConfig) -> Vec<Setting> {
    /// `none` for what is off.
    fn or_none<T: Debug>(setting: Option<T>) -> String {
        setting.map_or_else(|| "none".to_owned(), |setting| format!("{setting:?}"))
    }
    macro_rules! settings {
        ($($key:ident),*) => {
            |config: &DebertaConfig| [
                ("model_type", config.model_type().to_owned()),
                $((stringify!($key), format!("{:?}", config.$key)),)*
                ("position_buckets", or_none(config.position_buckets)),
                ("conv_kernel_size", or_none(config.convolution.map(|conv| conv.kernel))),
                ("conv_groups", or_none(config.convolution.map(|conv| conv.groups))),
                ("conv_act", or_none(config.convolution.map(|conv| conv.act))),
            ]
        };
    }
    let settings = settings!(
        num_attention_heads,
        hidden_act,
        layer_norm_eps,
        relative_attention,
        max_relative_positions,
        max_position_embeddings,
        position_biased_input,
        pos_att_type,
        pooler_hidden_act,
        talking_head,
        legacy,
        share_att_key,
        norm_rel_ebd
    );
    let pairs = settings(a).into_iter().zip(settings(b));
    pairs.filter(|(a, b)| a != b).map(|((key, a), (_, b))| Setting { key, a, b }).collect()
}

fn difference(a: &Checkpoint, bound_a: &Bound, b: &Checkpoint, bound_b: &Bound) -> Result<Difference> {
    let mut difference = Difference {
        tensor: bound_a.param.name.clone(),
        shape_a: bound_a.param.shape.clone(),
        shape_b: bound_b.param.shape.clone(),
        differing_values: None,
        max_abs: None,
        transposed: false,
    };
    let mut reversed = difference.shape_b.clone();
    reversed.reverse();
    let may_be_transposed = reversed.len() == 2 && reversed == difference.shape_a;
    let same_shape = difference.shape_a == difference.shape_b;
    if !same_shape && !may_be_transposed {
        return Ok(difference);
    }
    let values = a.values(bound_a)?.to_f32()?;
    if may_be_transposed {
        difference.transposed = against(&values, b, bound_b, true)?.0 == 0;
    }
    if same_shape {
        let (differing, max_abs) = against(&values, b, bound_b, false)?;
        difference.differing_values = Some(differing);
        difference.max_abs = Some(max_abs).filter(|max_abs| !max_abs.is_nan());
    }
    Ok(difference)
}

/// How many of `values` differ from those of `bound`, and by how much at most. NaN against a number counts as NaN.
fn against(values: &[f32], checkpoint: &Checkpoint, bound: &Bound, transposed: bool) -> Result<(usize, f64)> {
    let (mut differing, mut max_abs) = (0, 0.0_f64);
    let mut values = values.iter();
    checkpoint.values(bound)?.strips(Dtype::F32, transposed, |strip| {
        for (&bytes, &value) in strip.as_chunks::<4>().0.iter().zip(values.by_ref()) {
            let other = f32::from_le_bytes(bytes);
            if value.to_bits() != other.to_bits() {
                differing += 1;
                let distance = (f64::from(value) - f64::from(other)).abs();
                max_abs =
                    if max_abs.is_nan() || distance.is_nan() { f64::NAN } else { max_abs.max(distance) };
            }
        }
        Ok(())
    })?;
    Ok((differing, max_abs))
}

impl Report {
    /// The report of two sides that were not compared yet.
    fn new(a: &Checkpoint, b: &Checkpoint, digests_a: &[TensorDigest], digests_b: &[TensorDigest]) -> Report {
        Report {
            schema: "deberta-diff-1",
            same: false,
            a: side(a, digests_a),
            b: side(b, digests_b),
            configuration: settings(&a.config, &b.config),
            only_in_a: Vec::new(),
            only_in_b: Vec::new(),
            differing: Vec::new(),
            equal: 0,
            rounded: None,
        }
    }

    /// What there is to say of a quantized graph.
    fn of_rounded(&self, fidelity: &Fidelity) -> Vec<String> {
        let mut lines: Vec<String> =
            fidelity.broken().map(|broken| format!("differs: {}", broken.said())).collect();
        let names = |what: &str, names: &[String]| match names {
            [] => None,
            [first, ..] => Some(format!("not compared: {} {what}, as {first}", names.len())),
        };
        lines.extend(names("rounded tensors that are no parameters", &fidelity.unknown));
        lines.extend(names("parameters that the graph does not compute with", &fidelity.missing));
        let (rounded, all) = (fidelity.rounded().count(), fidelity.tensors.len());
        let steps = fidelity.rounded().filter(|tensor| tensor.has_steps());
        let furthest = steps.map(|tensor| tensor.furthest).fold(0.0, f64::max);
        lines.push(match self.same {
            true => format!(
                "the same weights, rounded: {rounded} of {all} tensors are rounded, by {furthest:.3} steps at most; the others are equal"
            ),
            false => format!("not the same weights, rounded: {} of {all} tensors differ", all - self.equal),
        });
        lines
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        let rounded = self.rounded.as_ref();
        for (label, side) in [("a", &self.a), ("b", &self.b)] {
            lines.push(format!("{label}  {}  ({}, {})", side.path.display(), side.format, side.class));
            lines.push(format!(
                "   {}",
                side.digest.as_deref().unwrap_or("no digest: not a complete checkpoint")
            ));
            // Of a quantized graph the tensors are no parameters as they are, rightly.
            let problems = side.problems.iter().filter(|_| rounded.is_none());
            lines.extend(problems.map(|problem| format!("   {problem}")));
        }
        lines.push(String::new());
        for setting in &self.configuration {
            lines.push(format!("configuration: {} is {} in a, {} in b", setting.key, setting.a, setting.b));
        }
        if let Some(fidelity) = rounded {
            lines.extend(self.of_rounded(fidelity));
            return lines.join("\n");
        }
        lines.extend(self.only_in_a.iter().map(|name| format!("only in a: {name}")));
        lines.extend(self.only_in_b.iter().map(|name| format!("only in b: {name}")));
        for difference in &self.differing {
            let what = match (difference.transposed, difference.differing_values) {
                (true, _) => "b holds the transpose of a".to_owned(),
                (false, None) => {
                    format!("shape {:?} in a, {:?} in b", difference.shape_a, difference.shape_b)
                }
                (false, Some(count)) => {
                    let max_abs =
                        difference.max_abs.map_or("NaN".to_owned(), |max_abs| format!("{max_abs:e}"));
                    format!("{count} values differ, max abs {max_abs}")
                }
            };
            lines.push(format!("differs: {}: {what}", difference.tensor));
        }
        let differing = self.differing.len() + self.only_in_a.len() + self.only_in_b.len();
        lines.push(match (self.same, differing) {
            (true, _) => format!("same model: {} tensors are equal", self.equal),
            (false, 0) => format!("not the same model, although {} tensors are equal", self.equal),
            (false, _) => format!("not the same model: {differing} tensors differ, {} are equal", self.equal),
        });
        lines.join("\n")
    }
}
