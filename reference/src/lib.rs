//! DeBERTa v1 in plain Rust: the configuration, and every parameter that a configuration implies.
//!
//! | class | file |
//! |---|---|
//! | `DebertaConfig` | [`config`] |
//! | the parameters of each class | [`mod@params`] |
//! | `DebertaTokenizer` | [`tokenizer`] |
//! | `DebertaTokenizerFast` | [`tokenizer_fast`] |

pub mod activation;
pub mod config;
pub mod error;
pub mod inputs;
pub mod model;
pub mod outputs;
pub mod params;
pub mod probe;
pub mod tf;
pub mod tokenizer;
pub mod tokenizer_fast;
pub mod weights;

mod attention;
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
pub use mask_decoder::EnhancedMaskDecoder;
pub use model::{DebertaModel, DebertaPreTrainedModel};
pub use ops::MaskedRows;
pub use outputs::{BaseModelOutput, LogitsOutput, ModelOutput, QuestionAnsweringOutput};
pub use params::{Head, Param, Role, params, tied_names};
pub use probe::{Probe, Trace};
pub use tf::{
    TFDebertaForMaskedLM, TFDebertaForQuestionAnswering, TFDebertaForSequenceClassification,
    TFDebertaForTokenClassification, TFDebertaModel, TFDebertaPreTrainedModel,
};
pub use tokenizer::{
    AddedToken, DebertaTokenizer, EncodeOptions, Encoding, PaddingStrategy, Side, TruncationStrategy,
};
pub use tokenizer_fast::{DebertaTokenizerFast, EncodingFast};
pub use weights::{Floats, LoadReport, Tensor, TensorSource};
