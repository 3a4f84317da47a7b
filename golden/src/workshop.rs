//! Models whose weights are made by the recipe, in a folder that goes when they do.

use std::fmt;
use std::path::{Path, PathBuf};

use deberta_converters::config_file::ConfigFile;
use deberta_converters::convert::convert;
use deberta_converters::error::{Error, Kind, Result};
use deberta_converters::format::Format;
use deberta_converters::ledger::Ledger;
use deberta_converters::output::temporary::{self, OWNER, Temporary};
use deberta_converters::progress::Progress;
use deberta_converters::recipe::{RECIPE, Recipe, Size};
use deberta_converters::request::{Companion, Content, OnnxRequest, Request};
use deberta_reference::Head;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::yaml::confined;

/// The recipe of a model as `case.yaml` names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeEntry {
    /// The recipe and its version.
    recipe: String,
    /// The name of a [`Size`], or a configuration in the folder of the case: `./config.json`.
    config: String,
    /// What stands on the base model, as on the command line of `deberta-convert init`.
    #[serde(deserialize_with = "head")]
    head: Head,
    /// The seed.
    seed: u64,
}

/// A head by its [`Head::word`].
fn head<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Head, D::Error> {
    let word = String::deserialize(value)?;
    Head::from_word(&word).ok_or_else(|| {
        let known = Head::ALL.map(|head| format!("`{}`", head.word())).join(", ");
        D::Error::custom(format!("unknown variant `{word}`, expected one of {known}"))
    })
}

impl RecipeEntry {
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        if self.recipe != RECIPE {
            return Err(format!("recipe: {:?}, this program makes {RECIPE:?}", self.recipe));
        }
        if Size::from_name(&self.config).is_none() && !self.config.starts_with("./") {
            let (config, sizes) = (&self.config, Size::names());
            return Err(format!("config: {config:?}, expected one of {sizes}, or a path from \"./\""));
        }
        Ok(())
    }

    /// The recipe. `folder` is that of the case.
    pub(crate) fn recipe(&self, folder: &Path) -> Result<Recipe> {
        let config = match Size::from_name(&self.config) {
            Some(size) => ConfigFile::parse(Path::new(size.name()), size.config_text().to_owned())?,
            None => ConfigFile::read(&confined(folder, Path::new(&self.config))?)?,
        };
        Recipe::new(&config, self.head, self.seed)
    }
}

impl fmt::Display for RecipeEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecipeEntry { recipe, config, head, seed } = self;
        write!(f, "{recipe} of {config}, head {}, seed {seed}", head.word())
    }
}

/// How the names of workshops begin.
const PREFIX: &str = "deberta-verify-";

/// A folder for models that are made. It goes, with everything in it, when this is dropped, and when the end of the program is
/// asked for.
pub struct Workshop {
    folder: Temporary,
}

impl Workshop {
    /// A new folder in `parent`, or else in the system's folder for temporary files.
    ///
    /// # Errors
    /// The folder cannot be made; the disk has less than `room` bytes left.
    pub fn new(parent: Option<&Path>, room: u64) -> Result<Workshop> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let failed = |error| Error::io(&parent, "create a folder in", error);
        let free = free(&parent).map_err(failed)?;
        if let Some(free) = free.filter(|&free| free < room) {
            let message = format!(
                "{} MB are free on this disk, and {} MB are needed: make room, or name another folder with --folder or \
                 TMPDIR",
                free >> 20,
                room.div_ceil(1 << 20)
            );
            return Err(Error::new(Kind::Io, message).in_file(&parent));
        }
        // Of runs that were killed, whose models nobody needs.
        temporary::clear(&parent, PREFIX, "");
        let folder = Temporary::folder(&parent, PREFIX, "", OWNER).map_err(failed)?;
        Ok(Workshop { folder })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the model of a recipe in a folder of its own, as safetensors with its `config.json`. Returns the folder, too.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn make(&self, recipe: &Recipe, name: &str, progress: &dyn Progress) -> Result<(PathBuf, Ledger)> {
        let folder = self.path().join(name);
        std::fs::create_dir(&folder).map_err(|error| Error::io(&folder, "create", error))?;
        let config = Companion {
            path: folder.join("config.json"),
            content: Content::Text(recipe.config.text.clone()),
        };
        let request = Request {
            to: Format::Safetensors,
            output: folder.join(Format::Safetensors.file_name()),
            companions: vec![config],
            dtype: None,
            max_shard_size: None,
            replace: false,
            onnx: OnnxRequest::default(),
        };
        let ledger = convert(&mut recipe.checkpoint()?, &request, progress)?;
        Ok((folder, ledger))
    }
}

/// The bytes that are free on the disk of a folder.
#[cfg(unix)]
fn free(folder: &Path) -> std::io::Result<Option<u64>> {
    let free = rustix::fs::statvfs(folder)?;
    Ok(Some(free.f_bavail.saturating_mul(free.f_frsize)))
}

/// Nothing: a full disk is an error of writing.
#[cfg(not(unix))]
fn free(_folder: &Path) -> std::io::Result<Option<u64>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_full_is_named_with_both_numbers() {
        let parent = tempfile::tempdir().unwrap();
        let Err(error) = Workshop::new(Some(parent.path()), u64::MAX) else { panic!("room for everything") };
        let error = error.to_string();
        assert!(error.contains("MB are free on this disk, and 17592186044416 MB are needed"), "{error}");
        assert!(parent.path().read_dir().unwrap().next().is_none());
    }

    #[test]
    fn entries_that_name_no_recipe_are_refused() {
        let entry = |recipe: &str, config: &str| RecipeEntry {
            recipe: recipe.to_owned(),
            config: config.to_owned(),
            head: Head::Base,
            seed: 1,
        };
        entry(RECIPE, "base").check().unwrap();
        assert!(entry("deberta-recipe-0", "base").check().unwrap_err().contains("this program makes"));
        assert!(entry(RECIPE, "../config.json").check().unwrap_err().contains("expected one of base, "));
        let folder = tempfile::tempdir().unwrap();
        assert!(entry(RECIPE, "./../x.json").recipe(folder.path()).is_err());
    }
}
