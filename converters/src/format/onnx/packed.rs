//! Dtypes of ONNX that no checkpoint has, and quantized graphs do: read as the next wider one, number for number.

use super::proto::tensor_proto::DataType;
use crate::error::{Error, Result};
use crate::tensor::Dtype;

/// How the elements of such a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// Bits of an element. Those of less than 8 share a byte, the first one in its lowest bits.
    bits: u32,
    signed: bool,
}

impl Packed {
    /// How elements of a dtype are stored, if they are read as a wider one.
    pub(super) fn of(of: DataType) -> Option<Packed> {
        let (bits, signed) = match of {
            DataType::Uint2 => (2, false),
            DataType::Int2 => (2, true),
            DataType::Uint4 => (4, false),
            DataType::Int4 => (4, true),
            DataType::Uint16 => (16, false),
            DataType::Uint32 => (32, false),
            _ => return None,
        };
        Some(Packed { bits, signed })
    }

    /// The dtype that they are read as.
    pub(super) fn dtype(self) -> Dtype {
        match (self.bits, self.signed) {
            (32.., _) => Dtype::I64,
            (16, _) => Dtype::I32,
            (_, true) => Dtype::I8,
            (_, false) => Dtype::U8,
        }
    }

    /// Bytes of `elements` as they are stored.
    pub(super) fn byte_len(self, elements: usize) -> Result<usize> {
        let bits = elements.checked_mul(self.bits as usize);
        bits.map(|bits| bits.div_ceil(8))
            .ok_or_else(|| Error::malformed(format!("{elements} elements overflow the address space")))
    }

    /// The elements in their wider dtype, little-endian.
    pub(super) fn unpack(self, bytes: &[u8], elements: usize) -> Vec<u8> {
        match self.bits {
            32 => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .flat_map(|&of| i64::from(u32::from_le_bytes(of)).to_le_bytes())
                .collect(),
            16 => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .flat_map(|&of| i32::from(u16::from_le_bytes(of)).to_le_bytes())
                .collect(),
            bits => unpack(bytes, bits, self.signed).take(elements).collect(),
        }
    }
}

/// The integers of 1 to 8 bits that share bytes, the first one in the lowest bits, each in a byte of its own.
pub(crate) fn unpack(bytes: &[u8], bits: u32, signed: bool) -> impl Iterator<Item = u8> + '_ {
    let bits = bits.clamp(1, 8);
    let unused = 8 - bits;
    bytes.iter().flat_map(move |&byte| {
        (0..8 / bits).map(move |at| {
            let top = (byte >> (at * bits)) << unused;
            if signed { ((top as i8) >> unused) as u8 } else { top >> unused }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_element_is_in_the_lowest_bits() {
        let unsigned = Packed::of(DataType::Uint4).unwrap();
        assert_eq!(unsigned.unpack(&[0x21, 0xf3], 3), [1, 2, 3]);
        assert_eq!((unsigned.byte_len(3).unwrap(), unsigned.dtype()), (2, Dtype::U8));
        let signed = Packed::of(DataType::Int4).unwrap();
        assert_eq!(signed.unpack(&[0x8f], 2), [0xff, 0xf8]);
        assert_eq!(Packed::of(DataType::Int2).unwrap().unpack(&[0b11_10_01_00], 4), [0, 1, 0xfe, 0xff]);
    }

    #[test]
    fn unsigned_numbers_are_widened() {
        let short = Packed::of(DataType::Uint16).unwrap();
        assert_eq!(short.unpack(&[0xff, 0xff, 1, 0], 2), [0xff, 0xff, 0, 0, 1, 0, 0, 0]);
        assert_eq!((short.dtype(), Packed::of(DataType::Int8)), (Dtype::I32, None));
    }
}
