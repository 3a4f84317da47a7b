//! Arguments that several subcommands take.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use deberta_reference::Head;

use super::bar::Bar;
use crate::checkpoint::Checkpoint;
use crate::config_file::ConfigFile;
use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::hub::{Wanted, resolve};
use crate::progress::Progress;
use crate::selection::Selection;
use crate::source::Source;
use crate::tensor::Dtype;

/// What every subcommand needs to know about models on the hub.
#[derive(Clone, Debug, Args)]
pub(super) struct HubArgs {
    /// Branch, tag or commit of a hub id [default: main]
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
}

impl HubArgs {
    /// Checks that a revision is given only if one of the models is not on this disk.
    pub(super) fn check(&self, models: &[&Path]) -> Result<()> {
        match (&self.revision, models) {
            (Some(revision), [first, ..]) if models.iter().all(|model| model.exists()) => {
                let why = format!("--revision {revision} is for hub ids, and this is a file or folder");
                Err(Error::new(Kind::Request, why).in_file(first))
            }
            _ => Ok(()),
        }
    }

    /// The path of a model: itself, or what is downloaded for a hub id.
    pub(super) fn path(&self, model: &Path, wanted: &Wanted) -> Result<PathBuf> {
        resolve(model, self.revision.as_deref(), wanted, &Bar::default())
    }

    /// Finds the weight files of the only model that the user names, as [`Source::locate`] does.
    pub(super) fn locate(&self, model: &Path, wanted: Option<Format>) -> Result<Source> {
        self.check(&[model])?;
        let path = self.path(model, &Wanted::as_located(wanted, None))?;
        Source::locate(&path, wanted, None)
    }
}

/// Which part of a checkpoint is meant.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct PartArgs {
    /// Of several models in one file, the one whose names start so: student, model.ema
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Take the base model alone, whatever head is on it; what is left out is listed
    #[arg(long, conflicts_with = "head")]
    drop_head: bool,
}

impl PartArgs {
    /// What to take of a checkpoint of that class.
    pub(super) fn selection(&self, head: Option<HeadName>) -> Selection {
        Selection { head: head.map(Head::from), prefix: self.prefix.clone(), drop_head: self.drop_head }
    }
}

/// What every subcommand needs to know about a checkpoint.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// Configuration of the model; found beside the weights when not given
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Class of the model; told by the configuration and the tensors when not given
    #[arg(long, value_name = "HEAD")]
    pub(super) head: Option<HeadName>,
    #[command(flatten)]
    pub(super) part: PartArgs,
    #[command(flatten)]
    pub(super) hub: HubArgs,
}

impl ModelArgs {
    pub(super) fn config(&self, source: &Source, held: Option<&str>) -> Result<ConfigFile> {
        let held = held.map(|text| (source.path.as_path(), text));
        ConfigFile::find(self.config.as_deref(), source.folder(), held)
    }

    /// Opens the checkpoint; `trained` is the class that an adapter was trained for, whatever head the weights have.
    pub(super) fn open(
        &self,
        source: Source,
        trained: Option<Head>,
        progress: &dyn Progress,
    ) -> Result<(ConfigFile, Checkpoint)> {
        let mut selection = self.part.selection(self.head);
        if let (None, false, Some(head)) = (selection.head, selection.drop_head, trained) {
            (selection.head, selection.drop_head) = (Some(head), true);
        }
        let (config, checkpoint) = Checkpoint::open(source, self.config.as_deref(), selection)?;
        for warning in config.config.warnings() {
            progress.warn(&format!("{}: {warning}", config.path.display()));
        }
        Ok((config, checkpoint))
    }
}

/// By its [`Format::word`] and its [`Format::aliases`].
impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Format] {
        &[Format::PyTorch, Format::TensorFlow, Format::Safetensors, Format::Onnx]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self.aliases() {
            [] => self.file_name().to_owned(),
            aliases => format!("{}; also: {}", self.file_name(), aliases.join(", ")),
        };
        Some(PossibleValue::new(self.word()).help(help).aliases(self.aliases()))
    }
}

/// A head by its [`Head::word`], and by the other names that people use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadName(pub(super) Head);

impl ValueEnum for HeadName {
    fn value_variants<'a>() -> &'a [HeadName] {
        const ALL: [HeadName; Head::ALL.len()] = {
            let mut all = [HeadName(Head::Base); Head::ALL.len()];
            let mut at = 0;
            while at < all.len() {
                all[at] = HeadName(Head::ALL[at]);
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let names: Vec<&str> = self.0.class_names().collect();
        let class = names.first().copied().unwrap_or_default();
        let (help, aliases): (&str, &[&str]) = match self.0 {
            Head::Base => ("DebertaModel: no head", &["model"]),
            Head::MaskedLm => (class, &["masked-lm", "masked_lm"]),
            Head::MaskDecoder => (
                "The enhanced mask decoder: what lm_predictions was trained for; another computation on the tensors of mlm",
                &["enhanced-mask-decoder"],
            ),
            Head::SequenceClassification => (class, &["sequence-classification"]),
            Head::TokenClassification => (class, &["token-classification"]),
            Head::QuestionAnswering => (class, &["question-answering"]),
            Head::MultipleChoice => (class, &["multiple-choice"]),
            Head::ReplacedTokens => (class, &["replaced-token-detection"]),
        };
        Some(PossibleValue::new(self.0.word()).help(help).aliases(aliases).aliases(names))
    }
}

impl From<HeadName> for Head {
    fn from(name: HeadName) -> Head {
        name.0
    }
}

/// Those that parameters may be given.
impl ValueEnum for Dtype {
    fn value_variants<'a>() -> &'a [Dtype] {
        &[Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(
            PossibleValue::new(self.word())
                .help(format!("also: {}", self.aliases().join(", ")))
                .aliases(self.aliases()),
        )
    }
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
}
