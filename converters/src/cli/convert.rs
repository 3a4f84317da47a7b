//! `tf2pt` and its siblings, and `convert`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use deberta_reference::{Head, MaskedRows};
use serde_json::{Value, json};

use super::bar::Bar;
use super::{HeadName, ModelArgs, Output, print, print_json};
use crate::checkpoint::Checkpoint;
use crate::config_file::ConfigFile;
use crate::convert::convert;
use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::forward;
use crate::hub::hub_id;
use crate::ledger::Ledger;
use crate::output::exists;
use crate::request::{Companion, OnnxRequest, Request};
use crate::source::Source;
use crate::tensor::Dtype;

/// Arguments of every conversion.
#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    /// Weight file, shard index (*.index.json), model folder or hub id
    input: PathBuf,
    /// File to write, or folder (existing, or ending in /) that gets the conventional name and config.json; by
    /// default the conventional name beside the input, or for a hub id in a folder named after
    /// the model
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Dtype of every parameter; the only lossy option, and it reports the largest rounding error
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<DtypeName>,
    /// Move the masked-LM head between lm_predictions (as Microsoft publishes it) and cls.predictions
    #[arg(long, value_name = "HOW")]
    mlm_head: Option<MlmHead>,
    /// Write shards of at most so much tensor data: a number of bytes, or with KB, MB, GB, KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_shard_size: Option<u64>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
    /// How the ledger is printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Output,
    #[command(flatten)]
    onnx: OnnxArgs,
}

/// Arguments of a conversion to ONNX.
#[derive(Debug, Args)]
#[command(next_help_heading = "ONNX output")]
struct OnnxArgs {
    /// What becomes of attention rows whose every key is masked, which are those of padding: uniform as in PyTorch
    /// (transformers 4.47 and later), or zero as in TensorFlow and, with --head emd, by default
    #[arg(long, value_name = "HOW")]
    masked_rows: Option<MaskedRowsName>,
    /// Make activations outputs, too: those whose names (docs/activations.md) fit the pattern, in which * stands for
    /// any text; all of them without one
    #[arg(long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "*")]
    activations: Option<String>,
    /// Write the weights to a file of their own beside the model; models over 2 GB always are written so
    #[arg(long)]
    external_data: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MaskedRowsName {
    Uniform,
    Zero,
}

/// Dtypes by the names that people use.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum DtypeName {
    F64,
    F32,
    F16,
    Bf16,
}

impl From<DtypeName> for Dtype {
    fn from(name: DtypeName) -> Dtype {
        match name {
            DtypeName::F64 => Dtype::F64,
            DtypeName::F32 => Dtype::F32,
            DtypeName::F16 => Dtype::F16,
            DtypeName::Bf16 => Dtype::BF16,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MlmHead {
    /// To the other of the two places
    Remap,
}

impl ConvertArgs {
    pub(super) fn run(self, from: Option<Format>, to: Format) -> Result<ExitCode> {
        self.refuse_onnx_arguments(to)?;
        // Nothing is written into the hub's cache.
        let own_folder = hub_id(&self.input)?.map(|id| PathBuf::from(format!("{}/", id.name())));
        let source = self.model.hub.locate(&self.input, from, Some(to))?;
        let output = Destination::new(self.output.as_deref().or(own_folder.as_deref()), &source, to)?;
        if output.file.exists() && !self.force {
            return Err(exists(&output.file));
        }
        let (config, mut checkpoint) = self.model.open(source)?;
        if let Some(from) = from.filter(|&from| from != checkpoint.format) {
            let why = format!(
                "is {}, not {from}: use `deberta-convert convert`, which takes any",
                checkpoint.format
            );
            return Err(Error::new(Kind::Request, why).in_file(&checkpoint.source.path));
        }
        checkpoint.require_complete()?;
        if let Some(MlmHead::Remap) = self.mlm_head {
            checkpoint.remap_mlm_head()?;
        }
        let companions = self.companions(&config, &mut checkpoint, &output)?;
        let request = Request {
            to,
            output: output.file.clone(),
            companions,
            dtype: self.dtype.map(Dtype::from),
            max_shard_size: self.max_shard_size,
            replace: self.force,
            onnx: self.onnx_request(to, &config, &checkpoint)?,
        };
        let ledger = in_folder(&output.folder, || {
            let bar = Bar::default();
            convert(&mut checkpoint, &request, &bar)
        })?;
        self.report(&ledger)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses arguments that mean something for ONNX alone.
    fn refuse_onnx_arguments(&self, to: Format) -> Result<()> {
        let given = [
            ("--head emd", self.model.head == Some(HeadName(Head::MaskDecoder))),
            ("--masked-rows", self.onnx.masked_rows.is_some()),
            ("--activations", self.onnx.activations.is_some()),
            ("--external-data", self.onnx.external_data),
        ];
        match given.iter().find(|(_, given)| *given && to != Format::Onnx) {
            Some((argument, _)) => {
                let why = format!("{argument} says what an ONNX model computes, {to} holds weights alone");
                Err(Error::new(Kind::Request, why).in_file(&self.input))
            }
            None => Ok(()),
        }
    }

    fn onnx_request(&self, to: Format, config: &ConfigFile, checkpoint: &Checkpoint) -> Result<OnnxRequest> {
        if to != Format::Onnx {
            return Ok(OnnxRequest::default());
        }
        let forward = forward::Options {
            masked_rows: self.onnx.masked_rows.map(|name| match name {
                MaskedRowsName::Uniform => MaskedRows::Uniform,
                MaskedRowsName::Zero => MaskedRows::Zero,
            }),
            activations: self.onnx.activations.as_deref().map(forward::Pattern::new),
            config: Some(self.config_text(config, checkpoint)?),
        };
        Ok(OnnxRequest { forward, external_data: self.onnx.external_data })
    }

    fn report(&self, ledger: &Ledger) -> Result<()> {
        match self.format {
            Output::Text => print(&ledger.to_string()),
            Output::Json => print_json(ledger),
        }
    }

    /// The `config.json` that the output needs and does not have yet.
    fn companions(
        &self,
        config: &ConfigFile,
        checkpoint: &mut Checkpoint,
        output: &Destination,
    ) -> Result<Vec<Companion>> {
        if !output.is_folder {
            return Ok(Vec::new());
        }
        let path = output.folder.join("config.json");
        let text = self.config_text(config, checkpoint)?;
        let Ok(existing) = fs::read_to_string(&path) else { return Ok(vec![Companion { path, text }]) };
        let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
        if existing == text || parse(&existing) == parse(&text) {
            return Ok(Vec::new());
        }
        if self.force {
            return Ok(vec![Companion { path, text }]);
        }
        if self.mlm_head.is_some() || existing != config.text {
            let why = "differs from the configuration of the output: write to another folder with -o, or replace it with --force";
            return Err(Error::new(Kind::Request, why).in_file(&path));
        }
        let note =
            format!("{} is left as it is, although the output calls for changes in it", path.display());
        checkpoint.notes.push(note);
        Ok(Vec::new())
    }

    /// The text of the output's `config.json`: the input's, unless it is in Microsoft's keys or the output has
    /// another masked-LM head or dtype than it says.
    fn config_text(&self, config: &ConfigFile, checkpoint: &Checkpoint) -> Result<String> {
        let mut map = config.map.clone();
        let understood = &checkpoint.config;
        let mut set = |key: &str, value: Value| {
            map.insert(key.to_owned(), value);
        };
        let mut changed = false;
        if !config.is_hugging_face() {
            changed = true;
            set("model_type", json!("deberta"));
            set("pad_token_id", json!(understood.pad_token_id));
            set("pooler_dropout", json!(understood.pooler_dropout));
            let pooling_act = config.map.get("pooling").and_then(|pooling| pooling.get("hidden_act"));
            if let Some(name) = config.map.get("pooler_hidden_act").or(pooling_act) {
                set("pooler_hidden_act", name.clone());
            }
            if understood.architectures.is_empty() {
                set("architectures", json!([checkpoint.head.architecture()]));
            }
        }
        if understood.legacy != config.config.legacy || self.mlm_head.is_some() {
            changed = true;
            set("legacy", json!(understood.legacy));
            // transformers would tie lm_head.dense to the embeddings otherwise.
            set("tie_word_embeddings", json!(understood.legacy && understood.tie_word_embeddings));
        }
        if let Some(dtype) = self.dtype {
            let name = match dtype {
                DtypeName::F64 => "float64",
                DtypeName::F32 => "float32",
                DtypeName::F16 => "float16",
                DtypeName::Bf16 => "bfloat16",
            };
            for key in ["dtype", "torch_dtype"] {
                if config.map.get(key).is_some_and(|value| value != name) {
                    changed = true;
                    set(key, json!(name));
                }
            }
        }
        if !changed {
            return Ok(config.text.clone());
        }
        let text = serde_json::to_string_pretty(&Value::Object(map));
        text.map(|text| text + "\n")
            .map_err(|error| Error::new(Kind::Config, error.to_string()).in_file(&config.path))
    }
}

/// Where the output goes.
pub(super) struct Destination {
    pub(super) folder: PathBuf,
    pub(super) file: PathBuf,
    /// Whether a folder was asked for, which gets `config.json` too.
    pub(super) is_folder: bool,
}

impl Destination {
    /// What `output` names, or else the conventional name beside the input.
    fn new(output: Option<&Path>, source: &Source, to: Format) -> Result<Destination> {
        match output {
            None => Ok(Destination::in_folder(source.folder(), to)),
            Some(path) => Destination::named(path, to),
        }
    }

    /// What the user names: a file, or a folder that gets the conventional name.
    pub(super) fn named(path: &Path, to: Format) -> Result<Destination> {
        if path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/') {
            return Ok(Destination::in_folder(path, to));
        }
        if path.file_name().is_none() {
            return Err(Error::new(Kind::Request, "names no file").in_file(path));
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Destination { folder, file: path.to_owned(), is_folder: false })
    }

    fn in_folder(folder: &Path, to: Format) -> Destination {
        Destination { folder: folder.to_owned(), file: folder.join(to.file_name()), is_folder: true }
    }
}

/// Does `work` with `folder` in existence, and takes away again what was created for it if the work fails.
pub(super) fn in_folder<R>(folder: &Path, work: impl FnOnce() -> Result<R>) -> Result<R> {
    let absent: Vec<&Path> =
        folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    fs::create_dir_all(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
        .map_err(|error| Error::io(folder, "create", error))?;
    work().inspect_err(|_| {
        for path in &absent {
            let _ = fs::remove_dir(path);
        }
    })
}

/// `50000`, `500KB`, `5GB`, `2GiB`.
pub(super) fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KIB" => 1 << 10,
        "MIB" => 1 << 20,
        "GIB" => 1 << 30,
        _ => return Err(format!("unknown unit \"{unit}\": B, KB, MB, GB, KiB, MiB or GiB")),
    };
    let number: u64 = number.parse().map_err(|_| "expected a number of bytes, as in 5GB".to_owned())?;
    number
        .checked_mul(factor)
        .filter(|&size| size > 0)
        .ok_or_else(|| "expected a positive size below 2^64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_transformers_reads_them() {
        assert_eq!(parse_size("50KB"), Ok(50_000));
        assert_eq!(parse_size("5gb"), Ok(5_000_000_000));
        assert_eq!(parse_size("2GiB"), Ok(1 << 31));
        assert_eq!(parse_size("123"), Ok(123));
        for wrong in ["", "GB", "0", "-5MB", "5TB", "99999999999GB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn folders_made_for_a_failed_run_go_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        let failed: Result<()> = in_folder(&folder, || Err(Error::malformed("x")));
        assert!(failed.is_err() && !root.path().join("a").exists());
        in_folder(&folder, || Ok(())).unwrap();
        assert!(folder.exists());
    }
}
