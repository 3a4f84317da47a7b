//! The forward pass and the tokenizers: `cargo bench -p deberta-reference`. `docs/performance.md` says what else measures
//! speed.

// A benchmark that cannot run says so by panicking.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::error::Error;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use deberta_reference::{
    DebertaConfig, DebertaModel, DebertaPreTrainedModel, DebertaTokenizer, DebertaTokenizerFast,
    EncodeOptions, Head, Inputs, Param, PreTrainedTokenizerBase, Probe, Tensor, TensorSource, params,
};
use ndarray::Array2;
use serde_json::Value;
use tempfile::TempDir;

criterion_group!(benches, forward, tokenize);
criterion_main!(benches);

/// A checkpoint with arbitrary numbers from -0.05 to 0.05.
struct Arbitrary(Vec<Param>);

impl TensorSource for Arbitrary {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|param| param.name.clone()).collect()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>, Box<dyn Error + Send + Sync>> {
        Ok(self.0.iter().find(|param| param.name == name).map(|param| {
            let mut state = 1_u32;
            let numbers = (0..param.shape.iter().product()).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / (1 << 24) as f32 - 0.5) * 0.1
            });
            Tensor::new(param.shape.clone(), numbers.collect())
        }))
    }
}

fn model(config: &str) -> DebertaModel {
    let config = DebertaConfig::from_json(config).unwrap();
    let checkpoint = Arbitrary(params(&config, Head::Base));
    DebertaModel::from_pretrained(config, &checkpoint).unwrap().0
}

/// Whole models: a small one, and one layer of deberta-base's size, of whose time most is the product's.
fn forward(criterion: &mut Criterion) {
    let small = r#"{"vocab_size": 500, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 512, "relative_attention": true, "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": false}"#;
    let base_layer = r#"{"vocab_size": 500, "hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12,
        "intermediate_size": 3072, "relative_attention": true, "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": false}"#;
    let mut group = criterion.benchmark_group("forward");
    for (name, config) in [("small", small), ("base layer", base_layer)] {
        let model = model(config);
        for (batch, tokens) in [(1, 16), (1, 128), (1, 512), (8, 128)] {
            let ids = (0..batch * tokens)
                .map(|at| i64::try_from(at * 7919 % 500).expect("a small number"))
                .collect();
            let inputs = Inputs::from_ids(Array2::from_shape_vec((batch, tokens), ids).unwrap());
            group.throughput(Throughput::Elements((batch * tokens) as u64));
            group.bench_function(BenchmarkId::new(name, format!("{batch}x{tokens}")), |bencher| {
                bencher.iter(|| model.forward(black_box(&inputs), &mut Probe::off()).unwrap());
            });
        }
    }
    group.finish();
}

/// Both classes on a program's text, line by line, with a vocabulary of bytes and a few merges.
fn tokenize(criterion: &mut Criterion) {
    let text = include_str!("../src/attention.rs");
    let folder = vocabulary();
    let slow = DebertaTokenizer::from_pretrained(folder.path()).unwrap();
    let fast = DebertaTokenizerFast::from_pretrained(folder.path()).unwrap();
    let options = EncodeOptions::default();
    let mut group = criterion.benchmark_group("tokenizers");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("DebertaTokenizer::encode", |bencher| {
        bencher.iter(|| {
            text.lines().map(|line| slow.encode(line, None, &options).unwrap().len()).sum::<usize>()
        });
    });
    group.bench_function("DebertaTokenizerFast::encode", |bencher| {
        bencher.iter(|| {
            text.lines().map(|line| fast.encode(line, None, &options).unwrap().len()).sum::<usize>()
        });
    });
    group.bench_function("DebertaTokenizerFast::encode_plus", |bencher| {
        bencher.iter(|| {
            let encode = |line| fast.encode_plus(line, None, &options).unwrap().offsets.len();
            text.lines().map(encode).sum::<usize>()
        });
    });
    group.finish();
}

/// vocab.json and merges.txt.
fn vocabulary() -> TempDir {
    let merges =
        ["Ġ t", "h e", "Ġt he", "i n", "Ġ a", "o n", "Ġ s", "e r", "r e", "Ġ o", "Ġo f", "Ġ f", "Ġ =", "l e"];
    let mut tokens = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"].map(String::from).to_vec();
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others = (0x100..).filter_map(char::from_u32);
    let bytes = (0..0x100).filter(|&byte| printable(byte)).filter_map(char::from_u32);
    tokens.extend(bytes.chain(others.take(68)).map(String::from));
    tokens.extend(merges.map(|merge| merge.replace(' ', "")));
    let ids = tokens.into_iter().zip(0..).map(|(token, id)| (token, Value::from(id)));
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("vocab.json"), Value::Object(ids.collect()).to_string()).unwrap();
    let merges = format!("#version: 0.2\n{}\n", merges.join("\n"));
    std::fs::write(folder.path().join("merges.txt"), merges).unwrap();
    folder
}
