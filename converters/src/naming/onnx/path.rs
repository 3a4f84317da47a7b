//! The paths of modules, which nodes and tensors keep, and the parameters of a module by the operands of its nodes.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use deberta_reference::{Module, locate};

use crate::format::onnx::proto::NodeProto;
use crate::naming::prefixes::WRAPPERS;

/// The name of the table of relative positions.
const TABLE: &str = "encoder.rel_embeddings.weight";

/// The table of relative positions as the layers take it: normalised, if the configuration says so.
pub const TABLE_OF_LAYERS: &str = "encoder.rel_embeddings";

/// The parameter of `module` that is this operand of a node, a tensor with `rank` dimensions.
pub(super) fn parameter(module: &str, node: &NodeProto, operand: usize, rank: usize) -> Option<String> {
    let leaf = match (node.op_type(), operand, rank) {
        ("MatMul" | "FusedMatMul" | "Gemm", 1, 2) | ("Gather", 0, 2) | ("Conv", 1, 3) => "weight",
        ("LayerNormalization", 1, 1) | ("Mul", _, 1) => "weight",
        ("LayerNormalization" | "Gemm" | "Conv", 2, 1) | ("Add", _, 1) => "bias",
        ("Slice", 0, 2) if module.starts_with("encoder.") && module.ends_with(".attention.self") => {
            return Some(TABLE_OF_LAYERS.to_owned());
        }
        (_, 0, 2 | 3) => return table(module, node.op_type()).map(str::to_owned),
        _ => return None,
    };
    Some(format!("{module}.{leaf}"))
}

/// The name of a table that `module` projects or normalises, `[2S, H]` or `[1, 2S, H]`. Version 2 projects all rows at
/// once. Before opset 17 a LayerNorm is written out, and starts by subtracting the mean.
fn table(module: &str, operation: &str) -> Option<&'static str> {
    use Module::*;
    let (_, module) = locate(module)?;
    match operation {
        "MatMul" | "FusedMatMul" | "Gemm" => {
            matches!(module, QueryProj | KeyProj | PosQueryProj | PosKeyProj).then_some(TABLE_OF_LAYERS)
        }
        "LayerNormalization" | "ReduceMean" | "Sub" => (module == TableLayerNorm).then_some(TABLE),
        _ => None,
    }
}

/// The path of the module that a node belongs to, with dots, from the model's own parts on.
pub(super) fn module_of(node: &NodeProto) -> Option<String> {
    let path = local(&module_path(node)?)?;
    // A module that is called once more is `query_proj_1`, and a layer `layer.5_1`.
    let first_call = |word: &str| match word.rsplit_once('_') {
        Some((word, call)) if call.parse::<u32>().is_ok() => word.to_owned(),
        _ => word.to_owned(),
    };
    Some(path.split('.').map(first_call).collect::<Vec<_>>().join("."))
}

/// The whole path of the module that a node belongs to, with dots.
fn module_path(node: &NodeProto) -> Option<String> {
    // ['', 'm', 'm.deberta', …, 'm.deberta.encoder.layer.0.intermediate.dense', 'linear_4']
    const SCOPES: &str = "pkg.torch.onnx.name_scopes";
    if let Some(scopes) = node.metadata_props.iter().find(|entry| entry.key() == SCOPES) {
        let mut scopes = scopes.value().trim_matches(['[', ']']).rsplit(", ");
        let module = scopes.nth(1)?;
        return Some(module.trim_matches(['\'', '"']).to_owned());
    }
    // /m/deberta/encoder/layer.0/intermediate/dense/MatMul
    let (module, _) = node.name().strip_prefix('/')?.rsplit_once('/')?;
    Some(module.replace('/', "."))
}

/// The parts of a model: how the paths of modules begin that are in no layer.
static PARTS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    let modules = Module::ALL.iter().filter(|module| !module.in_layers());
    modules.filter_map(|module| module.path().split('.').next()).collect()
});

/// No parameter has a longer name. What is remembered of a file is not longer either, however long its names are.
const LONGEST: usize = 200;

/// The name from the model's own parts on, without whatever was put before it or into it.
pub(crate) fn local(name: &str) -> Option<String> {
    let words = words(name);
    let rest = words.get(start(&words)?..).unwrap_or_default().join(".");
    (rest.len() <= LONGEST).then_some(rest)
}

/// What was put before the model's own parts in a name: `student.` for `student.deberta.encoder.layer.0.output`.
pub(super) fn scope(name: &str) -> String {
    let words = words(name);
    let before = start(&words).and_then(|at| words.get(..at)).unwrap_or_default();
    let before = match before {
        [before @ .., "deberta" | "bert"] => before,
        before => before,
    };
    let scope: String = before.iter().flat_map(|word| [word, "."]).collect();
    if scope.len() <= LONGEST { scope } else { String::new() }
}

/// The same for the module that a node belongs to.
pub(super) fn scope_of(node: &NodeProto) -> Option<String> {
    module_path(node).as_deref().map(scope)
}

fn words(name: &str) -> Vec<&str> {
    name.split('.').filter(|word| !WRAPPERS.contains(word)).collect()
}

/// Where the model's own parts start among the words of a name.
fn start(words: &[&str]) -> Option<usize> {
    let mut starts = (0..words.len()).filter(|&at| words.get(at).is_some_and(|word| PARTS.contains(word)));
    let first = starts.next()?;
    // A wrapper may be called as a part is: `encoder.encoder.layer.0.output`.
    let is_known = |at: &usize| {
        let rest = words.get(*at..).unwrap_or_default();
        let (path, module) = (rest.join("."), rest.split_last().map(|(_, module)| module.join(".")));
        path.len() <= LONGEST
            && (locate(&path).is_some() || module.is_some_and(|module| locate(&module).is_some()))
    };
    Some(std::iter::once(first).chain(starts.take(MOST_STARTS)).find(is_known).unwrap_or(first))
}

/// How many of the words of a name that parts are called by are tried as the start.
const MOST_STARTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_before_a_name_is_taken_off() {
        for prefix in ["", "deberta.", "m.deberta.", "a.b.c."] {
            let name = format!("{prefix}encoder.layer.0.output.dense.bias");
            assert_eq!(local(&name).as_deref(), Some("encoder.layer.0.output.dense.bias"));
        }
        for name in [
            "encoder.encoder.layer.0.output.dense.bias",
            "module._orig_mod.deberta.encoder._orig_mod.layer.0._checkpoint_wrapped_module.output.dense.bias",
        ] {
            assert_eq!(local(name).as_deref(), Some("encoder.layer.0.output.dense.bias"));
        }
        for (name, before) in [
            ("student.deberta.encoder.layer.0.output.dense.bias", "student."),
            ("a.b.classifier.weight", "a.b."),
            ("encoder.bert.encoder.layer.0.output.dense.bias", "encoder."),
            ("module.deberta._orig_mod.encoder.rel_embeddings.weight", ""),
            ("encoder.encoder.rel_embeddings", "encoder."),
            ("onnx::MatMul_1431", ""),
        ] {
            assert_eq!(scope(name), before, "{name}");
        }
        assert_eq!(local("encoder.unknown.weight").as_deref(), Some("encoder.unknown.weight"));
        assert_eq!(local("onnx::MatMul_1431"), None);
        assert_eq!(local(""), None);
    }

    #[test]
    fn module_paths_are_in_names_or_in_metadata() {
        let named =
            NodeProto { name: Some("/m/encoder/layer.0/output/dense/MatMul".into()), ..Default::default() };
        assert_eq!(module_path(&named).as_deref(), Some("m.encoder.layer.0.output.dense"));
        let mut scoped = NodeProto { name: Some("node_linear_4".into()), ..Default::default() };
        assert_eq!(module_path(&scoped), None);
        scoped.metadata_props = vec![crate::format::onnx::proto::StringStringEntryProto {
            key: Some("pkg.torch.onnx.name_scopes".into()),
            value: Some("['', 'm', 'm.pooler', 'm.pooler.dense', 'linear']".into()),
        }];
        assert_eq!(module_path(&scoped).as_deref(), Some("m.pooler.dense"));
    }

    #[test]
    fn modules_that_are_called_again_are_the_same() {
        for (path, module) in [
            (
                "/deberta/encoder/layer.0/attention/self/query_proj_1/MatMul",
                "encoder.layer.0.attention.self.query_proj",
            ),
            ("/m/deberta/encoder/layer.5_1/output/dense/Add", "encoder.layer.5.output.dense"),
            ("/deberta_1/embeddings/word_embeddings/Gather", "embeddings.word_embeddings"),
        ] {
            let node = NodeProto { name: Some(path.into()), ..Default::default() };
            assert_eq!(module_of(&node).as_deref(), Some(module));
        }
    }
}
