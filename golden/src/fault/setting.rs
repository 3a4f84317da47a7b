//! Lines of the configuration.

use deberta_reference::ConvConfig;
use deberta_reference::config::Activation;

use super::Model;

/// A line of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// `hidden_act`
    HiddenAct(Activation),
    /// `pooler_hidden_act`
    PoolerAct(Activation),
    /// `layer_norm_eps`
    Eps(f64),
    /// `pos_att_type`
    Terms(Vec<String>),
    /// `relative_attention`
    Relative(bool),
    /// `max_relative_positions`
    MaxRelative(usize),
    /// `position_biased_input`
    PositionBiased(bool),
    /// `type_vocab_size`
    TokenTypes(usize),
    /// `position_buckets`
    Buckets(Option<usize>),
    /// `share_att_key`
    ShareKeys(bool),
    /// `norm_rel_ebd`
    NormTable(bool),
    /// `conv_kernel_size` and `conv_groups`
    Convolution(Option<ConvConfig>),
    /// `conv_act`
    ConvAct(Activation),
    /// `tie_word_embeddings`
    Tie(bool),
}

impl Setting {
    pub(super) fn apply(&self, model: &mut Model) {
        let config = &mut model.config;
        match self {
            Setting::HiddenAct(activation) => config.hidden_act = *activation,
            Setting::PoolerAct(activation) => config.pooler_hidden_act = *activation,
            Setting::Eps(eps) => config.layer_norm_eps = *eps,
            Setting::Terms(terms) => config.pos_att_type = terms.clone(),
            Setting::Relative(relative) => config.relative_attention = *relative,
            Setting::MaxRelative(max) => {
                config.max_relative_positions = i64::try_from(*max).unwrap_or(i64::MAX);
            }
            Setting::PositionBiased(biased) => config.position_biased_input = *biased,
            Setting::TokenTypes(types) => config.type_vocab_size = *types,
            Setting::Buckets(buckets) => config.position_buckets = *buckets,
            Setting::ShareKeys(share) => config.share_att_key = *share,
            Setting::NormTable(norm) => config.norm_rel_ebd = *norm,
            Setting::Convolution(convolution) => config.convolution = *convolution,
            Setting::ConvAct(act) => config.convolution.iter_mut().for_each(|conv| conv.act = *act),
            Setting::Tie(tie) => config.tie_word_embeddings = *tie,
        }
    }

    /// The line of `config.json`.
    pub fn line(&self) -> String {
        match self {
            Setting::HiddenAct(activation) => format!("\"hidden_act\": \"{}\"", activation_name(*activation)),
            Setting::PoolerAct(activation) => {
                format!("\"pooler_hidden_act\": \"{}\"", activation_name(*activation))
            }
            Setting::Eps(eps) => format!("\"layer_norm_eps\": {eps:e}"),
            Setting::Terms(terms) => format!("\"pos_att_type\": \"{}\"", terms.join("|")),
            Setting::Relative(relative) => format!("\"relative_attention\": {relative}"),
            Setting::MaxRelative(max) => format!("\"max_relative_positions\": {max}"),
            Setting::PositionBiased(biased) => format!("\"position_biased_input\": {biased}"),
            Setting::TokenTypes(types) => format!("\"type_vocab_size\": {types}"),
            Setting::Buckets(Some(buckets)) => format!("\"position_buckets\": {buckets}"),
            Setting::Buckets(None) => "\"position_buckets\": -1".to_owned(),
            Setting::ShareKeys(share) => format!("\"share_att_key\": {share}"),
            Setting::NormTable(norm) => {
                format!("\"norm_rel_ebd\": \"{}\"", if *norm { "layer_norm" } else { "none" })
            }
            Setting::Convolution(None) => "\"conv_kernel_size\": 0".to_owned(),
            Setting::Convolution(Some(ConvConfig { kernel, groups, act })) => format!(
                "\"conv_kernel_size\": {kernel}, \"conv_groups\": {groups}, \"conv_act\": \"{}\"",
                activation_name(*act)
            ),
            Setting::ConvAct(act) => format!("\"conv_act\": \"{}\"", activation_name(*act)),
            Setting::Tie(tie) => format!("\"tie_word_embeddings\": {tie}"),
        }
    }
}

/// The name in configuration files.
pub(crate) fn activation_name(activation: Activation) -> &'static str {
    let named = |name: &&&str| Activation::from_name(name) == Some(activation);
    Activation::NAMES.iter().find(named).copied().unwrap_or("gelu")
}
