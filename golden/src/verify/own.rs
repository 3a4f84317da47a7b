//! A folder without a golden: its files against each other.
//!
//! The weights of one file are recorded by the reference, on inputs that exercise the model, and are the golden of all others;
//! graphs are run on it too, and the files of the tokenizer are compared as ever. It shows that the files are one model, and
//! nothing of whether that is the model which was trained.

use std::path::PathBuf;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::digest::TensorDigest;
use deberta_converters::error::{Error, Result};
use deberta_converters::progress::Progress;
use deberta_converters::source::Source;

use super::{VerifyRequest, verify};
use crate::backend::BackendName;
use crate::goldens::Golden;
use crate::inventory::{Found, Inventory};
use crate::judge::tolerance::{Precision, Tolerances};
use crate::judge::verdict::Outcome;
use crate::record::{RecordRequest, record};
use crate::report::{FileReport, Finding, FindingKind, Report, Rules};
use crate::workshop::Workshop;

/// The golden stays whole up to here, in bytes; beyond it is samples.
const MOST_WHOLE: u64 = 64 << 20;

/// Verifies a folder by itself. [`VerifyRequest::goldens`] are not looked at.
///
/// ```
/// use deberta_golden::judge::verdict::Outcome;
/// use deberta_golden::verify::{VerifyRequest, verify_self};
///
/// let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("trained/nli");
/// let report = verify_self(&VerifyRequest { name: "mine".to_owned(), model: folder, ..VerifyRequest::default() }, &())?;
/// assert_eq!(report.outcome, Outcome::Pass);
/// # Ok::<(), deberta_converters::Error>(())
/// ```
///
/// # Errors
/// There is no weight file; no room for what is recorded.
pub fn verify_self(request: &VerifyRequest, progress: &dyn Progress) -> Result<Report> {
    let mut files = Vec::new();
    for found in Inventory::of(request)?.sources {
        progress.step(&format!("{}: the weight digest", found.name));
        // A file that cannot be read is an error of the verification.
        files.extend(Weights::open(request, found).ok());
    }
    let workshop = Workshop::new(None, 2 * MOST_WHOLE)?;
    let mut failed = None;
    while let Some(at) = preferred(&files) {
        match golden(request, files.get(at), &workshop, progress) {
            Ok(golden) => return against(request, golden, &files, at, progress),
            Err(error) => failed = Some((files.remove(at).name, error)),
        }
    }
    let nothing = Golden {
        name: "of the folder".to_owned(),
        folder: None,
        case: None,
        traces: Vec::new(),
        tolerances: Tolerances::default(),
        texts: Vec::new(),
    };
    let mut report = verify(&VerifyRequest { goldens: vec![nothing], ..request.clone() }, progress)?;
    let why = failed.map(|(name, error)| format!(": {name}: {error}")).unwrap_or_default();
    let message =
        format!("no file of the folder has all weights, so that the others could be compared with it{why}");
    report.findings.push(Finding::new(FindingKind::NothingCompared, Outcome::Undecided, message));
    Rules::DEFAULT.judge(&mut report);
    Ok(report)
}

/// The weights of a file that has all of them.
struct Weights {
    name: String,
    source: Source,
    config: Option<PathBuf>,
    precision: Precision,
    digest: String,
    tensors: Vec<(String, TensorDigest)>,
}

impl Weights {
    fn open(request: &VerifyRequest, found: Found) -> Result<Weights> {
        let (source, config) = (found.source?, request.config.clone().or(found.config));
        let (_, mut checkpoint) = Checkpoint::open(source.clone(), config.as_deref(), None)?;
        checkpoint.check_copies()?;
        checkpoint.require_parameters()?;
        let digests = checkpoint.tensor_digests(&())?;
        let digest = checkpoint.digest(&digests).to_string();
        let names = checkpoint.bound.iter().map(|bound| bound.param.name.clone());
        Ok(Weights {
            name: found.name,
            source,
            config,
            precision: Precision::of(checkpoint.bound.iter().map(|bound| bound.dtype)),
            digest,
            tensors: names.zip(digests).collect(),
        })
    }

    /// The tensors that are not those of another file, each by its name.
    fn differing<'w>(&'w self, other: &'w Weights) -> Vec<&'w str> {
        let own = self.tensors.iter().filter(|(name, digest)| {
            !other.tensors.iter().any(|(known, of_other)| known == name && of_other == digest)
        });
        let lacking =
            other.tensors.iter().filter(|(name, _)| !self.tensors.iter().any(|(known, _)| known == name));
        own.chain(lacking).map(|(name, _)| name.as_str()).collect()
    }
}

/// The file that the others are compared with: of those in the highest precision one whose weights most of them have; of
/// several the one that transformers looks for first.
fn preferred(files: &[Weights]) -> Option<usize> {
    let highest = files.iter().map(|file| file.precision).min()?;
    let candidates = files.iter().enumerate().filter(|(_, file)| file.precision == highest);
    let agreeing = |file: &Weights| files.iter().filter(|other| other.digest == file.digest).count();
    candidates.rev().max_by_key(|(_, file)| agreeing(file)).map(|(at, _)| at)
}

/// Records the golden of a file.
fn golden(
    request: &VerifyRequest,
    file: Option<&Weights>,
    workshop: &Workshop,
    progress: &dyn Progress,
) -> Result<Golden> {
    let file = file.ok_or_else(|| Error::malformed("no weights"))?;
    let folder = workshop.path().join("golden");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| Error::io(&folder, "remove", error))?;
    }
    std::fs::create_dir(&folder).map_err(|error| Error::io(&folder, "create", error))?;
    let asked = RecordRequest {
        source: file.source.clone(),
        config: file.config.clone(),
        class: None,
        masked_rows: None,
        texts: None,
        cover: true,
        points: None,
        max_size: MOST_WHOLE,
    };
    record(&asked, &folder, progress)?;
    let golden = Golden::open(&folder)?;
    // Its model is the folder itself: from its weights causes are told, and what rounding does not explain.
    let own = request.model.is_dir().then(|| request.model.clone());
    Ok(Golden { name: file.name.clone(), folder: own.or(golden.folder), ..golden })
}

/// Verifies the folder against the golden of the file number `at`.
fn against(
    request: &VerifyRequest,
    golden: Golden,
    files: &[Weights],
    at: usize,
    progress: &dyn Progress,
) -> Result<Report> {
    let inputs = golden.traces.len();
    let mut report = verify(&VerifyRequest { goldens: vec![golden], ..request.clone() }, progress)?;
    let Some(own) = files.get(at) else { return Ok(report) };
    // Of both there is more to say here.
    report.findings.retain(|finding| {
        let digests = finding.kind == FindingKind::FilesDiffer && finding.outcome == Outcome::Divergence;
        let no_texts = finding.kind == FindingKind::TokenizerNotJudged && finding.outcome == Outcome::Pass;
        !digests && !no_texts
    });
    for file in &mut report.files {
        let weights = files.iter().find(|weights| weights.name == file.file);
        file.findings.extend(weights.and_then(|weights| other_tensors(weights, own, files)));
    }
    let name = &own.name;
    let is_graph = |file: &FileReport| {
        let graphs = [BackendName::Onnx, BackendName::OnnxRuntime].map(BackendName::as_str);
        file.runs.iter().any(|run| graphs.contains(&run.backend.as_str()) && run.compared() > 0)
    };
    let is_other = |file: &&FileReport| {
        let compared = file.runs.iter().any(|run| run.compared() > 0);
        (compared && file.file != *name) || is_graph(file)
    };
    let others = report.files.iter().filter(is_other).count();
    let finding = if others == 0 {
        let message = format!(
            "nothing could be compared: {name} is the only file with weights that can be, and it has no graph. It can be run; \
             whether it is right a golden shows: deberta-record makes one where the model was trained (docs/python.md)"
        );
        Finding::new(FindingKind::NothingCompared, Outcome::Undecided, message)
    } else {
        let message = format!(
            "there is no golden: the folder was compared with its own {name}, as the reference runs it on {inputs} inputs. \
             That shows whether the files are one model. It does not show that it is the model which was trained, nor that \
             its configuration is right where all files share it: a golden that was recorded where it was trained does \
             (deberta-record, docs/python.md)"
        );
        Finding::new(FindingKind::NoGolden, Outcome::Pass, message)
    };
    report.findings.insert(0, finding);
    Rules::DEFAULT.judge(&mut report);
    Ok(report)
}

/// Which tensors of a file are not those of the one that it is compared with. Those in half precision cannot be.
fn other_tensors(file: &Weights, own: &Weights, files: &[Weights]) -> Option<Finding> {
    if file.digest == own.digest || file.precision != own.precision {
        return None;
    }
    let differing = file.differing(own);
    let first = differing.first()?;
    let (count, all) = (differing.len(), own.tensors.len());
    let agree = files.iter().filter(|other| other.digest == own.digest).count();
    let which = match agree {
        1 => "which of the two is right is not known here".to_owned(),
        agree => format!("{agree} files agree on the others"),
    };
    let message =
        format!("{count} of {all} tensors are not those of {}, {first} the first of them; {which}", own.name);
    Some(Finding::new(FindingKind::FilesDiffer, Outcome::Divergence, message))
}
