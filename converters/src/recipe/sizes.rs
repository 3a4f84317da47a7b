//! The configurations of the published models.

/// A size in which Microsoft published DeBERTa v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// `microsoft/deberta-base`: 12 layers of 768.
    Base,
    /// `microsoft/deberta-large`: 24 layers of 1024.
    Large,
    /// `microsoft/deberta-xlarge`: 48 layers of 1024.
    Xlarge,
}

impl Size {
    /// All sizes.
    pub const ALL: [Size; 3] = [Size::Base, Size::Large, Size::Xlarge];

    /// `base`, `large` or `xlarge`.
    pub fn name(self) -> &'static str {
        match self {
            Size::Base => "base",
            Size::Large => "large",
            Size::Xlarge => "xlarge",
        }
    }

    /// The size of that name.
    pub fn from_name(name: &str) -> Option<Size> {
        Size::ALL.into_iter().find(|size| size.name() == name)
    }

    /// The text of its `config.json`.
    pub fn config_text(self) -> String {
        let (layers, hidden, heads, inner) = match self {
            Size::Base => (12, 768, 12, 3072),
            Size::Large => (24, 1024, 16, 4096),
            Size::Xlarge => (48, 1024, 16, 4096),
        };
        format!(
            r#"{{
  "model_type": "deberta",
  "attention_probs_dropout_prob": 0.1,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.1,
  "hidden_size": {hidden},
  "initializer_range": 0.02,
  "intermediate_size": {inner},
  "layer_norm_eps": 1e-07,
  "max_position_embeddings": 512,
  "max_relative_positions": -1,
  "num_attention_heads": {heads},
  "num_hidden_layers": {layers},
  "pad_token_id": 0,
  "pos_att_type": ["c2p", "p2c"],
  "position_biased_input": false,
  "relative_attention": true,
  "type_vocab_size": 0,
  "vocab_size": 50265
}}
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deberta_reference::{DebertaConfig, Head, params};

    #[test]
    fn sizes_have_as_many_parameters_as_their_layers_and_tables_make() {
        let counts = Size::ALL.map(|size| {
            let config = DebertaConfig::from_json(&size.config_text()).unwrap();
            let params = params(&config, Head::Base).into_iter().filter(|param| param.required);
            params.map(|param| param.shape.iter().product::<usize>()).sum::<usize>()
        });
        assert_eq!(counts, [138_601_728, 405_163_008, 757_804_032]);
    }
}
