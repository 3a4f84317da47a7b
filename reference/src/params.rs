//! Every parameter of a model: its canonical name and its shape.
//!
//! Canonical names are those of the PyTorch `state_dict` in transformers 4.57.6 (`modeling_deberta.py`,
//! `modeling_deberta_v2.py`). The base model has no prefix; under a head it is called `deberta.`. Order is that of the
//! modules.

use crate::config::DebertaConfig;
pub use crate::head::Head;
use crate::modules::Module;

/// A parameter: one tensor that the model learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// The canonical name.
    pub name: String,
    /// The module that it belongs to.
    pub module: Module,
    /// The number of the layer, if every layer has one.
    pub layer: Option<usize>,
    /// The shape in PyTorch's layout, `[out, in]` for a linear layer.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: Role,
    /// How its first axis is made up.
    pub rows: Rows,
    /// Whether a checkpoint must hold it. What the class does not use may be absent: published checkpoints hold the position
    /// embeddings of the mask decoder under any head, and its own head beside that of replaced token detection.
    pub required: bool,
}

impl Param {
    /// The whole path of its module: the name without its last word.
    pub fn path(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(path, _)| path)
    }

    /// The name with another prefix of the base model: of `deberta.encoder.layer.0.output.dense.bias`, `name_under("")` is
    /// `encoder.layer.0.output.dense.bias`.
    pub fn name_under(&self, base: &str) -> String {
        let word = self.name.rsplit('.').next().unwrap_or_default();
        format!("{}.{word}", self.module.at(base, self.layer.unwrap_or_default()))
    }
}

/// What a parameter is, as far as frameworks name and store it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The matrix of a linear layer, `[out, in]`. Keras stores it as `[in, out]`.
    LinearWeight,
    /// A bias, whatever its name.
    Bias,
    /// The scale γ of a LayerNorm.
    LayerNormScale,
    /// The shift β of a LayerNorm.
    LayerNormShift,
    /// The word embedding table.
    WordEmbedding,
    /// The table of absolute positions.
    PositionEmbedding,
    /// The table of token types.
    TokenTypeEmbedding,
    /// The table of relative positions.
    RelativeEmbedding,
    /// The kernel of a convolution, `[out, in / groups, k]`. Keras stores it as `[k, in, out]`.
    Convolution,
}

/// How the rows of a matrix, or the numbers of a bias, are made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// One feature each, in no order that matters here.
    Plain,
    /// For every head in turn, d rows of each of these parts: `in_proj` is `[q; k; v]` of head 0, then of head 1, ….
    Heads(&'static [Part]),
}

/// What rows of the attention's projections make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// Keys of relative positions, for the c2p term.
    PositionKey,
    /// Queries of relative positions, for the p2c term.
    PositionQuery,
}

/// A second name of a parameter: the same tensor, tied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TiedName {
    /// The second name.
    pub name: String,
    /// The canonical name of the parameter.
    pub of: String,
}

/// Every parameter of the class that `head` names, with `config`'s shapes.
pub fn params(config: &DebertaConfig, head: Head) -> Vec<Param> {
    let mut list = List { params: Vec::new(), base: head.base_prefix(), layer: 0, required: true };
    embeddings(&mut list, config, head);
    for layer in 0..config.num_hidden_layers {
        list.layer = layer;
        encoder_layer(&mut list, config);
    }
    around_layers(&mut list, config);
    head_params(&mut list, config, head);
    list.params
}

/// The second names under which PyTorch's `state_dict` repeats parameters.
pub fn tied_names(config: &DebertaConfig, head: Head) -> Vec<TiedName> {
    if !head.is_legacy(config) {
        return Vec::new();
    }
    let tied = |name: &str, of: &str| TiedName { name: name.to_owned(), of: of.to_owned() };
    let mut names = Vec::new();
    if config.tie_word_embeddings {
        names.push(tied("cls.predictions.decoder.weight", "deberta.embeddings.word_embeddings.weight"));
    }
    names.push(tied("cls.predictions.decoder.bias", "cls.predictions.bias"));
    names
}

struct List {
    params: Vec<Param>,
    /// What comes before the names of the base model.
    base: &'static str,
    /// The layer that is listed.
    layer: usize,
    /// Whether what is listed is required.
    required: bool,
}

impl List {
    fn add(&mut self, module: Module, word: &str, shape: &[usize], role: Role) {
        self.by_heads(module, word, shape, role, Rows::Plain);
    }

    fn by_heads(&mut self, module: Module, word: &str, shape: &[usize], role: Role, rows: Rows) {
        let mut name = module.at(self.base, self.layer);
        name.extend([".", word]);
        self.params.push(Param {
            name,
            module,
            layer: module.in_layers().then_some(self.layer),
            shape: shape.to_vec(),
            role,
            rows,
            required: self.required,
        });
    }

    /// `weight [out, in]` and `bias [out]` of a linear layer.
    fn linear(&mut self, module: Module, out: usize, input: usize) {
        self.add(module, "weight", &[out, input], Role::LinearWeight);
        self.add(module, "bias", &[out], Role::Bias);
    }

    /// `weight [H, H]` and `bias [H]` of a linear layer, whose rows are the parts of every head.
    fn linear_by_heads(&mut self, module: Module, hidden: usize, parts: &'static [Part]) {
        self.by_heads(module, "weight", &[hidden, hidden], Role::LinearWeight, Rows::Heads(parts));
        self.by_heads(module, "bias", &[hidden], Role::Bias, Rows::Heads(parts));
    }

    fn layer_norm(&mut self, module: Module, size: usize) {
        self.add(module, "weight", &[size], Role::LayerNormScale);
        self.add(module, "bias", &[size], Role::LayerNormShift);
    }
}

fn embeddings(list: &mut List, config: &DebertaConfig, head: Head) {
    let (width, hidden) = (config.embedding_size, config.hidden_size);
    list.add(Module::WordEmbeddings, "weight", &[config.vocab_size, width], Role::WordEmbedding);
    let shape = [config.max_position_embeddings, width];
    list.required = config.uses_positions(head);
    list.add(Module::PositionEmbeddings, "weight", &shape, Role::PositionEmbedding);
    list.required = true;
    if config.type_vocab_size > 0 {
        let shape = [config.type_vocab_size, width];
        list.add(Module::TokenTypeEmbeddings, "weight", &shape, Role::TokenTypeEmbedding);
    }
    if width != hidden {
        list.add(Module::EmbedProj, "weight", &[hidden, width], Role::LinearWeight);
    }
    list.layer_norm(Module::EmbeddingsLayerNorm, hidden);
}

fn encoder_layer(list: &mut List, config: &DebertaConfig) {
    use Module::*;
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    projections(list, config);
    list.linear(AttentionDense, hidden, hidden);
    list.layer_norm(AttentionLayerNorm, hidden);
    list.linear(IntermediateDense, inner, hidden);
    list.linear(OutputDense, hidden, inner);
    list.layer_norm(OutputLayerNorm, hidden);
}

/// What the attention projects tokens and relative positions by.
fn projections(list: &mut List, config: &DebertaConfig) {
    use Module::*;
    let (hidden, h) = (config.hidden_size, config.num_attention_heads);
    if !config.has_in_proj() {
        list.linear_by_heads(QueryProj, hidden, &[Part::Query]);
        list.linear_by_heads(KeyProj, hidden, &[Part::Key]);
        list.linear_by_heads(ValueProj, hidden, &[Part::Value]);
        if config.c2p() && !config.share_att_key {
            list.linear_by_heads(PosKeyProj, hidden, &[Part::PositionKey]);
        }
        if config.p2c() && !config.share_att_key {
            list.linear_by_heads(PosQueryProj, hidden, &[Part::PositionQuery]);
        }
        return;
    }
    list.by_heads(SelfAttention, "q_bias", &[hidden], Role::Bias, Rows::Heads(&[Part::Query]));
    list.by_heads(SelfAttention, "v_bias", &[hidden], Role::Bias, Rows::Heads(&[Part::Value]));
    let qkv = Rows::Heads(&[Part::Query, Part::Key, Part::Value]);
    list.by_heads(InProj, "weight", &[3 * hidden, hidden], Role::LinearWeight, qkv);
    if config.talking_head {
        list.add(HeadLogitsProj, "weight", &[h, h], Role::LinearWeight);
        list.add(HeadWeightsProj, "weight", &[h, h], Role::LinearWeight);
    }
    if config.c2p() {
        let rows = Rows::Heads(&[Part::PositionKey]);
        list.by_heads(PosProj, "weight", &[hidden, hidden], Role::LinearWeight, rows);
    }
    if config.p2c() {
        list.linear_by_heads(PosQProj, hidden, &[Part::PositionQuery]);
    }
}

/// What the layers share, and what stands between them.
fn around_layers(list: &mut List, config: &DebertaConfig) {
    let hidden = config.hidden_size;
    if config.relative_attention {
        let shape = [2 * config.distances().span(), hidden];
        list.add(Module::RelEmbeddings, "weight", &shape, Role::RelativeEmbedding);
    }
    if config.norm_rel_ebd {
        list.layer_norm(Module::TableLayerNorm, hidden);
    }
    if let Some(conv) = config.convolution {
        let shape = [hidden, hidden / conv.groups, conv.kernel];
        list.add(Module::Conv, "weight", &shape, Role::Convolution);
        list.add(Module::Conv, "bias", &[hidden], Role::Bias);
        list.layer_norm(Module::ConvLayerNorm, hidden);
    }
}

fn head_params(list: &mut List, config: &DebertaConfig, head: Head) {
    let hidden = config.hidden_size;
    match head {
        Head::Base => {}
        Head::MaskedLm if head.is_legacy(config) => {
            let width = config.embedding_size;
            list.add(Module::Predictions, "bias", &[config.vocab_size], Role::Bias);
            list.linear(Module::TransformDense, width, hidden);
            list.layer_norm(Module::TransformLayerNorm, width);
            if !config.tie_word_embeddings {
                list.add(Module::Decoder, "weight", &[config.vocab_size, width], Role::LinearWeight);
            }
        }
        Head::MaskedLm | Head::MaskDecoder => lm_predictions(list, config, hidden),
        Head::SequenceClassification | Head::MultipleChoice => {
            list.linear(Module::PoolerDense, config.pooler_hidden_size, config.pooler_hidden_size);
            let labels = if head == Head::MultipleChoice { 1 } else { config.num_labels };
            list.linear(Module::Classifier, labels, hidden);
        }
        Head::TokenClassification => list.linear(Module::Classifier, config.num_labels, hidden),
        Head::QuestionAnswering => list.linear(Module::QaOutputs, 2, hidden),
        Head::ReplacedTokens => {
            list.required = false;
            lm_predictions(list, config, config.embedding_size);
            list.required = true;
            list.linear(Module::MaskPredictionsDense, hidden, hidden);
            list.layer_norm(Module::MaskPredictionsLayerNorm, hidden);
            list.linear(Module::MaskPredictionsClassifier, 1, hidden);
        }
    }
}

/// The masked-LM head as Microsoft publishes it, `width` wide.
fn lm_predictions(list: &mut List, config: &DebertaConfig, width: usize) {
    list.add(Module::LmHead, "bias", &[config.vocab_size], Role::Bias);
    list.linear(Module::LmDense, width, config.hidden_size);
    list.layer_norm(Module::LmLayerNorm, width);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(json: &str, head: Head) -> Vec<(String, Vec<usize>)> {
        let config = DebertaConfig::from_json(json).unwrap();
        params(&config, head).into_iter().map(|param| (param.name, param.shape)).collect()
    }

    fn count(json: &str, head: Head) -> usize {
        shapes(json, head).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    const BASE: &str =
        r#"{"relative_attention": true, "pos_att_type": "c2p|p2c", "position_biased_input": false}"#;

    #[test]
    fn base_has_the_published_number_of_parameters() {
        // microsoft/deberta-base, backbone without the position embeddings of the mask decoder.
        assert_eq!(count(BASE, Head::Base) - 512 * 768, 138_601_728);
        assert_eq!(shapes(BASE, Head::Base).len(), 2 + 2 + 12 * 16 + 1);
    }

    #[test]
    fn positions_are_optional_where_the_class_does_not_use_them() {
        let required = |json: &str, head| {
            params(&DebertaConfig::from_json(json).unwrap(), head)
                .into_iter()
                .find(|param| param.name == "deberta.embeddings.position_embeddings.weight")
                .map(|param| param.required)
        };
        assert_eq!(required(BASE, Head::MaskedLm), Some(false));
        assert_eq!(required(BASE, Head::MaskDecoder), Some(true));
        assert_eq!(required("{}", Head::MaskedLm), Some(true));
    }

    #[test]
    fn every_optional_part_appears_when_it_is_configured() {
        let json = r#"{"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "embedding_size": 4,
            "type_vocab_size": 3, "talking_head": true, "relative_attention": true, "pos_att_type": ["p2c"],
            "max_relative_positions": 5, "vocab_size": 11, "legacy": false}"#;
        let shapes = shapes(json, Head::MaskedLm);
        let shape = |name: &str| shapes.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.as_slice());
        assert_eq!(shape("deberta.embeddings.word_embeddings.weight"), Some(&[11, 4][..]));
        assert_eq!(shape("deberta.embeddings.token_type_embeddings.weight"), Some(&[3, 4][..]));
        assert_eq!(shape("deberta.embeddings.embed_proj.weight"), Some(&[8, 4][..]));
        assert_eq!(shape("deberta.encoder.rel_embeddings.weight"), Some(&[10, 8][..]));
        let attention = "deberta.encoder.layer.0.attention.self";
        assert_eq!(shape(&format!("{attention}.head_logits_proj.weight")), Some(&[2, 2][..]));
        assert_eq!(shape(&format!("{attention}.pos_q_proj.bias")), Some(&[8][..]));
        assert_eq!(shape(&format!("{attention}.pos_proj.weight")), None);
        assert_eq!(shape("lm_predictions.lm_head.dense.weight"), Some(&[8, 8][..]));
    }

    #[test]
    fn version_2_has_the_published_numbers_of_parameters() {
        let published = |size: &str, head| {
            let keys = r#""model_type": "deberta-v2", "relative_attention": true, "position_buckets": 256,
                "pos_att_type": "p2c|c2p", "share_att_key": true, "norm_rel_ebd": "layer_norm",
                "position_biased_input": false"#;
            let config = DebertaConfig::from_json(&format!("{{{keys}, {size}}}")).unwrap();
            params(&config, head)
        };
        let required = |params: &[Param]| {
            let counted = params.iter().filter(|param| param.required);
            counted.map(|param| param.shape.iter().product::<usize>()).sum::<usize>()
        };
        // microsoft/deberta-v3-base and deberta-v3-large.
        let base = r#""hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072"#;
        assert_eq!(required(&published(base, Head::Base)), 183_831_552);
        let large = r#""hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096"#;
        assert_eq!(required(&published(large, Head::Base)), 434_012_160);
        // Both heads of pre-training are there, and positions; what is not computed is not required.
        let detector = published(base, Head::ReplacedTokens);
        let optional = detector.iter().filter(|param| !param.required);
        assert_eq!(
            optional.map(|param| param.name.as_str()).collect::<Vec<_>>(),
            [
                "deberta.embeddings.position_embeddings.weight",
                "lm_predictions.lm_head.bias",
                "lm_predictions.lm_head.dense.weight",
                "lm_predictions.lm_head.dense.bias",
                "lm_predictions.lm_head.LayerNorm.weight",
                "lm_predictions.lm_head.LayerNorm.bias"
            ]
        );
    }

    #[test]
    fn every_optional_part_of_version_2_appears_when_it_is_configured() {
        let json = r#"{"model_type": "deberta-v2", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
            "vocab_size": 11, "conv_kernel_size": 3, "conv_groups": 2, "norm_rel_ebd": "layer_norm", "num_labels": 3,
            "relative_attention": true, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 12, "position_buckets": 4}"#;
        let shapes = shapes(json, Head::MultipleChoice);
        let shape = |name: &str| shapes.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.as_slice());
        assert_eq!(shape("deberta.encoder.rel_embeddings.weight"), Some(&[8, 8][..]));
        assert_eq!(shape("deberta.encoder.LayerNorm.bias"), Some(&[8][..]));
        assert_eq!(shape("deberta.encoder.conv.conv.weight"), Some(&[8, 4, 3][..]));
        assert_eq!(shape("deberta.encoder.layer.0.attention.self.pos_query_proj.bias"), Some(&[8][..]));
        assert_eq!(shape("deberta.encoder.layer.0.attention.self.key_proj.weight"), Some(&[8, 8][..]));
        assert_eq!(shape("deberta.encoder.layer.0.attention.self.q_bias"), None);
        assert_eq!(shape("classifier.weight"), Some(&[1, 8][..]));
    }

    #[test]
    fn untied_decoder_is_a_parameter_of_its_own() {
        let tied = DebertaConfig::from_json("{}").unwrap();
        let untied = DebertaConfig::from_json(r#"{"tie_word_embeddings": false}"#).unwrap();
        let has = |config: &DebertaConfig| {
            params(config, Head::MaskedLm).iter().any(|param| param.name == "cls.predictions.decoder.weight")
        };
        assert!(!has(&tied) && has(&untied));
        assert_eq!(
            (tied_names(&tied, Head::MaskedLm).len(), tied_names(&untied, Head::MaskedLm).len()),
            (2, 1)
        );
        assert_eq!(tied_names(&tied, Head::Base), []);
    }
}
