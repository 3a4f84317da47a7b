//! A model from a checkpoint of any format.
//!
//! A pair of texts, classified by a model of `golden/trained`:
//!
//! ```
//! use deberta_converters::loading::from_pretrained;
//! use deberta_reference::tokenizer::{EncodeOptions, Encoding};
//! use deberta_reference::{DebertaForSequenceClassification, DebertaPreTrainedModel, Probe, Tokenizer};
//!
//! let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/trained/nli");
//! let tokenizer = Tokenizer::from_pretrained(folder)?;
//! let (model, _) = from_pretrained::<DebertaForSequenceClassification>(folder)?;
//! let texts = ("Ada owns a red kite and lives in Selby.", "The kite is red.");
//! let encoding = tokenizer.encode_plus(texts.0, Some(texts.1), &EncodeOptions::default())?;
//! let logits = model.forward(&Encoding::inputs(&[encoding])?, &mut Probe::off())?.logits;
//! let best = (0..logits.len()).max_by(|&a, &b| logits[[0, a]].total_cmp(&logits[[0, b]]));
//! assert_eq!(best.map(|label| model.config().label(label)).as_deref(), Some("ENTAILMENT"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use deberta_reference::{DebertaPreTrainedModel, Floats, Head, LoadReport, Tensor, TensorSource};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Kind, Result};
use crate::source::Source;
use crate::tensor::Dtype;
use crate::values::Values;

/// Loads a model from a folder, a weight file or a shard index of any format; `config.json` is beside the weights.
///
/// The report lists what the checkpoint has that the class has not, and parameters with NaN or infinity.
///
/// # Errors
/// Files that cannot be read, a checkpoint without the head of the class, parameters that are missing or misshapen.
///
/// ```
/// use deberta_converters::loading::from_pretrained;
/// use deberta_reference::{DebertaModel, DebertaPreTrainedModel, Inputs, Probe};
///
/// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/trained/nli");
/// let (model, _) = from_pretrained::<DebertaModel>(folder)?;
/// let inputs = Inputs::from_ids(ndarray::array![[1, 50, 51, 2]]);
/// let output = model.forward(&inputs, &mut Probe::off())?;
/// assert_eq!(output.last_hidden_state.dim(), (1, 4, model.config().hidden_size));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn from_pretrained<M: DebertaPreTrainedModel>(path: impl AsRef<Path>) -> Result<(M, LoadReport)> {
    let parameters = Parameters::open(path.as_ref(), M::HEAD)?;
    let config = parameters.checkpoint().config.clone();
    M::from_pretrained(config, &parameters)
        .map_err(|error| Error::new(Kind::Model, error.to_string()).in_file(path.as_ref()))
}

/// A checkpoint whose parameters a model can be made from.
///
/// Parameters that the files hold as the model needs them, f32 and in the canonical layout, are used where they
/// are, in the memory map; all others are converted to f32 or transposed into memory of their own, once, however many
/// models are made from them.
pub struct Parameters {
    checkpoint: Arc<Checkpoint>,
    /// The index of every parameter in [`Checkpoint::bound`].
    by_name: HashMap<String, usize>,
    /// The numbers of those that were asked for, in the order of [`Checkpoint::bound`].
    floats: Vec<OnceLock<Floats>>,
}

impl Parameters {
    /// The parameters of the class with that head in a folder, a weight file or a shard index.
    ///
    /// # Errors
    /// Files that cannot be read, and what [`Parameters::new`] reports.
    pub fn open(path: &Path, head: Head) -> Result<Parameters> {
        let (_, mut checkpoint) = Checkpoint::open(Source::locate(path, None, None)?, None, Some(head))?;
        checkpoint.check_copies()?;
        Parameters::new(checkpoint)
    }

    /// The parameters of a checkpoint. It may hold tensors that its class does not know.
    ///
    /// # Errors
    /// The first of the checkpoint's other problems.
    pub fn new(checkpoint: Checkpoint) -> Result<Parameters> {
        checkpoint.require_parameters()?;
        let names = checkpoint.bound.iter().map(|bound| bound.param.name.clone());
        let by_name = names.enumerate().map(|(index, name)| (name, index)).collect();
        let floats = checkpoint.bound.iter().map(|_| OnceLock::new()).collect();
        Ok(Parameters { checkpoint: Arc::new(checkpoint), by_name, floats })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    fn floats(&self, index: usize) -> Result<Option<Tensor>> {
        let (Some(bound), Some(known)) = (self.checkpoint.bound.get(index), self.floats.get(index)) else {
            return Ok(None);
        };
        let shape = bound.param.shape.clone();
        if let Some(values) = known.get() {
            return Ok(Some(Tensor { shape, values: Arc::clone(values) }));
        }
        let values = self.checkpoint.values(bound)?;
        let values: Floats = match in_place(&values) {
            Some(_) => Arc::new(InFile { checkpoint: Arc::clone(&self.checkpoint), index }),
            None => Arc::new(values.to_f32()?),
        };
        // Another thread may have been faster: its numbers are the same.
        Ok(Some(Tensor { shape, values: Arc::clone(known.get_or_init(|| values)) }))
    }
}

impl TensorSource for Parameters {
    fn names(&self) -> Vec<String> {
        self.by_name
            .keys()
            .map(String::as_str)
            .chain(self.checkpoint.unexpected())
            .map(str::to_owned)
            .collect()
    }

    fn tensor(&self, name: &str) -> std::result::Result<Option<Tensor>, Box<dyn StdError + Send + Sync>> {
        let Some(&index) = self.by_name.get(name) else { return Ok(None) };
        Ok(self.floats(index)?)
    }
}

/// A parameter that is used where it is in the file.
struct InFile {
    checkpoint: Arc<Checkpoint>,
    index: usize,
}

impl AsRef<[f32]> for InFile {
    fn as_ref(&self) -> &[f32] {
        // It was there when this was made, and the map does not change.
        let bound = self.checkpoint.bound.get(self.index);
        let values = bound.and_then(|bound| self.checkpoint.values(bound).ok());
        values.as_ref().and_then(in_place).unwrap_or_default()
    }
}

/// The elements as they are stored, if that is as f32 in the canonical layout.
fn in_place<'v>(values: &Values<'v>) -> Option<&'v [f32]> {
    match values.bytes {
        Cow::Borrowed(bytes)
            if values.dtype == Dtype::F32 && !values.transposed && cfg!(target_endian = "little") =>
        {
            bytemuck::try_cast_slice(bytes).ok()
        }
        _ => None,
    }
}
