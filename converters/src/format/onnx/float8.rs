//! Floating-point numbers of 8 bits, as quantized graphs store them (ONNX's "Float stored in 8 bits", after Micikevicius et al.,
//! 2022, "FP8 Formats for Deep Learning").

use half::f16;

use super::proto::tensor_proto::DataType;

/// How the 8 bits are shared: a sign, an exponent, and a mantissa.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Float8 {
    /// 4 bits of exponent, 3 of mantissa, up to 448; no infinity.
    E4m3,
    /// 5 bits of exponent, 2 of mantissa, up to 57344: the upper byte of an f16.
    E5m2,
}

impl Float8 {
    /// The type that a tensor declares, if it is one of these.
    pub fn of(declared: DataType) -> Option<Float8> {
        match declared {
            DataType::Float8e4m3fn => Some(Float8::E4m3),
            DataType::Float8e5m2 => Some(Float8::E5m2),
            _ => None,
        }
    }

    /// Bits of mantissa.
    pub fn mantissa(self) -> i32 {
        match self {
            Float8::E4m3 => 3,
            Float8::E5m2 => 2,
        }
    }

    /// The exponent of the least number that is normal: 2⁻⁶ and 2⁻¹⁴.
    pub fn least_exponent(self) -> i32 {
        match self {
            Float8::E4m3 => -6,
            Float8::E5m2 => -14,
        }
    }

    /// The largest number.
    pub fn largest(self) -> f32 {
        match self {
            Float8::E4m3 => 448.0,
            Float8::E5m2 => 57_344.0,
        }
    }

    /// How far the next number is from one of this size: 0.125 of E4M3 from 1 to 2.
    pub fn step_at(self, number: f32) -> f32 {
        let exponent = number.abs().min(self.largest()).log2().floor().max(self.least_exponent() as f32);
        (exponent - self.mantissa() as f32).exp2()
    }

    /// The number that a byte stands for.
    pub(crate) fn number(self, byte: u8) -> f32 {
        if self == Float8::E5m2 {
            return f16::from_bits(u16::from(byte) << 8).to_f32();
        }
        let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
        let size = match (exponent, byte & 7) {
            (15, 7) => f32::NAN,
            (0, _) => mantissa * (-9.0_f32).exp2(),
            (exponent, _) => (8.0 + mantissa) * ((exponent - 10) as f32).exp2(),
        };
        if byte & 0x80 == 0 { size } else { -size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_numbers() {
        let of = |bytes: [u8; 6]| bytes.map(|byte| Float8::E4m3.number(byte));
        // The least, the largest below the normal ones, the least of these, 1, the largest, and below 0.
        assert_eq!(of([1, 7, 8, 0x38, 0x7e, 0xb9]), [0.001953125, 0.013671875, 0.015625, 1.0, 448.0, -1.125]);
        assert!(Float8::E4m3.number(0x7f).is_nan() && Float8::E4m3.number(0xff).is_nan());
        let of = |bytes: [u8; 4]| bytes.map(|byte| Float8::E5m2.number(byte));
        assert_eq!(of([1, 0x3c, 0x7b, 0xc1]), [1.0 / 65536.0, 1.0, 57344.0, -2.5]);
    }

    #[test]
    fn steps_are_as_wide_as_the_exponent_says() {
        let of = |numbers: [f32; 5]| numbers.map(|number| Float8::E4m3.step_at(number));
        assert_eq!(of([0.0, 0.01, 1.0, -1.99, 1e9]), [0.001953125, 0.001953125, 0.125, 0.125, 32.0]);
    }
}
