//! `init`: a model whose weights are made by the recipe.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::arguments::{HeadName, parse_size};
use super::bar::Bar;
use super::exit_status::ExitStatus;
use super::print::{Output, print_json, print_text};
use crate::convert::{Conversion, together};
use crate::destination::Destination;
use crate::error::Result;
use crate::format::Format;
use crate::forward;
use crate::ledger::Ledger;
use crate::recipe::{RECIPE, Recipe, Size, configuration};
use crate::request::{OnnxRequest, Request};
use crate::tensor::Dtype;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[arg(long, value_name = "CONFIG", help = format!("A size that Microsoft published ({}), or a config.json", Size::names()))]
    config: PathBuf,
    /// What stands on the base model; emd makes what published checkpoints hold: lm_predictions and the positions of the
    /// enhanced mask decoder
    #[arg(long, visible_alias = "class", value_name = "HEAD", default_value = "base")]
    head: HeadName,
    /// Another seed makes other weights
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Dtype of every parameter
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    dtype: Dtype,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "safetensors")]
    to: Format,
    /// File to write, or folder (existing, ending in /, or without an extension) that gets the conventional name and config.json
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Write shards of at most so much tensor data: a number of bytes, or with KB, MB, GB, KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_shard_size: Option<u64>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
    /// How the result is printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Output,
}

impl InitArgs {
    pub(super) fn run(self) -> Result<ExitStatus> {
        let to = self.to;
        let output = Destination::named(&self.output, to)?;
        output.refuse_existing(self.force)?;
        let config = configuration(&self.config)?;
        let recipe = Recipe::new(&config, self.head.into(), self.seed)?;
        let text = &recipe.config.text;
        let mut checkpoint = recipe.checkpoint()?;
        let forward = forward::Options { config: Some(text.clone()), ..forward::Options::default() };
        let request = Request {
            to,
            output: output.file.clone(),
            companions: output.companions(text, None, self.force, &mut checkpoint.notes)?,
            dtype: (self.dtype != Dtype::F32).then_some(self.dtype),
            max_shard_size: self.max_shard_size,
            replace: self.force,
            onnx: OnnxRequest { forward, external_data: false },
        };
        let bar = Bar::default();
        output.with_folder(|| {
            let conversion = Conversion::stage(&mut checkpoint, &request, &bar)?;
            bar.clear();
            let ledger = conversion.ledger.clone();
            let files = together(vec![conversion])?;
            files.check(self.force)?;
            // A run whose account cannot be printed fails, and changes nothing.
            self.tell(&ledger)?;
            files.commit(self.force)
        })?;
        Ok(ExitStatus::Success)
    }

    fn tell(&self, ledger: &Ledger) -> Result<()> {
        match self.format {
            Output::Text => print_text(&self.text(ledger)),
            Output::Json => print_json(&json!({
                "recipe": RECIPE,
                "config": self.config,
                "seed": self.seed,
                "class": ledger.class,
                "layers": ledger.layers,
                "parameters": ledger.parameters,
                "dtypes": ledger.dtypes,
                "output": ledger.output,
                "also_written": ledger.also_written,
                "rounding": ledger.rounding,
            })),
        }
    }

    fn text(&self, ledger: &Ledger) -> String {
        let side = &ledger.output;
        let files = if side.files == 1 { String::new() } else { format!(" in {} files", side.files) };
        let written = |path: &Path| format!("\n            {}", path.display());
        let also: String = ledger.also_written.iter().map(|path| written(path)).collect();
        let dtypes: Vec<String> =
            ledger.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
        format!(
            "output      {}  ({}, {} bytes{files}){also}\n\
             model       {}, {} layers, {} parameters\n\
             recipe      {RECIPE}, {}, seed {}\n\
             tensors     {}\n\
             digest      {}",
            side.path.display(),
            side.format,
            side.bytes,
            ledger.class,
            ledger.layers,
            ledger.parameters,
            self.config.display(),
            self.seed,
            dtypes.join(", "),
            side.digest
        )
    }
}
