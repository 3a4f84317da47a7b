//! The diagnosis of runs that diverge: once for every first divergence of a file, in the shortest trace that has it and more
//! than a few tokens.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Result};
use deberta_converters::format::Format;
use deberta_converters::loading::Parameters;
use deberta_converters::source::Source;
use deberta_reference::config::Activation;
use deberta_reference::{ConvConfig, DebertaConfig, Head, Tensor};

use super::asked::{Asked, Stated};
use super::built::incomplete;
use super::candidate::Candidate;
use super::configured::{config_of, differing_lines};
use crate::backend::{Backend as _, BackendName, Reference};
use crate::diagnose::{Divergence, Evidence, diagnose, first_divergence};
use crate::fault::Model;
use crate::judge::compare::Comparison;
use crate::judge::tolerance::Precision;
use crate::judge::verdict::Outcome;
use crate::report::{Diagnosis, Finding, FindingKind, RunReport, name_of};
use crate::trace::class::Class;
use crate::trace::file::{Trace, TraceFile};
use crate::trace::points::rank;

/// The most first divergences of a file that are diagnosed.
const MOST: usize = 2;

/// What first divergences were diagnosed with, by the weights and the configuration that have them: files of the same model
/// have the same causes.
#[derive(Debug, Default)]
pub(super) struct Diagnosed(RefCell<Vec<Known>>);

/// A first divergence of some weights, what causes it, and the file that it was looked for in.
#[derive(Debug)]
struct Known {
    digest: String,
    config: Option<DebertaConfig>,
    golden: String,
    trace: String,
    point: String,
    file: String,
    diagnoses: Vec<Diagnosis>,
}

impl Diagnosed {
    /// The causes that another file of the same weights has for a divergence, which refer to that file.
    fn known(&self, candidate: &Candidate<'_>, trace: &str, point: &str) -> Option<Vec<Diagnosis>> {
        let config = candidate.file.config().ok();
        let known = self.0.borrow();
        let known = known.iter().find(|known| {
            (&*known.digest, &*known.trace, &*known.point) == (candidate.digest, trace, point)
                && known.golden == candidate.golden.name
                && known.config == config
        })?;
        let evidence =
            format!("the same weights as those of {}, and the same first divergence: see there", known.file);
        let referring = |diagnosis: &Diagnosis| Diagnosis { evidence: evidence.clone(), ..diagnosis.clone() };
        Some(known.diagnoses.iter().map(referring).collect())
    }

    fn keep(&self, candidate: &Candidate<'_>, trace: &str, point: &str, diagnoses: &[Diagnosis]) {
        self.0.borrow_mut().push(Known {
            digest: candidate.digest.to_owned(),
            config: candidate.file.config().ok(),
            golden: candidate.golden.name.clone(),
            trace: trace.to_owned(),
            point: point.to_owned(),
            file: name_of(&candidate.file.source.path),
            diagnoses: diagnoses.to_vec(),
        });
    }
}

/// So few tokens prove little: one of them attends to itself, and every bias looks like a weight.
const FEW: usize = 4;

/// Causes that lie in the configuration, and leave every parameter and its digest as they are.
const SETTINGS_OF_NO_WEIGHT: [&str; 3] = ["layer-norm-eps", "hidden-act", "conv-act"];

/// Diagnoses the runs of one golden that diverge.
pub(super) fn diagnose_runs(candidate: &Candidate<'_>, runs: &mut [RunReport]) {
    // Samples do for a diagnosis only where a recipe says what all numbers are.
    let recipe = matches!(candidate.golden.recipe(), Ok(Some(_)));
    let lacking = |path: &Path| !recipe && TraceFile::open(path).is_ok_and(|file| file.is_sampled());
    let length = |path: &Path| {
        let bytes = path.metadata().map_or(u64::MAX, |metadata| metadata.len());
        (lacking(path), tokens_of(path) < FEW, bytes)
    };
    let mut chosen: BTreeMap<_, ((bool, bool, u64), usize, PathBuf)> = BTreeMap::new();
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
    for ((_, point), (_, at, path)) in chosen.into_iter().take(MOST) {
        let Some(run) = runs.get_mut(at) else { continue };
        let (diagnosed, trace) = (candidate.file.diagnosed, name_of(&path));
        if let Some(known) = diagnosed.known(candidate, &trace, &point) {
            run.diagnoses = known;
            continue;
        }
        match candidate.diagnose(&path) {
            Ok(diagnoses) => {
                diagnosed.keep(candidate, &trace, &point, &diagnoses);
                run.diagnoses = diagnoses;
            }
            Err(error) => {
                let message = format!("the divergence could not be diagnosed: {error}");
                run.findings.push(Finding::new(FindingKind::Note, Outcome::Pass, message));
            }
        }
    }
}

/// How many tokens a trace has, of all its texts.
fn tokens_of(path: &Path) -> usize {
    let Ok(file) = TraceFile::open(path) else { return 0 };
    match (file.shape("inputs.input_ids"), file.shape("inputs.inputs_embeds")) {
        (Some(ids), _) => ids.iter().product(),
        (None, Some([tokens @ .., _])) => tokens.iter().product(),
        (None, _) => 0,
    }
}

impl Candidate<'_> {
    fn diagnose(&self, path: &Path) -> Result<Vec<Diagnosis>> {
        let file = TraceFile::open(path)?;
        let recorded = file.inputs()?;
        let stated = Stated::of(&recorded, self.golden, path)?;
        let golden = if file.is_sampled() { self.whole(recorded, stated)? } else { file.known()?.in_f32() };
        let parameters = self.file.parameters(stated.class)?;
        let checkpoint = parameters.checkpoint();
        let (class, rows) = stated.or_of(checkpoint)?;
        let Asked { inputs, padding, .. } = Asked::of(class, rows, &checkpoint.config, &golden)?;
        let mut model = Model::read(&parameters, class, rows)?;
        self.add_unused(&mut model)?;
        let comparison =
            Comparison { tolerances: &self.tolerances, precision: self.precision, padding: &padding };
        let weights_known = self.golden.digest().is_some_and(|known| known.eq_ignore_ascii_case(self.digest));
        let divergence =
            Divergence { model: &model, golden: &golden, inputs: &inputs, comparison, weights_known };
        if self.file.backend() != BackendName::Reference
            && first_divergence(&divergence.compare(&model)?).is_none()
        {
            return Ok(vec![self.another_backend()]);
        }
        let mut diagnoses = diagnose(&divergence)?;
        self.doubt_settings(checkpoint, &mut diagnoses);
        if let Some(difference) = self.differing_config(&divergence, &diagnoses)? {
            if difference.confirmed {
                diagnoses.clear();
            }
            // It says more than that nothing is known.
            let known = diagnoses.iter().take_while(|diagnosis| diagnosis.confirmed).count();
            diagnoses.insert(known, difference);
        }
        if let Some(difference) = self.differing_tensors(class)? {
            diagnoses.push(difference);
        }
        Ok(diagnoses)
    }

    /// Takes back that settings alone are the cause where the weights are not the golden's: to multiply the words by ½ looks
    /// as ε four times as large does.
    fn doubt_settings(&self, checkpoint: &Checkpoint, diagnoses: &mut [Diagnosis]) {
        let settings_alone = diagnoses
            .iter()
            .filter(|diagnosis| diagnosis.confirmed)
            .all(|diagnosis| SETTINGS_OF_NO_WEIGHT.contains(&&*diagnosis.kind));
        let others = self.golden.digest().is_some_and(|golden| !golden.eq_ignore_ascii_case(self.digest));
        if settings_alone && others && self.precision == Precision::F32 && incomplete(checkpoint) == 0 {
            for diagnosis in diagnoses.iter_mut().filter(|diagnosis| diagnosis.confirmed) {
                diagnosis.confirmed = false;
                diagnosis
                    .evidence
                    .push_str("; but the weights are not the golden's, which no setting explains");
            }
        }
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
        for config in other_configs(&model.config) {
            let source: Source = self.file.source.clone();
            let (format, files) = source.open()?;
            let opened = Checkpoint::from_files(source, format, files, &config, Some(model.class.head));
            let Ok(checkpoint) = opened else { continue };
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
    pub(super) fn original(&self, head: Head) -> Result<Option<(Checkpoint, String)>> {
        if let Some(recipe) = self.golden.recipe()? {
            let name = self.golden.case.as_ref().map_or_else(String::new, |case| case.model.to_string());
            return Ok(Some((recipe.checkpoint()?, name)));
        }
        let Some(folder) = self.golden.folder.as_deref() else { return Ok(None) };
        let path = folder.join(Format::Safetensors.file_name());
        if !path.is_file() || path == self.file.source.path {
            return Ok(None);
        }
        let original = Checkpoint::open(Source::locate(&path, None, None)?, None, Some(head));
        Ok(original.ok().map(|(_, original)| (original, path.display().to_string())))
    }

    /// The lines of the configuration that are not those of the golden's, if it is at hand, and that no diagnosis so far has
    /// confirmed. They are the cause if the file's weights compute what the golden has as the golden's configuration says, and
    /// no line of it is known to be one.
    fn differing_config(&self, of: &Divergence<'_>, known: &[Diagnosis]) -> Result<Option<Diagnosis>> {
        let Some(recorded) = self.recorded_config()? else { return Ok(None) };
        let all = differing_lines(&of.model.config, &recorded);
        let differ: Vec<&[String; 2]> = all.iter().filter(|pair| !is_named(known, pair)).collect();
        if differ.is_empty() {
            return Ok(None);
        }
        let agrees = if differ.len() == all.len() { self.agrees_under(&recorded, of) } else { None };
        let lines: Vec<String> = differ
            .iter()
            .map(|[own, recorded]| format!("{own}, where the golden's has {recorded}"))
            .collect();
        Ok(Some(Diagnosis {
            kind: "config-differs".to_owned(),
            cause: format!("the configuration is not that of the golden: {}", lines.join("; ")),
            evidence: match agrees {
                Some(points) => format!("with the golden's lines, all {points} points of the golden agree"),
                None => "config.json of the golden, or of its recipe, has other lines".to_owned(),
            },
            repair: "take the configuration that belongs to these weights".to_owned(),
            confirmed: agrees.is_some(),
        }))
    }

    /// The configuration that the golden was computed with, if its folder has it, or it says how its model is made.
    fn recorded_config(&self) -> Result<Option<DebertaConfig>> {
        Ok(match self.golden.recipe()? {
            Some(recipe) => Some(recipe.config.config.clone()),
            None => config_of(self.golden).map(|file| file.config),
        })
    }

    /// How many points of the golden agree if the file's weights are used as another configuration says; nothing if one
    /// differs, weights are missing, or too little differs without it to prove anything.
    fn agrees_under(&self, config: &DebertaConfig, of: &Divergence<'_>) -> Option<usize> {
        let source: Source = self.file.source.clone();
        let (format, files) = source.open().ok()?;
        let class = of.model.class;
        let checkpoint = Checkpoint::from_files(source, format, files, config, Some(class.head)).ok()?;
        let model = Model::read(&Parameters::new(checkpoint).ok()?, class, of.model.masked_rows).ok()?;
        let before = of.compare(of.model).ok()?;
        let explained = first_divergence(&before)?.shape.iter().product();
        let points = of.compare(&model).ok()?;
        let proves = first_divergence(&points).is_none() && Evidence::of(explained).suffices();
        proves.then_some(points.len())
    }

    /// The tensors that differ from those of the weights that the golden was computed with, if these are at hand.
    fn differing_tensors(&self, class: Class) -> Result<Option<Diagnosis>> {
        let Some((original, name)) = self.original(class.head)? else { return Ok(None) };
        let own = self.file.parameters(Some(class))?;
        let digests = |checkpoint: &Checkpoint| -> Result<BTreeMap<String, _>> {
            let digests = checkpoint.tensor_digests(&())?;
            let names = checkpoint.bound.iter().map(|bound| bound.param.name.clone());
            Ok(names.zip(digests.into_iter().map(|digest| digest.values)).collect())
        };
        let (own, original) = (digests(own.checkpoint())?, digests(&original)?);
        let differ: Vec<&String> = original
            .iter()
            .filter(|(name, digest)| own.get(*name).is_some_and(|own| own != *digest))
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

/// The configurations under which a file may hold more parameters than under its own.
fn other_configs(own: &DebertaConfig) -> Vec<DebertaConfig> {
    let wide = |config: &DebertaConfig| DebertaConfig {
        relative_attention: true,
        pos_att_type: vec!["c2p".to_owned(), "p2c".to_owned()],
        position_biased_input: true,
        share_att_key: false,
        norm_rel_ebd: !own.has_in_proj(),
        tie_word_embeddings: false,
        ..config.clone()
    };
    let types = if own.type_vocab_size > 0 { vec![own.type_vocab_size] } else { vec![2, 1, 3] };
    let mut configs: Vec<DebertaConfig> =
        types.into_iter().map(|type_vocab_size| DebertaConfig { type_vocab_size, ..wide(own) }).collect();
    if !own.has_in_proj() && own.convolution.is_none() {
        let convolution = |kernel| Some(ConvConfig { kernel, groups: 1, act: Activation::Tanh });
        let kernels = [3, 5, 7, 9, 1].into_iter();
        configs.extend(kernels.map(|kernel| DebertaConfig { convolution: convolution(kernel), ..wide(own) }));
    }
    configs
}

/// Whether a confirmed diagnosis says to write what the golden's line has and the own one has not.
fn is_named(diagnoses: &[Diagnosis], [own, recorded]: &[String; 2]) -> bool {
    let own: Vec<&str> = own.split(", ").collect();
    let confirmed = || diagnoses.iter().filter(|diagnosis| diagnosis.confirmed);
    let named =
        |part: &str| confirmed().any(|diagnosis| diagnosis.repair.split(", ").any(|known| known == part));
    recorded.split(", ").all(|part| own.contains(&part) || named(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> DebertaConfig {
        let keys = format!("{{\"model_type\": \"deberta-v2\", \"relative_attention\": true{json}}}");
        DebertaConfig::from_json(&keys).unwrap()
    }

    #[test]
    fn differences_are_lines_of_the_configuration_that_no_diagnosis_says() {
        let own = config(r#", "position_buckets": 16, "hidden_act": "relu""#);
        let differing = differing_lines(&own, &config(""));
        let lines = [
            [r#""hidden_act": "relu""#, r#""hidden_act": "gelu""#],
            [r#""position_buckets": 16"#, r#""position_buckets": -1"#],
        ];
        assert_eq!(differing, lines.map(|pair| pair.map(str::to_owned)));
        let mut diagnosis = Diagnosis {
            kind: "position-buckets".to_owned(),
            cause: String::new(),
            evidence: String::new(),
            repair: r#""position_buckets": -1, "max_relative_positions": 512"#.to_owned(),
            confirmed: true,
        };
        let named = |diagnosis: &Diagnosis| -> Vec<bool> {
            differing.iter().map(|pair| is_named(std::slice::from_ref(diagnosis), pair)).collect()
        };
        assert_eq!(named(&diagnosis), [false, true]);
        diagnosis.confirmed = false;
        assert_eq!(named(&diagnosis), [false, false]);
    }
}
