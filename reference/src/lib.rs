//! DeBERTa in plain Rust: every class of v1, v2, v3 and mDeBERTa, exact enough to judge others by.
//!
//! First steps: [tokenize a text](DebertaTokenizer::encode_plus), with an example; load a model and classify a text with
//! `deberta_converters::loading`, which reads checkpoints of every format.
//!
//! # Where to begin
//!
//! The model is read in the order in which numbers flow through it, a page or two each:
//!
//! 1. [`config`]: what a `config.json` decides.
//! 2. [`mod@params`]: every parameter of every class with its name and shape: the whole model as one list.
//! 3. `embeddings.rs`: ids [b, n] to vectors [b, n, H].
//! 4. `attention.rs`: which token attends to which, by content and by relative position. This is what makes DeBERTa. Its head
//!    says in which files its parts are; [`distances`] what a relative position is.
//! 5. `encoder.rs`: a layer around each attention, and L layers one after the other, in version 2 perhaps with a
//!    `convolution.rs` after the first.
//! 6. `heads.rs`: hidden states [b, n, H] to logits; `losses.rs`: logits and labels to a loss.
//!
//! The operations that they call are in `ops.rs`, one function each. Below that there is only speed: `gemm` (the matrix
//! product), `special.rs` (exp and erf), [`real`]. Around them: [`inputs`], [`outputs`], [`weights`], [`probe`]
//! and [`stop`].
//!
//! Almost half of the crate are tokenizers, [`tokenizer`] and [`tokenizer_fast`]. The model does not use them.
//!
//! # Axes and classes
//!
//! Axes: b sequences, h heads, n tokens (i queries, j keys), s span of relative positions, d features of a head, H hidden, E
//! embedding, I intermediate, V vocabulary. The source is transformers 4.57.6, whose classes of version 1 have the same names.
//! There is one path for both families ([`family`]): `DebertaForMaskedLM` is `DebertaV2ForMaskedLM`, too, if the configuration
//! is of version 2, as those of DeBERTa v2, DeBERTa v3 and mDeBERTa are.
//!
//! | class | file |
//! |---|---|
//! | `DebertaConfig`, `DebertaV2Config` | [`config`] |
//! | what modules and parameters are called | [`modules`], [`mod@params`] |
//! | what they compute in, f32 or f64 | [`real`] |
//! | `DebertaModel`, `DebertaPreTrainedModel`, and the same with `DebertaV2` | [`model`], `embeddings.rs`, `encoder.rs`, `attention.rs`, `attention_head.rs`, `position_scores.rs` |
//! | `DebertaForMaskedLM`, `DebertaForSequenceClassification`, `DebertaForTokenClassification`, `DebertaForQuestionAnswering`, and the same with `DebertaV2`; `DebertaV2ForMultipleChoice` | [`head`], `heads.rs`, `losses.rs` |
//! | `TFDebertaModel` and the other twins | [`tf`] |
//! | `EnhancedMaskDecoder`, `ReplacedTokenDetectionModel`, which transformers lacks | `mask_decoder.rs`, `replaced_tokens.rs` |
//! | `DebertaTokenizer` | [`tokenizer`], `tokenizer/byte_level` |
//! | `DebertaTokenizerFast` | [`tokenizer_fast`] |
//! | `DebertaV2Tokenizer` | [`tokenizer`], `tokenizer/sentence_piece` |
//! | `DebertaV2TokenizerFast` | [`tokenizer_fast`] |
//! | `AutoTokenizer` | [`Tokenizer`] |
//! | `PreTrainedTokenizerBase`, what all can do | `tokenizer/base.rs` |
//!
//! `docs/equations.md` has the equations with the functions that compute them; `docs/activations.md` the names under which
//! a [`Probe`] records what they return.

pub mod activation;
pub mod config;
pub mod conventions;
pub mod distances;
pub mod error;
pub mod family;
pub mod head;
pub mod inputs;
pub mod model;
pub mod modules;
pub mod opening;
pub mod outputs;
pub mod params;
pub mod probe;
pub mod real;
pub mod stop;
pub mod tf;
pub mod tokenizer;
pub mod tokenizer_fast;
pub mod weights;

mod attention;
mod attention_head;
mod by_heads;
mod convolution;
mod embeddings;
mod encoder;
mod gemm;
mod heads;
mod load_report;
mod losses;
mod mask_decoder;
mod obstacles;
mod ops;
mod position_scores;
mod projections;
mod relative;
mod replaced_tokens;
mod sequences;
mod spare;
mod special;
mod tensor;

pub use config::{ConvConfig, DebertaConfig};
pub use conventions::Conventions;
pub use distances::{BucketRounding, FarPositions};
pub use error::{Error, InputError, Result};
pub use family::Family;
pub use heads::{
    DebertaForMaskedLM, DebertaForMultipleChoice, DebertaForQuestionAnswering,
    DebertaForSequenceClassification, DebertaForTokenClassification,
};
pub use inputs::{Inputs, Labels};
pub use mask_decoder::EnhancedMaskDecoder;
pub use model::{DebertaModel, DebertaPreTrainedModel};
pub use modules::{Module, Stage, locate};
pub use ops::MaskedRows;
pub use outputs::{BaseModelOutput, LogitsOutput, ModelOutput, QuestionAnsweringOutput};
pub use params::{Head, Param, Part, Role, Rows, params, tied_names};
pub use probe::{Probe, Trace};
pub use real::Real;
pub use relative::PositionProjection;
pub use replaced_tokens::ReplacedTokenDetectionModel;
pub use tf::{
    TFDebertaForMaskedLM, TFDebertaForMultipleChoice, TFDebertaForQuestionAnswering,
    TFDebertaForSequenceClassification, TFDebertaForTokenClassification, TFDebertaModel,
    TFDebertaPreTrainedModel,
};
pub use tokenizer::{
    AddedToken, DebertaTokenizer, DebertaV2Tokenizer, EncodeOptions, Encoding, PaddingStrategy,
    PreTrainedTokenizer, PreTrainedTokenizerBase, Side, SlowTokenizer, SpecialTokenIds, Tokenizer,
    TruncationStrategy,
};
pub use tokenizer_fast::{
    DebertaTokenizerFast, DebertaV2TokenizerFast, EncodingFast, FastTokenizer, Meaning, Normalization,
    PreTrainedTokenizerFast,
};
pub use weights::{Floats, LoadReport, Tensor, TensorSource};
