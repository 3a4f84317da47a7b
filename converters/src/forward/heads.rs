//! The heads: `reference/src/heads.rs` as nodes.

use super::functions::activate;
use super::graph::{Dim, Graph, Module, Value};
use crate::format::onnx::Attribute;

/// `logits` [b, n, V] of the masked-LM head: `cls.predictions` if `legacy`, else `lm_predictions.lm_head`.
pub(super) fn masked_lm(g: &mut Graph<'_>, x: &Value, legacy: bool) {
    let config = g.config;
    let (e, v) = (config.embedding_size, config.vocab_size);
    let tokens = |width| [Dim::Batch, Dim::Sequence, Dim::Of(width)];
    let root = Module::new("");
    let tied = Module::new("deberta.embeddings.word_embeddings").parameter("weight");
    let logits = if legacy {
        let module = Module::new("cls.predictions");
        let x = transform(g, &module.at("transform"), x);
        g.keep(&module, "transform", &x, &tokens(e));
        let decoder = module.at("decoder");
        let table = if config.tie_word_embeddings { tied } else { decoder.parameter("weight") };
        // logits = x Eᵀ + b, E being a table of words                                   [b n, V]
        let logits = g.linear_with(&decoder, &x, [&table, &module.parameter("bias")]);
        g.keep(&decoder, "", &logits, &tokens(v));
        g.keep(&module, "", &logits, &tokens(v));
        g.keep(&root, "cls", &logits, &tokens(v));
        logits
    } else {
        let module = Module::new("lm_predictions.lm_head");
        let x = transform(g, &module, x);
        let logits = g.linear_with(&module, &x, [&tied, &module.parameter("bias")]);
        g.keep(&module, "", &logits, &tokens(v));
        g.keep(&root, "lm_predictions", &logits, &tokens(v));
        logits
    };
    g.output("logits", &logits, &tokens(v));
}

/// LayerNorm(act(W x + b)): [b n, H] to [b n, E].
fn transform(g: &mut Graph<'_>, at: &Module, x: &Value) -> Value {
    let tokens = [Dim::Batch, Dim::Sequence, Dim::Of(g.config.embedding_size)];
    let x = g.linear(&at.at("dense"), x);
    g.keep(at, "dense", &x, &tokens);
    let x = activate(g, at, g.config.hidden_act, &x);
    let x = g.layer_norm(&at.at("LayerNorm"), &x);
    g.keep(at, "LayerNorm", &x, &tokens);
    x
}

/// `logits` [b, labels] of a sequence.
pub(super) fn sequence_classification(g: &mut Graph<'_>, x: &Value) {
    let labels = g.config.num_labels;
    let logits = classify_first(g, x, labels);
    g.output("logits", &logits, &[Dim::Batch, Dim::Of(labels)]);
}

/// `logits` [b, c] of the choices of a question.
pub(super) fn multiple_choice(g: &mut Graph<'_>, x: &Value) {
    let at = Module::new("classifier");
    let logits = classify_first(g, x, 1); //                                             [b c, 1]
    let choices = g.choices_shape();
    let logits = g.node(&at, "Reshape", &[&logits, &choices], &[]);
    g.output("logits", &logits, &[Dim::Questions, Dim::Choices]);
}

/// What the pooler and the classifier make of the first token: [b, labels].
fn classify_first(g: &mut Graph<'_>, x: &Value, labels: usize) -> Value {
    let h = g.config.hidden_size;
    let pooler = Module::new("pooler");
    // pooled = act(W x₀ + b), x₀ being the hidden state of the first token              [b, H]
    let shape = g.tokens_shape(&[h]);
    let x = g.node(&pooler, "Reshape", &[x, &shape], &[]); //                            [b, n, H]
    let zero = g.integer(0);
    let first = g.node(&pooler, "Gather", &[&x, &zero], &[Attribute::Int("axis", 1)]);
    let pooled = g.linear(&pooler.at("dense"), &first);
    g.keep(&pooler, "dense", &pooled, &[Dim::Batch, Dim::Of(h)]);
    let pooled = activate(g, &pooler, g.config.pooler_hidden_act, &pooled);
    g.keep(&pooler, "", &pooled, &[Dim::Batch, Dim::Of(h)]);
    let classifier = Module::new("classifier");
    let logits = g.linear(&classifier, &pooled);
    g.keep(&classifier, "", &logits, &[Dim::Batch, Dim::Of(labels)]);
    logits
}

/// `logits` [b, n] of every token: above 0 for one that was replaced.
pub(super) fn replaced_tokens(g: &mut Graph<'_>, x: &Value) {
    let h = g.config.hidden_size;
    let tokens = |width| [Dim::Batch, Dim::Sequence, Dim::Of(width)];
    let at = Module::new("mask_predictions");
    let shape = g.tokens_shape(&[h]);
    let x = g.node(&at, "Reshape", &[x, &shape], &[]); //                                [b, n, H]
    let zero = g.integers(&[0]);
    let first = g.node(&at, "Gather", &[&x, &zero], &[Attribute::Int("axis", 1)]); //    [b, 1, H]
    // z = act(W LayerNorm(h₀ + hᵢ) + b)                                                 [b n, H]
    let x = g.node(&at, "Add", &[&x, &first], &[]);
    let x = g.reshape(&at, &x, &[-1, h as i64]);
    let norm = at.at("LayerNorm");
    let x = g.layer_norm(&norm, &x);
    g.keep(&norm, "", &x, &tokens(h));
    let x = g.linear(&at.at("dense"), &x);
    g.keep(&at, "dense", &x, &tokens(h));
    let z = activate(g, &at, g.config.hidden_act, &x);
    // logit = classifier z                                                              [b n, 1]
    let logits = g.linear(&at.at("classifier"), &z);
    g.keep(&at, "classifier", &logits, &tokens(1));
    let shape = g.tokens_shape(&[]);
    let logits = g.node(&at, "Reshape", &[&logits, &shape], &[]); //                     [b, n]
    g.keep(&at, "", &logits, &[Dim::Batch, Dim::Sequence]);
    g.output("logits", &logits, &[Dim::Batch, Dim::Sequence]);
}

/// `logits` [b, n, labels] of every token.
pub(super) fn token_classification(g: &mut Graph<'_>, x: &Value) {
    let dims = [Dim::Batch, Dim::Sequence, Dim::Of(g.config.num_labels)];
    let classifier = Module::new("classifier");
    let logits = g.linear(&classifier, x);
    g.keep(&classifier, "", &logits, &dims);
    g.output("logits", &logits, &dims);
}

/// `start_logits` and `end_logits` [b, n].
pub(super) fn question_answering(g: &mut Graph<'_>, x: &Value) {
    let qa_outputs = Module::new("qa_outputs");
    let logits = g.linear(&qa_outputs, x); //                                            [b n, 2]
    g.keep(&qa_outputs, "", &logits, &[Dim::Batch, Dim::Sequence, Dim::Of(2)]);
    let shape = g.tokens_shape(&[2]);
    let logits = g.node(&qa_outputs, "Reshape", &[&logits, &shape], &[]);
    let last = g.integers(&[2]);
    let [start, end] = g.split(&qa_outputs, &logits);
    for (name, side) in [("start_logits", start), ("end_logits", end)] {
        let side = g.node(&qa_outputs, "Squeeze", &[&side, &last], &[]);
        g.output(name, &side, &[Dim::Batch, Dim::Sequence]);
    }
}
