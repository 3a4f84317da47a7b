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

/// Most bytes of a compressed dataset: it is held in memory whole. Three times the embeddings of the largest DeBERTa.
const MOST_INFLATED: usize = 640 << 20;

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
        if chunk.len() != shape.len() || shape.is_empty() || chunk.contains(&0) {
            return Err(Error::malformed(format!("shape {shape:?} in chunks of shape {chunk:?}")));
        }
        let deflates = filters.iter().filter(|&&filter| filter == Filter::Deflate).count();
        if deflates > 1 {
            return Err(Error::unsupported("compressed twice"));
        }
        let grid: Vec<usize> = shape.iter().zip(chunk).map(|(dim, chunk)| dim.div_ceil(*chunk)).collect();
        let (Some(count), Some(chunk_len), Some(len)) =
            (product(1, &grid), product(element, chunk), product(element, shape))
        else {
            return Err(Error::malformed(format!(
                "shape {shape:?} in chunks of {chunk:?} overflows the address space"
            )));
        };
        let ratio = if deflates == 0 { 1 } else { DEFLATE_RATIO };
        // Chunks at the edges are stored whole, so they are counted whole.
        let possible = count.checked_mul(chunk_len).is_some_and(|stored| stored / ratio <= file_len);
        if count > MOST_CHUNKS || !possible {
            return Err(Error::malformed(format!(
                "shape {shape:?} in {count} chunks of {chunk_len} bytes cannot be stored in {file_len} bytes"
            )));
        }
        if deflates > 0 && len > MOST_INFLATED {
            return Err(Error::unsupported(format!(
                "{len} bytes when decompressed, {MOST_INFLATED} are possible; store it without gzip"
            ))
            .wanting(MOST_INFLATED, len));
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
        let filters: Vec<Filter> = self.applied(chunk.skipped).collect();
        let deflated = filters.contains(&Filter::Deflate);
        let stored = chunk.bytes.len();
        if !deflated && stored != longest(self.chunk_len, &filters) {
            return Err(Error::malformed(format!(
                "the chunk at {:?} needs {} bytes, its storage has {stored}",
                chunk.origin, self.chunk_len
            ))
            .wanting(self.chunk_len, stored));
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

    /// The pieces of the file that hold its chunks.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.chunks.iter().flatten().map(|chunk| chunk.bytes.clone())
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
            ))
            .wanting(self.chunk_len, bytes.len()));
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

/// `factor` times the product of `dims`, if there is such a number.
fn product(factor: usize, dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(factor, |product, &dim| product.checked_mul(dim))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(origin: &[usize], bytes: Range<usize>) -> Chunk {
        Chunk { origin: origin.to_vec(), bytes, skipped: 0 }
    }

    /// A 3 x 5 array of bytes in chunks of 2 x 3, as rows of the file: the digits are row and column.
    #[test]
    fn chunks_go_to_their_places_and_edges_are_cut() {
        let mut chunked = Chunked::new(&[3, 5], &[2, 3], 1, Vec::new(), 100).unwrap();
        let file =
            [0, 1, 2, 10, 11, 12, 3, 4, 99, 13, 14, 99, 20, 21, 22, 99, 99, 99, 23, 24, 99, 99, 99, 99];
        for (place, origin) in [[0, 0], [0, 3], [2, 0], [2, 3]].iter().enumerate() {
            chunked.add(chunk(origin, 6 * place..6 * place + 6)).unwrap();
        }
        chunked.check_complete().unwrap();
        assert_eq!(chunked.read(&file).unwrap(), [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24]);
    }

    #[test]
    fn chunks_that_do_not_fit_are_refused() {
        let error = |origin: &[usize], bytes| {
            let mut chunked = Chunked::new(&[4], &[2], 1, Vec::new(), 100).unwrap();
            chunked.add(chunk(&[0], 0..2)).unwrap();
            chunked.add(chunk(origin, bytes)).unwrap_err().to_string()
        };
        assert_eq!(error(&[0], 0..2), "two chunks at [0]");
        assert_eq!(error(&[4], 0..2), "a chunk at [4], outside shape [4]");
        assert_eq!(error(&[1], 0..2), "a chunk at [1], outside shape [4]");
        assert_eq!(error(&[2, 0], 0..2), "a chunk at [2, 0], outside shape [4]");
        assert_eq!(error(&[2], 0..3), "the chunk at [2] needs 2 bytes, its storage has 3");
    }

    #[test]
    fn a_bomb_is_refused_before_anything_is_allocated() {
        let error = |shape: &[usize], chunk: &[usize], filters: &[Filter], file_len| {
            Chunked::new(shape, chunk, 4, filters.to_vec(), file_len).unwrap_err().to_string()
        };
        assert!(error(&[1 << 40], &[1 << 30], &[], 1 << 30).contains("cannot be stored in 1073741824 bytes"));
        assert!(
            error(&[1 << 40], &[1], &[], usize::MAX).contains("in 1099511627776 chunks of 4 bytes cannot")
        );
        assert!(error(&[1 << 62, 4], &[1, 1], &[], usize::MAX).contains("overflows the address space"));
        assert!(error(&[1 << 40], &[1 << 20], &[Filter::Deflate], 1 << 30).contains("cannot be stored"));
        assert!(error(&[1 << 30], &[1 << 20], &[Filter::Deflate], 1 << 30).contains("store it without gzip"));
        assert_eq!(error(&[4], &[4], &[Filter::Deflate; 2], 100), "compressed twice");
        let mut chunked = Chunked::new(&[5000], &[5000], 4, vec![Filter::Deflate], 100).unwrap();
        let error = chunked.add(chunk(&[0], 0..10)).unwrap_err().to_string();
        assert_eq!(error, "the chunk at [0] has 20000 bytes, which cannot be compressed to 10");
    }
}
