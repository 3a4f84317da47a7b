//! `case.yaml`: what a folder of goldens holds, and how close a model must come. The schema is in `docs/golden.md`.

use std::fmt;
use std::path::{Path, PathBuf};

use deberta_converters::confinement::require_inside;
use deberta_converters::error::{Error, Result};
use deberta_converters::recipe::Recipe;
use deberta_reference::{Head, MaskedRows};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::judge::tolerance::Tolerances;
pub use crate::tokens::recorded::PublishedTokens;
use crate::trace::class::Class;
pub use crate::trace::slice::{InlineInputs, Slice};
pub use crate::workshop::RecipeEntry;
use crate::yaml::{self, confined};

/// The name of the file in the folder of a case.
pub const FILE_NAME: &str = "case.yaml";

/// A case: a model, what was recorded of it, and how close another run must come.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case is about, for people.
    #[serde(default)]
    pub description: String,
    /// Where the model is.
    pub model: CaseModel,
    /// The class of the model in transformers' PyTorch code.
    pub class: String,
    /// The programs that computed the numbers, with versions.
    pub producer: String,
    /// Where published numbers were published.
    pub source: Option<String>,
    /// The weight digest of the model, 64 hexadecimal digits.
    pub digest: Option<String>,
    /// The digest of its tokenizer, 64 hexadecimal digits.
    pub tokenizer_digest: Option<String>,
    /// How far each tensor may be off.
    pub tolerances: Tolerances,
    /// The recorded runs.
    #[serde(default)]
    pub traces: Vec<TraceEntry>,
    /// What has no trace, and why.
    #[serde(default)]
    pub absent: Vec<Absent>,
    /// The input of the slices.
    pub inputs: Option<InlineInputs>,
    /// Published values: parts of what the model computes for `inputs`.
    #[serde(default)]
    pub slices: Vec<Slice>,
    /// Published tokens: what the model's tokenizer makes of texts.
    #[serde(default)]
    pub tokenizer: Vec<PublishedTokens>,
}

/// Where the model of a case is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenModel")]
pub enum CaseModel {
    /// A folder, relative to that of the case and inside of it: `.`, `./model`.
    Folder(PathBuf),
    /// An id on the hub: `microsoft/deberta-base`.
    Hub(String),
    /// Nowhere: its weights are made.
    Recipe(RecipeEntry),
}

/// A model as it is written in a case.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a path, an id of the hub, or {recipe, config, head, seed}")]
enum WrittenModel {
    Place(String),
    Recipe(RecipeEntry),
}

/// A recorded run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceEntry {
    /// The trace file in the folder of the case.
    pub file: FileName,
    /// What computed it.
    pub framework: Framework,
    /// The class that computed it, `TFDeberta…` for TensorFlow's.
    pub class: String,
    /// What became of attention rows whose every key is masked.
    #[serde(deserialize_with = "masked_rows")]
    pub masked_rows: MaskedRows,
}

/// The name of a file, without folders.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FileName(String);

/// What computed a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framework {
    /// transformers' PyTorch classes.
    Pytorch,
    /// transformers' TensorFlow classes.
    Tensorflow,
    /// Microsoft's original code, or what does the same: the enhanced mask decoder.
    Microsoft,
    /// `deberta-reference`.
    Reference,
    /// ONNX Runtime or another runtime of ONNX files.
    Onnx,
    /// libtorch through Rust.
    Tch,
}

/// Traces that a case does not have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// The framework without a trace.
    pub framework: Framework,
    /// The inputs without one; all of them if empty.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Why.
    pub reason: String,
}

fn masked_rows<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<MaskedRows, D::Error> {
    let word = String::deserialize(value)?;
    MaskedRows::from_word(&word).ok_or_else(|| D::Error::unknown_variant(&word, &["uniform", "zero"]))
}

impl Case {
    /// Reads the `case.yaml` of a folder.
    ///
    /// # Errors
    /// No such file; a link out of the folder; more than a megabyte; what [`Case::from_yaml`] refuses.
    pub fn read(folder: &Path) -> Result<Case> {
        let path = folder.join(FILE_NAME);
        if path.exists() {
            require_inside(folder, &path)?;
        }
        Case::from_yaml(&yaml::read(&path)?).map_err(|error| error.in_file(&path))
    }

    /// Reads the text of a case.
    ///
    /// # Errors
    /// Text that is not YAML or not of the schema, with line and column; an unknown class; a path that leaves the
    /// folder; a digest that is none, or none at all for a model in the folder; a tolerance that is negative or no
    /// number; neither traces nor slices; slices that do not fit.
    pub fn from_yaml(text: &str) -> Result<Case> {
        let case: Case = yaml::parse(text, "case")?;
        case.check().map_err(Error::malformed)?;
        Ok(case)
    }

    /// The folder of the model, if it is not on the hub. `folder` is that of the case.
    ///
    /// # Errors
    /// It does not exist, or leads out of the folder by a link.
    pub fn model_folder(&self, folder: &Path) -> Result<Option<PathBuf>> {
        match &self.model {
            CaseModel::Folder(path) => confined(folder, path).map(Some),
            CaseModel::Hub(_) | CaseModel::Recipe(_) => Ok(None),
        }
    }

    /// The recipe of the model, if it is made. `folder` is that of the case.
    ///
    /// # Errors
    /// A configuration that is not in the folder, or is none.
    pub fn recipe(&self, folder: &Path) -> Result<Option<Recipe>> {
        match &self.model {
            CaseModel::Recipe(entry) => entry.recipe(folder).map(Some),
            CaseModel::Folder(_) | CaseModel::Hub(_) => Ok(None),
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        check_class(&self.class)?;
        for (name, digest) in [("digest", &self.digest), ("tokenizer_digest", &self.tokenizer_digest)] {
            let is_one =
                |digest: &String| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
            if let Some(digest) = digest.as_ref().filter(|digest| !is_one(digest)) {
                return Err(format!("{name}: expected 64 hexadecimal digits, found {digest:?}"));
            }
        }
        match &self.digest {
            None if !matches!(self.model, CaseModel::Hub(_)) => {
                return Err(
                    "digest: needed for a model that is not on the hub; deberta-convert digest prints it"
                        .into(),
                );
            }
            _ => {}
        }
        self.tolerances.check()?;
        if self.traces.is_empty() && self.slices.is_empty() && self.tokenizer.is_empty() {
            return Err("traces: neither traces, nor slices, nor a tokenizer's, nothing to compare".into());
        }
        for (index, entry) in self.traces.iter().enumerate() {
            let place = format!("traces[{index}]");
            check_class(&entry.class).map_err(|error| format!("{place}.{error}"))?;
            if entry.class.starts_with("TF") != (entry.framework == Framework::Tensorflow) {
                return Err(format!("{place}: {} is no class of {:?}", entry.class, entry.framework));
            }
            if self.traces.iter().take(index).any(|other| other.file == entry.file) {
                return Err(format!("{place}.file: {} is listed twice", entry.file.as_str()));
            }
        }
        match (&self.inputs, self.slices.is_empty()) {
            (None, false) => return Err("inputs: needed, there are slices".into()),
            (Some(_), true) => return Err("slices: needed, there are inputs".into()),
            (Some(inputs), false) => inputs.check()?,
            (None, true) => {}
        }
        let of = |list: &str, index: usize, error: String| format!("{list}[{index}].{error}");
        for (index, slice) in self.slices.iter().enumerate() {
            slice.check().map_err(|error| of("slices", index, error))?;
        }
        for (index, tokens) in self.tokenizer.iter().enumerate() {
            tokens.check().map_err(|error| of("tokenizer", index, error))?;
        }
        Ok(())
    }
}

impl TraceEntry {
    /// The class to run.
    ///
    /// # Errors
    /// A name that no class has.
    pub fn class(&self) -> Result<Class> {
        match self.framework {
            Framework::Microsoft => Ok(Class::of_microsoft(&self.class)),
            _ => Class::from_name(&self.class),
        }
    }

    /// The path of the trace file. `folder` is that of the case.
    ///
    /// # Errors
    /// It does not exist, or leads out of the folder by a link.
    pub fn path(&self, folder: &Path) -> Result<PathBuf> {
        confined(folder, Path::new(self.file.as_str()))
    }
}

impl FileName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CaseModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaseModel::Folder(path) => path.display().fmt(f),
            CaseModel::Hub(id) => f.pad(id),
            CaseModel::Recipe(entry) => entry.fmt(f),
        }
    }
}

impl TryFrom<WrittenModel> for CaseModel {
    type Error = String;

    fn try_from(model: WrittenModel) -> std::result::Result<CaseModel, String> {
        match model {
            WrittenModel::Place(text) => CaseModel::try_from(text),
            WrittenModel::Recipe(entry) => entry.check().map(|()| CaseModel::Recipe(entry)),
        }
    }
}

impl TryFrom<String> for CaseModel {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<CaseModel, String> {
        if text == "." || text.starts_with("./") {
            return match yaml::is_inside(&text) {
                true => Ok(CaseModel::Folder(PathBuf::from(text))),
                false => Err(format!("{text:?} leads out of the folder of the case")),
            };
        }
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        match text.split('/').count() <= 2 && text.split('/').all(is_name) {
            true => Ok(CaseModel::Hub(text)),
            false => Err(format!("{text:?} is neither \".\", nor a path from \"./\", nor an id of the hub")),
        }
    }
}

impl TryFrom<String> for FileName {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<FileName, String> {
        let plain = !text.starts_with('.') && !text.contains(['/', '\\', ':', '\0']);
        match plain && text.ends_with(".safetensors") && text != "model.safetensors" {
            true => Ok(FileName(text)),
            false => Err(format!("{text:?} is no trace file of the folder: expected NAME.safetensors")),
        }
    }
}

fn check_class(class: &str) -> std::result::Result<(), String> {
    Head::from_class_name(class).map(|_| ()).ok_or_else(|| format!("class: {class:?} is none of DeBERTa's"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use deberta_converters::error::Kind;

    fn yaml() -> String {
        format!(
            r#"
model: "."
class: DebertaModel
producer: torch 2.13.0
digest: {}
tolerances:
  default: {{atol: 5.0e-6}}
  patterns:
    - {{pattern: "outputs.attentions.*", atol: 0, rtol: 0.5}}
traces:
  - {{file: plain.safetensors, framework: pytorch, class: DebertaModel, masked_rows: uniform}}
  - {{file: plain.tf.safetensors, framework: tensorflow, class: TFDebertaModel, masked_rows: zero}}
absent:
  - {{framework: tensorflow, inputs: [loss], reason: no loss}}
"#,
            "0123456789abcdef".repeat(4)
        )
    }

    fn error(text: &str) -> String {
        Case::from_yaml(text).unwrap_err().to_string()
    }

    /// The error after replacing a part of a correct case.
    fn error_with(part: &str, replacement: &str) -> String {
        let text = yaml();
        assert!(text.contains(part), "{part}");
        error(&text.replacen(part, replacement, 1))
    }

    #[test]
    fn a_case_says_what_it_holds() {
        let case = Case::from_yaml(&yaml()).unwrap();
        assert_eq!(case.model, CaseModel::Folder(".".into()));
        assert_eq!((case.traces.len(), case.absent.len()), (2, 1));
        assert_eq!(case.traces[1].framework, Framework::Tensorflow);
        assert_eq!(case.traces[1].masked_rows, MaskedRows::Zero);
    }

    #[test]
    fn what_the_schema_does_not_know_is_refused() {
        assert!(error_with("producer:", "producers:").contains("unknown field `producers`"));
        assert!(error_with("atol: 5.0e-6", "atol: 5.0e-6, tol: 1").contains("unknown field `tol`"));
        assert!(error_with("framework: pytorch", "framework: jax").contains("unknown variant `jax`"));
        assert!(error_with("masked_rows: zero", "masked_rows: one").contains("unknown variant `one`"));
        assert!(error("[").starts_with("not a case: "));
    }

    #[test]
    fn a_bomb_of_aliases_and_a_deep_list_are_refused() {
        let mut lists = vec!["&a [1, 1, 1, 1, 1, 1, 1, 1, 1]".to_owned()];
        for (name, inner) in ('b'..='p').zip('a'..) {
            lists.push(format!("&{name} [{}]", vec![format!("*{inner}"); 9].join(", ")));
        }
        let values =
            |values: &str| error_with("traces:", &format!("slices: [{{values: {values}}}]\ntraces:"));
        assert!(values(&format!("[{}]", lists.join(", "))).contains("repetition limit exceeded"));
        assert!(
            values(&format!("{}{}", "[".repeat(500), "]".repeat(500))).contains("recursion limit exceeded")
        );
    }

    #[test]
    fn paths_stay_in_the_folder() {
        for path in ["../x.safetensors", "a/b.safetensors", "/x.safetensors", ".safetensors", "x.bin"] {
            let error = error_with("file: plain.safetensors", &format!("file: {path:?}"));
            assert!(error.contains("is no trace file of the folder"), "{path}: {error}");
        }
        for model in ["./../other", "./a/../../b", ".\\\\x"] {
            let error = error_with("model: \".\"", &format!("model: {model:?}"));
            assert!(error.contains("leads out of") || error.contains("neither"), "{model}: {error}");
        }
        for model in ["/etc", "..", "a/b/c", "", "a//b", "-x"] {
            let error = error_with("model: \".\"", &format!("model: {model:?}"));
            assert!(error.contains("is neither \".\""), "{model}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_in_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let target = outside.path().join("plain.safetensors");
        std::fs::write(&target, "").unwrap();
        let entry = Case::from_yaml(&yaml()).unwrap().traces.remove(0);
        let path = folder.path().join("plain.safetensors");
        assert_eq!(entry.path(folder.path()).unwrap_err().kind(), Kind::Io);
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert_eq!(entry.path(folder.path()).unwrap_err().kind(), Kind::Refused);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(entry.path(folder.path()).unwrap().ends_with("plain.safetensors"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(error_with("class: DebertaModel", "class: BertModel").contains("none of DeBERTa's"));
        assert!(error_with("digest: 0", "digest: x").starts_with("digest: expected 64"));
        assert!(
            error_with("digest:", "source:").starts_with("digest: needed for a model that is not on the hub")
        );
        assert!(error_with("5.0e-6", "-1").starts_with("tolerances.default.atol: expected a number from 0"));
        assert!(error_with("rtol: 0.5", "rtol: .nan").starts_with("tolerances.patterns[0].rtol: "));
        assert!(error_with("plain.tf.safetensors", "plain.safetensors").contains("listed twice"));
        assert!(error_with("TFDebertaModel", "DebertaModel").contains("is no class of Tensorflow"));
        let (start, end) = (yaml().find("traces:").unwrap(), yaml().find("absent:").unwrap());
        let nothing = yaml().replace(&yaml()[start..end], "");
        assert!(error(&nothing).contains("nothing to compare"));
    }

    #[test]
    fn a_long_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, yaml()).unwrap();
        assert!(Case::read(folder.path()).is_ok());
        std::fs::write(&path, format!("{}#{}", yaml(), "x".repeat(1 << 20))).unwrap();
        let error = Case::read(folder.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
}
