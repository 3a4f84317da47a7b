//! The pickle of a state dict (protocol 2), in the shape that `torch.save` gives it:
//!
//! ```text
//! OrderedDict {
//!     name: _rebuild_tensor_v2(
//!         persistent id ("storage", torch.FloatStorage, key, "cpu", elements),
//!         0, shape, strides, False, OrderedDict())
//! }
//! ```

use crate::error::{Error, Kind, Result};
use crate::tensor::{Dtype, TensorInfo};

/// A second name for a tensor, as tied weights have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias<'a> {
    /// The second name.
    pub name: &'a str,
    /// The tensor, as an index into those that the plan is made for.
    pub of: usize,
}

/// The pickle of a dict of `tensors`, each with a storage of its own whose key is its index, and of `aliases`.
pub(super) fn state_dict(tensors: &[TensorInfo], aliases: &[Alias<'_>]) -> Result<Vec<u8>> {
    let mut pickle = Pickle { bytes: vec![PROTO, 2], memo: Vec::new() };
    pickle.ordered_dict();
    pickle.op(MARK);
    for (index, tensor) in tensors.iter().enumerate() {
        pickle.entry(&tensor.name, tensor, index)?;
    }
    for alias in aliases {
        if let Some(tensor) = tensors.get(alias.of) {
            pickle.entry(alias.name, tensor, alias.of)?;
        }
    }
    pickle.op(SETITEMS);
    pickle.op(STOP);
    Ok(pickle.bytes)
}

struct Pickle {
    bytes: Vec<u8>,
    /// What has been put into the memo, by index: text that occurs again is written once.
    memo: Vec<&'static str>,
}

const PROTO: u8 = 0x80;
const STOP: u8 = b'.';
const MARK: u8 = b'(';
const TUPLE: u8 = b't';
const EMPTY_TUPLE: u8 = b')';
const SETITEMS: u8 = b'u';
const REDUCE: u8 = b'R';
const BINPERSID: u8 = b'Q';
const GLOBAL: u8 = b'c';
const BINPUT: u8 = b'q';
const BINGET: u8 = b'h';
const BINUNICODE: u8 = b'X';
const BININT: u8 = b'J';
const BININT1: u8 = b'K';
const BININT2: u8 = b'M';
const LONG1: u8 = 0x8a;
const NEWFALSE: u8 = 0x89;

impl Pickle {
    fn entry(&mut self, name: &str, tensor: &TensorInfo, key: usize) -> Result<()> {
        let too_much = || Error::new(Kind::Request, "is too large for a checkpoint of torch").in_tensor(name);
        let (strides, elements) = strides(&tensor.shape).ok_or_else(too_much)?;
        self.text(name).ok_or_else(too_much)?;
        self.global("torch._utils\n_rebuild_tensor_v2\n");
        self.op(MARK);
        {
            self.op(MARK);
            self.shared_text("storage").ok_or_else(too_much)?;
            self.global(storage_class(tensor.dtype));
            self.text(&key.to_string()).ok_or_else(too_much)?;
            self.shared_text("cpu").ok_or_else(too_much)?;
            self.int(elements).ok_or_else(too_much)?;
            self.op(TUPLE);
            self.op(BINPERSID);
        }
        self.int(0).ok_or_else(too_much)?;
        self.ints(&tensor.shape).ok_or_else(too_much)?;
        self.ints(&strides).ok_or_else(too_much)?;
        self.op(NEWFALSE);
        self.ordered_dict();
        self.op(TUPLE);
        self.op(REDUCE);
        Ok(())
    }

    fn op(&mut self, op: u8) {
        self.bytes.push(op);
    }

    fn ordered_dict(&mut self) {
        self.global("collections\nOrderedDict\n");
        self.op(EMPTY_TUPLE);
        self.op(REDUCE);
    }

    /// A global, given as its module and its name with a line feed after each.
    fn global(&mut self, lines: &'static str) {
        if !self.recall(lines) {
            self.op(GLOBAL);
            self.bytes.extend(lines.as_bytes());
            self.remember(lines);
        }
    }

    fn text(&mut self, text: &str) -> Option<()> {
        self.op(BINUNICODE);
        self.bytes.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
        self.bytes.extend(text.as_bytes());
        Some(())
    }

    fn shared_text(&mut self, text: &'static str) -> Option<()> {
        if !self.recall(text) {
            self.text(text)?;
            self.remember(text);
        }
        Some(())
    }

    /// Pushes what was put into the memo under `what`, if something was.
    fn recall(&mut self, what: &str) -> bool {
        let index =
            self.memo.iter().position(|known| *known == what).and_then(|index| u8::try_from(index).ok());
        if let Some(index) = index {
            self.bytes.extend([BINGET, index]);
        }
        index.is_some()
    }

    /// Puts the top of the stack into the memo.
    fn remember(&mut self, what: &'static str) {
        if let Ok(index) = u8::try_from(self.memo.len()) {
            self.bytes.extend([BINPUT, index]);
            self.memo.push(what);
        }
    }

    fn ints(&mut self, numbers: &[usize]) -> Option<()> {
        self.op(MARK);
        numbers.iter().try_for_each(|&number| self.int(number))?;
        self.op(TUPLE);
        Some(())
    }

    fn int(&mut self, number: usize) -> Option<()> {
        if let Ok(number) = u8::try_from(number) {
            self.bytes.extend([BININT1, number]);
        } else if let Ok(number) = u16::try_from(number) {
            self.op(BININT2);
            self.bytes.extend(number.to_le_bytes());
        } else if let Ok(number) = i32::try_from(number) {
            self.op(BININT);
            self.bytes.extend(number.to_le_bytes());
        } else {
            self.bytes.extend([LONG1, 8]);
            self.bytes.extend(i64::try_from(number).ok()?.to_le_bytes());
        }
        Some(())
    }
}

/// Row-major strides as torch has them (a dimension of 0 counts as 1), and the number of elements.
fn strides(shape: &[usize]) -> Option<(Vec<usize>, usize)> {
    let mut strides = vec![1; shape.len()];
    let mut step = 1usize;
    for (stride, &dim) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.checked_mul(dim.max(1))?;
    }
    let elements = if shape.contains(&0) { 0 } else { step };
    Some((strides, elements))
}

fn storage_class(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F64 => "torch\nDoubleStorage\n",
        Dtype::F32 => "torch\nFloatStorage\n",
        Dtype::F16 => "torch\nHalfStorage\n",
        Dtype::BF16 => "torch\nBFloat16Storage\n",
        Dtype::I64 => "torch\nLongStorage\n",
        Dtype::I32 => "torch\nIntStorage\n",
        Dtype::I16 => "torch\nShortStorage\n",
        Dtype::I8 => "torch\nCharStorage\n",
        Dtype::U8 => "torch\nByteStorage\n",
        Dtype::Bool => "torch\nBoolStorage\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_row_major() {
        assert_eq!(strides(&[2, 3, 4]), Some((vec![12, 4, 1], 24)));
        assert_eq!(strides(&[]), Some((vec![], 1)));
        assert_eq!(strides(&[3, 0, 2]), Some((vec![2, 2, 1], 0)));
        assert_eq!(strides(&[usize::MAX, 2]), None);
    }
}
