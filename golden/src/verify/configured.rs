//! The configuration of a model against that of the model which a golden is of: labels, whose order no number shows, and
//! settings that no input of the golden may reach.

use std::path::{Path, PathBuf};

use deberta_converters::companions::CONFIGURATION;
use deberta_converters::config_file::ConfigFile;
use deberta_reference::{DebertaConfig, Head};

use super::candidate::VerifyRequest;
use crate::goldens::Golden;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind};
use crate::trace::class::Class;
use crate::trace::file::TraceFile;

/// The heads that the traces of goldens are of, as far as they say so.
pub(super) fn heads(goldens: &[Golden]) -> Vec<Head> {
    let of_trace = |path: &PathBuf| {
        let file = TraceFile::open(path).ok()?;
        let name = file.metadata("class")?;
        let microsoft = file.metadata("framework") == Some("microsoft");
        if microsoft { Some(Class::of_microsoft(name).head) } else { Head::from_class_name(name) }
    };
    let cases = goldens.iter().filter_map(|golden| golden.case.as_ref());
    let of_cases = cases.filter_map(|case| Head::from_class_name(&case.class));
    goldens.iter().flat_map(|golden| &golden.traces).filter_map(of_trace).chain(of_cases).collect()
}

/// What the configuration of the model says otherwise than those of the goldens' models, and what in it is ignored.
pub(super) fn findings(request: &VerifyRequest, asked: &[Head]) -> Vec<Finding> {
    let folder = if request.model.is_dir() { Some(request.model.as_path()) } else { request.model.parent() };
    let config = ConfigFile::find(request.config.as_deref(), folder.unwrap_or(Path::new("")), None);
    let Ok(config) = config else { return Vec::new() };
    let mut findings = ignored(&config);
    for golden in &request.goldens {
        let Some(other) = config_of(golden).filter(|other| !is_same(&other.path, &config.path)) else {
            continue;
        };
        let name = &golden.name;
        let labelled = [Head::SequenceClassification, Head::TokenClassification];
        if asked.iter().any(|head| labelled.contains(head)) {
            findings.extend(labels(&config.config, &other.config, name));
        }
        findings.extend(settings(&config.config, &other.config, name));
    }
    findings
}

fn ignored(config: &ConfigFile) -> Vec<Finding> {
    let talks = config.map.get("talking_head").is_some_and(|value| *value == true);
    let talking = (talks && !config.config.talking_head).then(|| {
        "talking_head: the classes of version 2 do not read it, and transformers does not say so".to_owned()
    });
    let note = |message| Finding::new(FindingKind::Note, Outcome::Pass, format!("configuration: {message}"));
    config.config.warnings().into_iter().chain(talking).map(note).collect()
}

/// The configuration that is in the folder of a golden, or in that of the model which it names.
fn config_of(golden: &Golden) -> Option<ConfigFile> {
    let folders = golden.folder.iter().cloned().chain(golden.model_folder().ok().flatten());
    let mut paths = folders.flat_map(|folder| CONFIGURATION.map(|name| folder.join(name)));
    paths.find(|path| path.is_file()).and_then(|path| ConfigFile::read(&path).ok())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Labels in another order, or with other names. A golden whose labels have no names says nothing of them.
fn labels(config: &DebertaConfig, other: &DebertaConfig, golden: &str) -> Option<Finding> {
    let names =
        |config: &DebertaConfig, count: usize| (0..count).map(|id| config.label(id)).collect::<Vec<_>>();
    let (have, want) = (names(config, config.num_labels), names(other, other.num_labels));
    let unnamed = want.iter().enumerate().all(|(id, name)| *name == format!("LABEL_{id}"));
    if unnamed || have == want {
        return None;
    }
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    let how = if sorted(&have) == sorted(&want) { "in another order" } else { "others" };
    let list = |names: &[String]| {
        let shown = names.iter().take(8).enumerate().map(|(id, name)| format!("{id} {name:?}"));
        shown.collect::<Vec<_>>().join(", ") + if names.len() > 8 { ", …" } else { "" }
    };
    let message = format!(
        "id2label: the labels are {how}: {}; the configuration of golden {golden} has {}. The same logits mean other labels",
        list(&have),
        list(&want)
    );
    Some(Finding::new(FindingKind::LabelsDiffer, Outcome::Divergence, message))
}

/// Settings of the arithmetic that are not those of the golden's model: where all numbers agree, no input reached them.
fn settings(config: &DebertaConfig, other: &DebertaConfig, golden: &str) -> Option<Finding> {
    if config.family != other.family {
        return None;
    }
    let terms = |config: &DebertaConfig| {
        let mut terms = config.pos_att_type.clone();
        terms.sort();
        terms
    };
    macro_rules! differing {
        ($($name:literal: $value:expr),* $(,)?) => {{
            let of: &[(&str, fn(&DebertaConfig) -> String)] = &[$(($name, |config| format!("{:?}", $value(config)))),*];
            of.iter().filter_map(|(name, value)| {
                let (have, want) = (value(config), value(other));
                (have != want).then(|| format!("{name} {have} for {want}"))
            }).collect::<Vec<_>>()
        }};
    }
    let mut differing = differing! {
        "hidden_act": |config: &DebertaConfig| config.hidden_act,
        "layer_norm_eps": |config: &DebertaConfig| config.layer_norm_eps,
        "num_hidden_layers": |config: &DebertaConfig| config.num_hidden_layers,
        "num_attention_heads": |config: &DebertaConfig| config.num_attention_heads,
        "relative_attention": |config: &DebertaConfig| config.relative_attention,
        "position_biased_input": |config: &DebertaConfig| config.position_biased_input,
        "position_buckets": |config: &DebertaConfig| config.position_buckets,
        "share_att_key": |config: &DebertaConfig| config.share_att_key,
        "norm_rel_ebd": |config: &DebertaConfig| config.norm_rel_ebd,
        "conv_kernel_size, conv_groups, conv_act": |config: &DebertaConfig| config.convolution,
        "talking_head": |config: &DebertaConfig| config.talking_head,
        "type_vocab_size": |config: &DebertaConfig| config.type_vocab_size,
    };
    if config.relative_attention || other.relative_attention {
        let (have, want) = (config.max_relative(), other.max_relative());
        differing.extend((have != want).then(|| format!("max_relative_positions {have} for {want}")));
    }
    let (have, want) = (terms(config), terms(other));
    differing.extend((have != want).then(|| format!("pos_att_type {have:?} for {want:?}")));
    if differing.is_empty() {
        return None;
    }
    let message = format!(
        "the configuration is not that of golden {golden}: {}. Where the numbers agree all the same, no input of the golden \
         shows the difference",
        differing.join(", ")
    );
    Some(Finding::new(FindingKind::ConfigDiffers, Outcome::Undecided, message))
}
