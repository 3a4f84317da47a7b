//! The model of a task: its configuration, its tokenizer, and what computes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::config_file::ConfigFile;
use deberta_converters::confinement::require_tokenizer_inside;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::loading::Parameters;
use deberta_converters::source::Source;
use deberta_reference::{
    DebertaConfig, EncodeOptions, Encoding, FastTokenizer, PreTrainedTokenizerBase, Tokenizer,
    TruncationStrategy,
};

use serde_json::Value;

use super::labels;
use crate::backend::{Backend, BackendName};
use crate::tokens::files::{folder_of, vocabulary};
use crate::trace::class::Class;

/// Which model to run.
#[derive(Clone, Debug)]
pub struct ModelPlace {
    /// What reports call it.
    pub name: String,
    /// A folder, a weight file or a shard index.
    pub path: PathBuf,
    /// The configuration, if it is not beside the weights.
    pub config: Option<PathBuf>,
    /// The folder of the tokenizer, if it is not that of the weights.
    pub tokenizer: Option<PathBuf>,
    /// What computes.
    pub backend: BackendName,
}

/// A model that is ready to run.
pub struct TaskModel {
    /// What reports call it.
    pub name: String,
    /// The configuration.
    pub config: DebertaConfig,
    /// The class that is run.
    pub class: Class,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// What computes.
    pub backend: Box<dyn Backend>,
    config_file: PathBuf,
    labels: std::result::Result<Vec<String>, String>,
}

/// What makes sequences of texts.
pub struct Texts {
    tokenizer: Box<FastTokenizer>,
    folder: PathBuf,
    /// The longest sequence.
    pub max_length: usize,
}

/// Tokens, and the characters of the text that each is of.
pub type Pieces = (Vec<u32>, Vec<(usize, usize)>);

impl TaskModel {
    /// Loads a model of the class that `choose` names for a checkpoint.
    ///
    /// # Errors
    /// Files that cannot be read; a model without the head of the class; a graph of another class.
    pub fn load(place: &ModelPlace, choose: &dyn Fn(&Checkpoint) -> Class) -> Result<TaskModel> {
        if place.backend.runs_graphs() {
            TaskModel::graph(place, choose)
        } else {
            TaskModel::of_weights(place, choose)
        }
    }

    fn open(
        place: &ModelPlace,
        format: Option<Format>,
        head: Option<Class>,
    ) -> Result<(ConfigFile, Checkpoint)> {
        let source = Source::locate(&place.path, format, None)?;
        Checkpoint::open(source, place.config.as_deref(), head.map(|class| class.head))
    }

    fn of_weights(place: &ModelPlace, choose: &dyn Fn(&Checkpoint) -> Class) -> Result<TaskModel> {
        let (file, found) = TaskModel::open(place, None, None)?;
        let class = choose(&found);
        let mut notes = file.config.warnings();
        let (_, mut checkpoint) = TaskModel::open(place, None, Some(class))?;
        checkpoint.check_copies()?;
        checkpoint.require_whole_encoder()?;
        let config = checkpoint.config.clone();
        let model = place.backend.load(&Parameters::new(checkpoint)?, class, class.masked_rows())?;
        notes.extend(model.not_finite());
        Ok(TaskModel::new(place, &file, config, class, notes, model))
    }

    fn graph(place: &ModelPlace, choose: &dyn Fn(&Checkpoint) -> Class) -> Result<TaskModel> {
        let (config, checkpoint) = TaskModel::open(place, Some(Format::Onnx), None)?;
        let path = checkpoint.source.path.clone();
        let class = choose(&checkpoint);
        drop(checkpoint);
        let graph = place.backend.open(&path, place.config.as_deref())?;
        if let Some(found) = graph.class().filter(|&found| found != class) {
            let message = format!("a graph of {found}, this task needs {class}");
            return Err(Error::new(Kind::Model, message).wanting(class, found).in_file(&path));
        }
        let notes = config.config.warnings();
        Ok(TaskModel::new(place, &config, config.config.clone(), class, notes, graph))
    }

    fn new(
        place: &ModelPlace,
        file: &ConfigFile,
        config: DebertaConfig,
        class: Class,
        notes: Vec<String>,
        backend: Box<dyn Backend>,
    ) -> TaskModel {
        let (name, config_file, labels) = (place.name.clone(), file.path.clone(), label_names(file));
        TaskModel { name, config, class, notes, backend, config_file, labels }
    }

    /// The names of the labels, in the order of the logits.
    ///
    /// # Errors
    /// A configuration that does not name them all, or two alike: their order is never guessed.
    pub fn labels(&self) -> Result<&[String]> {
        self.labels.as_deref().map_err(|message| {
            let hint =
                "the order of labels is not guessed: name them in config.json, or in a file for --config";
            Error::new(Kind::Config, format!("{message}; {hint}")).in_file(&self.config_file)
        })
    }

    /// The number of the label whose name starts so, in any case, as transformers looks for it.
    ///
    /// # Errors
    /// As [`TaskModel::labels`]; no such label, or several.
    pub fn label_that_starts(&self, start: &str) -> Result<usize> {
        let labels = self.labels()?;
        let starts = |label: &&String| label.to_lowercase().starts_with(start);
        let found: Vec<usize> =
            (0..).zip(labels).filter(|(_, label)| starts(label)).map(|(at, _)| at).collect();
        if let [at] = found[..] {
            return Ok(at);
        }
        let (count, all) = (found.len(), labels::listed(labels));
        let message = format!("{count} labels start with \"{start}\", one is needed: the model has {all}");
        Err(Error::new(Kind::Config, message).in_file(&self.config_file))
    }

    /// Checks that the model computes one number for a sequence.
    ///
    /// # Errors
    /// Another number of labels.
    pub fn require_one_label(&self, why: &str) -> Result<()> {
        match self.config.num_labels {
            1 => Ok(()),
            labels => {
                let message = format!("{labels} labels, this task needs a model with one: {why}");
                Err(Error::new(Kind::Model, message).in_file(&self.config_file))
            }
        }
    }
}

/// The names of all labels: `id2label`, or else `label2id`, which must agree if both are there.
fn label_names(file: &ConfigFile) -> std::result::Result<Vec<String>, String> {
    let config = &file.config;
    let mut numbered: BTreeMap<usize, String> = config.id2label.clone();
    let by_name = file.map.get("label2id").and_then(Value::as_object);
    for (name, id) in by_name.into_iter().flatten() {
        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let id = id.ok_or_else(|| format!("label2id: {name:?} has no number"))?;
        let known = numbered.entry(id).or_insert_with(|| name.clone());
        if known != name {
            return Err(format!("label2id calls label {id} {name:?}, id2label {known:?}"));
        }
    }
    let names: Vec<String> = (0..config.num_labels)
        .map(|id| numbered.get(&id).filter(|name| **name != format!("LABEL_{id}")).cloned())
        .enumerate()
        .map(|(id, name)| name.ok_or_else(|| format!("id2label does not name label {id}")))
        .collect::<std::result::Result<_, _>>()?;
    let alike =
        |(at, name): &(usize, &String)| names.iter().take(*at).any(|other| other.eq_ignore_ascii_case(name));
    match names.iter().enumerate().find(alike) {
        Some((_, name)) => Err(format!("id2label has two labels {name:?}")),
        None => Ok(names),
    }
}

impl Texts {
    /// Reads the tokenizer of a model. Sequences have at most `max_length` tokens, or as many as the model has positions.
    ///
    /// # Errors
    /// No tokenizer; a length that is too short for any text, or too long for the model.
    pub fn open(place: &ModelPlace, config: &DebertaConfig, max_length: Option<usize>) -> Result<Texts> {
        let of_model = folder_of(&place.path);
        let folder = place.tokenizer.as_deref().unwrap_or(&of_model);
        let model_type = config.family.model_type();
        let Some(file) = vocabulary(folder) else {
            let own = if model_type == "deberta" { "vocab.json" } else { "spm.model" };
            let message =
                format!("no tokenizer: neither {own} nor tokenizer.json; --tokenizer names its folder");
            return Err(Error::new(Kind::Model, message).in_file(&folder.join(own)));
        };
        let made_for = Tokenizer::model_type(folder);
        if made_for != model_type {
            let message = format!(
                "a tokenizer of \"{made_for}\", the model_type is \"{model_type}\": not the model's tokenizer; \
                 --tokenizer names the folder of that"
            );
            let error = Error::new(Kind::Model, message).wanting(model_type, made_for);
            return Err(error.in_file(&folder.join(file)));
        }
        let wrong = |error: deberta_reference::Error| {
            let message = format!("no tokenizer: {error}; --tokenizer names its folder");
            Error::new(Kind::Model, message)
        };
        require_tokenizer_inside(folder)?;
        let tokenizer = Tokenizer::fast_from_pretrained(folder).map_err(wrong)?;
        let positions = config.max_position_embeddings;
        let max_length = max_length.unwrap_or(positions);
        if config.position_biased_input && max_length > positions {
            let message = format!("--max-length {max_length}: the model has {positions} positions");
            return Err(Error::new(Kind::Request, message).wanting(positions, max_length));
        }
        let special = tokenizer.num_special_tokens_to_add(true);
        if max_length <= special {
            let message = format!("--max-length {max_length}: {special} tokens of a pair are special");
            return Err(Error::new(Kind::Request, message));
        }
        let texts = Texts { tokenizer, folder: folder.to_owned(), max_length };
        let largest = texts.tokenizer.len();
        if largest > config.vocab_size {
            let message = format!(
                "the tokenizer has {largest} tokens, the model's vocabulary {}: not the model's tokenizer",
                config.vocab_size
            );
            let error = Error::new(Kind::Model, message).wanting(config.vocab_size, largest);
            return Err(error.in_file(folder));
        }
        Ok(texts)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &FastTokenizer {
        &self.tokenizer
    }

    /// A text, or a pair, as the model takes it, and whether it had to be cut: the longer text of a pair loses tokens
    /// first.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn encode(&self, text: &str, pair: Option<&str>) -> Result<(Encoding, bool)> {
        self.encode_cut(text, pair, TruncationStrategy::LongestFirst)
    }

    /// A text, or a pair, as the model takes it, cut where `cut` says, and whether it was. It stays whole where the text
    /// that must be cut is too short for that, as in transformers' pipelines.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn encode_cut(
        &self,
        text: &str,
        pair: Option<&str>,
        cut: TruncationStrategy,
    ) -> Result<(Encoding, bool)> {
        // `batch_encode_plus` makes a pair of a text and an empty one, `encode_plus` does not.
        let encode = |options: &EncodeOptions| -> Result<Encoding> {
            let encodings = self.tokenizer.batch_encode_plus(&[(text, pair)], options);
            Ok(encodings.map_err(|error| self.failed(&error))?.pop().unwrap_or_default().encoding)
        };
        let whole =
            EncodeOptions { truncation: Some(TruncationStrategy::DoNotTruncate), ..EncodeOptions::default() };
        let encoding = encode(&whole)?;
        if encoding.len() <= self.max_length {
            return Ok((encoding, false));
        }
        let options = EncodeOptions {
            truncation: Some(cut),
            max_length: Some(self.max_length),
            ..EncodeOptions::default()
        };
        match encode(&options) {
            Err(_) if cut == TruncationStrategy::OnlyFirst => Ok((encoding, false)),
            shorter => Ok((shorter?, true)),
        }
    }

    /// The tokens of a text alone, without special ones.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn pieces(&self, text: &str) -> Result<Pieces> {
        let options = EncodeOptions {
            add_special_tokens: false,
            truncation: Some(TruncationStrategy::DoNotTruncate),
            ..EncodeOptions::default()
        };
        let fast = self.tokenizer.encode_plus(text, None, &options).map_err(|error| self.failed(&error))?;
        Ok((fast.encoding.input_ids, fast.offsets))
    }

    fn failed(&self, error: &deberta_reference::Error) -> Error {
        Error::new(Kind::Model, error.to_string()).in_file(&self.folder)
    }
}
