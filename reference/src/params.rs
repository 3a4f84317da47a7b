//! Every parameter of a model: its canonical name and its shape.
//!
//! Canonical names are those of the PyTorch `state_dict` in transformers 4.57.6 (`modeling_deberta.py`). The
//! base model has no prefix; under a head it is called `deberta.`. Order is that of the modules.

use std::fmt;

use crate::config::DebertaConfig;
use crate::modules::Module;

/// What stands on top of the base model, in other words which class it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Head {
    /// `DebertaModel`: nothing.
    Base,
    /// `DebertaForMaskedLM`: `cls.predictions`, or `lm_predictions.lm_head` when `legacy` is false.
    MaskedLm,
    /// `EnhancedMaskDecoder`, as which Microsoft trains and publishes masked language models: `lm_predictions.lm_head`
    /// whatever `legacy` says, and absolute positions. transformers lacks it.
    MaskDecoder,
    /// `DebertaForSequenceClassification`: `pooler` and `classifier`.
    SequenceClassification,
    /// `DebertaForTokenClassification`: `classifier`.
    TokenClassification,
    /// `DebertaForQuestionAnswering`: `qa_outputs`.
    QuestionAnswering,
}

impl Head {
    /// All heads.
    pub const ALL: [Head; 6] = [
        Head::Base,
        Head::MaskedLm,
        Head::MaskDecoder,
        Head::SequenceClassification,
        Head::TokenClassification,
        Head::QuestionAnswering,
    ];

    /// The class: as transformers' PyTorch code calls it, or Microsoft's for the mask decoder.
    pub fn class_name(self) -> &'static str {
        match self {
            Head::Base => "DebertaModel",
            Head::MaskedLm => "DebertaForMaskedLM",
            Head::MaskDecoder => "EnhancedMaskDecoder",
            Head::SequenceClassification => "DebertaForSequenceClassification",
            Head::TokenClassification => "DebertaForTokenClassification",
            Head::QuestionAnswering => "DebertaForQuestionAnswering",
        }
    }

    /// The word for it on command lines and in files that people write: `seqcls`.
    pub fn word(self) -> &'static str {
        match self {
            Head::Base => "base",
            Head::MaskedLm => "mlm",
            Head::MaskDecoder => "emd",
            Head::SequenceClassification => "seqcls",
            Head::TokenClassification => "tokcls",
            Head::QuestionAnswering => "qa",
        }
    }

    /// The head of a [`Head::word`].
    pub fn from_word(word: &str) -> Option<Head> {
        Head::ALL.into_iter().find(|head| head.word() == word)
    }

    /// Whether transformers has the class, and so a twin in TensorFlow, whose name is the same after `TF`.
    pub fn in_transformers(self) -> bool {
        self != Head::MaskDecoder
    }

    /// The head of a class name in PyTorch, TensorFlow or Microsoft's code.
    pub fn from_class_name(name: &str) -> Option<Head> {
        let twin = name.strip_prefix("TF");
        let named = |head: &Head| {
            head.class_name() == name || (head.in_transformers() && twin == Some(head.class_name()))
        };
        Head::ALL.into_iter().find(named)
    }

    /// The class in transformers that loads these weights, as `architectures` in `config.json` lists it: for the mask
    /// decoder `DebertaForMaskedLM`.
    pub fn architecture(self) -> &'static str {
        let loaded_as = if self == Head::MaskDecoder { Head::MaskedLm } else { self };
        loaded_as.class_name()
    }

    /// Whether the head is `cls.predictions`: the masked-LM head that transformers calls legacy.
    pub fn is_legacy(self, config: &DebertaConfig) -> bool {
        self == Head::MaskedLm && config.legacy
    }

    /// What the base model's parameters start with under this head.
    pub fn base_prefix(self) -> &'static str {
        if self == Head::Base { "" } else { "deberta." }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.class_name())
    }
}

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
    /// Whether a checkpoint must hold it. Only position embeddings that the class does not use may be absent: published
    /// checkpoints hold those of the mask decoder under any head.
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
    let mut list = List { params: Vec::new(), base: head.base_prefix(), layer: 0 };
    embeddings(&mut list, config, head);
    for layer in 0..config.num_hidden_layers {
        list.layer = layer;
        encoder_layer(&mut list, config);
    }
    if config.relative_attention {
        let shape = [2 * config.max_relative(), config.hidden_size];
        list.add(Module::RelEmbeddings, "weight", &shape, Role::RelativeEmbedding);
    }
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
            required: true,
        });
    }

    /// `weight [out, in]` and `bias [out]` of a linear layer.
    fn linear(&mut self, module: Module, out: usize, input: usize) {
        self.add(module, "weight", &[out, input], Role::LinearWeight);
        self.add(module, "bias", &[out], Role::Bias);
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
    list.add(Module::PositionEmbeddings, "weight", &shape, Role::PositionEmbedding);
    if let Some(param) = list.params.last_mut() {
        param.required = config.uses_positions(head);
    }
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
    let (hidden, inner, h) = (config.hidden_size, config.intermediate_size, config.num_attention_heads);
    let square = [hidden, hidden];
    let heads = |part: &'static [Part]| Rows::Heads(part);
    list.by_heads(SelfAttention, "q_bias", &[hidden], Role::Bias, heads(&[Part::Query]));
    list.by_heads(SelfAttention, "v_bias", &[hidden], Role::Bias, heads(&[Part::Value]));
    let qkv = heads(&[Part::Query, Part::Key, Part::Value]);
    list.by_heads(InProj, "weight", &[3 * hidden, hidden], Role::LinearWeight, qkv);
    if config.talking_head {
        list.add(HeadLogitsProj, "weight", &[h, h], Role::LinearWeight);
        list.add(HeadWeightsProj, "weight", &[h, h], Role::LinearWeight);
    }
    if config.c2p() {
        list.by_heads(PosProj, "weight", &square, Role::LinearWeight, heads(&[Part::PositionKey]));
    }
    if config.p2c() {
        list.by_heads(PosQProj, "weight", &square, Role::LinearWeight, heads(&[Part::PositionQuery]));
        list.by_heads(PosQProj, "bias", &[hidden], Role::Bias, heads(&[Part::PositionQuery]));
    }
    list.linear(AttentionDense, hidden, hidden);
    list.layer_norm(AttentionLayerNorm, hidden);
    list.linear(IntermediateDense, inner, hidden);
    list.linear(OutputDense, hidden, inner);
    list.layer_norm(OutputLayerNorm, hidden);
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
        Head::MaskedLm | Head::MaskDecoder => {
            list.add(Module::LmHead, "bias", &[config.vocab_size], Role::Bias);
            list.linear(Module::LmDense, hidden, hidden);
            list.layer_norm(Module::LmLayerNorm, hidden);
        }
        Head::SequenceClassification => {
            list.linear(Module::PoolerDense, config.pooler_hidden_size, config.pooler_hidden_size);
            list.linear(Module::Classifier, config.num_labels, hidden);
        }
        Head::TokenClassification => list.linear(Module::Classifier, config.num_labels, hidden),
        Head::QuestionAnswering => list.linear(Module::QaOutputs, 2, hidden),
    }
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

    #[test]
    fn class_names_lead_back_to_the_head() {
        for head in Head::ALL {
            assert_eq!(Head::from_class_name(head.class_name()), Some(head));
            let twin = format!("TF{}", head.class_name());
            assert_eq!(Head::from_class_name(&twin), head.in_transformers().then_some(head));
            assert_eq!(Head::from_word(head.word()), Some(head));
        }
        assert_eq!(Head::from_class_name("BertModel"), None);
    }
}
