//! The forward pass of every class as an ONNX graph, from its configuration: one function a module, the equations of the
//! reference beside the nodes.
//!
//! Hidden states are `[b n, H]` inside the graph, so that a linear layer is one `Gemm` with its weight stored as it is
//! in PyTorch, and its bias. No length is written into the graph. Weights are initializers by their canonical names;
//! they are not part of what is built here.

use std::collections::HashMap;

use deberta_reference::{Conventions, DebertaConfig, Head, MaskedRows, params};

use crate::error::{Error, Kind, Result};
use crate::format::onnx::proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use crate::int8::{Int8, Kept};
use crate::naming::CONFIG_KEY;
use crate::tensor::Dtype;
use around::around;
use graph::{Dim, Graph, Module};
pub use int8::Rounded;

mod around;
mod attention;
mod convolution;
mod embeddings;
mod encoder;
mod functions;
mod graph;
mod heads;
mod int8;
mod projections;
mod relative;
mod widen;

/// The version of ONNX's operators that the graph needs: the first with `LayerNormalization`.
const OPSET: i64 = 17;
/// The version of the format that came with it.
const IR_VERSION: i64 = 8;
/// The key under which the metadata tell the weight digest.
pub const DIGEST_KEY: &str = "deberta.weight_digest";

/// The key under which the metadata tell the class.
pub const CLASS_KEY: &str = "deberta.class";

/// What a graph may be asked to be, besides right.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What becomes of attention rows whose every key is masked. If absent, what the code of the class does: uniform, but zero
    /// in Microsoft's classes.
    pub masked_rows: Option<MaskedRows>,
    /// The activations that are outputs, too: a pattern of their names, in which `*` stands for any text.
    pub activations: Option<String>,
    /// The dtype that is computed in, if it is another one than that of the weights: f32 for halves.
    pub compute: Option<Dtype>,
    /// How weights are rounded to integers of 8 bits, if they are; everything else is in f32.
    pub int8: Option<Int8>,
    /// The text of `config.json`, which goes into the metadata.
    pub config: Option<String>,
}

/// The model of a class without its weights, which have that dtype.
///
/// # Errors
/// A class that the configuration cannot make; a dtype that runtimes do not compute with; activations of which there
/// is none.
pub fn model(config: &DebertaConfig, head: Head, dtype: Dtype, options: &Options) -> Result<ModelProto> {
    let (graph, _) = graph(config, head, dtype, options)?;
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    let mut metadata = vec![
        entry(CLASS_KEY, head.class_name(config.family)),
        entry("deberta.masked_rows", conventions(head, options).masked_rows.word()),
    ];
    metadata.extend(options.config.as_ref().map(|text| entry(CONFIG_KEY, text)));
    Ok(ModelProto {
        ir_version: Some(IR_VERSION),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        producer_name: Some("deberta-convert".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(graph),
        metadata_props: metadata,
        ..ModelProto::default()
    })
}

/// The weights of that model that are integers of 8 bits, and those that are not because `options` says so.
///
/// # Errors
/// As [`model()`].
pub fn rounded(config: &DebertaConfig, head: Head, options: &Options) -> Result<Rounded> {
    let (_, rounded) = graph(config, head, Dtype::F32, options)?;
    Ok(rounded)
}

fn conventions(head: Head, options: &Options) -> Conventions {
    let own = head.conventions();
    Conventions { masked_rows: options.masked_rows.unwrap_or(own.masked_rows), ..own }
}

fn graph(
    config: &DebertaConfig,
    head: Head,
    dtype: Dtype,
    options: &Options,
) -> Result<(GraphProto, Rounded)> {
    refuse(config, head, dtype, options)?;
    let mut graph = Graph::new(config, head, dtype, options);
    let g = &mut graph;
    let deberta = Module::new(head.base_prefix().trim_end_matches('.'));

    let around = around(g, &deberta, conventions(head, options))?;
    let x = embeddings::embeddings(g, &deberta.at("embeddings"), &around);
    let [before, mut x] = encoder::encoder(g, &deberta.at("encoder"), x, &around);
    let steps = config.decoder_steps(head);
    if steps > 0 {
        x = encoder::mask_decoder(g, &deberta, &before, steps, &around);
    }
    let activations = g.outputs();
    match head {
        Head::Base => {
            let tokens = [Dim::Batch, Dim::Sequence, Dim::Of(config.hidden_size)];
            g.output("last_hidden_state", &x, &tokens);
        }
        Head::MaskedLm | Head::MaskDecoder => heads::masked_lm(g, &x, head.is_legacy(config)),
        Head::SequenceClassification => heads::sequence_classification(g, &x),
        Head::TokenClassification => heads::token_classification(g, &x),
        Head::QuestionAnswering => heads::question_answering(g, &x),
        Head::MultipleChoice => heads::multiple_choice(g, &x),
        Head::ReplacedTokens => heads::replaced_tokens(g, &x),
    }
    let outputs = if head == Head::QuestionAnswering { 2 } else { 1 };
    if let Some(pattern) = &options.activations
        && activations.max(g.outputs() - outputs) == 0
    {
        let why = format!(
            "--activations {pattern}: no activation has such a name (docs/activations.md lists them)"
        );
        return Err(Error::new(Kind::Request, why));
    }
    let rounded = match &options.int8 {
        Some(int8) => round(&mut graph, config, head, int8)?,
        None => Rounded::default(),
    };
    Ok((graph.finish(head.class_name(config.family)), rounded))
}

/// Takes the weights of a graph as integers of 8 bits.
fn round(graph: &mut Graph<'_>, config: &DebertaConfig, head: Head, int8: &Int8) -> Result<Rounded> {
    let shapes: HashMap<String, Vec<usize>> =
        params(config, head).into_iter().map(|param| (param.name, param.shape)).collect();
    let kept = Kept::new(&int8.keep, head.base_prefix());
    let rounded = graph.round(&shapes, &kept);
    kept.require_all_met()?;
    if rounded.weights.is_empty() {
        let why =
            "--quantize int8: every weight that it would round is kept in f32, or has fewer than 16 rows";
        return Err(Error::new(Kind::Request, why));
    }
    Ok(rounded)
}

/// What cannot be made.
fn refuse(config: &DebertaConfig, head: Head, dtype: Dtype, options: &Options) -> Result<()> {
    let fail = |message: String| Err(Error::new(Kind::Request, message));
    if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return fail(format!("runtimes do not compute this model in {dtype}: choose --dtype f32"));
    }
    let others = [Some(dtype), options.compute].into_iter().flatten();
    if let Some(other) = others.filter(|_| options.int8.is_some()).find(|&dtype| dtype != Dtype::F32) {
        return fail(format!("--quantize int8 computes everything else in f32, not in {other}"));
    }
    if let Some(compute) = options.compute.filter(|&compute| compute != dtype && compute != Dtype::F32) {
        let or = if dtype == Dtype::F32 { "" } else { " or in f32" };
        return fail(format!("a graph of weights in {dtype} computes in {dtype}{or}, not in {compute}"));
    }
    config.obstacle(head).map_or(Ok(()), fail)
}
