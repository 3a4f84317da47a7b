//! New recordings in the place of old ones.

use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::loading::Parameters;
use deberta_converters::output::{Batch, Staged};
use deberta_converters::source::Source;
use deberta_reference::Inputs;

use crate::backend::{Backend, Reference};
use crate::case::FILE_NAME;
use crate::goldens::Golden;
use crate::trace::class::{Class, masked_rows_of};
use crate::trace::file::{Trace, TraceFile};
use crate::trace::inputs::inputs;
use crate::yaml;

/// Records every trace of a golden again, from the weights of `model`, and corrects the digest in `case.yaml`. Returns the
/// files that were written.
///
/// Only what the reference implementation recorded is replaced: the recordings of other programs are evidence, and are made
/// by those programs.
///
/// # Errors
/// A golden that came with this program, or with recordings of another one; a model that cannot be run on its inputs.
/// Nothing was written then: the files are replaced together.
pub fn bless(golden: &Golden, model: &Path, config: Option<&Path>) -> Result<Vec<PathBuf>> {
    let Some(folder) = &golden.folder else {
        let message =
            format!("{} came with this program and is evidence: it cannot be replaced", golden.name);
        return Err(Error::new(Kind::Request, message));
    };
    let mut recorded = Vec::with_capacity(golden.traces.len());
    for path in &golden.traces {
        recorded.push((path.clone(), again(path, model, config).map_err(|error| error.in_file(path))?));
    }
    let case = match golden.digest() {
        Some(old) => Some((folder.join(FILE_NAME), with_digest(folder, old, &digest(model, config)?)?)),
        None => None,
    };
    let mut files = Batch::in_folder(folder);
    for (path, trace) in &recorded {
        files.add(trace.stage(path)?);
    }
    let mut written: Vec<PathBuf> = recorded.into_iter().map(|(path, _)| path).collect();
    if let Some((path, text)) = case {
        let file = Staged::create(&path)?;
        file.write_at(0, text.as_bytes())?;
        file.sync()?;
        files.add(file);
        written.push(path);
    }
    files.commit(true)?;
    Ok(written)
}

/// Runs the model on the inputs of a trace, and records what that had recorded.
fn again(path: &Path, model: &Path, config: Option<&Path>) -> Result<Trace> {
    let file = TraceFile::open(path)?;
    if file.metadata("framework") != Some("reference") {
        let who = file.metadata("framework").unwrap_or("an unknown program");
        let message = format!("recorded by {who}: that is evidence, and only {who} can record it again");
        return Err(Error::new(Kind::Refused, message));
    }
    if file.is_sampled() {
        return Err(Error::unsupported(
            "holds samples of tensors, which are not blessed: the program that recorded them records them again",
        ));
    }
    let old = file.inputs()?;
    let class = Class::of(&old)?;
    let given = inputs(&old)?;
    let (_, mut checkpoint) =
        Checkpoint::open(Source::locate(model, None, None)?, config, class.map(|class| class.head))?;
    checkpoint.check_copies()?;
    let class = class.unwrap_or(Class::of_checkpoint(&checkpoint));
    let rows = masked_rows_of(&old)?.unwrap_or(class.masked_rows());
    let reference = Reference::load(&Parameters::new(checkpoint)?, class, rows)?;
    let names: Vec<&str> = file.names().collect();
    let points: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix("activations.")).collect();
    let asked = Inputs { output_hidden_states: true, output_attentions: true, ..given };
    let mut trace = reference.run(&asked, &points, Vec::new())?;
    trace.tensors.retain(|tensor| names.contains(&tensor.name.as_str()));
    if let Some(lost) = names.iter().find(|name| {
        !name.starts_with("inputs.") && !trace.tensors.iter().any(|tensor| tensor.name == **name)
    }) {
        return Err(Error::new(Kind::Model, "the model has no such point").in_tensor(lost));
    }
    trace.tensors.splice(0..0, old.tensors);
    if let Some(points) = file.metadata(crate::trace::points::POINTS) {
        trace.metadata.push((crate::trace::points::POINTS.to_owned(), points.to_owned()));
    }
    Ok(trace)
}

fn digest(model: &Path, config: Option<&Path>) -> Result<String> {
    let (_, checkpoint) = Checkpoint::open(Source::locate(model, None, None)?, config, None)?;
    Ok(checkpoint.digest(&checkpoint.tensor_digests(&())?).to_string())
}

/// The text of `case.yaml` with another digest.
fn with_digest(folder: &Path, old: &str, new: &str) -> Result<String> {
    let path = folder.join(FILE_NAME);
    let text = yaml::read(&path)?;
    match text.matches(old).count() {
        1 => Ok(text.replace(old, new)),
        0 => {
            let message = "its digest is no longer there: another run wrote it while this one worked";
            Err(Error::new(Kind::Io, message).in_file(&path))
        }
        count => {
            let message = format!("the digest {old} is in it {count} times: correct it by hand");
            Err(Error::malformed(message).in_file(&path))
        }
    }
}
