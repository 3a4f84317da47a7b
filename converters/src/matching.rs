//! Which tensor is which parameter, and which is none.

use std::collections::HashMap;

use deberta_reference::{DebertaConfig, Head, Module, Param, Role, params, tied_names};

use crate::error::Result;
use crate::format::{Extra, TensorFile, keras as keras_format};
use crate::naming::onnx::{Layout, Recovered};
use crate::naming::prefixes::{Local, Prefixes};
use crate::naming::{Naming, Stored, keras, onnx, torch};
pub use crate::problem::{Problem, ProblemKind};
use crate::tensor::{Dtype, TensorInfo};

/// Where a tensor is: which file, and which tensor of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) index: usize,
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
    pub(crate) place: Place,
}

/// A tensor that repeats a parameter and must equal it.
#[derive(Clone, Debug)]
pub struct Repetition {
    /// The name in the file.
    pub stored_name: String,
    /// The parameter's index in [`Checkpoint::bound`](crate::checkpoint::Checkpoint::bound).
    pub of: usize,
    pub(crate) dtype: Dtype,
    pub(crate) transposed: bool,
    pub(crate) place: Place,
}

/// What stands on the base model, as far as the names show: `cls`, `pooler`, ….
pub(crate) struct Parts(Vec<Module>);

impl Parts {
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str>, naming: Naming, prefixes: &Prefixes) -> Parts {
        let named = |first: &str| {
            Module::ALL.iter().copied().find(|module| module.in_head() && module.path() == first)
        };
        let part = |name: &'a str| match naming {
            Naming::Keras => named(name.split('/').next()?),
            Naming::Torch | Naming::Onnx => match prefixes.strip(name) {
                Local::Head(name) => named(name.split('.').next()?),
                Local::Base(_) | Local::Outside => None,
            },
        };
        Parts(names.filter_map(part).collect())
    }

    pub(crate) fn has(&self, part: Module) -> bool {
        self.0.contains(&part)
    }

    /// The class of a configuration that has these parts. A pooler and a classifier with one label are those of
    /// MultipleChoice, too, which only the configuration can tell.
    pub(crate) fn head(&self, config: &DebertaConfig) -> Head {
        if self.has(Module::QaOutputs) {
            Head::QuestionAnswering
        } else if self.has(Module::Classifier) && self.has(Module::Pooler) {
            Head::SequenceClassification
        } else if self.has(Module::Classifier) {
            Head::TokenClassification
        } else if self.has(Module::MaskPredictions) && Head::ReplacedTokens.is_of(config.family) {
            Head::ReplacedTokens
        } else if self.has(Module::Cls) || self.has(Module::LmPredictions) {
            Head::MaskedLm
        } else {
            Head::Base
        }
    }
}

/// Matches the tensors of files with the parameters of a class.
pub(crate) struct Matcher<'a> {
    pub(crate) config: &'a DebertaConfig,
    pub(crate) head: Head,
    pub(crate) naming: Naming,
    pub(crate) prefixes: &'a Prefixes,
    /// Whether what the class does not know is left out, unless it is of the base model.
    pub(crate) drop_head: bool,
    /// For names of Keras, the scope of the model, and whether there are others.
    pub(crate) scope: Option<(&'a str, bool)>,
    pub(crate) files: &'a [Box<dyn TensorFile>],
    /// Further names of tensors, from the index of shards; files have their own.
    pub(crate) second_names: &'a [(String, String)],
    /// For files with graphs, what each tensor was recognised as.
    pub(crate) recovered: &'a [Vec<Option<Vec<Recovered>>>],
}

/// What matching finds; see the fields of the same names in [`Checkpoint`](crate::checkpoint::Checkpoint).
#[derive(Default)]
pub(crate) struct Matched {
    pub(crate) bound: Vec<Bound>,
    pub(crate) copies: Vec<Repetition>,
    pub(crate) aside: Vec<Extra>,
    pub(crate) problems: Vec<Problem>,
}

/// The rank of a name that only repeats a parameter: behind every name that the parameter itself may have.
const SECOND_NAME: usize = 100;

/// A tensor that was recognised as a parameter. The best of several is the one of lowest rank.
struct Candidate {
    rank: usize,
    layout: Layout,
    shape: Vec<usize>,
    altered: Option<String>,
    place: Place,
}

/// Every accepted name, with the index of the parameter, the rank of the name, and whether it is stored transposed.
type Lookup = HashMap<String, (usize, usize, bool)>;

impl Matcher<'_> {
    pub(crate) fn run(&self) -> Result<Matched> {
        let params = params(self.config, self.head);
        let lookup = self.lookup(&params);
        let mut tied: HashMap<String, usize> = tied_names(self.config, self.head)
            .into_iter()
            .filter_map(|tied| Some((tied.name, params.iter().position(|param| param.name == tied.of)?)))
            .collect();
        if self.naming == Naming::Onnx {
            let table = |role| params.iter().position(|param| param.role == role);
            tied.extend(table(Role::WordEmbedding).map(|words| (onnx::LM_HEAD_DECODER.to_owned(), words)));
            // A table that a graph holds normalised is not the parameter.
            let positions = table(Role::RelativeEmbedding).filter(|_| !self.config.norm_rel_ebd);
            let name = format!("{}{}", self.head.base_prefix(), onnx::TABLE_OF_LAYERS);
            tied.extend(positions.map(|positions| (name, positions)));
        }

        let mut matched = Matched::default();
        let mut candidates: Vec<Vec<Candidate>> = params.iter().map(|_| Vec::new()).collect();
        let mut differences = Vec::new();
        let mut unknown = Vec::new();
        for (file, tensors) in self.files.iter().enumerate() {
            matched.aside.extend_from_slice(tensors.extras());
            let mut second_names: HashMap<&str, Vec<&str>> = HashMap::new();
            for (second, stored) in tensors.second_names().iter().chain(self.second_names) {
                second_names.entry(stored).or_default().push(second);
            }
            for (index, info) in tensors.tensors().iter().enumerate() {
                let place = Place { file, index };
                let second_names =
                    second_names.get(info.name.as_str()).map(Vec::as_slice).unwrap_or_default();
                let found = self.find(info, place, second_names, &lookup, &tied);
                if found.is_empty() && self.is_position_ids(&info.name) {
                    self.set_aside_position_ids(info, place, &mut matched)?;
                } else if let Some(name) = self.difference(&info.name, &lookup).filter(|_| found.is_empty()) {
                    differences.push((info.name.clone(), name));
                } else if let Some(what) = self.beside(info, place).filter(|_| found.is_empty()) {
                    matched.aside.push(Extra { name: info.name.clone(), what });
                } else if found.is_empty() && !self.is_constant(info, place) {
                    matched.problems.push(problem(&info.name, ProblemKind::Unexpected));
                    unknown.push(place);
                }
                for (param, candidate) in found {
                    if let Some(list) = candidates.get_mut(param) {
                        list.push(candidate);
                    }
                }
            }
        }
        let mut unexpected = std::mem::take(&mut matched.problems);
        for (param, mut list) in params.into_iter().zip(candidates) {
            list.sort_by_key(|candidate| candidate.rank);
            self.bind(param, list, &mut matched);
        }
        for (tensor, of) in differences {
            let missing =
                |problem: &&mut Problem| problem.what == ProblemKind::Missing && problem.tensor == of;
            if let Some(problem) = matched.problems.iter_mut().find(missing) {
                *problem = Problem { tensor, what: ProblemKind::Difference(of) };
            } else {
                let what = "what a table is more than the generator's (GDES): needed for training alone";
                matched.aside.push(Extra { name: tensor, what: what.to_owned() });
            }
        }
        if self.naming == Naming::Onnx {
            for place in unknown {
                self.take_repetition(place, &mut matched, &mut unexpected)?;
            }
        }
        matched.problems.extend(unexpected);
        Ok(matched)
    }

    fn lookup(&self, params: &[Param]) -> Lookup {
        let mut lookup = HashMap::new();
        for (index, param) in params.iter().enumerate() {
            let names: Vec<Stored> = match self.naming {
                Naming::Torch | Naming::Onnx => torch::accepted(param),
                Naming::Keras => keras::accepted(param),
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

    /// The parameters that a tensor is: one or none, but for files with graphs, in which equal tensors may be merged.
    fn find(
        &self,
        info: &TensorInfo,
        place: Place,
        second_names: &[&str],
        lookup: &Lookup,
        tied: &HashMap<String, usize>,
    ) -> Vec<(usize, Candidate)> {
        let canonical = |name: &str| {
            let name = self.prefixes.strip(name).canonical(self.head)?;
            let found = lookup.get(&name).copied();
            found.or_else(|| tied.get(&name).map(|&param| (param, SECOND_NAME, false)))
        };
        let candidate = |rank, transposed: bool| {
            let layout = if transposed { Layout::Transposed } else { Layout::Canonical };
            Candidate { rank, layout, shape: info.shape.clone(), altered: None, place }
        };
        match self.naming {
            Naming::Torch => std::iter::once(info.name.as_str())
                .chain(second_names.iter().copied())
                .filter_map(canonical)
                .map(|(param, rank, transposed)| (param, candidate(rank, transposed)))
                .collect(),
            Naming::Keras if self.is_of_other_model(&info.name) => Vec::new(),
            Naming::Keras => keras::readings(&info.name)
                .chain(keras::deeper_readings(&info.name))
                .find_map(|variable| {
                    let &(param, rank, transposed) = lookup.get(variable.path)?;
                    // A masked-LM file repeats the embeddings under `cls`.
                    let repeated = variable.layer.is_some_and(|layer| {
                        keras::is_layer(layer) && Some(layer) != variable.path.split('/').next()
                    });
                    Some((param, candidate(if repeated { SECOND_NAME } else { rank }, transposed)))
                })
                .into_iter()
                .collect(),
            Naming::Onnx => {
                let found = self.told(place).into_iter().flatten().flatten().filter_map(|recovered| {
                    let (param, rank, _) = canonical(&recovered.name)?;
                    let (layout, shape) = (recovered.layout, recovered.shape.clone());
                    let altered = recovered.altered.clone();
                    Some((param, Candidate { rank, layout, shape, altered, place }))
                });
                found.collect()
            }
        }
    }

    /// Whether a name is of another model in a file of several.
    fn is_of_other_model(&self, name: &str) -> bool {
        self.scope
            .is_some_and(|(scope, is_one_of_several)| is_one_of_several && !keras::is_in_scope(name, scope))
    }

    /// What a tensor is that the class does not know, if it is none of the model, or of a head that is not wanted.
    fn beside(&self, info: &TensorInfo, place: Place) -> Option<String> {
        let is_of_base = |name: &str| name.starts_with("embeddings.") || name.starts_with("encoder.");
        let TensorInfo { dtype, shape, .. } = info;
        let outside =
            || Some(format!("{dtype} {shape:?}, none of the model at \"{}\"", self.prefixes.shown()));
        let is_of_head = match self.naming {
            Naming::Torch => match self.prefixes.strip(&info.name) {
                Local::Outside => return outside(),
                Local::Head(_) => true,
                Local::Base(_) => false,
            },
            Naming::Keras if self.scope.is_some_and(|(scope, _)| !keras::is_in_scope(&info.name, scope)) => {
                return Some(format!("{dtype} {shape:?}, none of the model"));
            }
            Naming::Keras => {
                keras::readings(&info.name).all(|variable| !variable.path.starts_with("deberta/"))
            }
            Naming::Onnx => {
                let told = self.told(place).into_iter().flatten().flatten();
                let parts: Vec<_> = told.map(|recovered| self.prefixes.strip(&recovered.name)).collect();
                if !parts.is_empty() && parts.iter().all(|part| *part == Local::Outside) {
                    return outside();
                }
                !parts.is_empty()
                    && !parts.iter().any(|part| match part {
                        Local::Base(_) => true,
                        Local::Head(name) => is_of_base(name),
                        Local::Outside => false,
                    })
            }
        };
        (self.drop_head && is_of_head).then(|| format!("{dtype} {shape:?} of a head that is left out"))
    }

    /// What the graph of a file tells of a tensor.
    fn told(&self, place: Place) -> Option<&Option<Vec<Recovered>>> {
        self.recovered.get(place.file)?.get(place.index)
    }

    /// Whether a tensor of a graph is an integer or a single number, with which the nodes compute, or made integers of.
    fn is_constant(&self, info: &TensorInfo, place: Place) -> bool {
        self.naming == Naming::Onnx
            && (!info.dtype.is_float()
                || info.shape.iter().all(|&dimension| dimension == 1)
                || matches!(self.told(place), Some(None)))
    }

    fn bind(&self, param: Param, candidates: Vec<Candidate>, matched: &mut Matched) {
        let mut candidates = candidates.into_iter().filter_map(|candidate| {
            let info = self.files.get(candidate.place.file)?.tensors().get(candidate.place.index)?;
            Some((candidate, info))
        });
        // A graph holds tied tensors once, as the parameter or by its second name: the word embeddings may be there as
        // `cls.predictions.decoder.weight` alone. Other files must have the parameter's own name.
        let names = if self.naming == Naming::Onnx { usize::MAX } else { SECOND_NAME };
        let Some((first, info)) = candidates.next().filter(|(first, _)| first.rank < names) else {
            if param.required {
                matched.problems.push(problem(&self.naming.stored(&param).name, ProblemKind::Missing));
            }
            return;
        };
        let of = matched.bound.len();
        let fits = |candidate: &Candidate, info: &TensorInfo, matched: &mut Matched| {
            let mut expected = param.shape.clone();
            if candidate.layout == Layout::Transposed {
                expected.reverse();
            }
            if let Some(node) = &candidate.altered {
                matched.problems.push(problem(&info.name, ProblemKind::Altered(node.clone())));
            } else if candidate.layout == Layout::Unknown && param.role == Role::LinearWeight {
                matched.problems.push(problem(&info.name, ProblemKind::Layout(param.name.clone())));
            } else if candidate.shape != expected {
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
            // A graph may give one tensor several names.
            if copy.place != first.place && fits(&copy, info, matched) {
                matched.copies.push(Repetition {
                    stored_name: info.name.clone(),
                    of,
                    dtype: info.dtype,
                    transposed: copy.layout == Layout::Transposed,
                    place: copy.place,
                });
            }
        }
        matched.bound.push(Bound {
            stored_name: info.name.clone(),
            dtype: info.dtype,
            transposed: first.layout == Layout::Transposed,
            place: first.place,
            param,
        });
    }

    /// The name of the parameter of which the tensor `name` is the difference from the generator's. Microsoft trains
    /// embeddings so, and calls the difference `_weight`.
    fn difference(&self, name: &str, lookup: &Lookup) -> Option<String> {
        let stem = name.strip_suffix("_embeddings._weight").filter(|_| self.naming == Naming::Torch)?;
        let name = self.prefixes.strip(&format!("{stem}_embeddings.weight")).canonical(self.head)?;
        lookup.contains_key(&name).then_some(name)
    }

    fn is_position_ids(&self, name: &str) -> bool {
        self.naming == Naming::Torch
            && matches!(self.prefixes.strip(name), Local::Base(name) if name == "embeddings.position_ids")
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
            matched.aside.push(Extra { name: info.name.clone(), what });
        } else {
            matched.problems.push(problem(&info.name, ProblemKind::NotCounting));
        }
        Ok(())
    }
}

fn problem(tensor: &str, what: ProblemKind) -> Problem {
    Problem { tensor: tensor.to_owned(), what }
}
