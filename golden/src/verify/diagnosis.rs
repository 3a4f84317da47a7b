//! The diagnosis of runs that diverge: once for every first divergence of a file, in the shortest trace that has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Result};
use deberta_converters::format::Format;
use deberta_converters::loading::Parameters;
use deberta_converters::source::Source;
use deberta_reference::{DebertaConfig, Tensor};

use super::asked::{Asked, Stated};
use super::candidate::Candidate;
use crate::backend::{Backend as _, BackendName, Reference};
use crate::diagnose::{Divergence, diagnose, first_divergence};
use crate::fault::Model;
use crate::judge::compare::Comparison;
use crate::judge::verdict::Outcome;
use crate::report::{Diagnosis, Finding, FindingKind, RunReport};
use crate::trace::class::Class;
use crate::trace::file::{Trace, TraceFile};
use crate::trace::points::rank;

/// The most first divergences of a file that are diagnosed.
const MOST: usize = 2;

/// Diagnoses the runs of one golden that diverge.
pub(super) fn diagnose_runs(candidate: &Candidate<'_>, runs: &mut [RunReport]) {
    let length = |path: &Path| path.metadata().map_or(u64::MAX, |metadata| metadata.len());
    let mut chosen: BTreeMap<_, (u64, usize, PathBuf)> = BTreeMap::new();
    for (at, run) in runs.iter().enumerate().filter(|(_, run)| run.outcome == Outcome::Divergence) {
        let path = candidate.golden.traces.iter().find(|path| {
            path.file_name().is_some_and(|name| Some(name.to_string_lossy().as_ref()) == run.trace.as_deref())
        });
        let (Some(first), Some(path)) = (&run.first_divergence, path) else { continue };
        let entry = (length(path), at, path.clone());
        let known = chosen.entry((rank(first), first.clone())).or_insert_with(|| entry.clone());
        if entry.0 < known.0 {
            *known = entry;
        }
    }
    for (_, at, path) in chosen.into_values().take(MOST) {
        let Some(run) = runs.get_mut(at) else { continue };
        match candidate.diagnose(&path) {
            Ok(diagnoses) => run.diagnoses = diagnoses,
            Err(error) => {
                let message = format!("the divergence could not be diagnosed: {error}");
                run.findings.push(Finding::new(FindingKind::Note, Outcome::Pass, message));
            }
        }
    }
}

impl Candidate<'_> {
    fn diagnose(&self, path: &Path) -> Result<Vec<Diagnosis>> {
        let file = TraceFile::open(path)?;
        let recorded = file.inputs()?;
        let stated = Stated::of(&recorded, self.golden, path)?;
        let golden =
            if file.is_sampled() { self.whole(recorded, stated)? } else { file.trace(|_| true)?.in_f32() };
        let parameters = self.file.parameters(stated.class)?;
        let checkpoint = parameters.checkpoint();
        let (class, rows) = stated.or_of(checkpoint)?;
        let Asked { inputs, padding, .. } = Asked::of(class, rows, &checkpoint.config, &golden)?;
        let mut model = Model::read(&parameters, class, rows)?;
        self.add_unused(&mut model)?;
        let comparison =
            Comparison { tolerances: &self.golden.tolerances, precision: self.precision, padding: &padding };
        let divergence = Divergence { model: &model, golden: &golden, inputs: &inputs, comparison };
        if self.file.backend() != BackendName::Reference
            && first_divergence(&divergence.compare(&model)?).is_none()
        {
            return Ok(vec![self.another_backend()]);
        }
        let mut diagnoses = diagnose(&divergence)?;
        if let Some(difference) = self.differing_tensors(class)? {
            diagnoses.push(difference);
        }
        Ok(diagnoses)
    }

    /// All numbers of which a golden has samples: what the reference computes with the weights of the golden's recipe.
    fn whole(&self, recorded: Trace, stated: Stated) -> Result<Trace> {
        let Some(recipe) = self.golden.recipe()? else {
            let message = "the golden has samples alone, and no recipe for the right weights: what differs first is known, \
                           why takes all numbers";
            return Err(Error::unsupported(message));
        };
        let parameters = Parameters::new(recipe.checkpoint()?)?;
        let (class, rows) = stated.or_of(parameters.checkpoint())?;
        let asked = Asked::of(class, rows, &parameters.checkpoint().config, &recorded)?;
        let mut whole = Reference::load(&parameters, class, rows)?.run(&asked.inputs, &["*"], Vec::new())?;
        whole.tensors.splice(0..0, recorded.tensors);
        Ok(whole)
    }

    /// The weights are right where the reference computes with them: what differs is who computes.
    fn another_backend(&self) -> Diagnosis {
        let backend = self.file.backend().as_str();
        Diagnosis {
            kind: "backend".to_owned(),
            cause: format!("{backend} computes something else from the same weights"),
            evidence: "the reference agrees with the golden at every point, within the same tolerances"
                .to_owned(),
            repair: "verify without --backend; look at the versions of what the backend is built on"
                .to_owned(),
            confirmed: true,
        }
    }

    /// Adds what the file holds and the model would have with another configuration.
    fn add_unused(&self, model: &mut Model) -> Result<()> {
        for type_vocab_size in [2, 1, 3] {
            let config = DebertaConfig {
                relative_attention: true,
                pos_att_type: vec!["c2p".to_owned(), "p2c".to_owned()],
                position_biased_input: true,
                type_vocab_size: if model.config.type_vocab_size > 0 {
                    model.config.type_vocab_size
                } else {
                    type_vocab_size
                },
                ..model.config.clone()
            };
            let source: Source = self.file.source.clone();
            let (format, files) = source.open()?;
            let checkpoint = Checkpoint::from_files(source, format, files, &config, Some(model.class.head))?;
            for bound in &checkpoint.bound {
                if model.shape(&bound.param.name).is_some() {
                    continue;
                }
                let floats = checkpoint.values(bound)?.to_f32()?;
                model.insert(bound.param.name.clone(), Tensor::new(bound.param.shape.clone(), floats));
            }
        }
        Ok(())
    }

    /// The weights that the golden was computed with, and what messages call them, if the golden's folder has them or says
    /// how they are made.
    fn original(&self, class: Class) -> Result<Option<(Checkpoint, String)>> {
        if let Some(recipe) = self.golden.recipe()? {
            let name = self.golden.case.as_ref().map_or_else(String::new, |case| case.model.to_string());
            return Ok(Some((recipe.checkpoint()?, name)));
        }
        let Some(folder) = self.golden.folder.as_deref() else { return Ok(None) };
        let path = folder.join(Format::Safetensors.file_name());
        if !path.is_file() || path == self.file.source.path {
            return Ok(None);
        }
        let original = Checkpoint::open(Source::locate(&path, None, None)?, None, Some(class.head));
        Ok(original.ok().map(|(_, original)| (original, path.display().to_string())))
    }

    /// The tensors that differ from those of the weights that the golden was computed with, if these are at hand.
    fn differing_tensors(&self, class: Class) -> Result<Option<Diagnosis>> {
        let Some((original, name)) = self.original(class)? else { return Ok(None) };
        let own = self.file.parameters(Some(class))?;
        let digests = |checkpoint: &Checkpoint| -> Result<BTreeMap<String, _>> {
            let digests = checkpoint.tensor_digests(&())?;
            let names = checkpoint.bound.iter().map(|bound| bound.param.name.clone());
            Ok(names.zip(digests.into_iter().map(|digest| digest.values)).collect())
        };
        let (own, original) = (digests(own.checkpoint())?, digests(&original)?);
        let differ: Vec<&String> = original
            .iter()
            .filter(|(name, digest)| own.get(*name) != Some(digest))
            .map(|(name, _)| name)
            .collect();
        if differ.is_empty() {
            return Ok(None);
        }
        let shown: Vec<&str> = differ.iter().take(6).map(|name| name.as_str()).collect();
        let more = if differ.len() > shown.len() { ", …" } else { "" };
        Ok(Some(Diagnosis {
            kind: "tensors-differ".to_owned(),
            cause: format!(
                "{} of {} tensors are not those of {}: {}{more}",
                differ.len(),
                original.len(),
                name,
                shown.join(", ")
            ),
            evidence: "their digests differ".to_owned(),
            repair: "deberta-convert diff shows by how much; convert the original model again".to_owned(),
            confirmed: false,
        }))
    }
}
