//! What transformers would build of a weight file and its configuration, where that is not what the numbers are of.
//!
//! A verification runs the class that the golden is of, whatever the configuration says. Whoever loads the model gets what
//! the configuration says: a head of random numbers if the weights have another one, an encoder without the tensors that it
//! leaves out, labels in another order. Source: transformers 4.57.6, `modeling_utils.py`, `from_pretrained`;
//! `modeling_deberta.py` and `modeling_deberta_v2.py`, `…ForMaskedLM`; `pipelines/base.py`, `infer_framework_load_model`,
//! which builds the class of `architectures`; tried in `tests/interop/built.py`.

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::config_file::ConfigFile;
use deberta_converters::format::Format;
use deberta_converters::matching::ProblemKind;
use deberta_reference::{Head, params};

use super::candidate::WeightFile;
use super::configured::{config_of, own_config};
use crate::inventory;
use crate::judge::verdict::Outcome;
use crate::report::{Finding, FindingKind};
use crate::trace::class::Class;

/// What is not as the configuration beside the weights says. `asked` are the heads that goldens are of.
pub(super) fn findings(file: &WeightFile<'_>, checkpoint: &Checkpoint, asked: &[Head]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = left_out_finding(checkpoint).into_iter().collect();
    // A graph is what it is: nothing is built of its configuration.
    let Some(config) = own_config(file).filter(|_| checkpoint.format != Format::Onnx) else {
        return findings;
    };
    let built = Built { file, checkpoint, config: &config, asked };
    let absent: Vec<Finding> =
        config.config.architectures.iter().filter_map(|name| built.architecture(name)).collect();
    findings.extend(if absent.is_empty() { built.other_class().into_iter().collect() } else { absent });
    findings.extend(built.legacy());
    findings.extend(built.number_of_labels());
    findings
}

/// How many tensors a digest of the checkpoint lacks: they are missing, misshapen, or left out of the encoder.
pub(super) fn incomplete(checkpoint: &Checkpoint) -> usize {
    let lacking = |what: &ProblemKind| matches!(what, ProblemKind::Missing | ProblemKind::Shape { .. });
    let lacking = checkpoint.problems.iter().filter(|problem| lacking(&problem.what)).count();
    lacking + left_out(checkpoint).map_or(0, |(count, _)| count)
}

/// How many tensors of the encoder the configuration leaves out, and the first of them.
fn left_out(checkpoint: &Checkpoint) -> Option<(usize, &str)> {
    let of_encoder = |name: &&str| name.split(['.', '/']).any(|part| part == "encoder");
    let mut left_out =
        checkpoint.unexpected().filter(of_encoder).filter(|name| !inventory::is_of_adapter(name));
    left_out.next().map(|first| (1 + left_out.count(), first))
}

/// It is for information: the numbers are of the model without these tensors, and so is what transformers builds.
fn left_out_finding(checkpoint: &Checkpoint) -> Option<Finding> {
    let (count, first) = left_out(checkpoint)?;
    let message = format!(
        "the configuration leaves out {count} tensors of the encoder that the file has, {first} among them: transformers \
         builds the model without them (num_hidden_layers, relative_attention, pos_att_type, share_att_key, norm_rel_ebd, \
         conv_kernel_size, talking_head)"
    );
    Some(Finding::new(FindingKind::ConfigUnfit, Outcome::Pass, message))
}

struct Built<'b> {
    file: &'b WeightFile<'b>,
    checkpoint: &'b Checkpoint,
    config: &'b ConfigFile,
    asked: &'b [Head],
}

impl Built<'_> {
    /// A class of `architectures` that the weights are not of.
    fn architecture(&self, name: &str) -> Option<Finding> {
        let unfit = |what: String| {
            Some(Finding::new(
                FindingKind::ConfigUnfit,
                Outcome::Divergence,
                format!("architectures: {what}"),
            ))
        };
        let family = self.config.config.family;
        // Of a name that no class has transformers says nothing: it takes another one.
        let head = Head::from_class_name(name)?;
        if head.class_name(family) != name.strip_prefix("TF").unwrap_or(name) {
            let model = self.config.config.model_type();
            return unfit(format!("{name} is no class of model_type {model}: it has other parameters"));
        }
        if !head.in_transformers() || head == Head::Base {
            return None;
        }
        let opened = (head != self.checkpoint.head)
            .then(|| self.file.open(Some(Class::of_head(family, head))))
            .transpose();
        let Ok(opened) = opened else { return None };
        let checkpoint = opened.as_ref().unwrap_or(self.checkpoint);
        let there = |name: &str| checkpoint.parameter(name).is_some();
        let of_head = params(&checkpoint.config, head);
        let of_head: Vec<&str> = of_head
            .iter()
            .filter(|param| param.module.in_head() && param.required)
            .map(|param| param.name.as_str())
            .collect();
        let missing: Vec<&str> = of_head.iter().copied().filter(|name| !there(name)).collect();
        // A tensor of another shape is not there either, and is told as what it is.
        let misshapen = |problem: &&deberta_converters::matching::Problem| {
            matches!(problem.what, ProblemKind::Shape { .. })
        };
        let first =
            missing.first().filter(|_| !checkpoint.problems.iter().any(|problem| misshapen(&problem)))?;
        let (lacks, all) = (missing.len(), of_head.len());
        unfit(format!(
            "{name}, of whose head the file lacks {lacks} of {all} tensors, {first} among them: transformers makes them of \
             random numbers"
        ))
    }

    /// Classes of `architectures` that are none of those with a head that the goldens are of. A golden has traces of the base
    /// model beside those of its class: they do not make a configuration right that leaves the head out. It is a divergence if
    /// the head is left out, or the golden's own configuration names another class; else another class may compute with the
    /// same head.
    fn other_class(&self) -> Option<Finding> {
        let config = &self.config.config;
        let named = classes(&config.architectures);
        let with_head = |head: &&Head| head.in_transformers() && **head != Head::Base;
        let asked = || self.asked.iter().filter(with_head).map(|head| head.class_name(config.family));
        let class = asked().next()?;
        let of_goldens: Vec<ConfigFile> = self.file.request.goldens.iter().filter_map(config_of).collect();
        let of_goldens = || of_goldens.iter().map(|config| classes(&config.config.architectures));
        let loaded = self.asked.iter().filter(|head| **head != Head::Base);
        let is_known =
            loaded.map(|head| head.architecture(config.family)).any(|class| named.contains(&class))
                || of_goldens().any(|known| known == named);
        if named.is_empty() || is_known {
            return None;
        }
        let leaves_out = named.iter().all(|name| Head::from_class_name(name) == Some(Head::Base));
        let outcome = if leaves_out || of_goldens().any(|known| known.contains(&class)) {
            Outcome::Divergence
        } else {
            Outcome::Undecided
        };
        let what = if leaves_out { "a model without the head" } else { "another model" };
        let message = format!(
            "architectures names {}, the golden is of {class}: whoever builds the class that the configuration names has {what}",
            named.join(", "),
        );
        Some(Finding::new(FindingKind::ConfigUnfit, outcome, message))
    }

    /// A masked-LM head that is the other one than `legacy` says. Where nobody asks for that class, and nothing says
    /// `legacy`, it is for information: Microsoft's checkpoints are so.
    fn legacy(&self) -> Option<Finding> {
        let (said, held) = (self.config.config.legacy, self.checkpoint.config.legacy);
        if said == held || !matches!(self.checkpoint.head, Head::MaskedLm | Head::MaskDecoder) {
            return None;
        }
        let heads = |legacy: bool| if legacy { "cls.predictions" } else { "lm_predictions.lm_head" };
        let stated = self.config.map.contains_key("legacy");
        let (says, outcome) = match (stated, self.asked.contains(&Head::MaskedLm)) {
            (true, _) => (format!("legacy is {said}"), Outcome::Divergence),
            (false, true) => (format!("legacy is absent, and so {said}"), Outcome::Divergence),
            (false, false) => (format!("legacy is absent, and so {said}"), Outcome::Pass),
        };
        let message = format!(
            "{says}, and the head of the file is {}: transformers builds {} of random numbers in its place",
            heads(held),
            heads(said)
        );
        Some(Finding::new(FindingKind::ConfigUnfit, outcome, message))
    }

    /// A head of another number of outputs than the configuration has labels, if the class is known: a multiple choice has
    /// the tensors of a classifier, too. Answers to questions have a start and an end, and transformers as many outputs as
    /// labels.
    fn number_of_labels(&self) -> Option<Finding> {
        let (config, head) = (&self.config.config, self.checkpoint.head);
        let class = head.class_name(config.family);
        let declared =
            config.architectures.iter().any(|name| name.strip_prefix("TF").unwrap_or(name) == class);
        if !declared && !self.asked.contains(&head) {
            return None;
        }
        let labels = config.num_labels;
        let outputs = self.checkpoint.problems.iter().find_map(|problem| match &problem.what {
            ProblemKind::Shape { expected, found } => {
                let of_classifier = problem.tensor.split(['.', '/']).any(|part| part == "classifier");
                let of_labels = expected.len() == found.len() && expected.contains(&labels);
                (of_classifier && of_labels)
                    .then(|| format!("{} has shape {found:?} for {expected:?}", problem.tensor))
            }
            _ => None,
        });
        let answers = (head == Head::QuestionAnswering && labels != 2).then(|| "qa_outputs has 2".to_owned());
        let message = format!(
            "id2label (or num_labels) has {labels} labels, {}: transformers refuses to load it",
            outputs.or(answers)?
        );
        Some(Finding::new(FindingKind::ConfigUnfit, Outcome::Divergence, message))
    }
}

/// The classes that `architectures` names, as PyTorch calls them.
fn classes(architectures: &[String]) -> Vec<&str> {
    architectures.iter().map(|name| name.strip_prefix("TF").unwrap_or(name)).collect()
}
