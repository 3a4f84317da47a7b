//! A checkpoint: files, a configuration, and which tensor is which parameter.

use std::collections::HashMap;
use std::path::Path;

use deberta_reference::{DebertaConfig, Head, Module, Role, Stage, locate};

use crate::adapter::Delta;
use crate::config_file::ConfigFile;
use crate::digest::{Digest, TensorDigest, checkpoint_digest, tensor_digest};
use crate::error::{Error, Kind, Result};
use crate::format::onnx::GraphKind;
use crate::format::{Extra, Format, TensorFile};
use crate::incomplete::without_weights;
use crate::mapped::refuse_shrunk;
use crate::matching::{Bound, Matched, Matcher, Parts, Place, Problem, ProblemKind, Repetition};
use crate::naming::keras;
use crate::naming::onnx::{self, Recovered};
use crate::naming::prefixes::Prefixes;
use crate::naming::{self, CONFIG_KEY, Naming};
use crate::parallel;
use crate::progress::Progress;
use crate::selection::Selection;
use crate::source::Source;
use crate::tensor::TensorInfo;
use crate::truncation::zeros_at_the_end;
use crate::values::Values;

/// An opened checkpoint whose tensors are matched with the parameters of its class.
///
/// Matching never fails: what does not fit is listed in [`Checkpoint::problems`], and
/// [`Checkpoint::require_complete`] turns it into an error.
///
/// ```
/// use deberta_converters::checkpoint::Checkpoint;
/// use deberta_converters::format::Format;
/// use deberta_converters::source::Source;
///
/// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/trained/nli");
/// let source = Source::locate(folder.as_ref(), Some(Format::TensorFlow), None)?;
/// let (_, checkpoint) = Checkpoint::open(source, None, None)?;
/// assert_eq!(checkpoint.class_name(), "DebertaForSequenceClassification");
/// for bound in &checkpoint.bound {
///     let numbers = checkpoint.values(bound)?.to_f32()?;
///     assert_eq!(numbers.len(), bound.param.shape.iter().product::<usize>(), "{}", bound.param.name);
/// }
/// # Ok::<(), deberta_converters::Error>(())
/// ```
pub struct Checkpoint {
    /// The files.
    pub source: Source,
    /// Their format.
    pub format: Format,
    /// Their naming.
    pub naming: Naming,
    /// The configuration; `legacy` says which masked-LM head the files hold, whatever the file said.
    pub config: DebertaConfig,
    /// The class.
    pub head: Head,
    /// Every parameter that was found, in the order of [`params()`](deberta_reference::params()).
    pub bound: Vec<Bound>,
    /// Further tensors that repeat a parameter.
    pub copies: Vec<Repetition>,
    /// What is in the files and is not part of the model.
    pub aside: Vec<Extra>,
    /// Why this is not a complete checkpoint of its class.
    pub problems: Vec<Problem>,
    /// What a reader of the result should know.
    pub notes: Vec<String>,
    /// What other model the tensors are of, if their names tell one.
    pub(crate) other_model: Option<&'static str>,
    /// What an adapter adds to parameters, by their names.
    deltas: HashMap<String, Delta>,
    pub(crate) files: Vec<Box<dyn TensorFile>>,
}

impl Checkpoint {
    /// Opens the files of `source` and matches their tensors with the parameters of the class in `selection`, or else of the class
    /// that the configuration names or the tensors show. The configuration is in the file `config`, or else beside
    /// the weights.
    ///
    /// # Errors
    /// Files that cannot be read; files of several models, if `selection` does not say which.
    pub fn open(
        source: Source,
        config: Option<&Path>,
        selection: impl Into<Selection>,
    ) -> Result<(ConfigFile, Checkpoint)> {
        // A download that went wrong is wrong in the weights first: their error says more than a missing config.
        let (format, files) = source.open()?;
        let held = files.iter().find_map(|file| held_config(file.as_ref()));
        let config =
            ConfigFile::find(config, source.folder(), held.map(|text| (source.path.as_path(), text)))?;
        let checkpoint = Checkpoint::from_files(source, format, files, &config.config, selection)?;
        Ok((config, checkpoint))
    }

    /// Matches the tensors of files that are already open. See [`Checkpoint::open`].
    pub fn from_files(
        source: Source,
        format: Format,
        files: Vec<Box<dyn TensorFile>>,
        config: &DebertaConfig,
        selection: impl Into<Selection>,
    ) -> Result<Checkpoint> {
        let Selection { head, prefix, drop_head } = selection.into();
        let head = head.or(drop_head.then_some(Head::Base));
        let recovered: Vec<Vec<Option<Vec<Recovered>>>> =
            files.iter().filter_map(|file| onnx::recover(file.as_ref(), prefix.is_some())).collect();
        let names: Vec<&str> = if recovered.is_empty() {
            let stored = files.iter().flat_map(|file| file.tensors()).map(|tensor| tensor.name.as_str());
            let of_files = files.iter().flat_map(|file| file.second_names());
            let second = of_files.chain(&source.second_names).map(|(second, _)| second.as_str());
            stored.chain(second).collect()
        } else {
            recovered.iter().flatten().flatten().flatten().map(|recovered| recovered.name.as_str()).collect()
        };
        let names = || names.iter().copied();
        let naming = if recovered.is_empty() { Naming::of(names()) } else { Naming::Onnx };
        let is_keras = naming == Naming::Keras;
        let scopes = if is_keras { keras::scopes(names()) } else { Vec::new() };
        let scope = keras::scope_of(&scopes, prefix.as_deref().filter(|_| is_keras))
            .map_err(|error| error.in_file(&source.path))?;
        let prefix = prefix.as_deref().filter(|_| !is_keras);
        let prefixes = Prefixes::of(names(), prefix).map_err(|error| error.in_file(&source.path))?;
        let mut notes = if naming == Naming::Torch { prefixes.describe() } else { Vec::new() };
        if format == Format::Safetensors {
            for file in &files {
                notes.extend(zeros_at_the_end(file.as_ref())?);
            }
        }

        let parts = Parts::of(names(), naming, &prefixes);
        let declared = config.architectures.iter().find_map(|name| Head::from_class_name(name));
        let told = |head: &Head| *head != Head::Base && head.in_transformers() && head.is_of(config.family);
        let head = head.or(declared.filter(told)).unwrap_or_else(|| parts.head(config));
        if let Some(reason) = config.lacks(head) {
            return Err(Error::new(Kind::Request, reason).in_file(&source.path));
        }

        let mut config = config.clone();
        if drop_head {
            config.architectures = vec![head.architecture(config.family).to_owned()];
        }
        // Beside mask_predictions, lm_predictions is there whatever `legacy` says.
        let [new, legacy] =
            [Module::LmPredictions, Module::Cls].map(|part| parts.has(part) && head != Head::ReplacedTokens);
        if new && !legacy && config.legacy {
            config.legacy = false;
            notes.push("the head is lm_predictions: read with legacy = false".to_owned());
        } else if legacy && !new && !config.legacy {
            config.legacy = true;
            notes.push("the head is cls.predictions: read with legacy = true".to_owned());
        }

        let other_model = without_weights(&files).or_else(|| naming::other_model(&config, names()));
        let matcher = Matcher {
            config: &config,
            head,
            naming,
            prefixes: &prefixes,
            drop_head,
            scope,
            files: &files,
            second_names: &source.second_names,
            recovered: &recovered,
        };
        let Matched { bound, copies, aside, problems } = matcher.run()?;
        Ok(Checkpoint {
            source,
            format,
            naming,
            config,
            head,
            bound,
            copies,
            aside,
            problems,
            notes,
            other_model,
            deltas: HashMap::new(),
            files,
        })
    }

    /// The parameter of that name, if the files hold it.
    pub fn parameter(&self, name: &str) -> Option<&Bound> {
        self.bound.iter().find(|bound| bound.param.name == name)
    }

    /// The values of `bound`, with what an adapter adds to them.
    pub fn values(&self, bound: &Bound) -> Result<Values<'_>> {
        let stored = self.stored_values(bound)?;
        match self.deltas.get(&bound.param.name) {
            Some(delta) => {
                let merged = self.merged(delta, bound, &stored);
                merged.map_err(|error| self.place(error, &bound.stored_name, bound.place))
            }
            None => Ok(stored),
        }
    }

    /// The values of `bound` as the files have them.
    fn stored_values(&self, bound: &Bound) -> Result<Values<'_>> {
        let bytes = self.read(bound.place, &bound.stored_name)?;
        let shape = bound.param.shape.clone();
        Ok(Values { bytes, dtype: bound.dtype, shape, transposed: bound.transposed })
    }

    /// What its graph computes with, if a file of it holds one.
    pub fn graph_kind(&self) -> Option<GraphKind> {
        self.files.iter().find_map(|file| file.graph_kind())
    }

    /// The name of the class: as transformers' PyTorch code calls it, or Microsoft's.
    pub fn class_name(&self) -> &'static str {
        self.head.class_name(self.config.family)
    }

    /// The same in a sentence: `a DebertaModel`, `an EnhancedMaskDecoder`.
    pub(crate) fn class_with_article(&self) -> String {
        let name = self.class_name();
        let article = if name.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
        format!("{article} {name}")
    }

    /// The names of those tensors that the class does not know which the embeddings or the layers of another configuration
    /// would have: without them, the encoder is not the one that these weights are of. Absolute positions are not among them,
    /// because published checkpoints have them for the mask decoder alone.
    pub fn left_out_of_encoder(&self) -> impl Iterator<Item = &str> {
        self.unexpected().filter(|name| {
            let path = name.rsplit_once('.').map_or(*name, |(path, _)| path);
            locate(path).is_some_and(|(stage, module)| {
                module != Module::PositionEmbeddings
                    && matches!(stage, Stage::Embeddings | Stage::Table | Stage::Layer(_))
            })
        })
    }

    /// Refuses to leave out what [`Checkpoint::left_out_of_encoder`] lists.
    ///
    /// # Errors
    /// There is such a tensor.
    pub fn require_whole_encoder(&self) -> Result<()> {
        let Some(first) = self.left_out_of_encoder().next() else { return Ok(()) };
        let message = format!(
            "{} tensors of the encoder have no place in this configuration, so that another model would be computed: \
             take the config.json that belongs to these weights",
            self.left_out_of_encoder().count()
        );
        Err(Error::new(Kind::Model, message).in_tensor(first).in_file(&self.source.path))
    }

    /// The total number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.bound.iter().map(|bound| bound.param.shape.iter().product::<usize>()).sum()
    }

    /// Bytes of tensor data that the parameters and their copies take in the files.
    pub fn data_len(&self) -> u64 {
        let len = |place: &Place| self.info(*place).and_then(|info| info.byte_len().ok()).unwrap_or(0) as u64;
        self.bound.iter().map(|bound| len(&bound.place)).sum::<u64>()
            + self.copies.iter().map(|copy| len(&copy.place)).sum::<u64>()
    }

    /// The digest of every parameter, in the order of [`Checkpoint::bound`]. `progress` is told the bytes that
    /// were read.
    pub fn tensor_digests(&self, progress: &dyn Progress) -> Result<Vec<TensorDigest>> {
        let digests = parallel::map(
            &self.bound,
            |bound| bound.param.shape.iter().product(),
            |bound| {
                let values = self.values(bound)?;
                progress.advance(values.bytes.len() as u64);
                tensor_digest(&values).map_err(|error| self.place(error, &bound.stored_name, bound.place))
            },
        );
        refuse_shrunk().and(digests)
    }

    /// The digest of the whole, from the digests of [`Checkpoint::tensor_digests`].
    ///
    /// ```
    /// use deberta_converters::checkpoint::Checkpoint;
    /// use deberta_converters::format::Format;
    /// use deberta_converters::source::Source;
    ///
    /// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/trained/nli");
    /// let digest = |format| {
    ///     let source = Source::locate(folder.as_ref(), Some(format), None)?;
    ///     let (_, checkpoint) = Checkpoint::open(source, None, None)?;
    ///     Ok(checkpoint.digest(&checkpoint.tensor_digests(&())?))
    /// };
    /// assert_eq!(digest(Format::TensorFlow)?, digest(Format::Onnx)?);
    /// # Ok::<(), deberta_converters::Error>(())
    /// ```
    pub fn digest<'t>(&self, tensors: impl IntoIterator<Item = &'t TensorDigest>) -> Digest {
        let names = self.bound.iter().map(|bound| bound.param.name.as_str());
        checkpoint_digest(names.zip(tensors.into_iter().copied()))
    }

    /// Compares every tensor that repeats a parameter with it, and adds a problem for each that differs.
    pub fn check_copies(&mut self) -> Result<()> {
        let equal = parallel::map(&self.copies, |_| 1, |copy| self.equals_original(copy))?;
        for (copy, equal) in self.copies.iter().zip(equal) {
            if !equal && let Some(original) = self.bound.get(copy.of) {
                let decoder = self.naming != Naming::Keras && original.param.role == Role::WordEmbedding;
                let what = ProblemKind::DiffersFrom { name: original.stored_name.clone(), decoder };
                self.problems.push(Problem { tensor: copy.stored_name.clone(), what });
            }
        }
        Ok(())
    }

    /// Turns problems into an error that names the file and the first tensor.
    ///
    /// # Errors
    /// [`Kind::Model`] if there is any problem.
    pub fn require_complete(&self) -> Result<()> {
        self.require(&self.problems.iter().collect::<Vec<_>>())
    }

    /// Turns problems into an error as [`Checkpoint::require_complete`] does, but for tensors that the class does
    /// not know: a model can be made without them.
    ///
    /// # Errors
    /// [`Kind::Model`] if a parameter is missing, misshapen, or not what it must be.
    pub fn require_parameters(&self) -> Result<()> {
        let harmless = |problem: &&Problem| problem.what == ProblemKind::Unexpected;
        self.require(&self.problems.iter().filter(|problem| !harmless(problem)).collect::<Vec<_>>())
    }

    /// The names of the tensors that the class does not know.
    pub fn unexpected(&self) -> impl Iterator<Item = &str> {
        let unexpected = self.problems.iter().filter(|problem| problem.what == ProblemKind::Unexpected);
        unexpected.map(|problem| problem.tensor.as_str())
    }

    fn equals_original(&self, copy: &Repetition) -> Result<bool> {
        let Some(original) = self.bound.get(copy.of) else { return Ok(false) };
        let first = self.stored_values(original)?;
        let second = self.read(copy.place, &copy.stored_name)?;
        if (copy.dtype, copy.transposed) == (original.dtype, original.transposed) {
            // Tied tensors share their storage: the same bytes at the same place.
            return Ok(std::ptr::eq(&*first.bytes, &*second) || first.bytes == second);
        }
        let second = Values {
            bytes: second,
            dtype: copy.dtype,
            shape: first.shape.clone(),
            transposed: copy.transposed,
        };
        Ok(tensor_digest(&first)?.values == tensor_digest(&second)?.values)
    }

    /// What the metadata of the files say under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let mut entries = self.files.iter().flat_map(|file| file.metadata());
        entries.find(|(name, _)| name == key).map(|(_, text)| text.as_str())
    }

    /// Adds a file whose tensors belong to the model too, and returns its number.
    pub(crate) fn add_file(&mut self, file: Box<dyn TensorFile>) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Has `delta` added to a parameter whenever its values are read.
    ///
    /// # Errors
    /// A parameter that the files do not hold; matrices that do not fit it.
    pub(crate) fn add_delta(&mut self, name: &str, delta: Delta) -> Result<()> {
        let bound = self
            .parameter(name)
            .ok_or_else(|| Error::new(Kind::Model, "the adapter changes it, and it is missing"))?;
        delta.check(self, &bound.param.shape)?;
        self.deltas.insert(name.to_owned(), delta);
        Ok(())
    }

    /// All numbers of a tensor, as the file has them.
    pub(crate) fn whole(&self, place: Place) -> Result<Vec<f32>> {
        let info = self.info(place).ok_or_else(|| Error::malformed("no such tensor"))?;
        let (dtype, shape) = (info.dtype, info.shape.clone());
        Values { bytes: self.read(place, &info.name)?, dtype, shape, transposed: false }.to_f32()
    }

    pub(crate) fn info(&self, place: Place) -> Option<&TensorInfo> {
        self.files.get(place.file)?.tensors().get(place.index)
    }

    fn read(&self, place: Place, name: &str) -> Result<std::borrow::Cow<'_, [u8]>> {
        match self.files.get(place.file) {
            Some(file) => file.read(place.index).map_err(|error| self.place(error, name, place)),
            None => Err(Error::malformed("no such file").in_tensor(name)),
        }
    }

    fn place(&self, error: Error, name: &str, place: Place) -> Error {
        let path = self.source.files.get(place.file).unwrap_or(&self.source.path);
        error.in_tensor(name).in_file(path)
    }
}

/// The configuration that a file holds besides its tensors.
pub(crate) fn held_config(file: &dyn TensorFile) -> Option<&str> {
    file.metadata().iter().find(|(key, _)| key == CONFIG_KEY).map(|(_, text)| text.as_str())
}
