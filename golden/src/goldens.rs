//! Where goldens come from: a folder, with or without `case.yaml`, or this program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use deberta_converters::checkpoint::Checkpoint;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::recipe::Recipe;
use deberta_converters::source::Source;

use crate::case::{Case, CaseModel, FILE_NAME};
use crate::inventory::Inventory;
use crate::judge::tolerance::{Precision, Tolerances};
use crate::report::name_of;
use crate::tokens::recorded::PublishedTokens;
use crate::trace::folder;
use crate::verify::VerifyRequest;

/// What a model is compared with.
#[derive(Clone, Debug)]
pub struct Golden {
    /// What reports call it.
    pub name: String,
    /// The folder; nothing if it came with this program.
    pub folder: Option<PathBuf>,
    /// The description, if there is one.
    pub case: Option<Case>,
    /// The trace files.
    pub traces: Vec<PathBuf>,
    /// How far numbers may be off.
    pub tolerances: Tolerances,
    /// The texts of its tokenizer.jsonl, with their ids.
    pub texts: Vec<PublishedTokens>,
}

/// The cases that come with this program: the id of the model on the hub, and the text of `case.yaml`.
const SHIPPED: &[(&str, &str)] = &[
    ("microsoft/deberta-base", include_str!("../data/microsoft--deberta-base/case.yaml")),
    ("microsoft/deberta-base-mnli", include_str!("../data/microsoft--deberta-base-mnli/case.yaml")),
    ("microsoft/deberta-v2-xlarge", include_str!("../data/microsoft--deberta-v2-xlarge/case.yaml")),
    ("microsoft/deberta-v3-base", include_str!("../data/microsoft--deberta-v3-base/case.yaml")),
    ("microsoft/deberta-v3-xsmall", include_str!("../data/microsoft--deberta-v3-xsmall/case.yaml")),
];

/// How to get a golden.
const HOW: &str = "deberta-record --model MODEL -o golden records one from PyTorch or TensorFlow (docs/python.md), \
                   deberta-verify record --text one of this program's own arithmetic; --self compares the files of a folder with each \
                   other";

impl Golden {
    /// The golden in a folder: what its `case.yaml` lists, or else every trace file.
    ///
    /// # Errors
    /// Neither of them; a `case.yaml` that is wrong, lists a file that is not there, or does not list a trace that is
    /// there.
    pub fn open(folder: &Path) -> Result<Golden> {
        match Golden::find(folder)? {
            Some(golden) => Ok(golden),
            None => {
                let message = format!(
                    "no golden in this folder: neither case.yaml nor a safetensors file with tensors inputs.*; {HOW}"
                );
                Err(Error::new(Kind::Request, message).in_file(folder))
            }
        }
    }

    /// The golden in a folder, if there is one.
    ///
    /// # Errors
    /// As [`Golden::open`].
    pub fn find(folder: &Path) -> Result<Option<Golden>> {
        let name = name_of(folder);
        let folder_of = Some(folder.to_owned());
        let texts = PublishedTokens::read(folder)?;
        if !folder.join(FILE_NAME).exists() {
            let (traces, tolerances) = (folder::find(folder)?, Tolerances::default());
            let golden = Golden { name, folder: folder_of, case: None, traces, tolerances, texts };
            let holds = !golden.traces.is_empty() || !golden.texts.is_empty();
            return Ok(holds.then_some(golden));
        }
        let case = Case::read(folder)?;
        let traces = case.traces.iter().map(|entry| entry.path(folder)).collect::<Result<Vec<PathBuf>>>()?;
        let listed: BTreeSet<_> = case.traces.iter().map(|entry| entry.file.as_str()).collect();
        // What cannot be read is no trace that is left out, and is judged as weights if the folder is a model's.
        let found = folder::safetensors_in(folder)?;
        let unlisted = |path: &&PathBuf| {
            !path.file_name().is_some_and(|name| listed.contains(name.to_string_lossy().as_ref()))
        };
        let stray = found.iter().filter(unlisted).find(|path| folder::is_trace(path).unwrap_or(false));
        if let Some(stray) = stray {
            let message = "a trace that case.yaml does not list: list it, or move it out of the folder";
            return Err(Error::malformed(message).in_file(stray));
        }
        let tolerances = case.tolerances.clone();
        let golden = Golden { name, folder: folder_of, case: Some(case), traces, tolerances, texts };
        // Such a case states what is stricter for f32 without having tried it.
        Ok(Some(match golden.model_precision() {
            Some(Precision::F16 | Precision::Bf16) => {
                Golden { tolerances: golden.tolerances.usual_at_least(), ..golden }
            }
            _ => golden,
        }))
    }

    /// What the weights of the model are stored with, if the case names a folder that has them.
    fn model_precision(&self) -> Option<Precision> {
        let folder = self.model_folder().ok().flatten()?;
        let (_, checkpoint) = Checkpoint::open(Source::locate(&folder, None, None).ok()?, None, None).ok()?;
        Some(Precision::of(checkpoint.bound.iter().map(|bound| bound.dtype)))
    }

    /// The goldens in the folders of a folder, by name.
    ///
    /// # Errors
    /// None of the folders has one; as [`Golden::open`].
    pub fn below(folder: &Path) -> Result<Vec<Golden>> {
        let entries = std::fs::read_dir(folder).map_err(|error| Error::io(folder, "open", error))?;
        let mut folders = Vec::new();
        for entry in entries {
            folders.push(entry.map_err(|error| Error::io(folder, "read", error))?.path());
        }
        folders.retain(|path| path.is_dir());
        folders.sort();
        let mut goldens = Vec::new();
        for folder in &folders {
            goldens.extend(Golden::find(folder)?);
        }
        match goldens.is_empty() {
            false => Ok(goldens),
            true => {
                Err(Error::new(Kind::Request, "no golden in this folder, nor in its folders").in_file(folder))
            }
        }
    }

    /// The golden that comes with this program for a model of the hub, if there is one.
    ///
    /// # Errors
    /// A case that is wrong.
    pub fn shipped(id: &str) -> Result<Option<Golden>> {
        let Some((name, text)) = SHIPPED.iter().find(|(known, _)| *known == id) else { return Ok(None) };
        let case = Case::from_yaml(text).map_err(|error| error.in_file(Path::new(name)))?;
        let (name, tolerances) = ((*name).to_owned(), case.tolerances.clone());
        let (traces, texts) = (Vec::new(), Vec::new());
        Ok(Some(Golden { name, folder: None, case: Some(case), traces, tolerances, texts }))
    }

    /// The goldens of a model: in its folder, and those that come with this program for its name.
    ///
    /// # Errors
    /// There is none, or there are no weights that one could be of; a golden that is wrong.
    pub fn of_model(name: &str, model: &Path) -> Result<Vec<Golden>> {
        let folder = if model.is_dir() { model } else { model.parent().unwrap_or(model) };
        let mut goldens: Vec<Golden> = Golden::find(folder)?.into_iter().collect();
        goldens.extend(Golden::shipped(name)?);
        match goldens.is_empty() {
            false => Ok(goldens),
            true => {
                Inventory::of(&VerifyRequest { model: model.to_owned(), ..VerifyRequest::default() })?;
                let message = format!(
                    "no golden for this model: there is none in its folder, and none came with this program; --golden \
                     names one. {HOW}"
                );
                Err(Error::new(Kind::Request, message).in_file(model))
            }
        }
    }

    /// The ids of the models whose goldens come with this program.
    pub fn shipped_ids() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(id, _)| *id)
    }

    /// The folder of the model that the case names, if it is a folder.
    ///
    /// # Errors
    /// It does not exist, or leads out of the folder of the case by a link.
    pub fn model_folder(&self) -> Result<Option<PathBuf>> {
        match (&self.case, &self.folder) {
            (Some(case), Some(folder)) => case.model_folder(folder),
            _ => Ok(None),
        }
    }

    /// The id on the hub of the model that the case names, if it has one.
    pub fn hub_id(&self) -> Option<&str> {
        match self.case.as_ref().map(|case| &case.model) {
            Some(CaseModel::Hub(id)) => Some(id),
            _ => None,
        }
    }

    /// The recipe of the model that the case names, if it is made.
    ///
    /// # Errors
    /// A configuration that is not in the folder of the case, or is none.
    pub fn recipe(&self) -> Result<Option<Recipe>> {
        match (&self.case, &self.folder) {
            (Some(case), Some(folder)) => case.recipe(folder),
            _ => Ok(None),
        }
    }

    /// The weight digest that the case states.
    pub fn digest(&self) -> Option<&str> {
        self.case.as_ref()?.digest.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_is_judged_as_usual_where_the_model_is_in_half_precision() {
        let allowed = |name: &str| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("trained").join(name);
            let tolerances = Golden::open(&folder).unwrap().tolerances;
            tolerances.of("outputs.logits", Precision::F32).allowance(0.0, 1.0)
        };
        // Both cases say 5e-6; `choices` is stored in f16.
        assert_eq!((allowed("nli"), allowed("choices")), (5e-6, 5e-6 + 1e-5));
    }

    #[test]
    fn shipped_goldens_are_right() {
        for id in Golden::shipped_ids() {
            let golden = Golden::shipped(id).unwrap().unwrap();
            assert_eq!(golden.hub_id(), Some(id));
            let case = golden.case.unwrap();
            assert!(case.slices.len() + case.tokenizer.len() > 0, "{id}");
        }
        assert!(Golden::shipped("microsoft/deberta-v3-large").unwrap().is_none());
    }

    #[test]
    fn a_folder_without_goldens_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = Golden::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no golden in this folder: neither case.yaml nor"), "{error}");
    }
}
