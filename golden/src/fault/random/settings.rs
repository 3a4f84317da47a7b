//! Lines of the configuration that change.

use deberta_reference::config::Activation;
use deberta_reference::{Module, Part};

use super::Random;
use crate::fault::Setting;
use crate::fault::catalogue::{other_activations, scores_of};

/// The words for a changed line, the new lines, and where they are felt.
type Edit = (Vec<&'static str>, Vec<Setting>, Vec<String>);

impl Random<'_> {
    /// A line with another value; nothing where the line means nothing to the model.
    pub(super) fn edit(&mut self) -> Option<Edit> {
        let model = self.list.model;
        let config = &model.config;
        let first = |module: Module| vec![model.path(module, 0)];
        let positions = || {
            let parts =
                [Part::PositionKey, Part::PositionQuery].map(|part| model.path(model.projection(part), 0));
            [parts.to_vec(), scores_of(model, 0)].concat()
        };
        let table = || [self.list.table_places(), positions()].concat();
        Some(match self.dice.below(13) {
            0 => {
                let other = *self.dice.of(&other_activations(config.hidden_act))?;
                (vec!["hidden-act"], vec![Setting::HiddenAct(other)], first(Module::Intermediate))
            }
            1 => {
                let usual = [1e-12, 1e-6, 1e-5, 1e-3, 1e-2, 1e-9];
                let eps = self.dice.of(&usual).copied().filter(|eps| *eps != config.layer_norm_eps)?;
                (vec!["layer-norm-eps"], vec![Setting::Eps(eps)], first(Module::EmbeddingsLayerNorm))
            }
            2 | 3 => {
                let ways: [&[&str]; 5] = [&["c2p"], &["p2c"], &["c2p", "p2c"], &[], &["c2p", "p2c", "p2p"]];
                let terms: Vec<String> = self.dice.of(&ways)?.iter().map(|&term| term.to_owned()).collect();
                let mut other = config.clone();
                other.pos_att_type.clone_from(&terms);
                let meaning = |config: &deberta_reference::DebertaConfig| {
                    (config.c2p(), config.p2c(), config.scale_terms())
                };
                (meaning(&other) != meaning(config)).then_some(())?;
                (vec!["pos-att-type"], vec![Setting::Terms(terms)], positions())
            }
            4 => {
                let relative = !config.relative_attention;
                (vec!["relative-attention"], vec![Setting::Relative(relative)], table())
            }
            5 if config.position_buckets.is_some() => {
                let max = config.max_relative();
                let max = *self.dice.of(&[max * 2, max / 2, max * 4, max + 8])?;
                (vec!["position-buckets"], vec![Setting::MaxRelative(max)], scores_of(model, 0))
            }
            6 if config.position_buckets.is_some() => {
                let span = config.distances().span();
                (
                    vec!["position-buckets"],
                    vec![Setting::Buckets(None), Setting::MaxRelative(span)],
                    scores_of(model, 0),
                )
            }
            7 if config.position_biased_input => (
                vec!["position-biased-input"],
                vec![Setting::PositionBiased(false)],
                first(Module::PositionEmbeddings),
            ),
            8 if config.type_vocab_size > 0 => {
                (vec!["type-vocab-size"], vec![Setting::TokenTypes(0)], first(Module::TokenTypeEmbeddings))
            }
            9 if config.norm_rel_ebd => (vec!["norm-rel-ebd"], vec![Setting::NormTable(false)], table()),
            10 if !config.has_in_proj() && !config.share_att_key => {
                (vec!["share-att-key"], vec![Setting::ShareKeys(true)], table())
            }
            11 => {
                config.convolution?;
                if self.dice.chance(2) {
                    (vec!["convolution"], vec![Setting::Convolution(None)], first(Module::Conv))
                } else {
                    let acts = [Activation::Gelu, Activation::Tanh, Activation::Relu];
                    let act = self
                        .dice
                        .of(&acts)
                        .copied()
                        .filter(|act| Some(*act) != config.convolution.map(|conv| conv.act))?;
                    (vec!["conv-act"], vec![Setting::ConvAct(act)], first(Module::ConvLayerNorm))
                }
            }
            12 if model.class.head.is_legacy(config) && !config.tie_word_embeddings => {
                (vec!["tie-word-embeddings"], vec![Setting::Tie(true)], first(Module::Decoder))
            }
            _ => return None,
        })
    }
}
