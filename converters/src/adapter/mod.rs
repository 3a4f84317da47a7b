//! Adapters of peft, merged into the weights that they were trained beside.
//!
//! ```text
//! settings  adapter_config.json: LoRA as it is computed here, anything else refused by name
//! tensors   which tensor of the adapter belongs to which parameter
//! delta     what is added to a parameter
//! ```
//!
//! Source: peft 0.21, `tuners/lora/layer.py` (`get_delta_weight`, `merge`), `tuners/lora/model.py` (`_create_and_replace`),
//! `utils/save_and_load.py` (names).

use std::path::{Path, PathBuf};

use deberta_reference::{Head, Param, params};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Kind, Result};
use crate::format::{Format, TensorFile, open_file};
use crate::mapped::Mapped;
use crate::matching::{Bound, Place, ProblemKind};

mod delta;
mod settings;
mod tensors;

pub(crate) use delta::Delta;
use settings::Settings;
use tensors::{Part, Tensors};

/// The file beside weights that makes transformers apply an adapter to them.
pub const CONFIGURATION: &str = "adapter_config.json";

/// Parts of the names of tensors that peft adds to a model.
const ADDED: [&str; 6] =
    [".lora_A.", ".lora_B.", ".lora_embedding_", ".lora_magnitude_vector", ".ia3_l", ".base_layer."];

/// Whether a tensor of this name is one that peft adds to a model.
pub fn is_tensor(name: &str) -> bool {
    ADDED.iter().any(|part| name.contains(part))
}

/// An adapter, opened.
pub struct Adapter {
    folder: PathBuf,
    path: PathBuf,
    settings: Settings,
    file: Box<dyn TensorFile>,
}

impl Adapter {
    /// Opens the adapter in `folder`: `adapter_config.json` with `adapter_model.safetensors` or `adapter_model.bin`.
    ///
    /// # Errors
    /// Files that are missing or damaged; a method other than LoRA, or a kind of LoRA that is computed in another way.
    pub fn open(folder: &Path) -> Result<Adapter> {
        let settings = Settings::read(&folder.join(CONFIGURATION))?;
        let names = ["adapter_model.safetensors", "adapter_model.bin"];
        let Some(path) = names.iter().map(|name| folder.join(name)).find(|path| path.exists()) else {
            let why = format!("no adapter in this folder: looked for {}", names.join(", "));
            return Err(Error::new(Kind::Io, why).in_file(folder));
        };
        let (format, file) = open_file(Mapped::open(&path)?)?;
        if !matches!(format, Format::Safetensors | Format::PyTorch) {
            return Err(Error::unsupported(format!("is {format}, no adapter of peft")).in_file(&path));
        }
        Ok(Adapter { folder: folder.to_owned(), path, settings, file })
    }

    /// The class that it was trained for, if it says so.
    pub fn head(&self) -> Option<Head> {
        self.settings.head
    }
}

impl Checkpoint {
    /// Merges an adapter: what it adds to parameters is added whenever their values are read, and what it has of its own
    /// takes their place.
    ///
    /// # Errors
    /// Tensors that fit no parameter, or not its shape.
    pub fn merge_adapter(&mut self, adapter: Adapter) -> Result<()> {
        let Adapter { folder, path, settings, file } = adapter;
        self.check_copies()?;
        let tensors = Tensors::sort(file.as_ref()).map_err(|error| error.in_file(&path))?;
        let params = params(&self.config, self.head);
        let number = self.add_file(file);
        let (mut changed, mut replaced) = (0, 0);
        for (module, part) in tensors.parts {
            let of = |leaf: &str| params.iter().find(|param| is_called(param, &format!("{module}{leaf}")));
            let in_file = |error: Error| error.in_tensor(&module).in_file(&path);
            let place = |index| Place { file: number, index };
            match part {
                Part::Added { a, b, is_embedding } => {
                    let param = of(".weight").ok_or_else(|| in_file(no_parameter()))?;
                    let (Some(a), Some(b)) = (a, b) else {
                        return Err(in_file(Error::malformed(
                            "has one of lora_A and lora_B without the other",
                        )));
                    };
                    let rank = self.info(place(a)).and_then(|info| info.shape.first().copied()).unwrap_or(0);
                    let scale = settings.scale(&module, rank).map_err(in_file)?;
                    let delta = Delta { a: place(a), b: place(b), rank, scale, is_embedding };
                    self.add_delta(&param.name, delta).map_err(in_file)?;
                    changed += 1;
                }
                Part::Own(index) => {
                    let param = of("").ok_or_else(|| in_file(no_parameter()))?;
                    self.replace(param, place(index), &params).map_err(in_file)?;
                    replaced += 1;
                }
            }
        }
        if changed + replaced == 0 {
            return Err(Error::malformed("holds no tensor").in_file(&path));
        }
        self.notes.push(format!(
            "--merge-adapter {}: LoRA merged into {changed} parameters, {replaced} taken from the adapter as they are",
            folder.display()
        ));
        Ok(())
    }

    /// Puts a tensor in the place of a parameter, or makes it the parameter that was missing.
    fn replace(&mut self, param: &Param, place: Place, params: &[Param]) -> Result<()> {
        let info = self.info(place).ok_or_else(|| Error::malformed("no such tensor"))?;
        if info.shape != param.shape {
            let what = ProblemKind::Shape { expected: param.shape.clone(), found: info.shape.clone() };
            return Err(what.error());
        }
        if !info.dtype.is_float() {
            return Err(ProblemKind::Dtype(info.dtype).error());
        }
        let bound = Bound {
            param: param.clone(),
            stored_name: info.name.clone(),
            dtype: info.dtype,
            transposed: false,
            place,
        };
        match self.bound.iter().position(|known| known.param.name == param.name) {
            Some(index) => {
                self.copies.retain(|copy| copy.of != index);
                if let Some(known) = self.bound.get_mut(index) {
                    *known = bound;
                }
            }
            None => {
                let order = |bound: &Bound| params.iter().position(|param| param.name == bound.param.name);
                let at = self.bound.partition_point(|known| order(known) < order(&bound));
                self.bound.insert(at, bound);
                for copy in self.copies.iter_mut().filter(|copy| copy.of >= at) {
                    copy.of += 1;
                }
                let stored = self.naming.stored(param).name;
                self.problems
                    .retain(|problem| problem.tensor != stored || problem.what != ProblemKind::Missing);
            }
        }
        Ok(())
    }
}

fn no_parameter() -> Error {
    Error::new(
        Kind::Model,
        "the adapter changes it, and the class has no such parameter: is --head that of the adapter?",
    )
}

/// Whether a name without the prefix of the base model is that of the parameter.
fn is_called(param: &Param, local: &str) -> bool {
    param.name == local || param.name.strip_prefix("deberta.") == Some(local)
}
