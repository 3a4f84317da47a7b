//! The probe points and outputs of every class, in the order of execution, and what a golden must have of them. What each of
//! them is: `docs/activations.md`.

use std::collections::BTreeSet;

use deberta_reference::probe::matches;
use deberta_reference::{DebertaConfig, Head, Inputs, Module, Stage, locate};

use crate::trace::class::{Class, Code};
use crate::trace::file::TraceFile;

/// The key of the metadata that says which activations a trace has.
pub const POINTS: &str = "points";

/// A probe point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The name without `activations.`: `deberta.encoder.layer.0.attention.self`.
    pub name: String,
    /// The part of the model that computes it.
    pub stage: Stage,
    /// What computes it.
    pub module: Module,
    /// Who can record it.
    pub kind: PointKind,
}

/// Who can record a probe point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// The output of a module: hooks on the modules of any framework find it.
    Hooked,
    /// A quantity inside a module: `scores`, `probs`, `c2c`, `c2p`, `p2c`.
    Inner,
    /// The output of a step of the mask decoder.
    Step,
    /// What nobody computes separately but the reference implementation.
    Own,
}

/// What the axes of a tensor are, as far as padding is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes {
    /// [b, n, …]
    Tokens,
    /// [b, H, n]
    TokensLast,
    /// Rows of a table, which know no tokens: [1, 2s, H], [1, n, E], [2S, H].
    Positions,
    /// [b, h, n, n]; a number needs its query and its key.
    Pairs,
    /// [b, n, n, h], alike.
    PairsHeadsLast,
    /// [b, h, n, n]; 0 where the key is padding, so that only the query counts.
    Queries,
    /// [b, n, …]; a number needs its token and the first one of its sequence.
    WithFirstToken,
    /// [b, …], from the first token of every sequence; of multiple choice [b, c].
    FirstToken,
    /// One number, or one a sequence.
    Loss,
}

/// What decides whether a class has a point.
struct Subject<'a> {
    config: &'a DebertaConfig,
    head: Head,
    inputs: &'a Inputs,
    /// Whether the stage is a step of the mask decoder.
    step: bool,
}

/// A line of the table: a module, who records its point, its axes, and whether a class has it.
type Line = (Module, PointKind, Axes, fn(&Subject<'_>) -> bool);

/// All points.
const TABLE: &[Line] = {
    use Axes::{FirstToken, Pairs, PairsHeadsLast, Positions, Queries, Tokens, TokensLast, WithFirstToken};
    use Module::*;
    use PointKind::{Hooked, Inner, Own};
    const ALWAYS: fn(&Subject<'_>) -> bool = |_| true;
    const C2P: fn(&Subject<'_>) -> bool = |subject| subject.config.c2p();
    const P2C: fn(&Subject<'_>) -> bool = |subject| subject.config.p2c();
    const IN_PROJ: fn(&Subject<'_>) -> bool = |subject| subject.config.has_in_proj();
    const SEPARATE: fn(&Subject<'_>) -> bool = |subject| !subject.config.has_in_proj();
    const CONVOLUTION: fn(&Subject<'_>) -> bool = |subject| subject.config.convolution.is_some();
    const REPLACED: fn(&Subject<'_>) -> bool = |subject| subject.head == Head::ReplacedTokens;
    const TALKING: fn(&Subject<'_>) -> bool = |subject| subject.config.talking_head;
    const LEGACY: fn(&Subject<'_>) -> bool = |subject| subject.head.is_legacy(subject.config);
    const LM: fn(&Subject<'_>) -> bool =
        |subject| matches!(subject.head, Head::MaskedLm | Head::MaskDecoder) && !LEGACY(subject);
    const POOLED: fn(&Subject<'_>) -> bool = |subject| subject.head.has_pooler();
    &[
        (WordEmbeddings, Hooked, Tokens, |subject| subject.inputs.input_ids.is_some()),
        (PositionEmbeddings, Hooked, Positions, |subject| subject.config.position_biased_input),
        (TokenTypeEmbeddings, Hooked, Tokens, |subject| subject.config.type_vocab_size > 0),
        (EmbedProj, Hooked, Tokens, |subject| subject.config.embedding_size != subject.config.hidden_size),
        (EmbeddingsLayerNorm, Hooked, Tokens, ALWAYS),
        (Embeddings, Hooked, Tokens, ALWAYS),
        (TableLayerNorm, Hooked, Positions, |subject| {
            subject.config.norm_rel_ebd && subject.config.relative_attention
        }),
        (InProj, Hooked, Tokens, IN_PROJ),
        (QueryProj, Hooked, Tokens, |subject| SEPARATE(subject) || subject.step),
        (KeyProj, Hooked, Tokens, SEPARATE),
        (ValueProj, Hooked, Tokens, SEPARATE),
        (PosProj, Hooked, Positions, |subject| IN_PROJ(subject) && C2P(subject)),
        (PosQProj, Hooked, Positions, |subject| IN_PROJ(subject) && P2C(subject)),
        (PosKeyProj, Hooked, Positions, |subject| SEPARATE(subject) && C2P(subject)),
        (PosQueryProj, Hooked, Positions, |subject| SEPARATE(subject) && P2C(subject)),
        (C2c, Inner, Pairs, ALWAYS),
        (C2p, Inner, Pairs, C2P),
        (P2c, Inner, Pairs, P2C),
        (Scores, Inner, Pairs, ALWAYS),
        (HeadLogitsProj, Hooked, PairsHeadsLast, TALKING),
        (Probs, Inner, Queries, ALWAYS),
        (HeadWeightsProj, Hooked, Tokens, TALKING),
        (SelfAttention, Hooked, Tokens, ALWAYS),
        (AttentionDense, Hooked, Tokens, ALWAYS),
        (AttentionLayerNorm, Hooked, Tokens, ALWAYS),
        (AttentionOutput, Hooked, Tokens, ALWAYS),
        (Attention, Hooked, Tokens, ALWAYS),
        (IntermediateDense, Hooked, Tokens, ALWAYS),
        (Intermediate, Hooked, Tokens, ALWAYS),
        (OutputDense, Hooked, Tokens, ALWAYS),
        (OutputLayerNorm, Hooked, Tokens, ALWAYS),
        (Output, Hooked, Tokens, ALWAYS),
        (Layer, Hooked, Tokens, ALWAYS),
        (Conv, Hooked, TokensLast, CONVOLUTION),
        (ConvLayerNorm, Hooked, Tokens, CONVOLUTION),
        (Convolution, Hooked, Tokens, CONVOLUTION),
        (TransformDense, Hooked, Tokens, LEGACY),
        (TransformLayerNorm, Hooked, Tokens, LEGACY),
        (Transform, Hooked, Tokens, LEGACY),
        (Decoder, Hooked, Tokens, LEGACY),
        (Predictions, Hooked, Tokens, LEGACY),
        (Cls, Hooked, Tokens, LEGACY),
        (LmDense, Hooked, Tokens, LM),
        (LmLayerNorm, Hooked, Tokens, LM),
        (LmHead, Hooked, Tokens, LM),
        (LmPredictions, Hooked, Tokens, LM),
        (PoolerDense, Hooked, FirstToken, POOLED),
        (Pooler, Hooked, FirstToken, POOLED),
        (Classifier, Hooked, Tokens, |subject| POOLED(subject) || subject.head == Head::TokenClassification),
        (QaOutputs, Hooked, Tokens, |subject| subject.head == Head::QuestionAnswering),
        (MaskPredictionsLayerNorm, Hooked, WithFirstToken, REPLACED),
        (MaskPredictionsDense, Hooked, WithFirstToken, REPLACED),
        (MaskPredictionsClassifier, Hooked, WithFirstToken, REPLACED),
        (MaskPredictions, Own, WithFirstToken, REPLACED),
    ]
};

/// The points of a class when it is given `inputs`, in the order of execution.
pub fn points(config: &DebertaConfig, class: Class, inputs: &Inputs) -> Vec<Point> {
    let head = class.head;
    let in_stage = |stage: Stage| {
        let subject = Subject { config, head, inputs, step: matches!(stage, Stage::Step(_)) };
        let there = TABLE.iter().filter(move |(module, _, _, when)| stage.has(*module) && when(&subject));
        there.map(move |&(module, kind, ..)| {
            let kind = match (stage, module, kind) {
                (Stage::Step(_), Module::Layer, _) => PointKind::Step,
                // Microsoft's code has no modules of these names: only what is inside of them is its own.
                (Stage::Step(_), _, PointKind::Hooked) => PointKind::Own,
                _ => kind,
            };
            Point { name: stage.path(head.base_prefix(), module), stage, module, kind }
        })
    };
    let layers = config.num_hidden_layers;
    let stages = [Stage::Embeddings, Stage::Table].into_iter();
    let stages =
        stages.chain((0..layers).map(Stage::Layer)).chain((0..config.decoder_steps(head)).map(Stage::Step));
    stages.chain([Stage::Head]).flat_map(in_stage).collect()
}

/// The outputs that a class always has when it is given `inputs`, without `outputs.`.
pub fn outputs(class: Class, inputs: &Inputs) -> Vec<&'static str> {
    let mut names = match class.head {
        Head::Base => vec!["last_hidden_state"],
        Head::QuestionAnswering => vec!["start_logits", "end_logits"],
        _ => vec!["logits"],
    };
    let answers = inputs.start_positions.is_some() && inputs.end_positions.is_some();
    if inputs.labels.is_some() || (class.head == Head::QuestionAnswering && answers) {
        names.push("loss");
    }
    names
}

/// What a tensor of a trace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The activation of a module.
    Point(Stage, Module),
    /// `outputs.hidden_states.i`: what the embeddings (0) or layer i - 1 returns.
    State(usize),
    /// `outputs.attentions.i`: the probabilities of layer i.
    Attentions(usize),
    /// Another output, by its place in the order of execution.
    Output(&'static str),
}

/// The outputs that a class has once, in the order of execution.
const OUTPUTS: [&str; 5] = ["last_hidden_state", "logits", "start_logits", "end_logits", "loss"];

impl Named {
    /// What the tensor of that name is: `activations.` may be left out. Nothing if no class has it.
    pub fn of(name: &str) -> Option<Named> {
        let Some(output) = name.strip_prefix("outputs.") else {
            let (stage, module) = locate(name.strip_prefix("activations.").unwrap_or(name))?;
            return Some(Named::Point(stage, module));
        };
        let numbered = |prefix: &str| output.strip_prefix(prefix)?.parse().ok();
        let once = || OUTPUTS.into_iter().find(|&known| known == output).map(Named::Output);
        let attentions = || numbered("attentions.").map(Named::Attentions);
        numbered("hidden_states.").map(Named::State).or_else(attentions).or_else(once)
    }

    /// The part of the model that computes it.
    pub fn stage(self) -> Stage {
        match self {
            Named::Point(stage, _) => stage,
            Named::State(i) => Stage::of_state(i),
            Named::Attentions(layer) => Stage::Layer(layer),
            Named::Output(_) => Stage::Head,
        }
    }

    /// Its axes under a head.
    pub fn axes(self, head: Head) -> Axes {
        match self {
            Named::Point(_, Module::Classifier) | Named::Output("logits") if head.has_pooler() => {
                Axes::FirstToken
            }
            Named::Output("logits") if head == Head::ReplacedTokens => Axes::WithFirstToken,
            Named::Point(_, module) => {
                let line = TABLE.iter().find(|(known, ..)| *known == module);
                line.map_or(Axes::Tokens, |&(_, _, axes, _)| axes)
            }
            Named::Attentions(_) => Axes::Queries,
            Named::Output("loss") => Axes::Loss,
            Named::State(_) | Named::Output(_) => Axes::Tokens,
        }
    }
}

/// The place of a tensor of a trace in the order of execution. Unknown names come last.
pub fn rank(name: &str) -> (Stage, usize) {
    // In a layer, the attentions come after all modules, and the hidden state, which the layer returns, after them.
    const ATTENTIONS: usize = Module::ALL.len();
    let Some(named) = Named::of(name) else { return (Stage::Head, usize::MAX) };
    let place = match named {
        Named::Point(_, module) => module as usize,
        Named::Attentions(_) => ATTENTIONS,
        Named::State(_) => ATTENTIONS + 1,
        Named::Output(name) => {
            ATTENTIONS + OUTPUTS.iter().position(|&known| known == name).unwrap_or_default()
        }
    };
    (named.stage(), place)
}

/// Whether a tensor is what a module of transformers returns that has no point of its own: recorders that hook all modules have
/// it. When a model is run, a dropout returns what it is given, and an activation what the module around it returns.
pub fn is_of_inner_module(name: &str) -> bool {
    const MODULES: [&str; 4] = ["dropout", "pos_dropout", "intermediate_act_fn", "transform_act_fn"];
    let path = name.strip_prefix("activations.").unwrap_or_default();
    path.rsplit('.').next().is_some_and(|module| MODULES.contains(&module)) && locate(path).is_none()
}

/// Whether a golden is meant to have a point: all, unless its metadata has [`POINTS`]; then the activations that these patterns
/// match, and of the outputs that no class need return, hidden states and attentions, those that it has.
pub fn is_selected(golden: &TraceFile, name: &str) -> bool {
    let Some(patterns) = golden.metadata(POINTS) else { return true };
    match (name.strip_prefix("activations."), Named::of(name)) {
        (Some(activation), _) => patterns.split_whitespace().any(|pattern| matches(pattern, activation)),
        (None, Some(Named::State(_))) => golden.has_any("outputs.hidden_states."),
        (None, Some(Named::Attentions(_))) => golden.has_any("outputs.attentions."),
        _ => true,
    }
}

/// The full names of what the golden lacks, in the order of execution: so that a point that somebody removed or renamed is
/// noticed.
///
/// A golden that has a point of one layer has it of all layers; one that has half of the modules has all of them; one that
/// has a loss to return has it. A golden that is meant to have less says so: its metadata has [`POINTS`], patterns with a
/// space between them.
pub fn missing(golden: &TraceFile, config: &DebertaConfig, class: Class, inputs: &Inputs) -> Vec<String> {
    let names: BTreeSet<&str> = golden.names().collect();
    let patterns: Option<Vec<&str>> = golden.metadata(POINTS).map(|text| text.split_whitespace().collect());
    let known = points(config, class, inputs);
    let there = |point: &Point| names.contains(format!("activations.{}", point.name).as_str());
    let modules = || known.iter().filter(|point| point.kind == PointKind::Hooked);
    let all_modules = 2 * modules().filter(|point| there(point)).count() >= modules().count();
    // What all layers have, or all steps of the mask decoder.
    let repeated = |point: &Point| {
        let step = matches!(point.stage, Stage::Step(_));
        point.module.in_layers().then_some((step, point.module))
    };
    let layered: BTreeSet<_> = known.iter().filter(|point| there(point)).filter_map(repeated).collect();
    let activations = known.iter().filter(|point| match &patterns {
        Some(patterns) => patterns.iter().any(|pattern| matches(pattern, &point.name)),
        None => {
            (all_modules && point.kind == PointKind::Hooked)
                || (point.kind != PointKind::Own
                    && repeated(point).is_some_and(|module| layered.contains(&module)))
        }
    });

    let layers = config.num_hidden_layers;
    let has_any = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    let mut expected: Vec<String> = activations.map(|point| format!("activations.{}", point.name)).collect();
    if has_any("outputs.hidden_states.") {
        // Microsoft's code returns the layers alone.
        let first = usize::from(class.code == Code::Microsoft);
        expected.extend((first..=layers).map(|i| format!("outputs.hidden_states.{i}")));
    }
    if has_any("outputs.attentions.") {
        expected.extend((0..layers).map(|i| format!("outputs.attentions.{i}")));
    }
    expected.extend(outputs(class, inputs).into_iter().map(|name| format!("outputs.{name}")));
    expected.retain(|name| !names.contains(name.as_str()));
    expected
}

#[cfg(test)]
mod tests {
    use super::*;
    use deberta_reference::Family;

    #[test]
    fn names_are_in_the_order_of_execution() {
        let config = DebertaConfig::from_json(
            r#"{"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 11, "num_attention_heads": 2,
                "intermediate_size": 8, "relative_attention": true, "pos_att_type": "c2p|p2c", "talking_head": true,
                "position_biased_input": false, "max_position_embeddings": 8}"#,
        )
        .unwrap();
        let version_2 = DebertaConfig::from_json(
            r#"{"model_type": "deberta-v2", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 11,
                "num_attention_heads": 2, "intermediate_size": 8, "relative_attention": true, "pos_att_type": "c2p|p2c",
                "conv_kernel_size": 3, "norm_rel_ebd": "layer_norm", "max_position_embeddings": 8,
                "position_biased_input": false}"#,
        )
        .unwrap();
        let of = |config, head| (config, Class::of_head(Family::V2, head));
        let cases = [
            (&config, Class::MASK_DECODER),
            (&config, Class::of_head(Family::V1, Head::SequenceClassification)),
            (&version_2, Class::MASK_DECODER),
            of(&version_2, Head::MultipleChoice),
            of(&version_2, Head::ReplacedTokens),
        ];
        for (config, class) in cases {
            let names: Vec<String> =
                points(config, class, &Inputs::default()).into_iter().map(|point| point.name).collect();
            let mut ranks: Vec<_> = names.iter().map(|name| rank(&format!("activations.{name}"))).collect();
            assert!(names.iter().all(|name| Named::of(name).is_some()), "{names:?}");
            let count = ranks.len();
            assert!(ranks.is_sorted());
            ranks.dedup();
            assert_eq!(ranks.len(), count);
        }
    }

    #[test]
    fn outputs_are_in_the_order_of_execution() {
        let names = [
            "activations.deberta.embeddings",
            "outputs.hidden_states.0",
            "activations.deberta.encoder.layer.0.attention.self",
            "activations.deberta.encoder.layer.0",
            "outputs.attentions.0",
            "outputs.hidden_states.1",
            "activations.deberta.encoder.layer.1.attention.self",
            "outputs.attentions.1",
            "outputs.hidden_states.2",
            "activations.emd.0",
            "activations.classifier",
            "outputs.logits",
            "outputs.loss",
            "outputs.something",
        ];
        assert!(names.map(rank).is_sorted());
    }
}
