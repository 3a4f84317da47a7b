//! The probe points and outputs of every class, in the order of execution. What each of them is: `docs/activations.md`.

use deberta_reference::{DebertaConfig, Head, Inputs, MASK_DECODER_STEPS};

use crate::trace::class::Class;

/// A probe point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The name without `activations.`: `deberta.encoder.layer.0.attention.self`.
    pub name: String,
    /// Who can record it.
    pub kind: PointKind,
}

/// Who can record a probe point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// The output of a module: hooks on the modules of any framework find it.
    Module,
    /// A quantity inside a module: `scores`, `probs`, `c2c`, `c2p`, `p2c`.
    Inner,
    /// The output of a step of the mask decoder.
    Step,
    /// What nobody computes separately but the reference implementation.
    Own,
}

use PointKind::{Inner, Module, Own};

/// The points of the embeddings.
const EMBEDDINGS: [&str; 6] = [
    "embeddings.word_embeddings",
    "embeddings.position_embeddings",
    "embeddings.token_type_embeddings",
    "embeddings.embed_proj",
    "embeddings.LayerNorm",
    "embeddings",
];

/// The points of a layer, and of a step of the mask decoder. The last one, without a name, is the layer itself.
const LAYER: [(&str, PointKind); 22] = [
    ("attention.self.in_proj", Module),
    ("attention.self.query_proj", Own),
    ("attention.self.pos_proj", Module),
    ("attention.self.pos_q_proj", Module),
    ("attention.self.c2c", Inner),
    ("attention.self.c2p", Inner),
    ("attention.self.p2c", Inner),
    ("attention.self.scores", Inner),
    ("attention.self.head_logits_proj", Module),
    ("attention.self.probs", Inner),
    ("attention.self.head_weights_proj", Module),
    ("attention.self", Module),
    ("attention.output.dense", Module),
    ("attention.output.LayerNorm", Module),
    ("attention.output", Module),
    ("attention", Module),
    ("intermediate.dense", Module),
    ("intermediate", Module),
    ("output.dense", Module),
    ("output.LayerNorm", Module),
    ("output", Module),
    ("", Module),
];

/// The points of the heads; a class has some of them.
const HEADS: [&str; 14] = [
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.transform",
    "cls.predictions.decoder",
    "cls.predictions",
    "cls",
    "lm_predictions.lm_head.dense",
    "lm_predictions.lm_head.LayerNorm",
    "lm_predictions.lm_head",
    "lm_predictions",
    "pooler.dense",
    "pooler",
    "classifier",
    "qa_outputs",
];

/// The points of a class when it is given `inputs`, in the order of execution.
pub fn points(config: &DebertaConfig, class: Class, inputs: &Inputs) -> Vec<Point> {
    let base = class.head.base_prefix();
    let module = |name: String| Point { name, kind: Module };
    let embeddings = EMBEDDINGS.into_iter().filter(|&name| match name {
        "embeddings.word_embeddings" => inputs.input_ids.is_some(),
        "embeddings.position_embeddings" => config.position_biased_input,
        "embeddings.token_type_embeddings" => config.type_vocab_size > 0,
        "embeddings.embed_proj" => config.embedding_size != config.hidden_size,
        _ => true,
    });
    let mut points: Vec<Point> = embeddings.map(|name| module(format!("{base}{name}"))).collect();
    for i in 0..config.num_hidden_layers {
        points.extend(layer(config, &format!("{base}encoder.layer.{i}"), false));
    }
    if class.head == Head::MaskDecoder && !config.position_biased_input && config.num_hidden_layers > 0 {
        points.extend((0..MASK_DECODER_STEPS).flat_map(|step| layer(config, &format!("emd.{step}"), true)));
    }
    let of_the_head = |name: &&str| match class.head {
        Head::Base => false,
        Head::MaskedLm if class.head.is_legacy(config) => name.starts_with("cls"),
        Head::MaskedLm | Head::MaskDecoder => name.starts_with("lm_predictions"),
        Head::SequenceClassification => name.starts_with("pooler") || *name == "classifier",
        Head::TokenClassification => *name == "classifier",
        Head::QuestionAnswering => *name == "qa_outputs",
    };
    points.extend(HEADS.into_iter().filter(of_the_head).map(|name| module(name.to_owned())));
    points
}

fn layer(config: &DebertaConfig, path: &str, step: bool) -> Vec<Point> {
    let there = |name: &str| match name.rsplit('.').next() {
        Some("query_proj") => step,
        Some("pos_proj" | "c2p") => config.c2p(),
        Some("pos_q_proj" | "p2c") => config.p2c(),
        Some("head_logits_proj" | "head_weights_proj") => config.talking_head,
        _ => true,
    };
    let point = |(name, kind): (&str, PointKind)| match (name, kind) {
        ("", _) if step => Point { name: path.to_owned(), kind: PointKind::Step },
        ("", kind) => Point { name: path.to_owned(), kind },
        // Microsoft's code has no modules of these names: only what is inside of them is its own.
        (name, Module) if step => Point { name: format!("{path}.{name}"), kind: Own },
        (name, kind) => Point { name: format!("{path}.{name}"), kind },
    };
    LAYER.into_iter().filter(|(name, _)| there(name)).map(point).collect()
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

/// The place of a tensor of a trace in the order of execution. Unknown names come last.
pub fn rank(name: &str) -> (usize, usize, usize) {
    const UNKNOWN: (usize, usize, usize) = (usize::MAX, 0, 0);
    if let Some(output) = name.strip_prefix("outputs.") {
        let numbered = |prefix: &str| output.strip_prefix(prefix)?.parse::<usize>().ok();
        // Beside the point that is the same; attentions after the modules of their layer.
        if let Some(state) = numbered("hidden_states.") {
            return state
                .checked_sub(1)
                .map_or((0, EMBEDDINGS.len(), 0), |layer| (1, layer, LAYER.len() + 1));
        }
        if let Some(layer) = numbered("attentions.") {
            return (1, layer, LAYER.len());
        }
        let last = ["last_hidden_state", "logits", "start_logits", "end_logits", "loss"];
        return last.iter().position(|&known| known == output).map_or(UNKNOWN, |at| (4, at, 0));
    }
    let name = name.strip_prefix("activations.").unwrap_or(name);
    let name = name.strip_prefix("deberta.").unwrap_or(name);
    for (stage, prefix) in [(1, "encoder.layer."), (2, "emd.")] {
        if let Some(rest) = name.strip_prefix(prefix) {
            let (number, point) = rest.split_once('.').unwrap_or((rest, ""));
            let at = LAYER.iter().position(|(known, _)| *known == point);
            return match (number.parse(), at) {
                (Ok(number), Some(at)) => (stage, number, at),
                _ => UNKNOWN,
            };
        }
    }
    let found =
        |stage, names: &[&str]| names.iter().position(|&known| known == name).map(|at| (stage, at, 0));
    found(0, &EMBEDDINGS).or_else(|| found(3, &HEADS)).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_execution() {
        let config = DebertaConfig::from_json(
            r#"{"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 11, "num_attention_heads": 2,
                "intermediate_size": 8, "relative_attention": true, "pos_att_type": "c2p|p2c", "talking_head": true,
                "position_biased_input": false, "max_position_embeddings": 8}"#,
        )
        .unwrap();
        for class in [Class::MASK_DECODER, Class::of_head(Head::SequenceClassification)] {
            let names: Vec<String> =
                points(&config, class, &Inputs::default()).into_iter().map(|point| point.name).collect();
            let mut ranks: Vec<_> = names.iter().map(|name| rank(&format!("activations.{name}"))).collect();
            assert!(ranks.iter().all(|rank| rank.0 < 4), "{names:?}");
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
