//! `names`: what every parameter is called in every format.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use deberta_reference::{DebertaConfig, Head, Module, Param, params, tied_names};
use serde::Serialize;

use super::arguments::HeadName;
use super::exit_status::ExitStatus;
use super::print::{print, print_json, print_text};
use crate::config_file::ConfigFile;
use crate::error::{Error, Kind, Result};
use crate::naming::keras;

/// Arguments of `names`.
#[derive(Debug, Args)]
pub(super) struct NamesArgs {
    /// Print the names and shapes of this model instead of the general scheme
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Class of the model; with --config only, `base` when not given
    #[arg(long, value_name = "HEAD", requires = "config")]
    head: Option<HeadName>,
    /// How the names are printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
    /// The page docs/names.md; the general scheme only
    Markdown,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Row {
    canonical: String,
    shape: Vec<String>,
    keras: Option<String>,
    keras_transposed: bool,
    onnx: String,
}

impl NamesArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let sections = match &self.config {
            Some(path) => {
                let config = ConfigFile::read(path)?.config;
                let head = self.head.map_or(Head::Base, Head::from);
                if let Some(reason) = config.lacks(head) {
                    return Err(Error::new(Kind::Request, reason).in_file(path));
                }
                vec![(
                    head.class_name(config.family).to_owned(),
                    rows(&config, head, |dimension| dimension.to_string(), |_| true),
                )]
            }
            None => scheme()?,
        };
        match self.format {
            Format::Json => print_json(&sections.into_iter().flat_map(|(_, rows)| rows).collect::<Vec<_>>())?,
            Format::Text => print_text(text(&sections).trim_end())?,
            Format::Markdown => print(markdown(&sections)?.trim_end())?,
        }
        Ok(ExitStatus::Success)
    }
}

/// A configuration with every optional part, whose dimensions are all different.
const EVERYTHING: &str = r#"{"vocab_size": 1009, "hidden_size": 24, "embedding_size": 20, "num_attention_heads": 4,
    "num_hidden_layers": 1, "intermediate_size": 100, "max_position_embeddings": 40, "max_relative_positions": 13,
    "type_vocab_size": 3, "num_labels": 5, "relative_attention": true, "pos_att_type": ["c2p", "p2c"], "talking_head": true}"#;

/// The same for versions 2 and 3.
const EVERYTHING_2: &str = r#"{"model_type": "deberta-v2", "vocab_size": 1009, "hidden_size": 24, "embedding_size": 20,
    "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 100, "max_position_embeddings": 40,
    "type_vocab_size": 3, "num_labels": 5, "relative_attention": true, "pos_att_type": ["c2p", "p2c"], "position_buckets": 17,
    "norm_rel_ebd": "layer_norm", "conv_kernel_size": 7, "conv_groups": 2}"#;

const LETTERS: [(usize, &str); 14] = [
    (1009, "V"),
    (24, "H"),
    (72, "3H"),
    (20, "E"),
    (4, "h"),
    (100, "I"),
    (40, "P"),
    (26, "2K"),
    (34, "2S"),
    (7, "k"),
    (12, "H/g"),
    (3, "T"),
    (5, "C"),
    (2, "2"),
];

/// Every parameter that there is, with letters for dimensions and `i` for the layer.
fn scheme() -> Result<Vec<(String, Vec<Row>)>> {
    let letter = |dimension: usize| {
        LETTERS
            .iter()
            .find(|(number, _)| *number == dimension)
            .map_or_else(|| dimension.to_string(), |(_, l)| (*l).to_owned())
    };
    let config = |text: &str, legacy: bool| {
        let mut config =
            DebertaConfig::from_json(text).map_err(|error| Error::new(Kind::Config, error.to_string()))?;
        config.legacy = legacy;
        Ok::<_, Error>(config)
    };
    let mut sections = Vec::new();
    for (title, text, head, legacy) in [
        ("Base model (under a head: prefix `deberta.`)", EVERYTHING, Head::Base, true),
        ("DebertaForMaskedLM, legacy = true", EVERYTHING, Head::MaskedLm, true),
        ("DebertaForMaskedLM, legacy = false", EVERYTHING, Head::MaskedLm, false),
        ("DebertaForSequenceClassification", EVERYTHING, Head::SequenceClassification, true),
        ("DebertaForTokenClassification", EVERYTHING, Head::TokenClassification, true),
        ("DebertaForQuestionAnswering", EVERYTHING, Head::QuestionAnswering, true),
        (
            "Versions 2 and 3, base model (the heads above have the same names)",
            EVERYTHING_2,
            Head::Base,
            true,
        ),
        ("DebertaV2ForMultipleChoice", EVERYTHING_2, Head::MultipleChoice, true),
        ("ReplacedTokenDetectionModel (Microsoft)", EVERYTHING_2, Head::ReplacedTokens, true),
    ] {
        let config = config(text, legacy)?;
        let mut rows = rows(&config, head, letter, |module| head == Head::Base || module.in_head());
        for row in &mut rows {
            row.canonical = row.canonical.replace(".layer.0.", ".layer.i.");
            row.onnx = row.onnx.replace(".layer.0.", ".layer.i.");
            row.keras = row.keras.take().map(|name| name.replace("layer_._0", "layer_._i"));
            if (head == Head::MaskedLm && !legacy) || head == Head::ReplacedTokens {
                row.keras = None;
            }
        }
        sections.push((title.to_owned(), rows));
    }
    Ok(sections)
}

fn rows(
    config: &DebertaConfig,
    head: Head,
    show: impl Fn(usize) -> String,
    listed: impl Fn(Module) -> bool,
) -> Vec<Row> {
    let row = |param: Param| {
        let stored = keras::stored(&param);
        let in_keras = !matches!(param.module, Module::HeadLogitsProj | Module::HeadWeightsProj);
        Row {
            shape: param.shape.iter().map(|&dimension| show(dimension)).collect(),
            keras_transposed: stored.transposed,
            keras: in_keras.then_some(stored.name),
            onnx: param.name.clone(),
            canonical: param.name,
        }
    };
    params(config, head).into_iter().filter(|param| listed(param.module)).map(row).collect()
}

fn text(sections: &[(String, Vec<Row>)]) -> String {
    let mut out = String::new();
    for (title, rows) in sections {
        out.push_str(&format!("{title}\n"));
        for row in rows {
            let shape = format!("[{}]", row.shape.join(", "));
            let keras = row.keras.as_deref().unwrap_or("-");
            let transposed = if row.keras_transposed && row.keras.is_some() { " (transposed)" } else { "" };
            out.push_str(&format!("  {:58} {shape:12} {keras}{transposed}\n", row.canonical));
        }
        out.push('\n');
    }
    out
}

fn markdown(sections: &[(String, Vec<Row>)]) -> Result<String> {
    let mut out = String::from(
        "# Names of parameters\n\n\
         Generated by `deberta-convert names --format markdown`.\n\n\
         V words, H hidden size, E embedding size, P positions, K largest relative distance, S buckets or else K,\n\
         T token types, I intermediate size, h heads, C labels, k the kernel and g the groups of the convolution, i the\n\
         layer. PyTorch and safetensors use the canonical name; so do the initialisers of\n\
         ONNX files. A Keras path stands after `<layer>/<scope>/` in an h5 file (`formats/keras.md`).\n",
    );
    for (title, rows) in sections {
        out.push_str(&format!(
            "\n## {title}\n\n| canonical | shape | Keras | transposed there |\n|---|---|---|---|\n"
        ));
        for row in rows {
            let keras = row.keras.as_ref().map_or("none".to_owned(), |name| format!("`{name}`"));
            let transposed = if row.keras_transposed && row.keras.is_some() { "yes" } else { "" };
            out.push_str(&format!(
                "| `{}` | [{}] | {keras} | {transposed} |\n",
                row.canonical,
                row.shape.join(", ")
            ));
        }
    }
    let config =
        DebertaConfig::from_json("{}").map_err(|error| Error::new(Kind::Config, error.to_string()))?;
    out.push_str("\n## Second names\n\nPyTorch files repeat these; the repetition must equal its original.\n\n| second name | of |\n|---|---|\n");
    for tied in tied_names(&config, Head::MaskedLm) {
        out.push_str(&format!("| `{}` | `{}` |\n", tied.name, tied.of));
    }
    out.push_str(
        "\nA masked-LM h5 file repeats everything under `deberta/embeddings/` in its layer `cls`.\n",
    );
    Ok(out)
}
