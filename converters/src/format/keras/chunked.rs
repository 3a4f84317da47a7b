//! Datasets that are stored in chunks.

use std::borrow::Cow;
use std::ops::Range;

use super::filters::{Filter, longest};
use crate::error::{Error, Result};

/// A dataset cut into boxes of one shape, each stored by itself.
#[derive(Debug)]
pub(super) struct Chunked {
    shape: Vec<usize>,
    chunk: Vec<usize>,
    /// Chunks along each dimension.
    grid: Vec<usize>,
    element: usize,
    /// Bytes of a chunk before filters.
    chunk_len: usize,
    /// Bytes of the whole dataset.
    len: usize,
    filters: Vec<Filter>,
    /// One for each place of the grid, in row-major order.
    chunks: Vec<Option<Chunk>>,
}

/// One chunk as the file stores it.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The index of its first element.
    pub(super) origin: Vec<usize>,
    /// Where its bytes are in the file.
    pub(super) bytes: Range<usize>,
    /// A bit for each filter that was not applied to it.
    pub(super) skipped: u32,
}

/// Most bytes that one byte of zlib data can stand for.
const DEFLATE_RATIO: usize = 1032;

/// Most chunks of a dataset.
const MOST_CHUNKS: usize = 1 << 20;

impl Chunked {
    /// A dataset of `shape` in chunks of the shape `chunk`, none of which is known yet, in a file of `file_len` bytes.
    ///
    /// Fails when the file is too short to hold the dataset at all, so that what follows can allocate.
    pub(super) fn new(
        shape: &[usize],
        chunk: &[usize],
        element: usize,
        filters: Vec<Filter>,
        file_len: usize,
    ) -> Result<Self> {
        let product =
            |dims: &[usize]| dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let impossible = || Error::malformed(format!("shape {shape:?} in chunks of {chunk:?}"));
        if chunk.len() != shape.len() || shape.is_empty() || chunk.contains(&0) {
            return Err(impossible());
        }
        let deflates = filters.iter().filter(|&&filter| filter == Filter::Deflate).count();
        if deflates > 1 {
            return Err(Error::unsupported("compressed twice"));
        }
        let grid: Vec<usize> = shape.iter().zip(chunk).map(|(dim, chunk)| dim.div_ceil(*chunk)).collect();
        let count = product(&grid).ok_or_else(impossible)?;
        let chunk_len = product(chunk).and_then(|len| len.checked_mul(element)).ok_or_else(impossible)?;
        let len = product(shape).and_then(|len| len.checked_mul(element)).ok_or_else(impossible)?;
        let ratio = if deflates == 0 { 1 } else { DEFLATE_RATIO };
        // Chunks at the edges are stored whole, so they are counted whole.
        let stored = count.checked_mul(chunk_len).ok_or_else(impossible)?;
        if count > MOST_CHUNKS || stored / ratio > file_len {
            return Err(Error::malformed(format!(
                "shape {shape:?} in {count} chunks of {chunk_len} bytes cannot be stored in {file_len} bytes"
            )));
        }
        let chunks = (0..count).map(|_| None).collect();
        Ok(Chunked {
            shape: shape.to_vec(),
            chunk: chunk.to_vec(),
            grid,
            element,
            chunk_len,
            len,
            filters,
            chunks,
        })
    }

    /// Adds a chunk that the file lists.
    pub(super) fn add(&mut self, chunk: Chunk) -> Result<()> {
        let index = self.index(&chunk.origin).ok_or_else(|| {
            Error::malformed(format!("a chunk at {:?}, outside shape {:?}", chunk.origin, self.shape))
        })?;
        if self.chunks[index].is_some() {
            return Err(Error::malformed(format!("two chunks at {:?}", chunk.origin)));
        }
        let deflated = self.applied(chunk.skipped).any(|filter| filter == Filter::Deflate);
        let stored = chunk.bytes.len();
        if !deflated && stored != longest(self.chunk_len, &self.applied(chunk.skipped).collect::<Vec<_>>()) {
            return Err(Error::malformed(format!(
                "the chunk at {:?} needs {} bytes, its storage has {stored}",
                chunk.origin, self.chunk_len
            )));
        }
        if deflated && self.chunk_len / DEFLATE_RATIO > stored {
            return Err(Error::malformed(format!(
                "the chunk at {:?} has {} bytes, which cannot be compressed to {stored}",
                chunk.origin, self.chunk_len
            )));
        }
        self.chunks[index] = Some(chunk);
        Ok(())
    }

    /// Fails when a chunk is missing.
    pub(super) fn check_complete(&self) -> Result<()> {
        match self.chunks.iter().filter(|chunk| chunk.is_none()).count() {
            0 => Ok(()),
            missing => Err(Error::malformed(format!(
                "{missing} of its {} chunks were never written",
                self.chunks.len()
            ))),
        }
    }

    /// Bytes that its chunks take in the file.
    pub(super) fn len_in_file(&self) -> usize {
        self.chunks.iter().flatten().map(|chunk| chunk.bytes.len()).fold(0, usize::saturating_add)
    }

    /// The dense elements, in the byte order of the file.
    pub(super) fn read(&self, file: &[u8]) -> Result<Vec<u8>> {
        let mut dense = vec![0; self.len];
        for chunk in self.chunks.iter().flatten() {
            let bytes = self.unfiltered(chunk, file)?;
            self.place(&bytes, &chunk.origin, &mut dense);
        }
        Ok(dense)
    }

    /// The filters that were applied to a chunk, in the order of writing.
    fn applied(&self, skipped: u32) -> impl Iterator<Item = Filter> + '_ {
        self.filters
            .iter()
            .enumerate()
            .filter(move |&(place, _)| {
                u32::try_from(place).is_ok_and(|place| skipped.checked_shr(place).unwrap_or(0) & 1 == 0)
            })
            .map(|(_, filter)| *filter)
    }

    fn unfiltered<'a>(&self, chunk: &Chunk, file: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        let mut filters: Vec<Filter> = self.applied(chunk.skipped).collect();
        let mut bytes = Cow::Borrowed(file.get(chunk.bytes.clone()).unwrap_or_default());
        while let Some(filter) = filters.pop() {
            bytes = filter.undo(bytes, longest(self.chunk_len, &filters))?;
        }
        if bytes.len() != self.chunk_len {
            return Err(Error::malformed(format!(
                "the chunk at {:?} has {} bytes, {} expected",
                chunk.origin,
                bytes.len(),
                self.chunk_len
            )));
        }
        Ok(bytes)
    }

    /// The place in the grid of the chunk whose first element has the index `origin`.
    fn index(&self, origin: &[usize]) -> Option<usize> {
        if origin.len() != self.chunk.len() {
            return None;
        }
        let mut index = 0_usize;
        for ((&origin, &chunk), &count) in origin.iter().zip(&self.chunk).zip(&self.grid) {
            if origin % chunk != 0 || origin / chunk >= count {
                return None;
            }
            index = index * count + origin / chunk;
        }
        Some(index)
    }

    /// Copies the rows of a chunk that lie inside the dataset to their places.
    fn place(&self, chunk: &[u8], origin: &[usize], dense: &mut [u8]) {
        let inside: Vec<usize> =
            (0..self.shape.len()).map(|axis| self.chunk[axis].min(self.shape[axis] - origin[axis])).collect();
        let last = self.shape.len() - 1;
        let row = inside[last] * self.element;
        let rows: usize = inside[..last].iter().product();
        let mut at = vec![0; last];
        for _ in 0..rows {
            let (mut from, mut to) = (0, 0);
            for axis in 0..last {
                from = from * self.chunk[axis] + at[axis];
                to = to * self.shape[axis] + origin[axis] + at[axis];
            }
            let from = from * self.chunk[last] * self.element;
            let to = (to * self.shape[last] + origin[last]) * self.element;
            dense[to..to + row].copy_from_slice(&chunk[from..from + row]);
            for axis in (0..last).rev() {
                at[axis] += 1;
                if at[axis] < inside[axis] {
                    break;
                }
                at[axis] = 0;
            }
        }
    }
}
