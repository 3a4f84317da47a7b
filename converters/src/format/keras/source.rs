//! The memory map as `hdf5-pure` reads it: behind a meter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdf5_pure::{FormatError, Source};

use crate::mapped::Mapped;

/// A mapped file that serves a bounded number of bytes, so that structures that refer to each other in circles,
/// or to the same block a million times, end in an error rather than in hours or gigabytes.
///
/// Only metadata is read through it. The data of tensors is taken from the map itself.
pub(super) struct Metered {
    file: Arc<Mapped>,
    /// What may still be spent.
    left: AtomicU64,
}

/// What opening any file may cost. A base-size checkpoint of 204 datasets costs 0.7 MB.
const BUDGET: u64 = 16 << 20;

/// A long file may cost one more byte for this many of its own: chunks are listed in metadata.
const LEN_PER_BUDGET: u64 = 64;

/// What a read costs beyond its bytes, so that the number of reads is bounded too.
const READ_COST: u64 = 64;

/// Longest read. Keras keeps attributes below 64 KB, and groups are read in small blocks.
const LONGEST_READ: usize = 256 << 10;

impl Metered {
    /// A full meter over `file`.
    pub(super) fn new(file: Arc<Mapped>) -> Self {
        let left = AtomicU64::new(BUDGET + file.len() as u64 / LEN_PER_BUDGET);
        Metered { file, left }
    }

    fn take(&self, offset: u64, len: usize) -> Result<&[u8], FormatError> {
        if offset == u64::MAX {
            return Err(refusal("an address is undefined; soft links are not followed"));
        }
        if len > LONGEST_READ {
            return Err(refusal("one structure takes more than 256 KB"));
        }
        let cost = READ_COST + len as u64;
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost))
            .map_err(|_| refusal("its structures refer to each other too often"))?;
        usize::try_from(offset)
            .ok()
            .and_then(|start| self.file.get(start..start.checked_add(len)?))
            .ok_or_else(|| refusal(&format!("{len} bytes at offset {offset} lie outside the file")))
    }
}

fn refusal(why: &str) -> FormatError {
    FormatError::Source(why.to_owned())
}

impl Source for Metered {
    fn len(&self) -> u64 {
        self.file.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        buf.copy_from_slice(self.take(offset, buf.len())?);
        Ok(())
    }

    fn read_exact_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, FormatError> {
        Ok(self.take(offset, len)?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn metered(len: usize) -> Metered {
        Metered::new(Arc::new(Mapped::from_bytes(vec![7; len], Path::new("f"))))
    }

    #[test]
    fn reads_stay_inside_the_file() {
        let source = metered(10);
        assert_eq!(source.read_exact_at(8, 2).unwrap(), [7, 7]);
        assert!(source.read_exact_at(9, 2).unwrap_err().to_string().contains("2 bytes at offset 9"));
        assert!(source.read_exact_at(u64::MAX - 1, 2).is_err());
        assert!(source.read_at(10, &mut [0]).is_err());
    }

    #[test]
    fn the_meter_runs_out() {
        let source = metered(1 << 20);
        let reads = (0..1_000_000).take_while(|_| source.read_exact_at(0, 100_000).is_ok()).count();
        assert_eq!(reads, 167);
        assert!(source.read_at(0, &mut [0; 100_000]).unwrap_err().to_string().contains("too often"));
    }

    #[test]
    fn a_long_structure_is_refused_before_it_is_allocated() {
        assert!(metered(1 << 20).read_exact_at(0, 1 << 19).unwrap_err().to_string().contains("256 KB"));
    }
}
