//! The memory map as `hdf5-pure` reads it: behind a meter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdf5_pure::{FormatError, Source};

use crate::mapped::Mapped;

/// A mapped file that serves a bounded number of bytes, so that structures that refer to each other in circles,
/// or to the same block a million times, end in an error rather than in hours or in gigabytes.
pub(super) struct Metered {
    file: Arc<Mapped>,
    left: AtomicU64,
}

/// Bytes of metadata that opening a file may take, repetitions included. A base-size checkpoint takes 2 MB.
const METADATA_BUDGET: u64 = 64 << 20;

/// What a read costs beyond its bytes, so that the number of reads is bounded too.
const READ_COST: u64 = 64;

impl Metered {
    /// A full meter over `file`.
    pub(super) fn new(file: Arc<Mapped>) -> Self {
        Metered { file, left: AtomicU64::new(METADATA_BUDGET) }
    }

    fn take(&self, offset: u64, len: usize) -> Result<&[u8], FormatError> {
        let cost = READ_COST.saturating_add(len as u64);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost))
            .map_err(|_| FormatError::Source(format!("its metadata takes over {METADATA_BUDGET} bytes")))?;
        usize::try_from(offset)
            .ok()
            .and_then(|start| self.file.get(start..start.checked_add(len)?))
            .ok_or(FormatError::UnexpectedEof { expected: len, available: self.file.len() })
    }
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
