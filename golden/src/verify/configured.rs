//! The configuration of a model against that of the model which a golden is of: labels, whose order no number shows, and
//! settings that no input of the golden may reach.

use std::path::{Path, PathBuf};

use deberta_converters::companions::CONFIGURATION;
use deberta_converters::config_file::ConfigFile;
use deberta_reference::config::ProblemType;
use deberta_reference::{DebertaConfig, Head};

use super::candidate::{VerifyRequest, WeightFile};
use crate::fault::Setting;
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

/// The configuration of a weight file, if there is one that can be read.
pub(super) fn own_config(file: &WeightFile<'_>) -> Option<ConfigFile> {
    ConfigFile::find(file.config_path(), file.source.folder(), None).ok()
}

/// The configuration that is in the folder of a golden, or in that of the model which it names.
pub(super) fn config_of(golden: &Golden) -> Option<ConfigFile> {
    let folders = golden.folder.iter().cloned().chain(golden.model_folder().ok().flatten());
    let mut paths = folders.flat_map(|folder| CONFIGURATION.map(|name| folder.join(name)));
    paths.find(|path| path.is_file()).and_then(|path| ConfigFile::read(&path).ok())
}

pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Labels in another order, or with other names. A golden whose labels have no names says nothing of names.
fn labels(config: &DebertaConfig, other: &DebertaConfig, golden: &str) -> Option<Finding> {
    let names =
        |config: &DebertaConfig, count: usize| (0..count).map(|id| config.label(id)).collect::<Vec<_>>();
    let (have, want) = (names(config, config.num_labels), names(other, other.num_labels));
    let is_default =
        |name: &String| name.strip_prefix("LABEL_").is_some_and(|id| id.parse::<usize>().is_ok());
    let unnamed = want.iter().enumerate().all(|(id, name)| *name == format!("LABEL_{id}"));
    // In another order the default names are none: whoever wrote them meant other outputs.
    if unnamed && !have.iter().all(is_default) || have == want {
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

/// The keys that decide the arithmetic of every class. The sizes of tensors are not among them: tensors show them.
const ARITHMETIC: [&str; 13] = [
    "hidden_act",
    "layer_norm_eps",
    "num_hidden_layers",
    "num_attention_heads",
    "relative_attention",
    "pos_att_type",
    "position_biased_input",
    "position_buckets",
    "share_att_key",
    "norm_rel_ebd",
    "conv_kernel_size",
    "talking_head",
    "type_vocab_size",
];

/// Settings of the arithmetic that are not those of the golden's model: where all numbers agree, no input reached them.
fn settings(config: &DebertaConfig, other: &DebertaConfig, golden: &str) -> Option<Finding> {
    if config.family != other.family {
        return None;
    }
    let relative = config.relative_attention || other.relative_attention;
    let decides = |line: &str| {
        let key = line.split('"').nth(1).unwrap_or_default();
        ARITHMETIC.contains(&key) || (relative && key == "max_relative_positions")
    };
    let mut differing = differing_lines(config, other);
    differing.retain(|[own, _]| decides(own));
    if differing.is_empty() {
        return None;
    }
    let message = format!(
        "the configuration is not that of golden {golden}: {}. Where the numbers agree all the same, no input of the golden \
         shows the difference",
        compared(&differing)
    );
    Some(Finding::new(FindingKind::ConfigDiffers, Outcome::Undecided, message))
}

/// `"legacy": true, where it has "legacy": false; …`
pub(super) fn compared(lines: &[[String; 2]]) -> String {
    let said = lines.iter().map(|[own, recorded]| format!("{own}, where it has {recorded}"));
    said.collect::<Vec<_>>().join("; ")
}

/// The lines that differ between two configurations, each with that of the golden's.
pub(super) fn differing_lines(own: &DebertaConfig, recorded: &DebertaConfig) -> Vec<[String; 2]> {
    let pairs = lines(own).into_iter().zip(lines(recorded));
    pairs.filter(|(own, recorded)| own != recorded).map(|(own, recorded)| [own, recorded]).collect()
}

/// What decides the arithmetic, as lines of `config.json`: what two equal models would have in common, however their files
/// say it.
fn lines(config: &DebertaConfig) -> Vec<String> {
    let numbers = [
        ("hidden_size", config.hidden_size),
        ("num_hidden_layers", config.num_hidden_layers),
        ("num_attention_heads", config.num_attention_heads),
        ("intermediate_size", config.intermediate_size),
        ("vocab_size", config.vocab_size),
        ("embedding_size", config.embedding_size),
        ("max_position_embeddings", config.max_position_embeddings),
        ("num_labels", config.num_labels),
    ];
    let mut terms = config.pos_att_type.clone();
    terms.sort();
    let settings = [
        Setting::HiddenAct(config.hidden_act),
        Setting::PoolerAct(config.pooler_hidden_act),
        Setting::Eps(config.layer_norm_eps),
        Setting::Relative(config.relative_attention),
        Setting::Terms(terms),
        Setting::Buckets(config.position_buckets),
        Setting::MaxRelative(config.max_relative()),
        Setting::PositionBiased(config.position_biased_input),
        Setting::TokenTypes(config.type_vocab_size),
        Setting::ShareKeys(config.share_att_key),
        Setting::NormTable(config.norm_rel_ebd),
        Setting::Convolution(config.convolution),
        Setting::Tie(config.tie_word_embeddings),
    ];
    let flags = [("talking_head", config.talking_head), ("legacy", config.legacy)];
    let problem_type = match config.problem_type {
        Some(ProblemType::Regression) => "\"regression\"",
        Some(ProblemType::SingleLabelClassification) => "\"single_label_classification\"",
        Some(ProblemType::MultiLabelClassification) => "\"multi_label_classification\"",
        None => "null",
    };
    let mut lines = vec![format!("\"model_type\": \"{}\"", config.model_type())];
    lines.extend(numbers.map(|(key, number)| format!("\"{key}\": {number}")));
    lines.extend(settings.iter().map(Setting::line));
    lines.extend(flags.map(|(key, flag)| format!("\"{key}\": {flag}")));
    lines.push(format!("\"problem_type\": {problem_type}"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> DebertaConfig {
        let keys = format!("{{\"model_type\": \"deberta-v2\", \"relative_attention\": true{json}}}");
        DebertaConfig::from_json(&keys).unwrap()
    }

    #[test]
    fn configurations_that_say_the_same_otherwise_do_not_differ() {
        let resolved =
            config(r#", "max_relative_positions": 512, "position_buckets": -1, "pos_att_type": "p2c|c2p""#);
        let plain = config(r#", "pos_att_type": ["c2p", "p2c"]"#);
        assert_eq!(differing_lines(&resolved, &plain), <[[String; 2]; 0]>::default());
    }
}
