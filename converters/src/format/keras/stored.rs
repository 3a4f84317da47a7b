//! The bytes of a dataset: where they are and how they become a tensor's.

use std::borrow::Cow;
use std::ops::Range;

use super::chunked::Chunked;
use crate::error::{Error, Result};

/// Where a dataset keeps its bytes.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) bytes: Bytes,
    /// Bytes that stand in reverse order together: the size of an element of a big-endian dataset, 1 otherwise.
    pub(super) swap: usize,
}

/// The forms of storage.
#[derive(Debug)]
pub(super) enum Bytes {
    /// In the header of the dataset; at most 64 KB.
    Inline(Vec<u8>),
    /// In one piece, at this range of the file.
    Contiguous(Range<usize>),
    /// In chunks, perhaps compressed.
    Chunked(Chunked),
}

impl Stored {
    /// The pieces of the file that hold it.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let (contiguous, chunked) = match &self.bytes {
            Bytes::Inline(_) => (None, None),
            Bytes::Contiguous(range) => (Some(range.clone()), None),
            Bytes::Chunked(chunked) => (None, Some(chunked)),
        };
        contiguous.into_iter().chain(chunked.into_iter().flat_map(Chunked::ranges))
    }

    /// The dense little-endian elements; borrowed from `file` when they are stored so.
    pub(super) fn read<'a>(&'a self, file: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        let mut bytes = match &self.bytes {
            Bytes::Inline(bytes) => Cow::Borrowed(bytes.as_slice()),
            Bytes::Contiguous(range) => Cow::Borrowed(
                file.get(range.clone())
                    .ok_or_else(|| Error::malformed("the file shrank while it was read"))?,
            ),
            Bytes::Chunked(chunked) => Cow::Owned(chunked.read(file)?),
        };
        if self.swap > 1 {
            bytes.to_mut().chunks_exact_mut(self.swap).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }
}
