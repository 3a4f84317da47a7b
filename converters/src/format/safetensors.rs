//! safetensors: an 8-byte length, a JSON header, then the tensors back to back.
//!
//! The `safetensors` crate parses and validates the header; a file that it refuses is looked at once more, to say
//! which tensor is wrong and by how much.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as StDtype, Metadata, SafeTensorError, TensorInfo as StInfo};
use serde_json::Value;

use super::{Extra, FilePlan, Span, TensorFile};
use crate::error::{Error, Result};
use crate::json::require_unique_keys;
use crate::mapped::Mapped;
use crate::tensor::{Dtype, TensorInfo};

/// A real header has about 150 bytes per tensor, so this is room for 25,000; parsing takes many times its length.
const LONGEST_HEADER: usize = 4 << 20;
const PREFIX: usize = 8;

/// A safetensors file opened for reading.
pub struct SafetensorsFile {
    file: Mapped,
    tensors: Vec<TensorInfo>,
    /// Start and end of each tensor's bytes in the file.
    ranges: Vec<(usize, usize)>,
    /// The entries of `__metadata__`, sorted by key.
    metadata: Vec<(String, String)>,
    /// The entries of `__metadata__` that `safetensors.torch.save_model` makes for tensors that share their elements: the
    /// name that was left out, and the one that the elements are under.
    second_names: Vec<(String, String)>,
    extras: Vec<Extra>,
}

impl SafetensorsFile {
    /// Where each tensor's bytes start and end in the file.
    pub fn ranges(&self) -> &[(usize, usize)] {
        &self.ranges
    }
}

/// Whether the bytes start as a safetensors file does: with the length of a header, which is less than 2^48, and the
/// header's brace.
pub fn sniff(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, _, _, _, 0, 0, b'{', ..])
}

/// Opens a safetensors file.
///
/// # Errors
/// A header that is truncated, not JSON or over 4 MiB; tensors that overlap, leave gaps or leave the file; a
/// dtype that no checkpoint has.
pub fn open(file: Mapped) -> Result<SafetensorsFile> {
    let (data_start, metadata) = read_header(&file).map_err(|error| error.in_file(file.path()))?;
    let (mut tensors, mut ranges) = (Vec::new(), Vec::new());
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let dtype = dtype_of(info.dtype).ok_or_else(|| {
            Error::unsupported(format!("dtype {:?} is not one that checkpoints have", info.dtype))
                .in_tensor(&name)
                .in_file(file.path())
        })?;
        ranges.push((data_start + info.data_offsets.0, data_start + info.data_offsets.1));
        tensors.push(TensorInfo { name, dtype, shape: info.shape.clone() });
    }
    let mut metadata: Vec<(String, String)> = metadata.metadata().clone().into_iter().flatten().collect();
    metadata.sort();
    let stored: HashSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let (second_names, told): (Vec<_>, Vec<_>) = metadata
        .iter()
        .cloned()
        .partition(|(key, value)| stored.contains(value.as_str()) && !stored.contains(key.as_str()));
    let extras = told
        .iter()
        .filter(|(key, _)| key != "format")
        .map(|(key, value)| Extra {
            name: format!("__metadata__.{key}"),
            what: format!("text of {} bytes", value.len()),
        })
        .collect();
    Ok(SafetensorsFile { file, tensors, ranges, metadata, second_names, extras })
}

impl TensorFile for SafetensorsFile {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let bytes = self.ranges.get(index).and_then(|&(start, end)| self.file.get(start..end));
        bytes
            .map(Cow::Borrowed)
            .ok_or_else(|| Error::malformed(format!("no tensor number {index}")).in_file(self.file.path()))
    }

    fn extras(&self) -> &[Extra] {
        &self.extras
    }

    fn second_names(&self) -> &[(String, String)] {
        &self.second_names
    }

    fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }
}

/// Where the tensor data starts, and the validated header.
fn read_header(bytes: &[u8]) -> Result<(usize, Metadata)> {
    let Some((length, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(Error::malformed(format!(
            "truncated: a safetensors file starts with 8 bytes, this one has {}",
            bytes.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
    if usize::try_from(length).map_or(true, |length| length > rest.len()) {
        return Err(Error::malformed(format!(
            "truncated: the header needs {length} bytes, {} follow",
            rest.len()
        ))
        .wanting(length, rest.len()));
    }
    if length > LONGEST_HEADER as u64 {
        return Err(Error::malformed(format!(
            "the header has {length} bytes, at most {LONGEST_HEADER} are read"
        )));
    }
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length)).unwrap_or_default();
    // What is no JSON is for the crate to refuse, which takes the last of two tensors of one name.
    if let Err(error) = require_unique_keys(header)
        && error.is_data()
    {
        return Err(Error::malformed(format!("the header is not valid: {error}")));
    }
    let (length, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| explain(bytes, error))?;
    Ok((PREFIX + length, metadata))
}

/// Turns the crate's terse error into one with the tensor's name and both numbers.
fn explain(bytes: &[u8], error: SafeTensorError) -> Error {
    let general = match &error {
        SafeTensorError::InvalidHeader(_) | SafeTensorError::InvalidHeaderDeserialization(_) => {
            return Error::malformed(format!("the header is not valid: {error}"));
        }
        _ => Error::malformed(format!("the header does not fit the file: {error}")),
    };
    find_lie(bytes).unwrap_or(general)
}

/// The first thing in a parseable header that cannot be true.
fn find_lie(bytes: &[u8]) -> Option<Error> {
    let (length, rest) = bytes.split_first_chunk::<PREFIX>()?;
    let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(header).ok()?;
    let mut tensors: Vec<(&String, StInfo)> = header
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .filter_map(|(name, info)| Some((name, serde_json::from_value(info.clone()).ok()?)))
        .collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut expected_start = 0;
    for (name, info) in tensors {
        let (start, end) = info.data_offsets;
        let lie = |message: String| Some(Error::malformed(message).in_tensor(name));
        if end > data.len() {
            let error = lie(format!("data ends at byte {end}, the file holds {} (truncated?)", data.len()));
            return error.map(|error| error.wanting(end, data.len()));
        }
        if start != expected_start || end < start {
            let error =
                lie(format!("data is bytes {start} to {end}, the tensor before ends at {expected_start}"));
            return error.map(|error| error.wanting(expected_start, start));
        }
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |product, &dim| product.checked_mul(dim));
        if bits != Some((end - start) * 8) {
            let needed =
                bits.map_or("more bytes than there are".to_owned(), |bits| format!("{} bytes", bits / 8));
            let error = lie(format!(
                "shape {:?} as {:?} needs {needed}, the header gives {}",
                info.shape,
                info.dtype,
                end - start
            ));
            return error.map(|error| error.wanting_if(bits.map(|bits| (bits / 8, end - start))));
        }
        expected_start = end;
    }
    (expected_start != data.len()).then(|| {
        Error::malformed(format!(
            "the tensors end at byte {expected_start} of {}: not all is accounted for",
            data.len()
        ))
        .wanting(expected_start, data.len())
    })
}

/// Plans a safetensors file: tensors by falling alignment and then by name, as every writer of the format does.
/// `metadata` becomes `__metadata__`.
///
/// # Errors
/// A shape whose size overflows; two tensors of one name.
pub fn plan(tensors: &[TensorInfo], metadata: &[(&str, &str)]) -> Result<SafetensorsPlan> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    let key =
        |&index: &usize| tensors.get(index).map(|info| (std::cmp::Reverse(st_dtype(info.dtype)), &info.name));
    order.sort_by(|a, b| key(a).cmp(&key(b)));

    let mut starts = vec![0; tensors.len()];
    let mut header = Vec::with_capacity(tensors.len());
    let mut end = 0_usize;
    for index in order {
        let (Some(info), Some(start)) = (tensors.get(index), starts.get_mut(index)) else { continue };
        *start = end;
        end = end
            .checked_add(info.byte_len()?)
            .ok_or_else(|| Error::malformed("the tensors together overflow the address space"))?;
        let entry =
            StInfo { dtype: st_dtype(info.dtype), shape: info.shape.clone(), data_offsets: (*start, end) };
        if header.last().is_some_and(|(name, _): &(String, _)| *name == info.name) {
            return Err(Error::malformed("two tensors of this name").in_tensor(&info.name));
        }
        header.push((info.name.clone(), entry));
    }
    let metadata: HashMap<String, String> =
        metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let internal = |error: String| Error::malformed(format!("cannot make a safetensors header: {error}"));
    let header = Metadata::new(Some(metadata), header).map_err(|error| internal(error.to_string()))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| internal(error.to_string()))?;
    header.resize(header.len().next_multiple_of(PREFIX), b' ');

    let data_start = (PREFIX + header.len()) as u64;
    let offsets = starts.into_iter().map(|start| data_start + start as u64).collect();
    Ok(SafetensorsPlan { header, offsets, file_len: data_start + end as u64 })
}

/// Where everything goes in a safetensors file.
pub struct SafetensorsPlan {
    header: Vec<u8>,
    offsets: Vec<u64>,
    file_len: u64,
}

impl FilePlan for SafetensorsPlan {
    fn file_len(&self) -> u64 {
        self.file_len
    }

    fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    fn seal(&self, _crc32: &[u32]) -> Result<Vec<Span>> {
        let mut bytes = (self.header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.header);
        Ok(vec![Span { offset: 0, bytes }])
    }
}

fn dtype_of(dtype: StDtype) -> Option<Dtype> {
    Some(match dtype {
        StDtype::F64 => Dtype::F64,
        StDtype::F32 => Dtype::F32,
        StDtype::F16 => Dtype::F16,
        StDtype::BF16 => Dtype::BF16,
        StDtype::I64 => Dtype::I64,
        StDtype::I32 => Dtype::I32,
        StDtype::I16 => Dtype::I16,
        StDtype::I8 => Dtype::I8,
        StDtype::U8 => Dtype::U8,
        StDtype::BOOL => Dtype::Bool,
        _ => return None,
    })
}

fn st_dtype(dtype: Dtype) -> StDtype {
    match dtype {
        Dtype::F64 => StDtype::F64,
        Dtype::F32 => StDtype::F32,
        Dtype::F16 => StDtype::F16,
        Dtype::BF16 => StDtype::BF16,
        Dtype::I64 => StDtype::I64,
        Dtype::I32 => StDtype::I32,
        Dtype::I16 => StDtype::I16,
        Dtype::I8 => StDtype::I8,
        Dtype::U8 => StDtype::U8,
        Dtype::Bool => StDtype::BOOL,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn file(header: &str, data: &[u8]) -> Result<SafetensorsFile> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        open(Mapped::from_bytes(bytes, Path::new("m.safetensors")))
    }

    fn error(header: &str, data: &[u8]) -> String {
        match file(header, data) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("accepted {header}"),
        }
    }

    #[test]
    fn reads_tensors_in_the_order_of_the_file() {
        let header = r#"{"b":{"dtype":"F16","shape":[1],"data_offsets":[4,6]},
            "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"__metadata__":{"format":"pt","who":"me"}}"#;
        let file = file(header, &[1, 2, 3, 4, 5, 6]).unwrap();
        let names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(&*file.read(1).unwrap(), [5, 6]);
        assert_eq!(file.extras()[0].name, "__metadata__.who");
        let file: &dyn TensorFile = &file;
        assert_eq!(file.metadata()[1], ("who".to_owned(), "me".to_owned()));
        assert!(file.read(2).is_err());
    }

    #[test]
    fn every_lie_has_its_name_and_both_numbers() {
        let one = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let cases = [
            (
                one("F32", "[2]", "[0,8]"),
                7,
                "tensor \"t\": data ends at byte 8, the file holds 7 (truncated?)",
            ),
            (one("F32", "[3]", "[0,8]"), 8, "shape [3] as F32 needs 12 bytes, the header gives 8"),
            (one("F32", "[2]", "[4,12]"), 12, "data is bytes 4 to 12, the tensor before ends at 0"),
            (one("F32", "[2]", "[8,0]"), 8, "data is bytes 8 to 0, the tensor before ends at 0"),
            (one("F32", "[2]", "[0,8]"), 9, "the tensors end at byte 8 of 9"),
            (one("F32", "[4294967296,4294967296]", "[0,8]"), 8, "more bytes than there are"),
            (one("F32", "[-2]", "[0,8]"), 8, "the header is not valid"),
            (one("F99", "[2]", "[0,8]"), 8, "the header is not valid"),
            (one("C64", "[1]", "[0,8]"), 8, "dtype C64"),
            ("{".repeat(1000), 0, "the header is not valid"),
        ];
        for (header, data_len, expected) in cases {
            let message = error(&header, &vec![0; data_len]);
            assert!(message.starts_with("m.safetensors: ") && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_name_may_occur_once_however_it_is_written() {
        let entry = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        for (first, second) in [("te", "te"), ("te", r"t\u0065"), ("__metadata__", "__metadata__")] {
            let value = if first == "te" { entry } else { r#"{"format":"pt"}"# };
            let message = error(&format!(r#"{{"{first}":{value},"{second}":{value}}}"#), &[0; 4]);
            assert!(message.contains("occurs twice"), "{message}");
        }
        let message = error(r#"{"t":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]);
        assert!(message.contains("the key \"shape\" occurs twice"), "{message}");
    }

    #[test]
    fn names_of_tensors_that_are_stored_once_are_no_extras() {
        let header =
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"b":"a","c":"d"}}"#;
        let file = file(header, &[0; 4]).unwrap();
        assert_eq!(file.second_names(), [("b".to_owned(), "a".to_owned())]);
        assert_eq!(
            file.extras().iter().map(|extra| extra.name.as_str()).collect::<Vec<_>>(),
            ["__metadata__.c"]
        );
    }

    #[test]
    fn truncation_is_named_at_every_length() {
        let whole = {
            let header = r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&[0; 8]);
            bytes
        };
        for len in 0..whole.len() {
            assert!(open(Mapped::from_bytes(whole[..len].to_vec(), Path::new("t"))).is_err(), "{len}");
        }
        let huge = u64::MAX.to_le_bytes().to_vec();
        assert!(open(Mapped::from_bytes(huge, Path::new("t"))).is_err());
    }

    #[test]
    fn plan_is_what_the_crate_writes() {
        let info =
            |name: &str, dtype, shape: &[usize]| TensorInfo { name: name.into(), dtype, shape: shape.into() };
        let tensors =
            [info("z", Dtype::F16, &[3]), info("b", Dtype::F32, &[1, 2]), info("a", Dtype::F32, &[1])];
        let data: [&[u8]; 3] = [&[1; 6], &[2; 8], &[3; 4]];
        let plan = plan(&tensors, &[("format", "pt")]).unwrap();
        let mut written = vec![0; plan.file_len() as usize];
        for span in plan.seal(&[]).unwrap() {
            written[span.offset as usize..][..span.bytes.len()].copy_from_slice(&span.bytes);
        }
        for (&offset, data) in plan.offsets().iter().zip(data) {
            written[offset as usize..][..data.len()].copy_from_slice(data);
        }
        let views = tensors.iter().zip(data).map(|(info, data)| {
            let view = safetensors::tensor::TensorView::new(st_dtype(info.dtype), info.shape.clone(), data);
            (info.name.clone(), view.unwrap())
        });
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        assert_eq!(written, safetensors::serialize(views, Some(metadata)).unwrap());
    }
}
