//! Undoing the filters that HDF5 applies to a chunk.

use std::borrow::Cow;

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::{Error, Result};

/// A filter of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// zlib.
    Deflate,
    /// The bytes of elements of this size, transposed: all first bytes, all second bytes, ….
    Shuffle(usize),
    /// A checksum after the data.
    Fletcher32,
}

/// Bytes that a chunk grows by when its checksum is added.
const CHECKSUM_LEN: usize = 4;

impl Filter {
    /// The filter registered as `id` with the parameters `client_data`.
    pub(super) fn new(id: u16, client_data: &[u32]) -> Result<Self> {
        match (id, client_data) {
            (1, _) => Ok(Filter::Deflate),
            (2, &[size, ..]) if size > 0 => Ok(Filter::Shuffle(
                usize::try_from(size)
                    .map_err(|_| Error::malformed(format!("shuffled elements of {size} bytes")))?,
            )),
            (2, _) => Err(Error::malformed("shuffled, but the size of an element is missing")),
            (3, _) => Ok(Filter::Fletcher32),
            _ => Err(Error::unsupported(format!(
                "compressed by HDF5 filter {id}; write it with gzip, shuffle, fletcher32 or none"
            ))),
        }
    }

    /// What `bytes` were before the filter. At most `longest` bytes.
    pub(super) fn undo<'a>(self, bytes: Cow<'a, [u8]>, longest: usize) -> Result<Cow<'a, [u8]>> {
        match self {
            Filter::Deflate => inflate(&bytes, longest).map(Cow::Owned),
            Filter::Shuffle(size) => Ok(Cow::Owned(unshuffle(&bytes, size))),
            Filter::Fletcher32 => without_checksum(bytes),
        }
    }
}

/// The longest that a chunk of `len` bytes can be on its way through `filters`.
pub(super) fn longest(len: usize, filters: &[Filter]) -> usize {
    let checksums = filters.iter().filter(|&&filter| filter == Filter::Fletcher32).count();
    len.saturating_add(checksums * CHECKSUM_LEN)
}

/// zlib data, in memory bounded by `longest`.
fn inflate(bytes: &[u8], longest: usize) -> Result<Vec<u8>> {
    let mut stream = Decompress::new(true);
    // Grows with what the stream really holds.
    let mut out = Vec::with_capacity(longest.min(bytes.len().saturating_mul(4)).saturating_add(1));
    loop {
        let consumed = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        let rest = bytes.get(consumed..).unwrap_or_default();
        let before = (stream.total_in(), stream.total_out());
        let status = stream
            .decompress_vec(rest, &mut out, FlushDecompress::None)
            .map_err(|error| Error::malformed(format!("its zlib data is damaged: {error}")))?;
        if out.len() > longest {
            return Err(Error::malformed(format!("a chunk inflates to more than its {longest} bytes")));
        }
        if status == Status::StreamEnd {
            return Ok(out);
        }
        if out.len() == out.capacity() {
            // One more byte than there should be, to see the end or that there is none.
            out.reserve_exact(out.len().min(longest - out.len()) + 1);
        } else if before == (stream.total_in(), stream.total_out()) {
            return Err(Error::malformed("its zlib data ends early"));
        }
    }
}

fn unshuffle(bytes: &[u8], size: usize) -> Vec<u8> {
    let count = bytes.len() / size;
    let whole = count * size;
    let mut out = vec![0; whole];
    if count > 0 {
        for (place, column) in bytes[..whole].chunks_exact(count).enumerate() {
            for (element, &byte) in column.iter().enumerate() {
                out[element * size + place] = byte;
            }
        }
    }
    // Bytes that make no whole element are not shuffled.
    out.extend(&bytes[whole..]);
    out
}

fn without_checksum(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>> {
    let (data, stored) = bytes
        .len()
        .checked_sub(CHECKSUM_LEN)
        .and_then(|len| bytes.split_at_checked(len))
        .and_then(|(data, checksum)| Some((data, u32::from_le_bytes(checksum.try_into().ok()?))))
        .ok_or_else(|| {
            Error::malformed(format!("a chunk of {} bytes has no room for its checksum", bytes.len()))
        })?;
    let computed = fletcher32(data);
    // libhdf5 before 1.6.3 stored the two bytes of each half the other way round, and libhdf5 still accepts that.
    let swapped = computed.swap_bytes().rotate_left(16);
    if stored != computed && stored != swapped {
        return Err(Error::malformed(format!(
            "checksum mismatch: fletcher32 {computed:08x}, the file says {stored:08x}"
        )));
    }
    let len = data.len();
    Ok(match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..len]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(len);
            Cow::Owned(bytes)
        }
    })
}

/// `H5_checksum_fletcher32`: over big-endian 16-bit words, an odd last byte being a high byte.
fn fletcher32(data: &[u8]) -> u32 {
    /// Most words that can be summed before the sums overflow.
    const BATCH: usize = 360;
    let (mut sum1, mut sum2) = (0_u32, 0_u32);
    for batch in data.chunks(2 * BATCH) {
        for word in batch.chunks(2) {
            let low = word.get(1).copied().unwrap_or(0);
            sum1 += u32::from(word[0]) << 8 | u32::from(low);
            sum2 += sum1;
        }
        sum1 = (sum1 & 0xffff) + (sum1 >> 16);
        sum2 = (sum2 & 0xffff) + (sum2 >> 16);
    }
    sum1 = (sum1 & 0xffff) + (sum1 >> 16);
    sum2 = (sum2 & 0xffff) + (sum2 >> 16);
    sum2 << 16 | sum1
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use std::io::Write;

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn inflation_stops_at_the_length_that_is_expected() {
        let zeros = deflated(&vec![0; 1 << 24]);
        assert_eq!(inflate(&zeros, 1 << 24).unwrap().len(), 1 << 24);
        for longest in [0, 1, 63, 64, 65, 1000, (1 << 24) - 1] {
            let error = inflate(&zeros, longest).map(|bytes| bytes.len()).unwrap_err().to_string();
            assert_eq!(error, format!("a chunk inflates to more than its {longest} bytes"));
        }
    }

    #[test]
    fn a_stream_that_ends_early_is_an_error() {
        let whole = deflated(b"weights and biases");
        for len in 0..whole.len() {
            assert!(inflate(&whole[..len], 100).unwrap_err().to_string().contains("ends early"), "{len}");
        }
        assert_eq!(inflate(&whole, 18).unwrap(), b"weights and biases");
    }

    #[test]
    fn shuffling_leaves_what_makes_no_element() {
        assert_eq!(unshuffle(&[0, 2, 4, 1, 3, 5, 6], 2), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(unshuffle(&[7, 8], 4), [7, 8]);
        assert!(unshuffle(&[], 4).is_empty());
    }

    #[test]
    fn a_chunk_shorter_than_its_checksum_is_an_error() {
        let error = without_checksum(Cow::Borrowed(&[1, 2, 3])).unwrap_err().to_string();
        assert_eq!(error, "a chunk of 3 bytes has no room for its checksum");
        assert!(without_checksum(Cow::Borrowed(&[0; 4])).unwrap().is_empty());
    }

    #[test]
    fn sums_of_the_largest_words_do_not_overflow() {
        assert_eq!(fletcher32(&vec![0xff; 1 << 16]), 0xffff_ffff);
    }
}
