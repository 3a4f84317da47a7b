//! The bytes of a storage: where they are, how they are packed, whether they are intact.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use super::zip::inflate;
use crate::error::{Error, Result};

/// The stored bytes behind one or several tensors.
#[derive(Debug)]
pub(crate) struct Storage {
    /// What messages call it: `model/data/3`.
    name: String,
    /// Where in the file it is, compressed or not.
    packed: Range<usize>,
    /// Bytes that it has when unpacked.
    len: usize,
    deflated: bool,
    /// The checksum of the unpacked bytes, if the format has one.
    crc32: Option<u32>,
    /// Elements are big-endian.
    swapped: bool,
    /// The actual checksum of bytes that are stored as they are, once it has been computed.
    actual_crc32: OnceLock<u32>,
}

impl Storage {
    /// A storage that lies in the file as it is.
    pub(crate) fn plain(name: String, bytes: Range<usize>, crc32: Option<u32>) -> Self {
        let len = bytes.len();
        Storage {
            name,
            packed: bytes,
            len,
            deflated: false,
            crc32,
            swapped: false,
            actual_crc32: OnceLock::new(),
        }
    }

    /// A storage of `len` bytes that lies in the file as a deflate stream.
    pub(crate) fn deflated(name: String, packed: Range<usize>, len: usize, crc32: u32) -> Self {
        Storage {
            name,
            packed,
            len,
            deflated: true,
            crc32: Some(crc32),
            swapped: false,
            actual_crc32: OnceLock::new(),
        }
    }

    /// The same storage, holding elements in the byte order that `swapped` says.
    pub(crate) fn with_byte_order(mut self, swapped: bool) -> Self {
        self.swapped = swapped;
        self
    }

    /// Bytes that it has when unpacked.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether reading it means unpacking it.
    pub(crate) fn is_deflated(&self) -> bool {
        self.deflated
    }

    /// Whether its elements are big-endian.
    pub(crate) fn is_swapped(&self) -> bool {
        self.swapped
    }

    /// The unpacked bytes. The checksum is verified: once for bytes that are stored as they are, and each time for
    /// those that have to be unpacked, because that is when they can go wrong.
    pub(crate) fn bytes<'f>(&self, file: &'f [u8]) -> Result<Cow<'f, [u8]>> {
        let packed = file.get(self.packed.clone()).ok_or_else(|| {
            Error::malformed(format!(
                "{} ends at byte {}, the file at {}",
                self.name,
                self.packed.end,
                file.len()
            ))
        })?;
        if self.deflated {
            let bytes = inflate(packed, self.len)
                .map_err(|error| Error::malformed(format!("{}: {error}", self.name)))?;
            self.check(crc32fast::hash(&bytes))?;
            return Ok(Cow::Owned(bytes));
        }
        if self.crc32.is_some() {
            self.check(*self.actual_crc32.get_or_init(|| crc32fast::hash(packed)))?;
        }
        Ok(Cow::Borrowed(packed))
    }

    fn check(&self, actual: u32) -> Result<()> {
        match self.crc32 {
            Some(expected) if expected != actual => Err(Error::malformed(format!(
                "{} is damaged: its checksum is {actual:08x}, the archive says {expected:08x}",
                self.name
            ))
            .wanting(format_args!("{expected:#010x}"), format_args!("{actual:#010x}"))),
            _ => Ok(()),
        }
    }
}
