//! Weights in bf16 as f32, for a runtime that reads no bf16.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;

use super::proto::ModelProto;
use super::proto::tensor_proto::{DataLocation, DataType};
use super::{OnnxFile, TensorFile as _};
use crate::error::{Error, Result};
use crate::tensor::Dtype;
use crate::values::Values;

impl OnnxFile {
    /// The model whose initializers in bf16 are in f32, which changes no number; nothing if it has none. A `Cast` to f32 behind
    /// one of them stays, and does nothing. `bytes` are those of the file; data from other files are part of what comes back.
    ///
    /// # Errors
    /// Bytes that are no model.
    pub fn widened(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        if !self.tensors.iter().any(|tensor| tensor.dtype == Dtype::BF16) {
            return Ok(None);
        }
        let mut model = ModelProto::decode(bytes)
            .map_err(|error| Error::malformed(format!("not an ONNX model: {error}")).caused_by(error))?;
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
            tensor.data_type = Some(DataType::Float.into());
            tensor.data_location = Some(DataLocation::Default.into());
            tensor.external_data.clear();
            tensor.int32_data.clear();
            tensor.raw_data = Some(Bytes::from(wide));
        }
        Ok(Some(model.encode_to_vec()))
    }
}
