//! Which tensors the output of a conversion consists of.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::format::keras as keras_format;
use crate::naming::{Stored, keras, torch};
use crate::request::Request;
use crate::tensor::{Dtype, TensorInfo};

/// A tensor of the output.
pub(crate) struct Target {
    /// Whose values it holds: an index into [`Checkpoint::bound`].
    pub(crate) bound: usize,
    /// Its name, dtype and shape in the file.
    pub(crate) info: TensorInfo,
    /// Whether its axes are those of the canonical tensor in reverse.
    pub(crate) transposed: bool,
    /// Whether another tensor of the output holds the same parameter already.
    pub(crate) repeated: bool,
}

/// Refuses what the target format cannot hold.
pub(crate) fn refuse_obstacles(input: &Checkpoint, request: &Request) -> Result<()> {
    let refuse = |message: &str| Err(Error::new(Kind::Request, message).in_file(&request.output));
    if request.to == Format::Onnx && request.max_shard_size.is_some() {
        return refuse("--max-shard-size: an ONNX model is one file, or two with --external-data");
    }
    if request.to != Format::TensorFlow {
        return Ok(());
    }
    if let Some(obstacle) = keras::obstacle(&input.config, input.head) {
        return refuse(&obstacle);
    }
    if request.dtype == Some(Dtype::BF16) {
        return refuse("HDF5 has no bfloat16: --dtype f32 is exact, --dtype f16 is smaller");
    }
    if request.max_shard_size.is_some() {
        return refuse("--max-shard-size: TensorFlow's h5 files are not sharded here");
    }
    Ok(())
}

/// The tensors of the output, in order, each parameter at least once; all of `dtype`, if one is asked for.
pub(crate) fn targets(input: &Checkpoint, to: Format, dtype: Option<Dtype>) -> Result<Vec<Target>> {
    let mut targets = Vec::with_capacity(input.bound.len());
    let mut repeated = Vec::new();
    for (index, bound) in input.bound.iter().enumerate() {
        let dtype = match (dtype.unwrap_or(bound.dtype), to) {
            (Dtype::BF16, Format::TensorFlow) => Dtype::F32,
            (dtype, _) => dtype,
        };
        let (names, transposed) = match to {
            Format::PyTorch | Format::Safetensors | Format::Onnx => {
                let Stored { name, transposed } = torch::stored(&bound.param);
                (vec![name], transposed)
            }
            Format::TensorFlow if keras::has_variable(&bound.param) => {
                let transposed = keras::stored(&bound.param).transposed;
                (keras::datasets(&bound.param, input.config.family, input.head), transposed)
            }
            Format::TensorFlow => (vec![format!("{}/{}", keras_format::KEPT_ASIDE, bound.param.name)], false),
        };
        let mut shape = bound.param.shape.clone();
        if transposed {
            shape.reverse();
        }
        for (position, name) in names.into_iter().enumerate() {
            let info = TensorInfo { name, dtype, shape: shape.clone() };
            let target = Target { bound: index, info, transposed, repeated: position > 0 };
            if position == 0 { targets.push(target) } else { repeated.push(target) }
        }
    }
    if to == Format::TensorFlow {
        let order =
            |target: &Target| input.bound.get(target.bound).map(|bound| keras::creation_order(&bound.param));
        targets.sort_by_key(order);
        repeated.sort_by_key(order);
    }
    targets.append(&mut repeated);
    Ok(targets)
}
