//! The instructions of a pickle, decoded one at a time (protocols 0 to 5; CPython's `pickletools.py` describes them).

use std::borrow::Cow;

use super::place::Place;
use super::text::{self, Text};
use crate::error::{Printable, Result};

/// One instruction. Several opcodes that do the same differ only in how they write their argument.
#[derive(Debug, PartialEq)]
pub(crate) enum Op<'a> {
    /// `PROTO` or `FRAME`: says how the pickle is written, does nothing.
    Framing,
    Mark,
    Stop,
    Pop,
    PopMark,
    Dup,
    None,
    Bool(bool),
    Int(i64),
    /// An integer outside the range of i64; `None` beyond 128 bits.
    Long(Option<i128>),
    Float(f64),
    Str(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    ByteArray(&'a [u8]),
    EmptyList,
    EmptyDict,
    EmptySet,
    /// The values above the mark, as a tuple.
    Tuple,
    /// The topmost values, as a tuple.
    TupleOf(usize),
    List,
    Dict,
    FrozenSet,
    Append,
    Appends,
    SetItem,
    SetItems,
    AddItems,
    Put(u64),
    Memoize,
    Get(u64),
    Global(&'a str, &'a str),
    StackGlobal,
    Inst(&'a str, &'a str),
    Obj,
    Reduce,
    NewObj,
    NewObjEx,
    Build,
    BinPersId,
    /// A persistent id as text, which `torch.save` never writes.
    PersId,
    /// A code of Python's extension registry.
    Extension(u32),
    /// A buffer that is not in the pickle.
    OutOfBand,
}

/// Bytes that a line of text may have: no search for its end goes further.
const LONGEST_LINE: usize = 1 << 20;

/// Reads instructions from bytes that hold a pickle, and perhaps more after it.
#[derive(Debug)]
pub(crate) struct Ops<'a> {
    bytes: &'a [u8],
    at: usize,
    start: usize,
    pickle: &'a str,
}

impl<'a> Ops<'a> {
    /// Instructions from offset `at` on. `pickle` is what messages call it.
    pub(crate) fn new(bytes: &'a [u8], at: usize, pickle: &'a str) -> Self {
        Ops { bytes, at, start: at, pickle }
    }

    /// Offset of the next instruction.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The place of the instruction that was read last, or of the one that could not be read.
    pub(crate) fn place(&self) -> Place<'a> {
        Place { pickle: self.pickle, at: self.start }
    }

    /// The next instruction.
    pub(crate) fn next(&mut self) -> Result<Op<'a>> {
        self.start = self.at;
        Ok(match self.u8()? {
            0x80 => {
                let protocol = self.u8()?;
                if protocol > 5 {
                    return Err(self
                        .place()
                        .unsupported(format_args!("pickle protocol {protocol}, at most 5 is known")));
                }
                Op::Framing
            }
            0x95 => {
                let len = self.u64()?;
                let rest = self.bytes.len() - self.at;
                if usize::try_from(len).is_ok_and(|len| len <= rest) {
                    Op::Framing
                } else {
                    return Err(self
                        .place()
                        .malformed(format_args!("a frame of {len} bytes, {rest} are left")));
                }
            }
            b'(' => Op::Mark,
            b'.' => Op::Stop,
            b'0' => Op::Pop,
            b'1' => Op::PopMark,
            b'2' => Op::Dup,
            b'N' => Op::None,
            0x88 => Op::Bool(true),
            0x89 => Op::Bool(false),
            b'I' => match self.line()? {
                b"00" => Op::Bool(false),
                b"01" => Op::Bool(true),
                digits => self.integer(digits)?,
            },
            b'J' => Op::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'K' => Op::Int(i64::from(self.u8()?)),
            b'M' => Op::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'L' => {
                let line = self.line()?;
                self.integer(line.strip_suffix(b"L").unwrap_or(line))?
            }
            0x8a => {
                let len = self.u8()?;
                binary_long(self.take(u64::from(len))?)
            }
            0x8b => {
                let len = self.i32_len()?;
                binary_long(self.take(len)?)
            }
            b'F' => {
                let line = self.line()?;
                let value = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
                Op::Float(value.ok_or_else(|| self.bad_text("float", line))?)
            }
            b'G' => Op::Float(f64::from_be_bytes(self.array()?)),
            b'S' => {
                let line = self.line()?;
                string(text::quoted(line).ok_or_else(|| self.bad_text("string", line))?)
            }
            b'T' => {
                let len = self.i32_len()?;
                string(text::python2(self.take(len)?))
            }
            b'U' => {
                let len = self.u8()?;
                string(text::python2(self.take(u64::from(len))?))
            }
            b'V' => {
                let line = self.line()?;
                Op::Str(text::raw_unicode(line).ok_or_else(|| self.bad_text("string", line))?)
            }
            b'X' => {
                let len = self.u32()?;
                self.utf8(u64::from(len))?
            }
            0x8c => {
                let len = self.u8()?;
                self.utf8(u64::from(len))?
            }
            0x8d => {
                let len = self.u64()?;
                self.utf8(len)?
            }
            b'B' => {
                let len = self.u32()?;
                Op::Bytes(self.take(u64::from(len))?.into())
            }
            b'C' => {
                let len = self.u8()?;
                Op::Bytes(self.take(u64::from(len))?.into())
            }
            0x8e => {
                let len = self.u64()?;
                Op::Bytes(self.take(len)?.into())
            }
            0x96 => {
                let len = self.u64()?;
                Op::ByteArray(self.take(len)?)
            }
            b']' => Op::EmptyList,
            b'}' => Op::EmptyDict,
            0x8f => Op::EmptySet,
            b')' => Op::TupleOf(0),
            0x85 => Op::TupleOf(1),
            0x86 => Op::TupleOf(2),
            0x87 => Op::TupleOf(3),
            b't' => Op::Tuple,
            b'l' => Op::List,
            b'd' => Op::Dict,
            0x91 => Op::FrozenSet,
            b'a' => Op::Append,
            b'e' => Op::Appends,
            b's' => Op::SetItem,
            b'u' => Op::SetItems,
            0x90 => Op::AddItems,
            b'p' => Op::Put(self.memo_line()?),
            b'q' => Op::Put(u64::from(self.u8()?)),
            b'r' => Op::Put(u64::from(self.u32()?)),
            0x94 => Op::Memoize,
            b'g' => Op::Get(self.memo_line()?),
            b'h' => Op::Get(u64::from(self.u8()?)),
            b'j' => Op::Get(u64::from(self.u32()?)),
            b'c' => Op::Global(self.name()?, self.name()?),
            0x93 => Op::StackGlobal,
            b'i' => Op::Inst(self.name()?, self.name()?),
            b'o' => Op::Obj,
            b'R' => Op::Reduce,
            0x81 => Op::NewObj,
            0x92 => Op::NewObjEx,
            b'b' => Op::Build,
            b'Q' => Op::BinPersId,
            b'P' => {
                self.line()?;
                Op::PersId
            }
            0x82 => Op::Extension(u32::from(self.u8()?)),
            0x83 => Op::Extension(u32::from(u16::from_le_bytes(self.array()?))),
            0x84 => Op::Extension(self.u32()?),
            0x97 | 0x98 => Op::OutOfBand,
            other => {
                return Err(self.place().malformed(format_args!("0x{other:02x} is no pickle instruction")));
            }
        })
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let taken = taken.ok_or_else(|| {
            let wanted = format_args!("needs {len} more bytes, {} are left", rest.len()).to_string();
            self.place().malformed(format_args!("truncated: {wanted}")).wanting(len, rest.len())
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i32_len(&mut self) -> Result<u64> {
        let len = i32::from_le_bytes(self.array()?);
        u64::try_from(len).map_err(|_| self.place().malformed(format_args!("a length of {len}")))
    }

    /// The bytes up to the next line feed, which is passed over.
    fn line(&mut self) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let rest = rest.get(..LONGEST_LINE).unwrap_or(rest);
        let line = rest.split(|&byte| byte == b'\n').next().filter(|line| line.len() < rest.len());
        let line =
            line.ok_or_else(|| self.place().malformed(format_args!("no line end in {} bytes", rest.len())))?;
        self.at += line.len() + 1;
        Ok(line)
    }

    fn name(&mut self) -> Result<&'a str> {
        let line = self.line()?;
        std::str::from_utf8(line).map_err(|_| self.bad_text("name", line))
    }

    fn memo_line(&mut self) -> Result<u64> {
        let line = self.line()?;
        let index = std::str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok());
        index.ok_or_else(|| self.bad_text("memo index", line))
    }

    fn integer(&self, digits: &[u8]) -> Result<Op<'a>> {
        let text = std::str::from_utf8(digits).map(str::trim).unwrap_or_default();
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.bad_text("integer", digits));
        }
        Ok(text.parse().map_or_else(|_| Op::Long(text.parse().ok()), Op::Int))
    }

    fn utf8(&mut self, len: u64) -> Result<Op<'a>> {
        let bytes = self.take(len)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.place().malformed("a string is not UTF-8"))?;
        Ok(Op::Str(text.into()))
    }

    fn bad_text(&self, what: &str, line: &[u8]) -> crate::error::Error {
        let shown = String::from_utf8_lossy(line.get(..line.len().min(80)).unwrap_or_default()).into_owned();
        self.place().malformed(format_args!("\"{}\" is no {what}", Printable(&shown)))
    }
}

fn string(text: Text<'_>) -> Op<'_> {
    match text {
        Text::Str(text) => Op::Str(text),
        Text::Bytes(bytes) => Op::Bytes(bytes),
    }
}

/// A two's complement little-endian integer of any length.
fn binary_long(bytes: &[u8]) -> Op<'static> {
    let fill = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
    let mut wide = [fill; 16];
    let Some(low) = wide.get_mut(..bytes.len()) else { return Op::Long(None) };
    low.copy_from_slice(bytes);
    let value = i128::from_le_bytes(wide);
    i64::try_from(value).map_or(Op::Long(Some(value)), Op::Int)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Result<Op<'_>> {
        Ops::new(bytes, 0, "test").next()
    }

    #[test]
    fn integers_of_every_kind() {
        assert_eq!(one(b"I-7\n").unwrap(), Op::Int(-7));
        assert_eq!(one(b"I01\n").unwrap(), Op::Bool(true));
        assert_eq!(one(b"L12L\n").unwrap(), Op::Int(12));
        assert_eq!(one(b"L119547037146038801333356L\n").unwrap(), Op::Long(Some(119547037146038801333356)));
        assert_eq!(one(&[0x8a, 0]).unwrap(), Op::Int(0));
        assert_eq!(one(&[0x8a, 1, 0xff]).unwrap(), Op::Int(-1));
        assert_eq!(one(&[0x8a, 2, 0xff, 0]).unwrap(), Op::Int(255));
        assert_eq!(one(&[[0x8a, 17].as_slice(), &[1; 17]].concat()).unwrap(), Op::Long(None));
        assert_eq!(one(&[b'J', 0xfe, 0xff, 0xff, 0xff]).unwrap(), Op::Int(-2));
        assert!(one(b"Iab\n").is_err());
        assert!(one(b"L\n").is_err());
    }

    #[test]
    fn lengths_beyond_the_end_are_errors() {
        for truncated in [
            &b""[..],
            b"K",
            b"J\0\0",
            b"X\xff\xff\xff\xff",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
            b"cos\nsystem",
            b"T\xff\xff\xff\xff",
            b"\x95\xff\0\0\0\0\0\0\0",
            b"\x8b\xff\xff\xff\xff",
            b"\xff",
            b"\x80\x06",
        ] {
            assert!(one(truncated).is_err(), "{truncated:?}");
        }
        assert_eq!(
            one(b"U\x05ab").unwrap_err().to_string(),
            "test at byte 0: truncated: needs 5 more bytes, 2 are left"
        );
    }
}
