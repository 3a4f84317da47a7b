//! `tf2pt` and its siblings, and `convert`.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use deberta_reference::{Head, MaskedRows};

use super::arguments::{HeadName, ModelArgs, parse_size};
use super::bar::Bar;
use super::console::is_quiet;
use super::exit_status::ExitStatus;
use super::print::{Output, print_json, print_text};
use crate::adapter::{Adapter, CONFIGURATION};
use crate::convert::{Conversion, together};
use crate::destination::Destination;
use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::forward;
use crate::hub::hub_id;
use crate::int8::{Int8, names_in};
use crate::json::read_text;
use crate::ledger::Ledger;
use crate::output;
use crate::progress::Progress;
use crate::request::{OnnxRequest, Request};
use crate::tensor::Dtype;

/// Arguments of every conversion.
#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    /// Weight file, shard index (*.index.json), model folder or hub id
    input: PathBuf,
    /// File to write, or folder (existing, ending in /, or without an extension) that gets the
    /// conventional name, config.json and the files of the tokenizer; by default the conventional name beside the input, or for a hub id in a folder named after
    /// the model
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Merge the LoRA adapter of peft that is in this folder into the weights
    #[arg(long, value_name = "FOLDER")]
    merge_adapter: Option<PathBuf>,
    /// Dtype of every parameter; the only lossy option, and it reports the largest rounding error
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<Dtype>,
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
    #[arg(long, value_name = "HOW", value_parser = MaskedRows::ALL.map(MaskedRows::word))]
    masked_rows: Option<String>,
    /// Make activations outputs, too: those whose names (docs/activations.md) fit the pattern, in which * stands for
    /// any text; all of them without one
    #[arg(long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "*")]
    activations: Option<String>,
    /// Dtype to compute in, where it is not that of the weights: f32 for weights in f16 or bf16, which a runtime widens when
    /// it loads them. CPUs have no bf16 arithmetic, so --dtype bf16 runs on them with --compute f32 alone
    #[arg(long, value_name = "DTYPE", value_parser = computable())]
    compute: Option<Dtype>,
    /// Round the weights of linear layers, kernels and tables to integers, with a scale for each row, and activations as they come:
    /// a fourth of the size, and faster. It is lossy, and the ledger says what it cost; docs/quantized.md says how to judge it
    #[arg(long, value_name = "HOW")]
    quantize: Option<Quantize>,
    /// With --quantize: what stays in f32, by the names of modules, parameters or nodes (* stands for any text), or a file of
    /// such names; several with commas, or by giving it again. Embeddings stay with '*embeddings*'
    #[arg(long, value_name = "NAME|FILE", requires = "quantize", value_delimiter = ',')]
    keep_f32: Vec<String>,
    /// With --quantize: round weights to 7 bits, for processors with AVX2 or AVX-512 and without VNNI, where the products of 8
    /// bits overflow
    #[arg(long, requires = "quantize")]
    reduce_range: bool,
    /// Write the weights to a file of their own beside the model; models over 2 GB always are written so
    #[arg(long)]
    external_data: bool,
}

/// The dtypes that runtimes compute in.
fn computable() -> impl TypedValueParser<Value = Dtype> {
    let words =
        [Dtype::F32, Dtype::F16, Dtype::BF16].into_iter().filter_map(|dtype| dtype.to_possible_value());
    PossibleValuesParser::new(words).try_map(|word| Dtype::from_str(&word, false))
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MlmHead {
    /// To the other of the two places
    Remap,
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Quantize {
    /// Integers of 8 bits
    Int8,
}

impl ConvertArgs {
    /// Converts to every format of `to`.
    pub(super) fn run(self, from: Option<Format>, to: &[Format]) -> Result<ExitStatus> {
        let format = self.format;
        let bar = Bar::default();
        let tell = |ledgers: &[Ledger]| {
            bar.clear();
            match (format, ledgers) {
                (Output::Text, _) if is_quiet() => Ok(()),
                (Output::Text, ledgers) => {
                    print_text(&ledgers.iter().map(Ledger::to_string).collect::<Vec<_>>().join("\n\n"))
                }
                (Output::Json, [ledger]) => print_json(ledger),
                (Output::Json, ledgers) => print_json(&ledgers),
            }
        };
        self.ledgers(from, to, &bar, tell)?;
        Ok(ExitStatus::Success)
    }

    /// Converts, and gives an account of every output. All appear together in the end, after `tell` was given the account: one
    /// that cannot be printed is of a run that failed, and changed nothing.
    pub(super) fn ledgers(
        self,
        from: Option<Format>,
        to: &[Format],
        progress: &dyn Progress,
        tell: impl FnOnce(&[Ledger]) -> Result<()>,
    ) -> Result<Vec<Ledger>> {
        self.refuse_onnx_arguments(to)?;
        if self.output.is_none() && self.input.exists() {
            // An output of an earlier run, which is the input now, may be half in its place.
            let folder = self.input.parent().filter(|_| !self.input.is_dir()).unwrap_or(&self.input);
            output::clear(folder)?;
        }
        // Nothing is written into the hub's cache.
        let own_folder = hub_id(&self.input)?.map(|id| PathBuf::from(format!("{}/", id.name())));
        let source = self.model.hub.locate(&self.input, from)?;
        let mut outputs: Vec<(Format, Destination)> = Vec::new();
        for &to in to {
            let output = match self.output.as_deref().or(own_folder.as_deref()) {
                Some(path) => Destination::named(path, to)?,
                None => Destination::in_folder(source.folder(), to),
            };
            output.refuse_existing(self.force)?;
            if outputs.iter().any(|(_, other)| other.file == output.file) {
                let why = "names one file for several formats: -o FOLDER/ gives each the conventional name";
                return Err(Error::new(Kind::Request, why).in_file(&output.file));
            }
            outputs.push((to, output));
        }
        let int8 = self.onnx.int8()?;
        let adapter = self.merge_adapter.as_deref().map(Adapter::open).transpose()?;
        if adapter.is_none() && self.input.is_dir() {
            refuse_adapter_beside(source.folder())?;
        }
        let folder = source.folder().to_owned();
        let (config, mut checkpoint) =
            self.model.open(source, adapter.as_ref().and_then(Adapter::head), progress)?;
        if let Some(adapter) = adapter {
            checkpoint.merge_adapter(adapter)?;
        }
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
        let remapped = self.mlm_head.is_some();
        let text = config.for_output(&checkpoint.config, checkpoint.head, remapped, self.dtype)?;
        let kept = (!remapped).then_some(config.text.as_str());
        let mut planned: Vec<PathBuf> = Vec::new();
        let mut stage = |(to, output): &(Format, Destination)| -> Result<Conversion> {
            // What is said of one output is not said of the next.
            let notes = checkpoint.notes.clone();
            let mut companions = output.companions(&text, kept, self.force, &mut checkpoint.notes)?;
            companions.extend(output.taken_along(&folder, self.force, &mut checkpoint.notes)?);
            companions.retain(|companion| !planned.contains(&companion.path));
            planned.extend(companions.iter().map(|companion| companion.path.clone()));
            let request = Request {
                to: *to,
                output: output.file.clone(),
                companions,
                dtype: self.dtype,
                max_shard_size: self.max_shard_size,
                replace: self.force,
                onnx: self.onnx.request(text.clone(), int8.clone()),
            };
            let conversion = Conversion::stage(&mut checkpoint, &request, progress)?;
            checkpoint.notes = notes;
            Ok(conversion)
        };
        let write = || {
            let conversions = outputs.iter().map(&mut stage).collect::<Result<Vec<_>>>()?;
            let ledgers: Vec<Ledger> =
                conversions.iter().map(|conversion| conversion.ledger.clone()).collect();
            let files = together(conversions)?;
            files.check(self.force)?;
            tell(&ledgers)?;
            files.commit(self.force)?;
            Ok(ledgers)
        };
        match outputs.first() {
            Some((_, first)) => first.with_folder(write),
            None => write(),
        }
    }

    /// Refuses arguments that mean something for ONNX alone.
    fn refuse_onnx_arguments(&self, to: &[Format]) -> Result<()> {
        let to_onnx = to.contains(&Format::Onnx);
        let given = [
            ("--head emd", self.model.head == Some(HeadName(Head::MaskDecoder))),
            ("--masked-rows", self.onnx.masked_rows.is_some()),
            ("--activations", self.onnx.activations.is_some()),
            ("--compute", self.onnx.compute.is_some()),
            ("--quantize", self.onnx.quantize.is_some()),
            ("--external-data", self.onnx.external_data),
        ];
        match (given.iter().find(|(_, given)| *given), to) {
            (Some((argument, _)), [to, ..]) if !to_onnx => {
                let why = format!("{argument} says what an ONNX model computes, {to} holds weights alone");
                Err(Error::new(Kind::Request, why).in_file(&self.input))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a folder that transformers reads with an adapter applied.
fn refuse_adapter_beside(folder: &Path) -> Result<()> {
    let path = folder.join(CONFIGURATION);
    if !path.exists() {
        return Ok(());
    }
    let why = format!(
        "beside the weights: transformers with peft applies that adapter to them, so that they alone are not the model; \
         --merge-adapter {} merges it, and naming the weight file instead of the folder converts that without it",
        folder.display()
    );
    Err(Error::new(Kind::Request, why).in_file(&path))
}

impl OnnxArgs {
    /// How weights are rounded, if they are.
    fn int8(&self) -> Result<Option<Int8>> {
        let Some(Quantize::Int8) = self.quantize else { return Ok(None) };
        let mut keep = Vec::new();
        for name in &self.keep_f32 {
            let path = Path::new(name);
            if path.is_file() { keep.extend(names_in(&read_text(path)?)) } else { keep.push(name.clone()) }
        }
        Ok(Some(Int8 { keep, reduce_range: self.reduce_range }))
    }

    /// What an ONNX file is to be. It holds its configuration, `config`.
    fn request(&self, config: String, int8: Option<Int8>) -> OnnxRequest {
        let forward = forward::Options {
            masked_rows: self.masked_rows.as_deref().and_then(MaskedRows::from_word),
            activations: self.activations.clone(),
            compute: self.compute,
            int8,
            config: Some(config),
        };
        OnnxRequest { forward, external_data: self.external_data }
    }
}
