//! The models that the selftest makes in memory, so that every fault can be seen.

use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::progress::Progress;
use deberta_reference::{DebertaConfig, Head, Inputs, Role, Tensor};
use ndarray::{Array2, ArrayD};

use super::graphs::{self, GraphReport};
use super::{Recorded, Subject};
use crate::backend::Backend as _;
use crate::fault::{Model, Noise};
use crate::judge::tolerance::{Precision, Tolerances};
use crate::trace::class::Class;

/// Version 1: both position terms, token types and absolute positions; narrower embeddings would hide square kernels. The hidden
/// states of the embeddings are as small as those of published models, so that `layer_norm_eps` counts.
const VERSION_1: &str = r#"{
    "vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": 16, "type_vocab_size": 2, "relative_attention": true, "pos_att_type": "c2p|p2c",
    "position_biased_input": true, "num_labels": 3
}"#;

/// Version 2 as its large models are: one projection for tokens and positions, a convolution. With 8 as the largest distance,
/// 10 tokens show every bucket, and what becomes of distances beyond.
const SHARED: &str = r#"{
    "model_type": "deberta-v2", "vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 20, "max_position_embeddings": 16, "relative_attention": true, "pos_att_type": "p2c|c2p",
    "position_buckets": 6, "max_relative_positions": 8, "norm_rel_ebd": "layer_norm", "share_att_key": true,
    "position_biased_input": false, "conv_kernel_size": 3, "conv_act": "gelu"
}"#;

/// Version 2 with projections of their own for positions, and a table as it is.
const SEPARATE: &str = r#"{
    "model_type": "deberta-v2", "vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 20, "max_position_embeddings": 16, "relative_attention": true, "pos_att_type": "c2p|p2c",
    "position_buckets": 6, "max_relative_positions": 8, "position_biased_input": false, "tie_word_embeddings": false
}"#;

/// The models, and what the reference implementation computes with them.
///
/// # Errors
/// None that can happen.
pub fn subjects() -> Result<Vec<Subject>> {
    let models = [
        (VERSION_1, Head::MaskedLm),
        (VERSION_1, Head::SequenceClassification),
        (SHARED, Head::MaskedLm),
        (SHARED, Head::TokenClassification),
        (SEPARATE, Head::MaskedLm),
    ];
    models.into_iter().map(|(config, head)| subject(config, head)).collect()
}

/// Changes the graphs of small models, and verifies each.
///
/// # Errors
/// None that can happen, but for a disk that is full.
pub fn graph_faults(progress: &dyn Progress) -> Result<Vec<GraphReport>> {
    let models = [
        (VERSION_1, Head::SequenceClassification),
        (VERSION_1, Head::QuestionAnswering),
        (SHARED, Head::TokenClassification),
    ];
    let mut reports = Vec::new();
    for (config, head) in models {
        reports.extend(graphs::test(&subject(config, head)?, config, progress)?);
    }
    Ok(reports)
}

fn subject(config: &str, head: Head) -> Result<Subject> {
    let config =
        DebertaConfig::from_json(config).map_err(|error| Error::new(Kind::Model, error.to_string()))?;
    let class = Class::of_head(config.family, head);
    let masked_rows = class.masked_rows();
    let mut model = Model::empty(config, class, masked_rows);
    let mut noise = Noise(1);
    for param in model.params() {
        let count = param.shape.iter().product();
        let input = param.shape.last().copied().unwrap_or(1) as f32;
        let (middle, width) = match param.role {
            Role::LinearWeight | Role::Convolution => (0.0, 2.0 / input.sqrt()),
            Role::Bias | Role::LayerNormShift => (0.0, 0.4),
            Role::LayerNormScale => (1.0, 0.3),
            Role::WordEmbedding | Role::PositionEmbedding | Role::TokenTypeEmbedding => (0.0, 0.03),
            Role::RelativeEmbedding => (0.0, 1.0),
        };
        let values = (0..count).map(|_| middle + width * noise.next()).collect();
        model.insert(param.name, Tensor::new(param.shape, values));
    }
    let reference = model.build()?;
    // More tokens than heads, and than twice the heads; padding right and left; a single token.
    let inputs = [
        ("padded", inputs(5, 10, &[0, 3, 0, 0, 1])),
        ("plain", inputs(4, 4, &[0; 4])),
        ("short", inputs(2, 1, &[0; 2])),
    ];
    let goldens = inputs.into_iter().map(|(name, inputs)| {
        let trace = reference.run(&inputs, &["*"], Vec::new())?;
        Ok(Recorded { name: name.to_owned(), trace, inputs, class, masked_rows })
    });
    Ok(Subject {
        name: format!("a small {class}"),
        goldens: goldens.collect::<Result<_>>()?,
        sampled: Vec::new(),
        model,
        tolerances: Tolerances::default(),
        precision: Precision::F32,
        sensitive: true,
    })
}

/// Inputs of b sequences of n tokens, with that much padding at the end of each; at the start of the second.
fn inputs(b: usize, n: usize, padding: &[usize]) -> Inputs {
    let ids = |most: i64, step: i64| {
        Array2::from_shape_fn((b, n), |(sequence, at)| {
            let at = i64::try_from(sequence * n + at).unwrap_or(0);
            (at * step + at / 7 + 3) % most
        })
    };
    let mask = ArrayD::from_shape_fn(vec![b, n], |at| {
        let (sequence, position) = (at[0], at[1]);
        let padding = padding.get(sequence).copied().unwrap_or(0);
        let padded = if sequence == 1 { position < padding } else { position >= n - padding };
        if padded { 0.0 } else { 1.0 }
    });
    Inputs {
        input_ids: Some(ids(37, 5)),
        token_type_ids: Some(ids(2, 3)),
        attention_mask: Some(mask),
        output_hidden_states: true,
        output_attentions: true,
        ..Inputs::default()
    }
}
