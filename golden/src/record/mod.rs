//! Goldens of a model, recorded by the reference: what `deberta-verify record --text` writes, and what a folder is compared with
//! that is verified by itself.
//!
//! They hold this program's own arithmetic. That another file computes the same is shown by them; that a framework does is
//! not: `golden/python` records what frameworks compute.
//!
//! ```text
//! mod        the golden: a folder
//!   cover      inputs that make the model use all that it has
//!   texts      texts, their tokens, and batches of them
//!   runs       the model on inputs, whole or as samples
//!   case       case.yaml
//!   folder     the folder, whole or not at all
//! ```

use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::config_file::ConfigFile;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::loading::Parameters;
use deberta_converters::progress::Progress;
use deberta_converters::source::Source;
use deberta_reference::{Inputs, MaskedRows};

use crate::trace::class::Class;
use crate::trace::inputs::dims;

mod case;
mod cover;
mod folder;
mod runs;
pub(crate) mod texts;

pub use folder::in_folder;
use runs::Runs;
pub use texts::Texts;

/// What to record.
#[derive(Clone, Debug)]
pub struct RecordRequest {
    /// The weights.
    pub source: Source,
    /// The configuration, if it is not beside the weights.
    pub config: Option<PathBuf>,
    /// The class; that of the configuration or the tensors when absent.
    pub class: Option<Class>,
    /// What becomes of attention rows whose every key is masked; what the class does when absent.
    pub masked_rows: Option<MaskedRows>,
    /// Texts, with the tokenizer that reads them.
    pub texts: Option<Texts>,
    /// Whether inputs are made that exercise the model.
    pub cover: bool,
    /// The activations to record, patterns with `*` for any text; all of short inputs when absent.
    pub points: Option<Vec<String>>,
    /// How many bytes the traces may take if they are to be whole; otherwise they are samples.
    pub max_size: u64,
}

/// What was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The class that was run.
    pub class: Class,
    /// The weight digest of the model.
    pub digest: String,
    /// The names of the trace files.
    pub traces: Vec<String>,
    /// What a reader should know: what the golden does not see.
    pub notes: Vec<String>,
}

/// Records a golden into an existing, empty folder.
///
/// # Errors
/// Weights that are incomplete, not finite, or left out of the encoder by the configuration; texts or inputs that the model does not take; nothing to record; the folder
/// cannot be written.
pub fn record(request: &RecordRequest, folder: &Path, progress: &dyn Progress) -> Result<Recorded> {
    let (config, checkpoint) = request.open(request.class)?;
    let class = request.class.unwrap_or(Class::of_checkpoint(&checkpoint));
    class.require(&checkpoint)?;
    checkpoint.require_parameters()?;
    checkpoint.require_whole_encoder()?;
    progress.step("the weight digest");
    let digest = checkpoint.digest(&checkpoint.tensor_digests(&())?).to_string();

    let (mut inputs, mut notes) = (Vec::new(), Vec::new());
    let settings = &checkpoint.config;
    if let Some(texts) = &request.texts {
        texts.write(folder)?;
        inputs.extend(texts.inputs(settings, class)?);
    }
    if request.cover {
        inputs.extend(cover::inputs(settings, class));
        notes.extend(cover::beyond(settings, class));
    }
    if inputs.is_empty() {
        return Err(Error::new(Kind::Request, "nothing to record: neither texts nor inputs"));
    }
    for (name, inputs) in &inputs {
        cover::check(name, inputs, settings, class)?;
    }

    let settings = settings.clone();
    let rows = request.masked_rows.unwrap_or(class.masked_rows());
    let parameters = Parameters::new(checkpoint)?;
    let mut runs = Runs::new(request, class, rows, folder);
    runs.load(&parameters)?;
    for (name, inputs) in inputs {
        let (b, n) = dims(&inputs).unwrap_or_default();
        progress.step(&format!("{name}: {b} x {n} tokens"));
        runs.run(name, inputs)?;
    }
    drop(parameters);
    let traces = runs.write(|n| cover::few(&settings, n))?;
    let tokenizer_digest = request.texts.as_ref().and_then(Texts::tokenizer_digest);
    case::write(folder, &config, class, &digest, tokenizer_digest.as_deref(), &traces)?;
    let traces = traces.into_iter().map(|trace| trace.file).collect();
    Ok(Recorded { class, digest, traces, notes })
}

impl RecordRequest {
    /// Opens the checkpoint for a class, or for the one that the configuration or the tensors show.
    fn open(&self, class: Option<Class>) -> Result<(ConfigFile, Checkpoint)> {
        let head = class.map(|class| class.head);
        let (config, mut checkpoint) = Checkpoint::open(self.source.clone(), self.config.as_deref(), head)?;
        checkpoint.check_copies()?;
        Ok((config, checkpoint))
    }
}

/// Inputs by the name of their trace.
type Named = (String, Inputs);
