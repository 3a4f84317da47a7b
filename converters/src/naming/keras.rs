//! Keras names: variable paths, and the groups of an h5 file that hold them.
//!
//! Source: transformers 4.57.6, `modeling_tf_deberta.py` and `modeling_tf_deberta_v2.py` for the variables,
//! `modeling_tf_utils.py` (`load_tf_weights_from_h5`) for which part of a path is compared: everything after the scope.

use deberta_reference::{DebertaConfig, Family, Head, Module, Param, Role};

use super::Stored;
use crate::error::{Error, Kind, Printable, Result};

/// The variable path that TensorFlow gives `param`, without layer and scope:
/// `deberta/encoder/layer_._0/output/dense/kernel:0`.
pub fn stored(param: &Param) -> Stored {
    let prefix = if param.module.in_head() { "" } else { "deberta/" };
    let transposed = matches!(param.role, Role::LinearWeight | Role::Convolution);
    if param.role == Role::RelativeEmbedding {
        return Stored { name: format!("{prefix}encoder/rel_embeddings.weight:0"), transposed };
    }
    let module = module(param).at("", param.layer.unwrap_or_default());
    let leaf = param.name.rsplit('.').next().unwrap_or_default();
    let leaf = match param.role {
        Role::LinearWeight | Role::Convolution => "kernel",
        Role::LayerNormScale => "gamma",
        Role::LayerNormShift => "beta",
        Role::PositionEmbedding | Role::TokenTypeEmbedding => "embeddings",
        Role::WordEmbedding | Role::Bias | Role::RelativeEmbedding => leaf,
    };
    Stored { name: format!("{prefix}{}/{leaf}:0", variable_scope(&module)), transposed }
}

/// The module of `param` as TensorFlow has it: the projections of positions are called as in version 1 in version 2, too.
fn module(param: &Param) -> Module {
    match param.module {
        Module::PosKeyProj => Module::PosProj,
        Module::PosQueryProj => Module::PosQProj,
        other => other,
    }
}

/// All variable paths under which `param` is accepted; the first is [`stored`]. Versions of transformers differ
/// in the leaf of the embedding tables.
pub fn accepted(param: &Param) -> Vec<Stored> {
    let first = stored(param);
    let other = match param.role {
        Role::WordEmbedding => Some(("/weight:0", "/embeddings:0")),
        Role::PositionEmbedding | Role::TokenTypeEmbedding => Some(("/embeddings:0", "/weight:0")),
        _ => None,
    };
    let second = other.and_then(|(suffix, other)| {
        let stem = first.name.strip_suffix(suffix)?;
        Some(Stored { name: format!("{stem}{other}"), transposed: first.transposed })
    });
    [Some(first), second].into_iter().flatten().collect()
}

/// The layers of an h5 file of this class, in Keras' order. Layers without weights are listed too.
pub fn layers(head: Head) -> &'static [&'static str] {
    match head {
        Head::Base => &["deberta"],
        Head::MaskedLm | Head::MaskDecoder => &["deberta", "cls"],
        Head::ReplacedTokens => &["deberta", "mask_predictions"],
        Head::SequenceClassification => &["deberta", "pooler", "cls_dropout", "classifier"],
        Head::MultipleChoice => &["deberta", "dropout", "pooler", "classifier"],
        Head::TokenClassification => &["deberta", "dropout", "classifier"],
        Head::QuestionAnswering => &["deberta", "qa_outputs"],
    }
}

/// Whether a class of transformers has a layer of this name. In another model, all of DeBERTa is one layer.
pub fn is_layer(name: &str) -> bool {
    Head::ALL.into_iter().any(|head| layers(head).contains(&name))
}

/// The datasets of an h5 file of this class that hold `param`, in layers of [`layers`]. A masked-LM file
/// repeats the embeddings in layer `cls`, because its head uses them.
pub fn datasets(param: &Param, family: Family, head: Head) -> Vec<String> {
    let variable = stored(param).name;
    let scope = scope(family, head);
    let layer = variable.split('/').next().unwrap_or_default();
    let mut paths = vec![format!("{layer}/{scope}/{variable}")];
    if head == Head::MaskedLm && variable.starts_with("deberta/embeddings/") {
        paths.push(format!("cls/{scope}/{variable}"));
    }
    paths
}

/// The place of `param` among the variables of its layer, in the order in which Keras creates them.
pub fn creation_order(param: &Param) -> u8 {
    match param.module {
        Module::WordEmbeddings => 0,
        Module::TokenTypeEmbeddings => 1,
        Module::PositionEmbeddings => 2,
        Module::EmbedProj => 3,
        Module::EmbeddingsLayerNorm => 4,
        Module::RelEmbeddings => 5,
        _ => 6,
    }
}

/// A reading of a stored name as a variable path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// The path without layer and scope.
    pub path: &'a str,
    /// The layer whose group holds it, in an h5 file.
    pub layer: Option<&'a str>,
}

/// The possible readings of a stored name: a dataset of an h5 file (`layer/scope/variable`), a variable of a
/// safetensors file with its scope, and one without, as transformers writes it.
pub fn readings(name: &str) -> impl Iterator<Item = Variable<'_>> {
    let without_first = name.split_once('/');
    let without_two = without_first
        .and_then(|(layer, rest)| Some(Variable { path: rest.split_once('/')?.1, layer: Some(layer) }));
    let without_first = without_first.map(|(_, path)| Variable { path, layer: None });
    [without_two, without_first, Some(Variable { path: name, layer: None })].into_iter().flatten()
}

/// Further readings: of a model that is deeper in another one.
pub fn deeper_readings(name: &str) -> impl Iterator<Item = Variable<'_>> {
    let layer = name.split('/').next();
    name.match_indices('/').skip(2).take(8).map(move |(at, _)| {
        let path = name.get(at + 1..).unwrap_or_default();
        Variable { path, layer: if path.split('/').next() == layer { layer } else { None } }
    })
}

/// Of the models in a file with these names, what stands before the names of each: the scope, which is in the group of
/// every layer. One or none in a file of one model.
pub fn scopes<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    const ANCHORS: [&str; 2] =
        ["deberta/embeddings/word_embeddings/weight:0", "deberta/embeddings/word_embeddings/embeddings:0"];
    let mut scopes = Vec::new();
    for name in names {
        let Some(before) = ANCHORS.into_iter().find_map(|anchor| name.strip_suffix(anchor)) else { continue };
        let before = before.trim_end_matches('/');
        let scope = before.split_once('/').map_or(before, |(_, scope)| scope);
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    scopes
}

/// The scope of the model that is read, and whether it is one of several.
///
/// # Errors
/// Several, and `wanted` names none of them.
pub fn scope_of<'s>(scopes: &[&'s str], wanted: Option<&str>) -> Result<Option<(&'s str, bool)>> {
    let there =
        || scopes.iter().map(|scope| format!("\"{}\"", Printable(scope))).collect::<Vec<_>>().join(" and ");
    let fail = |message: String| Err(Error::new(Kind::Request, message));
    match (wanted.map(|wanted| wanted.trim_end_matches('/')), scopes) {
        (None, []) => Ok(None),
        (None, [scope]) => Ok(Some((scope, false))),
        (None, _) => fail(format!(
            "holds {} models, in the scopes {}: --prefix chooses one of them",
            scopes.len(),
            there()
        )),
        (Some(wanted), _) => match scopes.iter().find(|scope| **scope == wanted) {
            Some(scope) => Ok(Some((scope, scopes.len() > 1))),
            None => fail(format!("--prefix {wanted}: the scopes of models are {}", there())),
        },
    }
}

/// Whether a stored name is of a model in this scope.
pub fn is_in_scope(name: &str, scope: &str) -> bool {
    let starts = |name: &str| name.strip_prefix(scope).is_some_and(|rest| rest.starts_with('/'));
    scope.is_empty() || starts(name) || name.split_once('/').is_some_and(|(_, rest)| starts(rest))
}

/// Why TensorFlow's classes cannot hold a model of this configuration, if they cannot.
pub fn obstacle(config: &DebertaConfig, head: Head) -> Option<String> {
    if head == Head::MaskDecoder || (head == Head::MaskedLm && !config.legacy) {
        return Some(
            "TensorFlow's DeBERTa has no lm_predictions head, its own would be random: \
             --mlm-head remap moves the head to cls.predictions"
                .to_owned(),
        );
    }
    if head == Head::ReplacedTokens {
        return Some(
            "TensorFlow's DeBERTa has no mask_predictions head: PyTorch and safetensors hold it".to_owned(),
        );
    }
    if head == Head::MaskedLm && !config.tie_word_embeddings {
        return Some(
            "TensorFlow's DeBERTa cannot hold a decoder that is not tied to the word embeddings".to_owned(),
        );
    }
    config.obstacle_in_tensorflow()
}

/// Whether TensorFlow's classes have a variable for `param`. They have none for the position embeddings that only
/// the enhanced mask decoder uses.
pub fn has_variable(param: &Param) -> bool {
    param.required
}

/// The scope of all variables: the name of TensorFlow's class in snake case, `tf_deberta_v2_for_masked_lm`. Words begin at a
/// capital letter that a small one follows, or that follows a small letter or a digit.
fn scope(family: Family, head: Head) -> String {
    let class = head.architecture(family);
    let mut scope = "tf".to_owned();
    let mut before = 'F';
    for (at, letter) in class.char_indices() {
        let small_next = class[at + letter.len_utf8()..].starts_with(|next: char| next.is_ascii_lowercase());
        if letter.is_ascii_uppercase() && (!before.is_ascii_uppercase() || small_next) {
            scope.push('_');
        }
        scope.push(letter.to_ascii_lowercase());
        before = letter;
    }
    scope
}

/// The scope of a module: `encoder.layer.0.output` is `encoder/layer_._0/output`.
fn variable_scope(module: &str) -> String {
    let mut scope = String::with_capacity(module.len() + 2);
    let mut before = "";
    for part in module.split('.') {
        scope.push_str(match before {
            "" => "",
            "layer" => "_._",
            _ => "/",
        });
        scope.push_str(part);
        before = part;
    }
    scope
}

#[cfg(test)]
mod tests {
    use deberta_reference::params;

    use super::*;

    fn stored_names(json: &str, head: Head) -> Vec<(String, Stored)> {
        let config = DebertaConfig::from_json(json).unwrap();
        params(&config, head).into_iter().map(|param| (param.name.clone(), stored(&param))).collect()
    }

    #[test]
    fn names_and_layouts_are_tensorflows() {
        let json = r#"{"num_hidden_layers": 11, "relative_attention": true, "pos_att_type": "c2p|p2c", "type_vocab_size": 2}"#;
        let names = stored_names(json, Head::MaskedLm);
        let stored = |name: &str| {
            let (_, stored) = names.iter().find(|(canonical, _)| canonical == name).unwrap();
            (stored.name.as_str(), stored.transposed)
        };
        assert_eq!(
            stored("deberta.embeddings.word_embeddings.weight"),
            ("deberta/embeddings/word_embeddings/weight:0", false)
        );
        assert_eq!(
            stored("deberta.embeddings.token_type_embeddings.weight"),
            ("deberta/embeddings/token_type_embeddings/embeddings:0", false)
        );
        assert_eq!(
            stored("deberta.encoder.rel_embeddings.weight"),
            ("deberta/encoder/rel_embeddings.weight:0", false)
        );
        assert_eq!(
            stored("deberta.encoder.layer.10.attention.self.in_proj.weight"),
            ("deberta/encoder/layer_._10/attention/self/in_proj/kernel:0", true)
        );
        assert_eq!(
            stored("deberta.encoder.layer.0.attention.self.q_bias"),
            ("deberta/encoder/layer_._0/attention/self/q_bias:0", false)
        );
        assert_eq!(stored("cls.predictions.bias"), ("cls/predictions/bias:0", false));
        assert_eq!(
            stored("cls.predictions.transform.LayerNorm.weight"),
            ("cls/predictions/transform/LayerNorm/gamma:0", false)
        );
    }

    #[test]
    fn version_2_has_names_of_version_1_and_its_own() {
        let json = r#"{"model_type": "deberta-v2", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
            "relative_attention": true, "pos_att_type": "c2p|p2c", "conv_kernel_size": 3, "norm_rel_ebd": "layer_norm"}"#;
        let names = stored_names(json, Head::MultipleChoice);
        let stored = |name: &str| {
            let (_, stored) = names.iter().find(|(param, _)| param == name).unwrap();
            (stored.name.as_str(), stored.transposed)
        };
        let attention = "deberta.encoder.layer.0.attention.self";
        assert_eq!(
            stored(&format!("{attention}.pos_key_proj.weight")),
            ("deberta/encoder/layer_._0/attention/self/pos_proj/kernel:0", true)
        );
        assert_eq!(
            stored(&format!("{attention}.pos_query_proj.bias")),
            ("deberta/encoder/layer_._0/attention/self/pos_q_proj/bias:0", false)
        );
        assert_eq!(stored("deberta.encoder.conv.conv.weight"), ("deberta/encoder/conv/conv/kernel:0", true));
        assert_eq!(stored("deberta.encoder.LayerNorm.weight"), ("deberta/encoder/LayerNorm/gamma:0", false));
        assert_eq!(stored("pooler.dense.weight"), ("pooler/dense/kernel:0", true));
    }

    #[test]
    fn scopes_are_class_names_in_snake_case() {
        let scopes: Vec<String> = Family::ALL
            .into_iter()
            .flat_map(|family| Head::of(family).map(move |head| (family, head)))
            .filter(|(_, head)| head.in_transformers())
            .map(|(family, head)| scope(family, head))
            .collect();
        assert_eq!(
            scopes,
            [
                "tf_deberta_model",
                "tf_deberta_for_masked_lm",
                "tf_deberta_for_sequence_classification",
                "tf_deberta_for_token_classification",
                "tf_deberta_for_question_answering",
                "tf_deberta_v2_model",
                "tf_deberta_v2_for_masked_lm",
                "tf_deberta_v2_for_sequence_classification",
                "tf_deberta_v2_for_token_classification",
                "tf_deberta_v2_for_question_answering",
                "tf_deberta_v2_for_multiple_choice"
            ]
        );
    }

    #[test]
    fn the_base_model_has_its_own_layer() {
        let (_, stored) = stored_names("{}", Head::Base).swap_remove(0);
        assert_eq!(stored.name, "deberta/embeddings/word_embeddings/weight:0");
    }

    #[test]
    fn masked_lm_repeats_the_embeddings() {
        let config = DebertaConfig::from_json("{}").unwrap();
        let word = params(&config, Head::MaskedLm).swap_remove(0);
        assert_eq!(
            datasets(&word, Family::V1, Head::MaskedLm),
            [
                "deberta/tf_deberta_for_masked_lm/deberta/embeddings/word_embeddings/weight:0",
                "cls/tf_deberta_for_masked_lm/deberta/embeddings/word_embeddings/weight:0"
            ]
        );
    }

    #[test]
    fn readings_leave_out_layer_and_scope() {
        let paths = |name| readings(name).map(|variable| variable.path).collect::<Vec<_>>();
        assert_eq!(
            paths("cls/tf_x_1/cls/predictions/bias:0"),
            ["cls/predictions/bias:0", "tf_x_1/cls/predictions/bias:0", "cls/tf_x_1/cls/predictions/bias:0"]
        );
        assert_eq!(paths("bias:0"), ["bias:0"]);
        assert_eq!(readings("cls/tf_x/a:0").next(), Some(Variable { path: "a:0", layer: Some("cls") }));
    }
}
