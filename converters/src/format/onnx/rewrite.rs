//! A model with other nodes or other dtypes, for a runtime that does not compute what is in the file.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;

use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{ModelProto, TensorProto};
use super::{OnnxFile, TensorFile as _};
use crate::error::{Error, Result};
use crate::tensor::Dtype;
use crate::values::Values;

/// Puts numbers in f32, little-endian, in the place of what a tensor holds, in the model or in another file.
pub fn put_floats(tensor: &mut TensorProto, numbers: Vec<u8>) {
    tensor.data_type = Some(DataType::Float.into());
    tensor.data_location = Some(DataLocation::Default.into());
    tensor.external_data.clear();
    tensor.float_data.clear();
    tensor.int32_data.clear();
    tensor.raw_data = Some(Bytes::from(numbers));
}

/// The bytes of a model.
pub fn encoded(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

impl OnnxFile {
    /// The model with changes, and with its initializers in bf16 in f32, which changes no number: a `Cast` to f32 behind
    /// one of them stays, and does nothing. `bytes` are those of the file; data from other files are part of what comes
    /// back only where they were widened.
    ///
    /// # Errors
    /// Bytes that are no model.
    pub fn rewritten(&self, bytes: &[u8], change: impl FnOnce(&mut ModelProto)) -> Result<Vec<u8>> {
        let mut model = ModelProto::decode(bytes)
            .map_err(|error| Error::malformed(format!("not an ONNX model: {error}")).caused_by(error))?;
        self.widen(&mut model)?;
        change(&mut model);
        Ok(model.encode_to_vec())
    }

    /// Whether initializers are in bf16, which not every runtime reads.
    pub fn has_bf16(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.dtype == Dtype::BF16)
    }

    fn widen(&self, model: &mut ModelProto) -> Result<()> {
        let places: HashMap<&str, usize> =
            self.tensors.iter().enumerate().map(|(index, info)| (info.name.as_str(), index)).collect();
        for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            let place = places.get(tensor.name()).and_then(|&index| Some((index, self.tensors.get(index)?)));
            let Some((index, info)) = place else { continue };
            if info.dtype != Dtype::BF16 {
                continue;
            }
            let values = Values {
                bytes: self.read(index)?,
                dtype: info.dtype,
                shape: info.shape.clone(),
                transposed: false,
            };
            let mut wide = Vec::with_capacity(2 * values.bytes.len());
            values.strips(Dtype::F32, false, |strip| {
                wide.extend_from_slice(strip);
                Ok(())
            })?;
            put_floats(tensor, wide);
        }
        Ok(())
    }
}
