//! What is verified: a weight file, and what it is compared with.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::Result;
use deberta_converters::format::torch;
use deberta_converters::format::{Format, sniff};
use deberta_converters::hub::Listed;
use deberta_converters::loading::Parameters;
use deberta_converters::mapped::Mapped;
use deberta_converters::progress::Progress;
use deberta_converters::source::Source;
use deberta_reference::{DebertaConfig, Head};

use super::diagnosis::Diagnosed;
use crate::backend::{Arithmetic, BackendName};
use crate::goldens::Golden;
use crate::judge::tolerance::{Precision, Tolerances};
use crate::trace::class::Class;

/// What to verify, and how.
#[derive(Clone, Debug, Default)]
pub struct VerifyRequest {
    /// What reports call the model.
    pub name: String,
    /// A folder, a weight file or a shard index.
    pub model: PathBuf,
    /// The configuration, if it is not beside the weights.
    pub config: Option<PathBuf>,
    /// What to compare with.
    pub goldens: Vec<Golden>,
    /// Whether to give every module the golden's input.
    pub isolate: bool,
    /// Whether to look for the causes of divergences.
    pub diagnose: bool,
    /// Whether to find which nodes of a quantized graph lose most, also where the loss is within its limits.
    pub find_losses: bool,
    /// F64: the reference computes in f64, too, and says of points that differ, or nearly, whose error is larger.
    pub precision: Arithmetic,
    /// What computes; if absent, the reference, and an ONNX file's own graph too.
    pub backend: Option<BackendName>,
    /// The files that the model has, if there are more than its folder shows.
    pub listed: Listed,
    /// The files of the release that need not be judged: paths in the model's folder, in which `*` stands for any text.
    pub unjudged: Vec<String>,
}

/// A weight file of the model.
pub(super) struct WeightFile<'v> {
    pub(super) request: &'v VerifyRequest,
    pub(super) source: Source,
    pub(super) progress: &'v dyn Progress,
    /// The configuration of a file that has none where one is looked for.
    config: Option<PathBuf>,
    /// What the files before this one were diagnosed with.
    pub(super) diagnosed: &'v Diagnosed,
    /// The weights as they were opened for a class, or for the one that the configuration or the tensors show.
    opened: RefCell<HashMap<Option<Head>, Rc<Parameters>>>,
}

/// A weight file and a golden.
pub(super) struct Candidate<'v> {
    pub(super) file: &'v WeightFile<'v>,
    pub(super) golden: &'v Golden,
    pub(super) digest: &'v str,
    /// What its weights were rounded to since the golden was computed.
    pub(super) precision: Precision,
    /// How far its numbers may be off.
    pub(super) tolerances: Cow<'v, Tolerances>,
}

impl<'v> WeightFile<'v> {
    pub(super) fn new(
        request: &'v VerifyRequest,
        source: Source,
        progress: &'v dyn Progress,
        diagnosed: &'v Diagnosed,
    ) -> WeightFile<'v> {
        WeightFile { request, source, progress, config: None, diagnosed, opened: RefCell::default() }
    }

    /// The same file, with a configuration unless the request has one.
    pub(super) fn configured_by(self, config: Option<PathBuf>) -> WeightFile<'v> {
        WeightFile { config, ..self }
    }

    /// The configuration, if it is not the one beside the weights.
    pub(super) fn config_path(&self) -> Option<&Path> {
        self.request.config.as_deref().or(self.config.as_deref())
    }

    /// What computes with the weights.
    pub(super) fn backend(&self) -> BackendName {
        self.request.backend.unwrap_or(BackendName::Reference)
    }

    /// What runs the computation that the file holds: what was asked for, or if nothing was, what runs its format.
    pub(super) fn graph_backend(&self) -> Option<BackendName> {
        match self.request.backend {
            // A program is code, and never run unless it is asked for.
            Some(BackendName::Tch) => self.holds(torch::is_script).then_some(BackendName::Tch),
            Some(backend) => Some(backend).filter(|backend| backend.runs_graphs()),
            None => {
                let onnx = |bytes: &[u8]| sniff(bytes).is_ok_and(|format| format == Format::Onnx);
                self.holds(onnx).then_some(BackendName::Onnx)
            }
        }
    }

    /// Whether the file can be read, and its bytes are something.
    fn holds(&self, something: impl FnOnce(&[u8]) -> bool) -> bool {
        Mapped::open(&self.source.path).is_ok_and(|bytes| something(&bytes))
    }

    /// The parameters of a class, or of the one that the configuration or the tensors show. They are opened and converted
    /// once.
    pub(super) fn parameters(&self, class: Option<Class>) -> Result<Rc<Parameters>> {
        let head = class.map(|class| class.head);
        let known = self.opened.borrow().get(&head).cloned();
        match known {
            Some(parameters) => Ok(parameters),
            None => Ok(self.keep(head, Parameters::new(self.open(class)?)?)),
        }
    }

    /// The configuration.
    pub(super) fn config(&self) -> Result<DebertaConfig> {
        let known =
            self.opened.borrow().values().next().map(|parameters| parameters.checkpoint().config.clone());
        match known {
            Some(config) => Ok(config),
            None => Ok(self.open(None)?.config),
        }
    }

    pub(super) fn keep(&self, head: Option<Head>, parameters: Parameters) -> Rc<Parameters> {
        let found = Some(parameters.checkpoint().head);
        let parameters = Rc::new(parameters);
        let mut opened = self.opened.borrow_mut();
        opened.extend([head, found].map(|head| (head, Rc::clone(&parameters))));
        parameters
    }

    /// Opens the checkpoint for a class, or for the one that the configuration or the tensors show.
    pub(super) fn open(&self, class: Option<Class>) -> Result<Checkpoint> {
        let (_, mut checkpoint) =
            Checkpoint::open(self.source.clone(), self.config_path(), class.map(|class| class.head))?;
        checkpoint.check_copies()?;
        Ok(checkpoint)
    }
}

impl<'v> Candidate<'v> {
    /// A weight file, with what is known of its weights, and a golden. Weights in half precision that are those of the golden,
    /// by its digest, are no rounder than the golden's were: they are judged as f32.
    pub(super) fn new(
        file: &'v WeightFile<'v>,
        golden: &'v Golden,
        digest: &'v str,
        stored: Precision,
    ) -> Candidate<'v> {
        let equal = golden.digest().is_some_and(|golden| golden.eq_ignore_ascii_case(digest));
        let precision = if equal { Precision::F32 } else { stored };
        let tolerances = match precision == stored {
            true => Cow::Borrowed(&golden.tolerances),
            false => Cow::Owned(golden.tolerances.usual_at_least()),
        };
        Candidate { file, golden, digest, precision, tolerances }
    }
}
