//! Which tensors the output of a conversion consists of.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Kind, Result};
use crate::format::Format;
use crate::format::keras as keras_format;
use crate::forward;
use crate::int8::{codes_of, scales_of};
use crate::matching::Bound;
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
    /// What of the parameter it holds, if that is rounded to integers of 8 bits.
    pub(crate) int8: Option<Int8Part>,
}

impl Target {
    /// Whether it holds the scales of a parameter, whose codes are another target.
    pub(crate) fn is_scales(&self) -> bool {
        matches!(self.int8, Some(Int8Part::Scales(_)))
    }
}

/// What of a parameter is in a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Int8Part {
    /// The codes, of which this is the largest.
    Codes(i8),
    /// The scales with which the largest number of a row has this code.
    Scales(i8),
}

/// Refuses what the target format cannot hold.
pub(crate) fn refuse_obstacles(input: &Checkpoint, request: &Request) -> Result<()> {
    let refuse = |message: &str| Err(Error::new(Kind::Request, message).in_file(&request.output));
    if request.to == Format::Onnx && request.max_shard_size.is_some() {
        return refuse("--max-shard-size: an ONNX model is one file, or two with --external-data");
    }
    let is_rounded = request.to == Format::Onnx && request.onnx.forward.int8.is_some();
    if let Some(dtype) = request.dtype.filter(|&dtype| is_rounded && dtype != Dtype::F32) {
        let why = format!(
            "--quantize int8 with --dtype {dtype}: what is not rounded to int8 is stored and computed in f32"
        );
        return refuse(&why);
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

/// The tensors of the output, in order, each parameter at least once; all of the dtype that is asked for, if one is.
pub(crate) fn targets(input: &Checkpoint, request: &Request) -> Result<Vec<Target>> {
    let (to, dtype) = (request.to, request.dtype);
    if let Some(int8) = request.onnx.forward.int8.as_ref().filter(|_| to == Format::Onnx) {
        return rounded(input, request, int8.most());
    }
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
            let target = Target { bound: index, info, transposed, repeated: position > 0, int8: None };
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

/// The tensors of an ONNX model whose weights are integers of 8 bits: of each codes and scales. Everything else is in f32.
fn rounded(input: &Checkpoint, request: &Request, most: i8) -> Result<Vec<Target>> {
    let rounded = forward::rounded(&input.config, input.head, &request.onnx.forward)
        .map_err(|error| error.in_file(&request.output))?;
    let mut targets = Vec::with_capacity(input.bound.len() + rounded.weights.len());
    for (bound, Bound { param, dtype, .. }) in input.bound.iter().enumerate() {
        if *dtype == Dtype::F64 && request.dtype.is_none() {
            let why = "--quantize int8 rounds f32, and this is f64: --dtype f32 makes it f32 first";
            return Err(Error::new(Kind::Request, why).in_tensor(&param.name).in_file(&input.source.path));
        }
        let target = |name: String, dtype, shape: &[usize]| Target {
            bound,
            info: TensorInfo { name, dtype, shape: shape.to_vec() },
            transposed: false,
            repeated: false,
            int8: None,
        };
        let place = rounded.weights.binary_search_by(|weight| weight.name.as_str().cmp(&param.name));
        let Some(weight) = place.ok().and_then(|place| rounded.weights.get(place)) else {
            targets.push(target(param.name.clone(), Dtype::F32, &param.shape));
            continue;
        };
        let mut shape = param.shape.clone();
        if weight.transposed {
            shape.reverse();
        }
        let codes = target(codes_of(&param.name), Dtype::I8, &shape);
        targets.push(Target { transposed: weight.transposed, int8: Some(Int8Part::Codes(most)), ..codes });
        let rows = param.shape.get(..1).unwrap_or_default();
        let scales = target(scales_of(&param.name), Dtype::F32, rows);
        targets.push(Target { int8: Some(Int8Part::Scales(most)), ..scales });
    }
    Ok(targets)
}
