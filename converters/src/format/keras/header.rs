//! HDF5 objects as bytes: superblock version 2 and version 2 object headers, each under its checksum.
//!
//! The layouts are those of the "HDF5 File Format Specification", version 3.0, sections II.A and IV.A. Offsets
//! and lengths are 8 bytes wide.

use super::lookup3::lookup3;
use crate::error::{self, Error, Result};
use crate::tensor::{Dtype, TensorInfo};

/// Length of the superblock at the start of the file.
pub(super) const SUPERBLOCK_LEN: usize = 48;

/// The address that means "nowhere".
const UNDEFINED: u64 = u64::MAX;

/// Most dimensions of an HDF5 dataset (`H5S_MAX_RANK`).
const MAX_RANK: usize = 32;

/// The superblock of a file of `file_len` bytes whose root group's header is at `root`.
pub(super) fn superblock(file_len: u64, root: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SUPERBLOCK_LEN);
    bytes.extend(b"\x89HDF\r\n\x1a\n");
    // Version, width of offsets, width of lengths, consistency flags.
    bytes.extend([2, 8, 8, 0]);
    // Base address, superblock extension, end of file, root group.
    for address in [0, UNDEFINED, file_len, root] {
        bytes.extend(address.to_le_bytes());
    }
    checksummed(bytes)
}

/// Longest object header: what this crate's reader takes in one piece. Enough for 2,000 weights of a layer.
const LONGEST_HEADER: usize = 256 << 10;

/// The object header that consists of `messages`.
pub(super) fn object_header(messages: &[Message]) -> Result<Vec<u8>> {
    const PREFIX: usize = 10;
    const MESSAGE_PREFIX: usize = 4;
    const CHECKSUM: usize = 4;
    let size: usize = messages.iter().map(|message| MESSAGE_PREFIX + message.body.len()).sum();
    let size =
        u32::try_from(size).ok().filter(|_| PREFIX + size + CHECKSUM <= LONGEST_HEADER).ok_or_else(|| {
            refusal(format!(
                "a group would need {size} bytes for its links and names, {LONGEST_HEADER} are possible"
            ))
        })?;
    let mut bytes = Vec::from(b"OHDR");
    // Version, flags: the size of the messages takes 4 bytes; no times, no attribute phase change.
    bytes.extend([2, 0b10]);
    bytes.extend(size.to_le_bytes());
    for message in messages {
        let len = u16::try_from(message.body.len()).map_err(|_| {
            refusal(format!(
                "{} needs {} bytes, an HDF5 header message holds {}",
                message.kind.what(),
                message.body.len(),
                u16::MAX
            ))
        })?;
        bytes.push(message.kind as u8);
        bytes.extend(len.to_le_bytes());
        bytes.push(0);
        bytes.extend(&message.body);
    }
    Ok(checksummed(bytes))
}

fn refusal(message: impl Into<String>) -> Error {
    Error::new(error::Kind::Request, message)
}

fn checksummed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(lookup3(&bytes).to_le_bytes());
    bytes
}

/// One message of an object header.
pub(super) struct Message {
    kind: Kind,
    body: Vec<u8>,
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Dataspace = 1,
    LinkInfo = 2,
    Datatype = 3,
    FillValue = 5,
    Link = 6,
    Layout = 8,
    GroupInfo = 10,
    Attribute = 12,
}

impl Kind {
    fn what(self) -> &'static str {
        match self {
            Kind::Link => "a link",
            Kind::Attribute => "an attribute",
            _ => "a header message",
        }
    }
}

/// The messages that make an object a group whose links are all in its header.
pub(super) fn group() -> [Message; 2] {
    // Version, flags; no fractal heap, no index: links are messages.
    let mut link_info = vec![0, 0];
    link_info.extend(UNDEFINED.to_le_bytes());
    link_info.extend(UNDEFINED.to_le_bytes());
    // Version, flags; most links kept in the header, fewest kept outside it.
    let mut group_info = vec![0, 1];
    group_info.extend(u16::MAX.to_le_bytes());
    group_info.extend(u16::MAX.to_le_bytes());
    [Message { kind: Kind::LinkInfo, body: link_info }, Message { kind: Kind::GroupInfo, body: group_info }]
}

/// A hard link called `name` to the object whose header is at `address`.
pub(super) fn link(name: &str, address: u64) -> Message {
    // Version, flags: the length of the name takes 4 bytes, its character set is given; UTF-8.
    let mut body = vec![1, 0b1_0010, 1];
    body.extend((name.len() as u32).to_le_bytes());
    body.extend(name.as_bytes());
    body.extend(address.to_le_bytes());
    Message { kind: Kind::Link, body }
}

/// The messages of a contiguous dataset with its data at `address`.
pub(super) fn dataset(tensor: &TensorInfo, address: u64) -> Result<[Message; 4]> {
    let len = tensor.byte_len()? as u64;
    if tensor.shape.len() > MAX_RANK {
        return Err(refusal(format!(
            "{} dimensions, an HDF5 dataset has at most {MAX_RANK}",
            tensor.shape.len()
        ))
        .in_tensor(&tensor.name));
    }
    // Version, class (contiguous); a dataset without elements has no storage.
    let mut layout = vec![3, 1];
    layout.extend(if len == 0 { UNDEFINED } else { address }.to_le_bytes());
    layout.extend(len.to_le_bytes());
    Ok([
        Message { kind: Kind::Dataspace, body: dataspace(&tensor.shape) },
        Message {
            kind: Kind::Datatype,
            body: datatype(tensor.dtype).map_err(|error| error.in_tensor(&tensor.name))?,
        },
        // Version, flags: storage allocated late, fill value written if set; the default fill value.
        Message { kind: Kind::FillValue, body: vec![3, 0b1010] },
        Message { kind: Kind::Layout, body: layout },
    ])
}

/// An attribute that holds an empty f64 array: what `numpy.asarray([])` becomes.
pub(super) fn empty_attribute(name: &str) -> Result<Message> {
    attribute(name, &datatype(Dtype::F64)?, &dataspace(&[0]), &[])
}

/// An attribute that holds one string.
pub(super) fn text_attribute(name: &str, text: &str) -> Result<Message> {
    attribute(name, &string_type(text.len(), text.is_ascii())?, &dataspace(&[]), text.as_bytes())
}

/// An attribute that holds `strings`, each padded to `width` bytes.
pub(super) fn strings_attribute(name: &str, strings: &[&str], width: usize) -> Result<Message> {
    let mut data = Vec::with_capacity(strings.len().saturating_mul(width));
    for string in strings {
        data.extend(string.as_bytes());
        data.resize(data.len() + width - string.len(), 0);
    }
    let ascii = strings.iter().all(|string| string.is_ascii());
    attribute(name, &string_type(width, ascii)?, &dataspace(&[strings.len()]), &data)
}

fn attribute(name: &str, datatype: &[u8], dataspace: &[u8], data: &[u8]) -> Result<Message> {
    // Version, flags.
    let mut body = vec![3, 0];
    // The name counts its terminator; our names and types are a few bytes long.
    for len in [name.len() + 1, datatype.len(), dataspace.len()] {
        body.extend((len as u16).to_le_bytes());
    }
    // The character set of the name: ASCII.
    body.push(0);
    body.extend(name.as_bytes());
    body.push(0);
    body.extend(datatype);
    body.extend(dataspace);
    body.extend(data);
    Ok(Message { kind: Kind::Attribute, body })
}

fn dataspace(shape: &[usize]) -> Vec<u8> {
    // Version, rank, flags, type: scalar or simple.
    let mut body = vec![2, shape.len() as u8, 0, u8::from(!shape.is_empty())];
    for &dim in shape {
        body.extend((dim as u64).to_le_bytes());
    }
    body
}

/// A null-padded string of `width` bytes.
fn string_type(width: usize, ascii: bool) -> Result<Vec<u8>> {
    let width = u32::try_from(width.max(1)).map_err(|_| refusal("a name of over 4 GB"))?;
    // Version 1, class 3; padding: zeros; character set.
    let mut body = vec![0x13, if ascii { 0x01 } else { 0x11 }, 0, 0];
    body.extend(width.to_le_bytes());
    Ok(body)
}

fn datatype(dtype: Dtype) -> Result<Vec<u8>> {
    Ok(match dtype {
        Dtype::F64 => float(8, 52, 11, 1023),
        Dtype::F32 => float(4, 23, 8, 127),
        Dtype::F16 => float(2, 10, 5, 15),
        Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 => integer(dtype.size(), true),
        Dtype::U8 => integer(dtype.size(), false),
        Dtype::BF16 | Dtype::Bool => {
            return Err(Error::unsupported(format!("a Keras file cannot hold {dtype}")));
        }
    })
}

/// A little-endian IEEE 754 number: `size` bytes, sign bit on top, then exponent, then mantissa.
fn float(size: u8, mantissa_bits: u8, exponent_bits: u8, bias: u32) -> Vec<u8> {
    let bits = size * 8;
    // Version 1, class 1; implied leading one; position of the sign bit; size.
    let mut body = vec![0x11, 0x20, bits - 1, 0, size, 0, 0, 0];
    // Bit offset and precision.
    body.extend([0, 0, bits, 0]);
    // Exponent: position and length; mantissa: position and length.
    body.extend([mantissa_bits, exponent_bits, 0, mantissa_bits]);
    body.extend(bias.to_le_bytes());
    body
}

/// A little-endian two's complement number.
fn integer(size: usize, signed: bool) -> Vec<u8> {
    let size = size as u8;
    // Version 1, class 0; size; bit offset and precision.
    vec![0x10, if signed { 0x08 } else { 0 }, 0, 0, size, 0, 0, 0, 0, 0, size * 8, 0]
}
