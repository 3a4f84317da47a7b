//! The graphs that are exported keep their bytes. Every class is built with every option from configurations that have every
//! part of the model, and the digests of the files, weights apart, are those of `snapshots/graphs.txt`.
//!
//! `UPDATE_GRAPHS=1` writes that list again, after a change on purpose. `GRAPH=NAME`, with `--nocapture`, prints a graph as text,
//! to compare those of two states of the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, fs};

use deberta_converters::Result;
use deberta_converters::format::onnx::proto::ModelProto;
use deberta_converters::forward;
use deberta_converters::tensor::Dtype;
use deberta_reference::{DebertaConfig, Family, Head, MaskedRows};
use prost::Message as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// What a graph is asked to be.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    head: Head,
    dtype: Dtype,
    compute: Option<Dtype>,
    masked_rows: Option<MaskedRows>,
    activations: Option<&'a str>,
    config_text: Option<&'a str>,
}

/// The graph, as a file without weights. Its producer's version is cleared: a release changes that alone.
fn graph(config: &DebertaConfig, asked: Asked<'_>) -> Result<ModelProto> {
    let options = forward::Options {
        masked_rows: asked.masked_rows,
        activations: asked.activations.map(str::to_owned),
        compute: asked.compute,
        int8: None,
        config: asked.config_text.map(str::to_owned),
    };
    let model = forward::model(config, asked.head, asked.dtype, &options)?;
    Ok(ModelProto { producer_version: None, ..model })
}

/// Configurations by name: what they say besides [`COMMON`].
fn configurations() -> Vec<(String, Value)> {
    let named = [
        ("relative", json!({})),
        ("c2p", json!({"pos_att_type": ["c2p"]})),
        ("p2c", json!({"pos_att_type": ["p2c"]})),
        ("no-terms", json!({"pos_att_type": []})),
        ("unknown-term", json!({"pos_att_type": ["c2p", "p2p"]})),
        ("near", json!({"max_relative_positions": 3})),
        ("absolute", json!({"relative_attention": false, "position_biased_input": true})),
        ("no-positions", json!({"relative_attention": false})),
        ("both-positions", json!({"position_biased_input": true})),
        ("talking-heads", json!({"talking_head": true})),
        ("token-types", json!({"type_vocab_size": 3})),
        ("embedding-size", json!({"embedding_size": 20})),
        ("untied", json!({"tie_word_embeddings": false})),
        ("lm-predictions", json!({"legacy": false})),
        ("lm-predictions-biased", json!({"legacy": false, "position_biased_input": true})),
        ("lm-predictions-absolute", json!({"legacy": false, "relative_attention": false})),
        ("lm-predictions-embedding-size", json!({"legacy": false, "embedding_size": 20})),
        ("one-layer", json!({"legacy": false, "num_hidden_layers": 1})),
        ("pooler-size", json!({"pooler_hidden_size": 20})),
    ];
    let mut configurations: Vec<_> = named.map(|(name, json)| (name.to_owned(), json)).into();
    for act in
        ["gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "mish", "tanh", "sigmoid", "linear"]
    {
        let json = json!({"hidden_act": act, "pooler_hidden_act": act});
        configurations.push((format!("act-{act}"), json));
    }
    let buckets = json!({"position_buckets": 8, "max_relative_positions": 20});
    let version_2 = [
        ("v2", json!({})),
        ("v2-shared", json!({"share_att_key": true, "norm_rel_ebd": "layer_norm"})),
        ("v2-conv", json!({"conv_kernel_size": 3, "conv_act": "gelu"})),
        ("v2-conv-groups", json!({"conv_kernel_size": 5, "conv_groups": 2})),
        ("v2-c2p", json!({"pos_att_type": "c2p"})),
        ("v2-p2c", json!({"pos_att_type": "p2c"})),
        ("v2-no-buckets", json!({"position_buckets": -1})),
        ("v2-absolute", json!({"relative_attention": false, "position_biased_input": true})),
        ("v2-lm-predictions", json!({"legacy": false})),
    ];
    for (name, json) in version_2 {
        let mut map = buckets.as_object().unwrap().clone();
        map.insert("model_type".to_owned(), "deberta-v2".into());
        map.extend(json.as_object().unwrap().clone());
        configurations.push((name.to_owned(), map.into()));
    }
    configurations
}

/// Dimensions are all different.
const COMMON: &str = r#"{"vocab_size": 101, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 34, "max_position_embeddings": 40, "type_vocab_size": 0, "relative_attention": true,
    "position_biased_input": false, "pos_att_type": ["c2p", "p2c"], "num_labels": 5}"#;

/// Every class by name, as it is exported when nothing else is asked for.
fn classes(family: Family) -> Vec<(&'static str, Asked<'static>)> {
    let of = |head| Asked {
        head,
        dtype: Dtype::F32,
        compute: None,
        masked_rows: None,
        activations: None,
        config_text: None,
    };
    Head::of(family).map(|head| (head.class_name(family), of(head))).collect()
}

/// Every dtype with either masked rows, and no, all and some activations.
fn options(asked: Asked<'_>) -> Vec<(String, Asked<'_>)> {
    let mut options = Vec::new();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (rows, masked_rows) in [("uniform", MaskedRows::Uniform), ("zero", MaskedRows::Zero)] {
            for (shown, activations) in [("", None), ("/all", Some("*")), ("/probs", Some("*.probs"))] {
                let asked = Asked { dtype, masked_rows: Some(masked_rows), activations, ..asked };
                options.push((format!("{dtype}/{rows}{shown}"), asked));
            }
        }
    }
    options
}

/// A name and the digest of every graph, or why there is none.
fn graphs() -> Vec<(String, String)> {
    let mut graphs = Vec::new();
    for (name, changes) in configurations() {
        let mut map: Map<String, Value> = serde_json::from_str(COMMON).unwrap();
        map.extend(changes.as_object().unwrap().clone());
        let config = DebertaConfig::from_map(&map).unwrap();
        for (class, asked) in classes(config.family) {
            let mut add = |name: String, asked| {
                let graph = graph(&config, asked);
                let made = graph.is_ok();
                graphs.push((name.clone(), digest(&name, graph)));
                made
            };
            let name = format!("{name}/{class}");
            if !add(name.clone(), asked) || name.starts_with("act-") {
                continue;
            }
            for (option, asked) in options(asked) {
                add(format!("{name}/{option}"), asked);
            }
            if ["relative/", "lm-predictions/", "v2-shared/"].iter().any(|first| name.starts_with(first)) {
                for dtype in [Dtype::F16, Dtype::BF16] {
                    let asked = Asked { dtype, compute: Some(Dtype::F32), ..asked };
                    add(format!("{name}/{dtype}/compute-f32"), asked);
                }
                add(format!("{name}/f64"), Asked { dtype: Dtype::F64, ..asked });
                add(format!("{name}/config"), Asked { config_text: Some("{}"), ..asked });
                add(format!("{name}/no-activation"), Asked { activations: Some("nothing"), ..asked });
            }
        }
    }
    graphs
}

/// The digest of the bytes, or what the refusal says. Prints the graph if it is the one that is asked for.
fn digest(name: &str, graph: Result<ModelProto>) -> String {
    let graph = match graph {
        Ok(graph) => graph,
        Err(error) => return format!("refused: {error}"),
    };
    if env::var("GRAPH").is_ok_and(|wanted| wanted == name) {
        println!("{graph:#?}");
    }
    let bytes = Sha256::digest(graph.encode_to_vec());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn exported_graphs_keep_their_bytes() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/graphs.txt");
    let lines: Vec<String> = graphs().iter().map(|(name, digest)| format!("{name} {digest}")).collect();
    if env::var_os("UPDATE_GRAPHS").is_some() {
        fs::write(&list, lines.join("\n") + "\n").unwrap();
    }
    let text = fs::read_to_string(&list).unwrap();
    let known: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let made: BTreeMap<&str, &str> = lines.iter().filter_map(|line| line.split_once(' ')).collect();
    let names: BTreeSet<&str> = known.keys().chain(made.keys()).copied().collect();
    let mut differing = names.iter().filter(|&name| known.get(name) != made.get(name));
    let Some(first) = differing.next() else { return };
    let [was, is] = [&known, &made].map(|graphs| graphs.get(first).copied().unwrap_or("not there"));
    panic!(
        "{} of {} graphs differ, the first is {first}:\n  was {was}\n  is  {is}\nGRAPH={first} cargo test -p deberta-tests \
         graph_bytes:: -- --nocapture prints it: compare what that prints in both states of the repository. After a change \
         on purpose, UPDATE_GRAPHS=1 writes tests/snapshots/graphs.txt again.",
        1 + differing.count(),
        names.len(),
    );
}
