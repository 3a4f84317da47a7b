//! How a tensor that was dequantized is stored in the file.

use crate::format::onnx::Float8;
use crate::tensor::Dtype;

/// How a tensor that was dequantized is stored in the file: what tells a rounded number from another one.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What the elements are stored as.
    pub codes: Codes,
    /// The tensor of the file.
    pub name: String,
    /// The tensor of its scales, if it has any.
    pub scale: Option<String>,
    scales: Table<f32>,
    zeros: Table<i32>,
    /// The zero points, where they are no integers.
    real_zeros: Option<Table<f32>>,
    /// What the numbers of channels are multiplied by after they are dequantized, if tools divided them by it before.
    factors: Option<Table<f32>>,
    /// Whether the scales are of blocks.
    in_blocks: bool,
    /// How far a scale may be from what it was before it was stored, as a share of it.
    scale_error: f64,
}

/// What the elements of a tensor are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// Integers from the first to the last: a number is `(code - zero point) · scale`.
    Integers(i32, i32),
    /// Codes of the 16 numbers of NF4, times a scale.
    Nf4,
    /// Codes of the 16 numbers of FP4, times a scale.
    Fp4,
    /// Floating-point numbers of 8 bits, times a scale.
    Float8(Float8),
    /// Floating-point numbers of this type.
    Halves(Dtype),
}

/// A value for every element of a tensor: for all of them, along an axis, or in blocks.
#[derive(Clone, Debug)]
pub(super) struct Table<T> {
    values: Vec<T>,
    /// For every axis of the tensor: its length, the length of a block, and how far apart two blocks are among the values.
    axes: Vec<(usize, usize, usize)>,
    /// The block that each index of the first axis is in, where the blocks are not one after the other.
    order: Option<Vec<usize>>,
}

impl<T: Copy + Default> Table<T> {
    /// One value for all elements.
    pub(super) fn one(value: T) -> Table<T> {
        Table { values: vec![value], axes: Vec::new(), order: None }
    }

    /// Values for the elements of `shape`: one; one for each index of `axis`, counted from behind if it is negative; or one for
    /// each block of `block` elements along it, in which case `of` is the shape of the values. Nothing if there are too few.
    pub(super) fn new(
        values: Vec<T>,
        of: &[usize],
        shape: &[usize],
        axis: i64,
        block: usize,
    ) -> Option<Table<T>> {
        if let [one] = values.as_slice() {
            return Some(Table::one(*one));
        }
        let rank = i64::try_from(shape.len()).ok()?;
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
        let length = *shape.get(axis)?;
        if block == 0 {
            let axes =
                shape.iter().enumerate().map(|(at, &length)| (length, 1, usize::from(at == axis))).collect();
            return (values.len() == length).then_some(Table { values, axes, order: None });
        }
        let mut counts = shape.to_vec();
        *counts.get_mut(axis)? = length.div_ceil(block);
        let needed = counts.iter().try_fold(1_usize, |product, &count| product.checked_mul(count))?;
        if values.len() != needed || of.iter().product::<usize>() != needed {
            return None;
        }
        let mut axes = Vec::new();
        let mut stride = 1;
        for (at, (&length, &count)) in shape.iter().zip(&counts).enumerate().rev() {
            axes.push((length, if at == axis { block } else { 1 }, stride));
            stride *= count;
        }
        axes.reverse();
        Some(Table { values, axes, order: None })
    }

    /// Values for the elements of a tensor whose axes are given: the length of each, of its blocks, and how far apart two of
    /// them are among the values. Nothing if there are too few.
    pub(super) fn of_axes(values: Vec<T>, axes: Vec<(usize, usize, usize)>) -> Option<Table<T>> {
        let last = axes.iter().try_fold(0_usize, |last, &(length, block, stride)| {
            last.checked_add((length.checked_sub(1)? / block.max(1)).checked_mul(stride)?)
        })?;
        (last < values.len()).then_some(Table { values, axes, order: None })
    }

    /// The same values, given the block that each index of the first axis is in. Each must be one that there is.
    pub(super) fn in_order(self, order: Option<Vec<usize>>) -> Table<T> {
        Table { order, ..self }
    }

    /// The value for element `index`, counted in the order of the rows.
    pub(super) fn at(&self, index: usize) -> T {
        self.values.get(self.place(index)).copied().unwrap_or_default()
    }

    /// Which of the values element `index` has.
    pub(super) fn place(&self, index: usize) -> usize {
        let (mut rest, mut place) = (index, 0);
        for (axis, &(length, block, stride)) in self.axes.iter().enumerate().rev() {
            let at = rest % length.max(1);
            let order = self.order.as_ref().filter(|_| axis == 0);
            place += order.and_then(|order| order.get(at)).map_or(at / block.max(1), |&block| block) * stride;
            rest /= length.max(1);
        }
        place
    }

    /// Whether several elements in a row along an axis share a value.
    fn has_blocks(&self) -> bool {
        self.axes.iter().any(|&(_, block, _)| block > 1)
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

impl Stored {
    pub(super) fn integers(
        (first, last): (i32, i32),
        name: &str,
        scale: Option<&str>,
        scales: Table<f32>,
        zeros: Table<i32>,
    ) -> Stored {
        let scale = scale.map(str::to_owned);
        let (in_blocks, codes) = (scales.has_blocks(), Codes::Integers(first, last));
        let (name, real_zeros, factors) = (name.to_owned(), None, None);
        Stored { codes, name, scale, scales, zeros, real_zeros, factors, in_blocks, scale_error: 0.0 }
    }

    /// Integers in blocks, one after the other, around the middle.
    #[cfg(test)]
    pub(crate) fn of_blocks(
        ends: (i32, i32),
        name: &str,
        scale: &str,
        scales: Vec<f32>,
        block: usize,
    ) -> Stored {
        let axes = vec![(scales.len() * block, block, 1)];
        let scales = Table::of_axes(scales, axes).unwrap();
        Stored::integers(ends, name, Some(scale), scales, Table::one((ends.1 - ends.0 + 1) / 2))
    }

    /// Integers with one scale, around zero.
    #[cfg(test)]
    pub(crate) fn of_one_scale(ends: (i32, i32), name: &str, scale: f32) -> Stored {
        Stored::integers(ends, name, None, Table::one(scale), Table::one(0))
    }

    /// The same with zero points that are no integers.
    #[must_use]
    pub(super) fn with_real_zeros(self, real_zeros: Option<Table<f32>>) -> Stored {
        Stored { real_zeros, ..self }
    }

    pub(super) fn codes(codes: Codes, name: &str, scale: &str, scales: Table<f32>) -> Stored {
        let (name, scale) = (name.to_owned(), Some(scale.to_owned()));
        let (zeros, real_zeros, factors) = (Table::one(0), None, None);
        Stored { codes, name, scale, scales, zeros, real_zeros, factors, in_blocks: true, scale_error: 0.0 }
    }

    /// Floating-point numbers of 8 bits, with scales for all of them or along an axis.
    pub(super) fn float8(of: Float8, name: &str, scale: Option<&str>, scales: Table<f32>) -> Stored {
        let stored = Stored::integers((0, 0), name, scale, scales, Table::one(0));
        Stored { codes: Codes::Float8(of), ..stored }
    }

    pub(super) fn halves(dtype: Dtype, name: &str) -> Stored {
        let (scales, zeros) = (Table::one(1.0), Table::one(0));
        let (codes, name) = (Codes::Halves(dtype), name.to_owned());
        let (in_blocks, real_zeros, factors) = (false, None, None);
        Stored { codes, name, scale: None, scales, zeros, real_zeros, factors, in_blocks, scale_error: 0.0 }
    }

    /// The name that the tensor had before it was quantized: what tools put behind it is taken off.
    pub fn plain_name(&self) -> &str {
        const ENDS: [&str; 6] = ["_quantized", "_Bnb4", "_DQ", "_Q4", "_Q8", "_Q2"];
        const TURNED: [&str; 2] = ["_Transposed", "_transposed"];
        let mut plain = self.name.as_str();
        while let Some(shorter) = ENDS.iter().chain(&TURNED).find_map(|end| plain.strip_suffix(end)) {
            plain = shorter;
        }
        // `weight_Q4G32`
        if let Some((before, group)) = plain.rsplit_once('G')
            && !group.is_empty()
            && group.bytes().all(|byte| byte.is_ascii_digit())
            && let Some(shorter) = ENDS.iter().find_map(|end| before.strip_suffix(end))
        {
            plain = shorter;
        }
        if plain.is_empty() { &self.name } else { plain }
    }

    /// The scale of element `index`: of integers the distance of two neighbours.
    pub fn scale_at(&self, index: usize) -> f32 {
        self.scales.at(index) * self.factor_at(index)
    }

    /// The distance of two neighbours where element `index` is a number: of integers its scale. Of the 16 numbers of a codebook the
    /// largest is as far from zero.
    pub fn step_at(&self, index: usize, number: f32) -> f32 {
        let scale = self.scale_at(index).abs();
        match self.codes {
            Codes::Float8(of) => of.step_at(number / scale) * scale,
            _ => scale,
        }
    }

    /// What element `index` is multiplied by after it is dequantized: 1 where no tool divided it by anything.
    pub fn factor_at(&self, index: usize) -> f32 {
        self.factors.as_ref().map_or(1.0, |factors| factors.at(index))
    }

    /// The same with a factor for each index of an axis of a tensor of `shape`. Nothing if there are not as many.
    pub(super) fn with_factors(self, factors: Vec<f32>, shape: &[usize], axis: usize) -> Option<Stored> {
        // The factor, its inverse and two products are rounded.
        let scale_error = self.scale_error + 4.0 * f64::from(f32::EPSILON);
        let count = factors.len();
        let factors = Some(Table::new(factors, &[count], shape, i64::try_from(axis).ok()?, 0)?);
        Some(Stored { factors, scale_error, ..self })
    }

    /// Which of the scales element `index` has.
    pub fn group_at(&self, index: usize) -> usize {
        self.scales.place(index)
    }

    /// Whether several elements in a row share a scale, and the next ones along the same axis have another.
    pub fn is_in_blocks(&self) -> bool {
        self.in_blocks
    }

    /// How far a scale may be from the one that the numbers were rounded with, as a share of it: where it is stored in a half.
    pub fn scale_error(&self) -> f64 {
        self.scale_error
    }

    /// The same with scales that were rounded by this share.
    #[must_use]
    pub(super) fn with_scale_error(self, scale_error: f64) -> Stored {
        Stored { scale_error, ..self }
    }

    /// The zero point of element `index`.
    pub fn zero_at(&self, index: usize) -> i32 {
        self.zeros.at(index)
    }

    /// The number that an integer stands for at `index`.
    pub(super) fn number(&self, index: usize, code: i32) -> f32 {
        if let Some(zeros) = &self.real_zeros {
            return (code as f32 - zeros.at(index)) * self.scale_at(index);
        }
        code.wrapping_sub(self.zero_at(index)) as f32 * self.scale_at(index)
    }

    /// Whether element `index`, whose dequantized number is given, has the first or the last of the codes: what is beyond
    /// became this one.
    pub fn is_at_the_end(&self, index: usize, number: f32) -> bool {
        match self.codes {
            Codes::Integers(first, last) => {
                let code = self.code(index, number);
                code <= i64::from(first) || code >= i64::from(last)
            }
            // But for what computing it loses; the next one is 7 % less.
            Codes::Float8(of) => {
                number != 0.0 && number.abs() >= 0.99 * of.largest() * self.scale_at(index).abs()
            }
            _ => false,
        }
    }

    /// The integer that element `index` is stored as, given its dequantized number.
    pub fn code(&self, index: usize, number: f32) -> i64 {
        let real = self.real_zeros.as_ref().map_or(0.0, |zeros| zeros.at(index));
        (number / self.scale_at(index) + real).round() as i64 + i64::from(self.zero_at(index))
    }

    /// How many scales there are.
    pub fn scales(&self) -> usize {
        self.scales.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_along_an_axis_or_in_blocks() {
        let of_rows = Table::new(vec![1.0, 2.0], &[2], &[2, 3], 0, 0).unwrap();
        assert_eq!([0, 2, 3, 5].map(|index| of_rows.at(index)), [1.0, 1.0, 2.0, 2.0]);
        let of_columns = Table::new(vec![1.0, 2.0, 3.0], &[3], &[2, 3], -1, 0).unwrap();
        assert_eq!([0, 2, 3, 5].map(|index| of_columns.at(index)), [1.0, 3.0, 1.0, 3.0]);
        let blocks = Table::new(vec![1.0, 2.0, 3.0, 4.0], &[2, 2], &[2, 3], 1, 2).unwrap();
        assert_eq!([0, 1, 2, 3, 5].map(|index| blocks.at(index)), [1.0, 1.0, 2.0, 3.0, 4.0]);
        assert!(Table::new(vec![1.0, 2.0], &[2], &[2, 3], 1, 0).is_none());
        // Two rows and two columns, each column with a value for each block of one row; in order, and not.
        let of_columns = || Table::of_axes(vec![1.0, 2.0, 3.0, 4.0], vec![(2, 1, 1), (2, 1, 2)]).unwrap();
        assert_eq!([0, 1, 2, 3].map(|index| of_columns().at(index)), [1.0, 3.0, 2.0, 4.0]);
        let ordered = of_columns().in_order(Some(vec![1, 0]));
        assert_eq!([0, 1, 2, 3].map(|index| ordered.at(index)), [2.0, 4.0, 1.0, 3.0]);
        assert_eq!(Table::one(7.0).at(5), 7.0);
    }

    #[test]
    fn what_tools_put_behind_names_is_taken_off() {
        let plain = |name: &str| {
            Stored::integers((0, 15), name, None, Table::one(1.0), Table::one(0)).plain_name().to_owned()
        };
        for name in [
            "a.weight_quantized",
            "a.weight_Transposed_quantized",
            "a.weight_Q4",
            "a.weight_Q4G32",
            "a.weight_DQ_Q4",
        ] {
            assert_eq!(plain(name), "a.weight", "{name}");
        }
        assert_eq!(["onnx::MatMul_12", "_quantized"].map(plain), ["onnx::MatMul_12", "_quantized"]);
    }

    #[test]
    fn the_ends_of_the_codes_are_known() {
        let stored = Stored::integers((-8, 7), "q", Some("s"), Table::one(0.5), Table::one(1));
        assert_eq!(stored.number(0, -8), -4.5);
        assert!(
            stored.is_at_the_end(0, -4.5) && stored.is_at_the_end(0, 3.0) && !stored.is_at_the_end(0, 2.5)
        );
        let stored = Stored::integers((0, 15), "q", Some("s"), Table::one(0.5), Table::one(0));
        let stored = stored.with_real_zeros(Some(Table::one(7.25)));
        assert_eq!((stored.number(0, 0), stored.number(0, 15)), (-3.625, 3.875));
        assert_eq!((stored.code(0, -3.625), stored.code(0, 3.875)), (0, 15));
        assert!(
            stored.is_at_the_end(0, -3.625)
                && stored.is_at_the_end(0, 3.875)
                && !stored.is_at_the_end(0, 0.0)
        );
    }
}
