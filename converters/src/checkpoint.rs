//! A checkpoint: files, a configuration, and which tensor is which parameter.

use std::collections::HashMap;
use std::fmt;

use deberta_reference::{DebertaConfig, Head, Param, params, tied_names};

use crate::digest::{Digest, TensorDigest, checkpoint_digest, tensor_digest};
use crate::error::{Error, Kind, Result};
use crate::format::{TensorFile, keras as keras_format};
use crate::naming::torch::{Local, Prefixes};
use crate::naming::{Naming, Stored, keras, torch};
use crate::parallel;
use crate::progress::Progress;
use crate::source::{ConfigFile, Format, Source};
use crate::tensor::{Dtype, TensorInfo};
use crate::values::Values;

/// An opened checkpoint whose tensors are matched with the parameters of its class.
///
/// Matching never fails: what does not fit is listed in [`Checkpoint::problems`], and
/// [`Checkpoint::require_complete`] turns it into an error.
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
    /// Every parameter that was found, in the order of [`params`].
    pub bound: Vec<Bound>,
    /// Further tensors that repeat a parameter.
    pub copies: Vec<Copy>,
    /// What is in the files and is not part of the model.
    pub aside: Vec<Aside>,
    /// Why this is not a complete checkpoint of its class.
    pub problems: Vec<Problem>,
    /// What a reader of the result should know.
    pub notes: Vec<String>,
    files: Vec<Box<dyn TensorFile>>,
}

/// Where a tensor is: which file, and which tensor of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    file: usize,
    index: usize,
}

/// A parameter and the tensor that holds it.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The parameter.
    pub param: Param,
    /// The name in the file.
    pub stored_name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Whether the file holds the transpose.
    pub transposed: bool,
    place: Place,
}

/// A tensor that repeats a parameter and must equal it.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The name in the file.
    pub stored_name: String,
    /// The parameter's index in [`Checkpoint::bound`].
    pub of: usize,
    dtype: Dtype,
    transposed: bool,
    place: Place,
}

/// Something that a file holds and that is not part of the model.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Aside {
    /// Its name in the file.
    pub name: String,
    /// What it is.
    pub what: String,
}

/// A tensor that keeps the files from being a complete checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The tensor, by its name in the file if it is there, else by the name that it should have.
    pub tensor: String,
    /// What is wrong with it.
    pub what: ProblemKind,
}

/// What is wrong with a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The class needs it and the files do not hold it.
    Missing,
    /// The files hold it and the class does not know it.
    Unexpected,
    /// Its shape is not the one that the configuration implies.
    Shape {
        /// As it should be in this format.
        expected: Vec<usize>,
        /// As it is.
        found: Vec<usize>,
    },
    /// It is not floating point.
    Dtype(Dtype),
    /// It should repeat a parameter, and differs from it.
    DiffersFrom(String),
    /// It is the `position_ids` buffer and does not count 0, 1, 2, ….
    NotCounting,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProblemKind::Missing => f.write_str("missing"),
            ProblemKind::Unexpected => f.write_str("unexpected: the class has no such parameter"),
            ProblemKind::Shape { expected, found } => {
                write!(f, "shape {found:?}, the configuration implies {expected:?}")?;
                let reversed = found.iter().rev().eq(expected.iter());
                f.write_str(if reversed && expected.len() == 2 { " (it is transposed)" } else { "" })
            }
            ProblemKind::Dtype(dtype) => write!(f, "dtype {dtype}, a parameter must be floating point"),
            ProblemKind::DiffersFrom(name) => {
                write!(f, "differs from \"{name}\", which it must repeat")?;
                let decoder = name.ends_with("word_embeddings.weight");
                f.write_str(if decoder { " (an untied decoder needs tie_word_embeddings false)" } else { "" })
            }
            ProblemKind::NotCounting => f.write_str("a position_ids buffer that does not count 0, 1, 2, …"),
        }
    }
}

impl Checkpoint {
    /// Opens the files of `source` and matches their tensors with the parameters of `head`, or else of the class
    /// that the configuration names or the tensors show.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn open(source: Source, config: &ConfigFile, head: Option<Head>) -> Result<Checkpoint> {
        let (format, files) = source.open()?;
        let checkpoint = Checkpoint::from_files(source, format, files, &config.config, head)?;
        Ok(checkpoint)
    }

    /// Matches the tensors of files that are already open. See [`Checkpoint::open`].
    pub fn from_files(
        source: Source,
        format: Format,
        files: Vec<Box<dyn TensorFile>>,
        config: &DebertaConfig,
        head: Option<Head>,
    ) -> Result<Checkpoint> {
        let names = || files.iter().flat_map(|file| file.tensors()).map(|tensor| tensor.name.as_str());
        let naming = Naming::of(names());
        let prefixes = Prefixes::of(names());
        let mut notes = if naming == Naming::Torch { prefixes.describe() } else { Vec::new() };

        let parts = Parts::of(names(), naming, prefixes);
        let mut config = config.clone();
        if parts.lm_predictions && config.legacy && !parts.cls {
            config.legacy = false;
            notes.push("the head is lm_predictions: read with legacy = false".to_owned());
        } else if parts.cls && !config.legacy && !parts.lm_predictions {
            config.legacy = true;
            notes.push("the head is cls.predictions: read with legacy = true".to_owned());
        }
        let declared = config.architectures.iter().find_map(|name| Head::from_class_name(name));
        let head = head.or(declared.filter(|&head| head != Head::Base)).unwrap_or_else(|| parts.head());

        let matcher = Matcher { config: &config, head, naming, prefixes, files: &files };
        let Matched { bound, copies, aside, problems } = matcher.run()?;
        Ok(Checkpoint { source, format, naming, config, head, bound, copies, aside, problems, notes, files })
    }

    /// The values of `bound`.
    pub fn values(&self, bound: &Bound) -> Result<Values<'_>> {
        let bytes = self.read(bound.place, &bound.stored_name)?;
        let shape = bound.param.shape.clone();
        Ok(Values { bytes, dtype: bound.dtype, shape, transposed: bound.transposed })
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
        parallel::map(
            &self.bound,
            |bound| bound.param.shape.iter().product(),
            |bound| {
                let values = self.values(bound)?;
                progress.advance(values.bytes.len() as u64);
                tensor_digest(&values).map_err(|error| self.place(error, &bound.stored_name, bound.place))
            },
        )
    }

    /// The digest of the whole, from the digests of [`Checkpoint::tensor_digests`].
    pub fn digest(&self, tensors: &[TensorDigest]) -> Digest {
        checkpoint_digest(
            self.bound.iter().map(|bound| bound.param.name.as_str()).zip(tensors.iter().copied()),
        )
    }

    /// Compares every tensor that repeats a parameter with it, and adds a problem for each that differs.
    pub fn check_copies(&mut self) -> Result<()> {
        let equal = parallel::map(&self.copies, |_| 1, |copy| self.equals_original(copy))?;
        for (copy, equal) in self.copies.iter().zip(equal) {
            if !equal && let Some(original) = self.bound.get(copy.of) {
                let what = ProblemKind::DiffersFrom(original.stored_name.clone());
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
        let Some(first) = self.problems.first() else { return Ok(()) };
        let head_missing = self.missing_head();
        let mut message = match (&head_missing, self.foreign_model()) {
            (_, Some(other)) => format!("{}; this looks like {other}", first.what),
            (Some(message), None) => message.clone(),
            (None, None) => first.what.to_string(),
        };
        if self.problems.len() > 1 {
            message.push_str(&format!(
                "; {} problems in all, which `deberta-convert inspect` lists",
                self.problems.len()
            ));
        }
        Err(Error::new(Kind::Model, message).in_tensor(&first.tensor).in_file(&self.source.path))
    }

    /// All of the head and nothing else is missing: the commonest mistake, worth its own words.
    fn missing_head(&self) -> Option<String> {
        let of_head = |name: &str| !name.starts_with(self.head.base_prefix());
        let head_params = params(&self.config, self.head).iter().filter(|param| of_head(&param.name)).count();
        let all_missing = self.problems.iter().all(|problem| problem.what == ProblemKind::Missing);
        (self.head != Head::Base && all_missing && self.problems.len() == head_params).then(|| {
            format!(
                "missing, like all of the head: a {} made from these weights would have a random head \
                 (--head base converts the base model alone)",
                self.head
            )
        })
    }

    fn foreign_model(&self) -> Option<&'static str> {
        let unexpected = |part: &str| {
            self.problems
                .iter()
                .any(|problem| problem.what == ProblemKind::Unexpected && problem.tensor.contains(part))
        };
        if unexpected("attention.self.query_proj") || unexpected("attention/self/query_proj") {
            Some("DeBERTa version 2 or 3")
        } else if unexpected("attention.self.query.") || unexpected("attention/self/query/") {
            Some("a BERT or RoBERTa checkpoint")
        } else {
            None
        }
    }

    fn equals_original(&self, copy: &Copy) -> Result<bool> {
        let Some(original) = self.bound.get(copy.of) else { return Ok(false) };
        let first = self.values(original)?;
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

    fn info(&self, place: Place) -> Option<&TensorInfo> {
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

/// Which parts of the model the names show.
struct Parts {
    cls: bool,
    lm_predictions: bool,
    pooler: bool,
    classifier: bool,
    qa_outputs: bool,
}

impl Parts {
    fn of<'a>(names: impl Iterator<Item = &'a str>, naming: Naming, prefixes: Prefixes) -> Parts {
        let mut parts =
            Parts { cls: false, lm_predictions: false, pooler: false, classifier: false, qa_outputs: false };
        for name in names {
            let first = match naming {
                Naming::Keras => name.split('/').next(),
                Naming::Torch => match prefixes.strip(name) {
                    Local::Head(name) => name.split('.').next(),
                    Local::Base(_) => None,
                },
            };
            match first {
                Some("cls") => parts.cls = true,
                Some("lm_predictions") => parts.lm_predictions = true,
                Some("pooler") => parts.pooler = true,
                Some("classifier") => parts.classifier = true,
                Some("qa_outputs") => parts.qa_outputs = true,
                _ => {}
            }
        }
        parts
    }

    fn head(&self) -> Head {
        if self.qa_outputs {
            Head::QuestionAnswering
        } else if self.classifier && self.pooler {
            Head::SequenceClassification
        } else if self.classifier {
            Head::TokenClassification
        } else if self.cls || self.lm_predictions {
            Head::MaskedLm
        } else {
            Head::Base
        }
    }
}

struct Matcher<'a> {
    config: &'a DebertaConfig,
    head: Head,
    naming: Naming,
    prefixes: Prefixes,
    files: &'a [Box<dyn TensorFile>],
}

#[derive(Default)]
struct Matched {
    bound: Vec<Bound>,
    copies: Vec<Copy>,
    aside: Vec<Aside>,
    problems: Vec<Problem>,
}

/// The rank of a name that only repeats a parameter: behind every name that the parameter itself may have.
const SECOND_NAME: usize = 100;

/// A tensor that was recognised as a parameter. The best of several is the one of lowest rank.
struct Candidate {
    rank: usize,
    transposed: bool,
    place: Place,
}

impl Matcher<'_> {
    fn run(&self) -> Result<Matched> {
        let params = params(self.config, self.head);
        let lookup = self.lookup(&params);
        let tied: HashMap<String, usize> = tied_names(self.config, self.head)
            .into_iter()
            .filter_map(|tied| Some((tied.name, params.iter().position(|param| param.name == tied.of)?)))
            .collect();

        let mut matched = Matched::default();
        let mut candidates: Vec<Vec<Candidate>> = params.iter().map(|_| Vec::new()).collect();
        for (file, tensors) in self.files.iter().enumerate() {
            for extra in tensors.extras() {
                matched.aside.push(Aside { name: extra.name.clone(), what: extra.what.clone() });
            }
            for (index, info) in tensors.tensors().iter().enumerate() {
                let place = Place { file, index };
                let found = self.find(&info.name, &lookup, &tied);
                if let Some((param, rank, transposed)) = found
                    && let Some(list) = candidates.get_mut(param)
                {
                    list.push(Candidate { rank, transposed, place });
                } else if self.is_position_ids(&info.name) {
                    self.set_aside_position_ids(info, place, &mut matched)?;
                } else {
                    matched.problems.push(problem(&info.name, ProblemKind::Unexpected));
                }
            }
        }
        let unexpected = std::mem::take(&mut matched.problems);
        for (param, mut list) in params.into_iter().zip(candidates) {
            list.sort_by_key(|candidate| candidate.rank);
            self.bind(param, list, &mut matched);
        }
        matched.problems.extend(unexpected);
        Ok(matched)
    }

    /// Every accepted name, and which parameter it is.
    fn lookup(&self, params: &[Param]) -> HashMap<String, (usize, usize, bool)> {
        let mut lookup = HashMap::new();
        for (index, param) in params.iter().enumerate() {
            let names: Vec<Stored> = match self.naming {
                Naming::Torch => torch::accepted(param),
                Naming::Keras => keras::accepted(param, self.head),
            };
            for (rank, stored) in names.into_iter().enumerate() {
                lookup.insert(stored.name, (index, rank, stored.transposed));
            }
            if self.naming == Naming::Keras {
                let kept = format!("{}/{}", keras_format::KEPT_ASIDE, param.name);
                lookup.insert(kept, (index, 0, false));
            }
        }
        lookup
    }

    /// The parameter that a tensor of this name is, the rank of the name, and whether it is stored transposed.
    fn find(
        &self,
        name: &str,
        lookup: &HashMap<String, (usize, usize, bool)>,
        tied: &HashMap<String, usize>,
    ) -> Option<(usize, usize, bool)> {
        match self.naming {
            Naming::Torch => {
                let name = self.prefixes.strip(name).canonical(self.head);
                lookup
                    .get(&name)
                    .copied()
                    .or_else(|| tied.get(&name).map(|&param| (param, SECOND_NAME, false)))
            }
            Naming::Keras => keras::readings(name).find_map(|variable| {
                let &(param, rank, transposed) = lookup.get(variable.path)?;
                // A masked-LM file repeats the embeddings under `cls`.
                let repeated =
                    variable.layer.is_some_and(|layer| Some(layer) != variable.path.split('/').next());
                Some((param, if repeated { SECOND_NAME } else { rank }, transposed))
            }),
        }
    }

    fn bind(&self, param: Param, candidates: Vec<Candidate>, matched: &mut Matched) {
        let mut candidates = candidates.into_iter().filter_map(|candidate| {
            let info = self.files.get(candidate.place.file)?.tensors().get(candidate.place.index)?;
            Some((candidate, info))
        });
        let Some((first, info)) = candidates.next().filter(|(first, _)| first.rank < SECOND_NAME) else {
            if param.required {
                matched.problems.push(problem(&self.stored_name(&param), ProblemKind::Missing));
            }
            return;
        };
        let of = matched.bound.len();
        let fits = |candidate: &Candidate, info: &TensorInfo, matched: &mut Matched| {
            let mut expected = param.shape.clone();
            if candidate.transposed {
                expected.reverse();
            }
            if info.shape != expected {
                let found = info.shape.clone();
                matched.problems.push(problem(&info.name, ProblemKind::Shape { expected, found }));
            } else if !info.dtype.is_float() {
                matched.problems.push(problem(&info.name, ProblemKind::Dtype(info.dtype)));
            } else {
                return true;
            }
            false
        };
        if !fits(&first, info, matched) {
            return;
        }
        for (copy, info) in candidates {
            if fits(&copy, info, matched) {
                matched.copies.push(Copy {
                    stored_name: info.name.clone(),
                    of,
                    dtype: info.dtype,
                    transposed: copy.transposed,
                    place: copy.place,
                });
            }
        }
        matched.bound.push(Bound {
            stored_name: info.name.clone(),
            dtype: info.dtype,
            transposed: first.transposed,
            place: first.place,
            param,
        });
    }

    /// The name that the file should give `param`.
    fn stored_name(&self, param: &Param) -> String {
        match self.naming {
            Naming::Torch => torch::stored(param).name,
            Naming::Keras => keras::stored(param, self.head).name,
        }
    }

    fn is_position_ids(&self, name: &str) -> bool {
        self.naming == Naming::Torch && self.prefixes.strip(name) == Local::Base("embeddings.position_ids")
    }

    /// The buffer that old versions saved. It is no parameter, provided that it just counts.
    fn set_aside_position_ids(&self, info: &TensorInfo, place: Place, matched: &mut Matched) -> Result<()> {
        let bytes = match self.files.get(place.file) {
            Some(file) => file.read(place.index)?,
            None => return Ok(()),
        };
        let counts = match info.dtype {
            Dtype::I64 => {
                bytes.as_chunks::<8>().0.iter().enumerate().all(|(i, &b)| i64::from_le_bytes(b) == i as i64)
            }
            Dtype::I32 => {
                bytes.as_chunks::<4>().0.iter().enumerate().all(|(i, &b)| i32::from_le_bytes(b) == i as i32)
            }
            _ => false,
        };
        if counts {
            let what =
                format!("buffer of {} {:?}, 0, 1, 2, …: recomputed by every version", info.dtype, info.shape);
            matched.aside.push(Aside { name: info.name.clone(), what });
        } else {
            matched.problems.push(problem(&info.name, ProblemKind::NotCounting));
        }
        Ok(())
    }
}

fn problem(tensor: &str, what: ProblemKind) -> Problem {
    Problem { tensor: tensor.to_owned(), what }
}
