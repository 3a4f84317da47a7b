//! `case.yaml`, and the configuration beside it.

use std::path::Path;

use deberta_converters::config_file::ConfigFile;
use deberta_converters::error::{Error, Result};
use deberta_reference::MaskedRows;

use crate::case::FILE_NAME;
use crate::report::{PRODUCER, name_of};
use crate::trace::class::Class;

/// A trace as `case.yaml` lists it.
pub(super) struct TraceLine {
    pub(super) file: String,
    pub(super) class: Class,
    pub(super) rows: MaskedRows,
}

/// What numbers may be off by: what holds where nothing is said, written out.
const TOLERANCES: &str = r#"tolerances:
  default: {atol: 5.0e-6, rtol: 1.0e-5, scale: 1.0e-5}
  patterns:
    - {pattern: "outputs.attentions.*", atol: 5.0e-6, rtol: 1.0e-5, scale: 5.0e-5}
    - {pattern: "activations.*attention.self.probs", atol: 5.0e-6, rtol: 1.0e-5, scale: 5.0e-5}
    - {pattern: "activations.*attention.self.head_weights_proj", atol: 5.0e-6, rtol: 1.0e-5, scale: 5.0e-5}
    - {pattern: "activations.*attention.self", atol: 5.0e-6, rtol: 1.0e-5, scale: 5.0e-5}
"#;

/// Writes `case.yaml` and `config.json` into the folder of a golden.
pub(super) fn write(
    folder: &Path,
    config: &ConfigFile,
    class: Class,
    digest: &str,
    tokenizer_digest: Option<&str>,
    traces: &[TraceLine],
) -> Result<()> {
    let mut text = format!(
        "description: \"The arithmetic of {PRODUCER}, not of a framework: it shows that other files compute the same.\"\n\
         model: \".\"\n\
         class: {class}\n\
         producer: \"{PRODUCER}\"\n\
         digest: \"{digest}\"\n"
    );
    if let Some(digest) = tokenizer_digest {
        text.push_str(&format!("tokenizer_digest: \"{digest}\"\n"));
    }
    text.push_str(TOLERANCES);
    text.push_str("traces:\n");
    for TraceLine { file, class, rows } in traces {
        text.push_str(&format!(
            "  - {{file: {file}, framework: reference, class: {class}, masked_rows: {rows}}}\n"
        ));
    }
    put(&folder.join(name_of(&config.path)), &config.text)?;
    put(&folder.join(FILE_NAME), &text)
}

/// Writes a file of a folder that appears as a whole.
pub(super) fn put(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Error::io(path, "write", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tolerance::Tolerances;

    #[test]
    fn the_tolerances_are_those_of_cases_that_say_nothing() {
        #[derive(serde::Deserialize)]
        struct Written {
            tolerances: Tolerances,
        }
        let written: Written = crate::yaml::parse(TOLERANCES, "case").unwrap();
        assert_eq!(written.tolerances, Tolerances::default());
    }
}
