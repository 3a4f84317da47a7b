//! What a golden trace asks of a model.

use std::path::Path;

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Result};
use deberta_reference::{DebertaConfig, Inputs, MaskedRows};

use crate::case::TraceEntry;
use crate::goldens::Golden;
use crate::trace::class::{Class, check_far_positions, masked_rows_of};
use crate::trace::file::Trace;
use crate::trace::inputs::inputs;
use crate::trace::padding::Padding;

/// What a trace asks of a model.
pub(super) struct Asked {
    pub(super) class: Class,
    pub(super) rows: MaskedRows,
    /// With hidden states and attentions, which a trace may have.
    pub(super) inputs: Inputs,
    pub(super) padding: Padding,
}

/// The class and the masked rows that a trace, or its entry in `case.yaml`, asks for; nothing where both leave it open.
#[derive(Clone, Copy)]
pub(super) struct Stated {
    pub(super) class: Option<Class>,
    pub(super) rows: Option<MaskedRows>,
}

impl Asked {
    /// What the `inputs.*` of a trace ask of a class with a configuration.
    ///
    /// # Errors
    /// Inputs that no class has.
    pub(super) fn of(class: Class, rows: MaskedRows, config: &DebertaConfig, trace: &Trace) -> Result<Asked> {
        let inputs = Inputs { output_hidden_states: true, output_attentions: true, ..inputs(trace)? };
        let padding = Padding::of_model(&inputs, config, class.head);
        Ok(Asked { class, rows, inputs, padding })
    }
}

impl Stated {
    /// What a trace of the golden states, and `case.yaml` about the file at `path`.
    ///
    /// # Errors
    /// An unknown class or convention; two that are not the same.
    pub(super) fn of(trace: &Trace, golden: &Golden, path: &Path) -> Result<Stated> {
        let (class, rows) = (Class::of(trace)?, masked_rows_of(trace)?);
        let entry = entry(golden, path);
        let listed = entry.map(TraceEntry::class).transpose()?;
        check_far_positions(trace, listed.or(class))?;
        let (Some(entry), Some(listed)) = (entry, listed) else { return Ok(Stated { class, rows }) };
        if let Some(class) = class.filter(|&class| class != listed) {
            return Err(Error::malformed(format!("the trace is of {class}, case.yaml says {listed}")));
        }
        if let Some(rows) = rows.filter(|&rows| rows != entry.masked_rows) {
            let (rows, listed) = (rows, entry.masked_rows);
            let message = format!("masked_rows is {rows} in the trace and {listed} in case.yaml");
            return Err(Error::malformed(message));
        }
        Ok(Stated { class: Some(listed), rows: Some(entry.masked_rows) })
    }

    /// What is asked of a checkpoint: the class that it is opened for where none is stated, and the convention of the class.
    ///
    /// # Errors
    /// A class of the other family.
    pub(super) fn or_of(self, checkpoint: &Checkpoint) -> Result<(Class, MaskedRows)> {
        let class = self.class.unwrap_or(Class::of_checkpoint(checkpoint));
        class.require(checkpoint)?;
        Ok((class, self.rows.unwrap_or(class.masked_rows())))
    }
}

/// What `case.yaml` says about a trace.
fn entry<'g>(golden: &'g Golden, path: &Path) -> Option<&'g TraceEntry> {
    let mut entries = golden.case.as_ref()?.traces.iter();
    entries.find(|entry| path.file_name().is_some_and(|file| file == entry.file.as_str()))
}
