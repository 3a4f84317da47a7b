//! DeBERTa v1 in plain Rust: every class, exact enough to judge others by.
//!
//! Axes: b sequences, h heads, n tokens (i queries, j keys), s span of relative positions, d features of a head, H hidden, E
//! embedding, I intermediate, V vocabulary. The source is transformers 4.57.6, whose classes have the same names.
//!
//! | class | file |
//! |---|---|
//! | `DebertaConfig` | [`config`] |
//! | what modules and parameters are called | [`modules`], [`mod@params`] |
//! | what they compute in, f32 or f64 | [`real`] |
//! | `DebertaModel`, `DebertaPreTrainedModel` | [`model`], `embeddings.rs`, `encoder.rs`, `attention.rs`, `attention_head.rs` |
//! | `DebertaForMaskedLM`, `DebertaForSequenceClassification`, `DebertaForTokenClassification`, `DebertaForQuestionAnswering` | `heads.rs`, `losses.rs` |
//! | `TFDebertaModel` and the other twins | [`tf`] |
//! | `EnhancedMaskDecoder`, which transformers lacks | `mask_decoder.rs` |
//! | `DebertaTokenizer` | [`tokenizer`] |
//! | `DebertaTokenizerFast` | [`tokenizer_fast`] |
//!
//! `docs/equations.md` has the equations with the functions that compute them; `docs/activations.md` the names under which a [`Probe`]
//! records what they return.

pub mod activation;
pub mod config;
pub mod error;
pub mod inputs;
pub mod model;
pub mod modules;
pub mod outputs;
pub mod params;
pub mod probe;
pub mod real;
pub mod tf;
pub mod tokenizer;
pub mod tokenizer_fast;
pub mod weights;

mod attention;
mod attention_head;
mod embeddings;
mod encoder;
mod gemm;
mod heads;
mod losses;
mod mask_decoder;
mod ops;
mod special;

pub use config::DebertaConfig;
pub use error::{Error, InputError, Result};
pub use heads::{
    DebertaForMaskedLM, DebertaForQuestionAnswering, DebertaForSequenceClassification,
    DebertaForTokenClassification,
};
pub use inputs::{Inputs, Labels};
pub use mask_decoder::{EnhancedMaskDecoder, STEPS as MASK_DECODER_STEPS};
pub use model::{DebertaModel, DebertaPreTrainedModel};
pub use modules::{Module, Stage, locate};
pub use ops::MaskedRows;
pub use outputs::{BaseModelOutput, LogitsOutput, ModelOutput, QuestionAnsweringOutput};
pub use params::{Head, Param, Part, Role, Rows, params, tied_names};
pub use probe::{Probe, Trace};
pub use real::Real;
pub use tf::{
    TFDebertaForMaskedLM, TFDebertaForQuestionAnswering, TFDebertaForSequenceClassification,
    TFDebertaForTokenClassification, TFDebertaModel, TFDebertaPreTrainedModel,
};
pub use tokenizer::{
    AddedToken, DebertaTokenizer, EncodeOptions, Encoding, PaddingStrategy, Side, TruncationStrategy,
};
pub use tokenizer_fast::{DebertaTokenizerFast, EncodingFast};
pub use weights::{Floats, LoadReport, Tensor, TensorSource};
