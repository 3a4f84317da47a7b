//! The configuration of a DeBERTa model of either family.
//!
//! Source: transformers 4.57.6, `models/deberta/configuration_deberta.py`, class `DebertaConfig`, and
//! `models/deberta_v2/configuration_deberta_v2.py`, class `DebertaV2Config`; the optional extras (`embedding_size`,
//! `talking_head`, `cls_dropout`, and of version 2 `position_buckets`, `share_att_key`, `norm_rel_ebd`, `conv_…`,
//! `attention_head_size`) are read by `modeling_deberta.py` and `modeling_deberta_v2.py` with `getattr`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use crate::activation::Activation;
use crate::family::Family;
use crate::head::Head;

mod checks;
mod keys;

pub use keys::{ConfigError, ProblemType};
use keys::{Keys, LARGEST_DIMENSION, MOST_LAYERS, Result, kind_of};

/// Everything that decides the shapes and the arithmetic of a DeBERTa model.
///
/// Defaults are those of the code (`layer_norm_eps` 1e-7, `relative_attention` false, …), which differ from the
/// published documentation, and never those of a published model: a file without `position_buckets` has none.
#[doc(alias = "DebertaV2Config")]
#[derive(Clone, Debug, PartialEq)]
pub struct DebertaConfig {
    /// Whose classes: `Deberta…` or `DebertaV2…`.
    pub family: Family,
    /// V, the number of word pieces.
    pub vocab_size: usize,
    /// H, the width of the hidden states.
    pub hidden_size: usize,
    /// L, the number of encoder layers.
    pub num_hidden_layers: usize,
    /// h, the number of attention heads; divides H.
    pub num_attention_heads: usize,
    /// I, the width of the feed-forward layer.
    pub intermediate_size: usize,
    /// The activation of the feed-forward layer and of the masked-LM transform.
    pub hidden_act: Activation,
    /// Dropout of the hidden states; training only.
    pub hidden_dropout_prob: f64,
    /// Dropout of the attention probabilities; training only.
    pub attention_probs_dropout_prob: f64,
    /// P, the number of absolute positions.
    pub max_position_embeddings: usize,
    /// T, the number of token types; 0 means that there are none.
    pub type_vocab_size: usize,
    /// Standard deviation of freshly initialised weights; training only.
    pub initializer_range: f64,
    /// Added to the variance, inside the square root.
    pub layer_norm_eps: f64,
    /// Whether the attention is disentangled: content and relative position.
    pub relative_attention: bool,
    /// The largest relative distance; below 1 it means P. See [`DebertaConfig::max_relative`].
    pub max_relative_positions: i64,
    /// The id of the padding token.
    pub pad_token_id: Option<usize>,
    /// Whether absolute position embeddings are added to the input.
    pub position_biased_input: bool,
    /// The position terms of the attention, as the file gives them: `c2p`, `p2c`, and whatever else, because
    /// the scale of the attention may count every entry. See [`DebertaConfig::scale_terms`].
    pub pos_att_type: Vec<String>,
    /// Dropout of the pooler; training only.
    pub pooler_dropout: f64,
    /// Width of the pooler; it can only work when it equals H.
    pub pooler_hidden_size: usize,
    /// The activation of the pooler.
    pub pooler_hidden_act: Activation,
    /// Which masked-LM head: `cls.predictions` (true) or `lm_predictions.lm_head` (false).
    pub legacy: bool,
    /// Whether the masked-LM decoder is the word embedding table.
    pub tie_word_embeddings: bool,
    /// B, the number of buckets that relative distances are sorted into, if they are. Version 2.
    pub position_buckets: Option<usize>,
    /// Whether the projections of keys and queries serve the relative positions, too. Version 2.
    pub share_att_key: bool,
    /// Whether the relative position table is normalised (`norm_rel_ebd` has `layer_norm`). Version 2.
    pub norm_rel_ebd: bool,
    /// The convolution after the first layer, if there is one. Version 2.
    pub convolution: Option<ConvConfig>,
    /// E, the width of the embedding tables; H unless the file says otherwise.
    pub embedding_size: usize,
    /// Whether heads are mixed before and after the softmax. Version 1.
    pub talking_head: bool,
    /// Dropout before the classifier; `hidden_dropout_prob` when absent.
    pub cls_dropout: Option<f64>,
    /// The number of labels: from `id2label`, else `num_labels`, else 2.
    pub num_labels: usize,
    /// The names of the labels, as far as the file has them: `id2label`. See [`DebertaConfig::label`].
    pub id2label: BTreeMap<usize, String>,
    /// How the loss of a sequence classifier is computed; inferred from the labels when absent.
    pub problem_type: Option<ProblemType>,
    /// The class names in `architectures`.
    pub architectures: Vec<String>,
}

/// The convolution after the first layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvConfig {
    /// k, how many tokens it sees: odd, the token in the middle.
    pub kernel: usize,
    /// In how many groups of H / groups the features are convolved apart.
    pub groups: usize,
    /// Its activation.
    pub act: Activation,
}

impl DebertaConfig {
    /// Reads and validates the text of a `config.json`, in Hugging Face's keys or Microsoft's
    /// (`model_config.json`: `padding_idx`, `pooling`).
    ///
    /// # Errors
    /// JSON that does not parse, a key with a value of the wrong type or out of range, an activation that does
    /// not exist, another model's configuration (BERT), one that transformers cannot build or that makes no sense.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| ConfigError(format!("not valid JSON: {error}")))?;
        match value {
            Value::Object(map) => DebertaConfig::from_map(&map),
            other => Err(ConfigError(format!("expected a JSON object, found {}", kind_of(&other)))),
        }
    }

    /// Reads and validates a configuration that is already parsed. See [`DebertaConfig::from_json`].
    pub fn from_map(map: &Map<String, Value>) -> Result<Self> {
        let keys = Keys(map);
        let family = keys.family()?;
        let pooling = match map.get("pooling") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(pooling)) => pooling.clone(),
            Some(other) => {
                return Err(ConfigError(format!("pooling: expected an object, found {}", kind_of(other))));
            }
        };
        let pooling = Keys(&pooling);

        let [vocabulary, hidden, layers, heads, inner] = match family {
            Family::V1 => [50265, 768, 12, 12, 3072],
            Family::V2 => [128_100, 1536, 24, 24, 6144],
        };
        let version_2 = family == Family::V2;
        let hidden_size = keys.dimension("hidden_size", hidden)?;
        let config = DebertaConfig {
            family,
            vocab_size: keys.dimension("vocab_size", vocabulary)?,
            hidden_size,
            num_hidden_layers: keys.integer("num_hidden_layers", layers, 1, MOST_LAYERS)?,
            num_attention_heads: keys.dimension("num_attention_heads", heads)?,
            intermediate_size: keys.dimension("intermediate_size", inner)?,
            hidden_act: keys.activation("hidden_act")?.unwrap_or(Activation::Gelu),
            hidden_dropout_prob: keys.probability("hidden_dropout_prob")?.unwrap_or(0.1),
            attention_probs_dropout_prob: keys.probability("attention_probs_dropout_prob")?.unwrap_or(0.1),
            max_position_embeddings: keys.dimension("max_position_embeddings", 512)?,
            type_vocab_size: keys.integer("type_vocab_size", 0, 0, LARGEST_DIMENSION)?,
            initializer_range: keys.number("initializer_range")?.unwrap_or(0.02),
            layer_norm_eps: keys.number("layer_norm_eps")?.unwrap_or(1e-7),
            relative_attention: keys.boolean("relative_attention", false)?,
            max_relative_positions: keys.signed("max_relative_positions", -1)?,
            pad_token_id: keys.token_id()?,
            position_biased_input: keys.boolean("position_biased_input", true)?,
            pos_att_type: keys.pos_att_type()?,
            pooler_dropout: keys
                .probability("pooler_dropout")?
                .or(pooling.probability("dropout")?)
                .unwrap_or(0.0),
            pooler_hidden_size: keys.dimension("pooler_hidden_size", hidden_size)?,
            pooler_hidden_act: keys
                .activation("pooler_hidden_act")?
                .or(pooling.activation("hidden_act")?)
                .unwrap_or(Activation::Gelu),
            legacy: keys.boolean("legacy", true)?,
            tie_word_embeddings: keys.boolean("tie_word_embeddings", true)?,
            position_buckets: if version_2 { keys.positive("position_buckets")? } else { None },
            share_att_key: version_2 && keys.boolean("share_att_key", false)?,
            norm_rel_ebd: version_2 && keys.norm_rel_ebd()?,
            convolution: if version_2 { keys.convolution()? } else { None },
            embedding_size: keys.dimension("embedding_size", hidden_size)?,
            // Version 2's classes do not read it.
            talking_head: !version_2 && keys.boolean("talking_head", false)?,
            cls_dropout: keys.probability("cls_dropout")?,
            num_labels: keys.num_labels()?,
            id2label: keys.id2label(),
            problem_type: keys.problem_type()?,
            architectures: keys.strings("architectures")?,
        };
        config.check()?;
        if version_2 {
            config.check_head_size(keys.dimension("attention_head_size", config.head_size())?)?;
        }
        Ok(config)
    }

    /// What `model_type` in `config.json` is to say.
    pub fn model_type(&self) -> &'static str {
        self.family.model_type()
    }

    /// Whether queries, keys and values are one projection, `in_proj`, interleaved by heads, and not three.
    pub fn has_in_proj(&self) -> bool {
        self.family == Family::V1
    }

    /// Whether a label counts in the loss of masked words under a head: all but -100 do, but in the enhanced mask decoder of
    /// version 2 those above 0, as in Microsoft's code.
    pub fn counts_label(&self, head: Head, label: i64) -> bool {
        match (self.family, head) {
            (Family::V2, Head::MaskDecoder) => label > 0,
            _ => label != -100,
        }
    }

    /// How many terms the scores are the sum of, as far as their scale is concerned, computed or not: content to content,
    /// and in version 1 every entry of `pos_att_type`, whatever it is; in version 2 `c2p` and `p2c`, once each. Source:
    /// `DisentangledSelfAttention.forward`.
    pub fn scale_terms(&self) -> usize {
        let named = |term: &&str| self.pos_att_type.iter().any(|entry| entry == term);
        1 + match self.family {
            Family::V1 => self.pos_att_type.len(),
            Family::V2 => ["c2p", "p2c"].iter().filter(|term| named(term)).count(),
        }
    }

    /// d, the width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// The largest relative distance, M. Where distances are not sorted into buckets, the relative position table has
    /// twice as many rows.
    pub fn max_relative(&self) -> usize {
        usize::try_from(self.max_relative_positions)
            .ok()
            .filter(|&max| max >= 1)
            .unwrap_or(self.max_position_embeddings)
    }

    /// Whether the content-to-position term is computed.
    pub fn c2p(&self) -> bool {
        self.relative_attention && self.pos_att_type.iter().any(|term| term == "c2p")
    }

    /// Whether the position-to-content term is computed.
    pub fn p2c(&self) -> bool {
        self.relative_attention && self.pos_att_type.iter().any(|term| term == "p2c")
    }

    /// The name of a label: `LABEL_0`, … where the file has no other, as in transformers.
    pub fn label(&self, id: usize) -> String {
        self.id2label.get(&id).cloned().unwrap_or_else(|| format!("LABEL_{id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        DebertaConfig::from_json(text).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_the_code() {
        let config = DebertaConfig::from_json("{}").unwrap();
        assert_eq!(config.layer_norm_eps, 1e-7);
        assert!(!config.relative_attention && config.position_biased_input && config.legacy);
        assert_eq!((config.max_relative_positions, config.max_relative()), (-1, 512));
        assert_eq!((config.embedding_size, config.pooler_hidden_size, config.num_labels), (768, 768, 2));
        assert_eq!(config.pos_att_type, Vec::<String>::new());
    }

    #[test]
    fn pos_att_type_takes_every_historical_form() {
        let terms = |json: &str| {
            DebertaConfig::from_json(&format!("{{\"pos_att_type\": {json}}}")).unwrap().pos_att_type
        };
        assert_eq!(terms("\"C2P | p2c\""), ["c2p", "p2c"]);
        assert_eq!(terms("[\"p2c\"]"), ["p2c"]);
        assert_eq!(terms("null"), Vec::<String>::new());
        assert_eq!(terms("\"None\""), ["none"]);
    }

    #[test]
    fn unknown_position_terms_are_warned_of() {
        let config =
            DebertaConfig::from_json(r#"{"pos_att_type": ["c2p", "p2p"], "relative_attention": true}"#)
                .unwrap();
        assert_eq!(config.warnings().len(), 1);
        assert!(config.warnings()[0].contains("p2p"));
    }

    #[test]
    fn microsofts_keys_are_understood() {
        let config = DebertaConfig::from_json(
            r#"{"padding_idx": 7, "pooling": {"dropout": 0.25, "hidden_act": "tanh"}}"#,
        )
        .unwrap();
        assert_eq!(config.pad_token_id, Some(7));
        assert_eq!((config.pooler_dropout, config.pooler_hidden_act), (0.25, Activation::Tanh));
    }

    #[test]
    fn labels_are_counted() {
        let labels = |json: &str| DebertaConfig::from_json(json).unwrap().num_labels;
        assert_eq!(labels(r#"{"id2label": {"0": "a", "1": "b", "2": "c"}}"#), 3);
        assert_eq!(labels(r#"{"num_labels": 7}"#), 7);
        let config = DebertaConfig::from_json(r#"{"id2label": {"0": "a", "1": "b"}}"#).unwrap();
        assert_eq!([config.label(1), config.label(2)], ["b", "LABEL_2"]);
    }

    fn version_2(keys: &str) -> DebertaConfig {
        DebertaConfig::from_json(&format!(r#"{{"model_type": "deberta-v2"{keys}}}"#)).unwrap()
    }

    #[test]
    fn version_2_has_defaults_of_its_own() {
        let config = version_2("");
        assert_eq!((config.vocab_size, config.hidden_size, config.intermediate_size), (128_100, 1536, 6144));
        assert_eq!((config.num_hidden_layers, config.num_attention_heads), (24, 24));
        assert_eq!((config.position_buckets, config.convolution), (None, None));
        assert!(!config.share_att_key && !config.norm_rel_ebd && !config.has_in_proj());
        assert_eq!(version_2(r#", "position_buckets": -1"#), config);
        assert_eq!(version_2(r#", "conv_kernel_size": 0, "norm_rel_ebd": "None""#), config);
        // A key of its own tells it, too.
        let told = DebertaConfig::from_json(r#"{"share_att_key": true}"#).unwrap();
        assert_eq!(told.family, Family::V2);
        assert_eq!(DebertaConfig::from_json(r#"{"share_att_key": false}"#).unwrap().family, Family::V1);
    }

    #[test]
    fn version_2_is_read_as_transformers_does() {
        let config = version_2(r#", "conv_kernel_size": 3, "norm_rel_ebd": " Layer_Norm |x""#);
        let act = Activation::Tanh;
        assert_eq!(config.convolution, Some(ConvConfig { kernel: 3, groups: 1, act }));
        assert!(config.norm_rel_ebd);
        // The scale counts the two terms alone, and each of them once.
        let terms = |list: &str| version_2(&format!(", \"pos_att_type\": {list}")).scale_terms();
        assert_eq!(
            [terms(r#"["p2p", "c2p"]"#), terms(r#"["c2p", "c2p"]"#), terms(r#""p2c|c2p""#)],
            [2, 2, 3]
        );
        assert!(!version_2(r#", "talking_head": true"#).talking_head);
    }

    #[test]
    fn version_2_refuses_what_does_not_work() {
        let refused = |keys: &str| error(&format!(r#"{{"model_type": "deberta-v2", {keys}}}"#));
        for key in ["norm_rel_ebd", "conv_act", "attention_head_size"] {
            assert!(refused(&format!(r#""{key}": null"#)).contains("null makes transformers fail"));
        }
        assert!(error(r#"{"share_att_key": true, "norm_rel_ebd": null}"#).contains("null makes"));
        assert!(refused(r#""conv_kernel_size": 5001"#).contains("5001 is more than 4096"));
        assert!(refused(r#""conv_kernel_size": 4"#).contains("even"));
        assert!(refused(r#""conv_kernel_size": 3, "conv_groups": 7"#).contains("1536"));
        assert!(refused(r#""attention_head_size": 32"#).contains("attention_head_size 32 is not 64"));
        let buckets = |b: usize, m: usize| {
            let keys = format!(
                r#"{{"share_att_key": true, "relative_attention": true, "position_buckets": {b}, "max_relative_positions": {m}}}"#
            );
            DebertaConfig::from_json(&keys).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(buckets(256, 512), Ok(()));
        assert_eq!(buckets(8, 6), Ok(()));
        for (b, m) in [(1, 512), (8, 5), (512, 128)] {
            assert!(buckets(b, m).unwrap_err().starts_with("position_buckets"), "{b} {m}");
        }
    }

    #[test]
    fn errors_name_the_key_and_both_sides() {
        assert_eq!(
            error(r#"{"hidden_size": "768"}"#),
            "hidden_size: expected an integer from 1 to 268435456, found \"768\""
        );
        assert_eq!(
            error(r#"{"hidden_size": 100, "num_attention_heads": 12}"#),
            "hidden_size 100 is not a multiple of num_attention_heads 12"
        );
        assert!(error(r#"{"hidden_act": "gelu_fancy"}"#).starts_with("hidden_act: expected one of gelu,"));
        assert!(error(r#"{"model_type": "bert"}"#).contains("\"bert\""));
        assert!(
            error(r#"{"model_type": "deberta", "position_buckets": 256}"#).contains("belongs to deberta-v2")
        );
        assert!(error(r#"{"num_hidden_layers": 4000000000}"#).contains("4096"));
        assert!(error(r#"{"layer_norm_eps": -1}"#).contains("-1"));
        assert!(error(r#"{"relative_attention": "yes"}"#).contains("true or false"));
        assert!(error(r#"{"pad_token_id": 60000}"#).contains("50265"));
        assert!(error("[]").contains("a list"));
        assert!(error("<html>").contains("not valid JSON"));
        assert!(error(&"[".repeat(100_000)).contains("recursion limit"));
    }
}
