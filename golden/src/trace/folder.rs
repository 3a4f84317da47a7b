//! Which files of a folder are traces.

use std::fs;
use std::path::{Path, PathBuf};

use deberta_converters::error::{Error, Result};
use deberta_converters::format::{TensorFile as _, safetensors};
use deberta_converters::mapped::Mapped;

/// The traces in a folder: every safetensors file whose tensors are a trace's, by path.
///
/// # Errors
/// The folder cannot be read.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut traces = Vec::new();
    for path in safetensors_in(folder)? {
        if is_trace(&path)? {
            traces.push(path);
        }
    }
    Ok(traces)
}

/// The safetensors files of a folder, in the order of names.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn safetensors_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, "open", error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::io(folder, "read", error))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a safetensors file is a trace: it has inputs.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn is_trace(path: &Path) -> Result<bool> {
    let file = safetensors::open(Mapped::open(path)?)?;
    Ok(file.tensors().iter().any(|info| info.name.starts_with("inputs.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;

    #[test]
    fn recorded_traces_are_read() {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/rel-mlm");
        if !shared.is_dir() {
            println!("skipped: {} is not there", shared.display());
            return;
        }
        let traces = find(&shared).unwrap();
        assert!(traces.len() >= 7, "{traces:?}");
        for path in traces {
            let trace = Trace::read(&path).unwrap();
            assert!(trace.get("outputs.logits").is_some(), "{}", path.display());
            assert!(trace.metadata("class").is_some_and(|class| class.ends_with("DebertaForMaskedLM")));
        }
    }
}
