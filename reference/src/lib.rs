//! DeBERTa v1 in plain Rust: the configuration, and every parameter that a configuration implies.
//!
//! | class | file |
//! |---|---|
//! | `DebertaConfig` | [`config`] |
//! | the parameters of each class | [`mod@params`] |

pub mod activation;
pub mod config;
pub mod params;

pub use config::DebertaConfig;
pub use params::{Head, Param, Role, params, tied_names};
