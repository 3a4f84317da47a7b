//! Inflation into exactly as many bytes as were announced.

use flate2::{Decompress, FlushDecompress, Status};

/// The most bytes that a deflate stream can produce from one: 258 bytes from two bits, in round numbers.
const MOST_PER_BYTE: usize = 1032;

/// Unpacks a raw deflate stream that is said to hold `len` bytes.
///
/// # Errors
/// In words, if it holds fewer or more, is damaged, is followed by other bytes, or is too short to hold that much
/// (in which case nothing is allocated).
pub(crate) fn inflate(packed: &[u8], len: usize) -> Result<Vec<u8>, String> {
    if len > packed.len().saturating_mul(MOST_PER_BYTE) {
        return Err(format!(
            "claims to hold {len} bytes in {} compressed ones, which is impossible",
            packed.len()
        ));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| format!("holds {len} bytes, for which there is no memory"))?;
    let mut stream = Decompress::new(false);
    let mut status = step(&mut stream, packed, &mut bytes)?;
    if bytes.len() == len && status != Status::StreamEnd {
        // Every announced byte is there. The end mark may still have to be read; anything else is too much.
        let mut beyond = Vec::with_capacity(1);
        status = step(&mut stream, packed, &mut beyond)?;
        if !beyond.is_empty() {
            return Err(format!("holds more than the {len} bytes that it claims"));
        }
    }
    let used = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
    if status != Status::StreamEnd || bytes.len() != len {
        return Err(format!("ends after {} of {len} bytes", bytes.len()));
    }
    if used != packed.len() {
        return Err(format!("has {} bytes after its end", packed.len().saturating_sub(used)));
    }
    Ok(bytes)
}

/// Unpacks as much of a raw deflate stream as is intact, and at most `largest` bytes: for looking into files that
/// are damaged or hostile.
pub(crate) fn inflate_prefix(packed: &[u8], largest: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(largest.min(packed.len().saturating_mul(MOST_PER_BYTE)));
    // Whatever came out before an error is the prefix.
    let _ = step(&mut Decompress::new(false), packed, &mut bytes);
    bytes
}

/// Unpacks until `out` is at its capacity or the stream at its end.
fn step(stream: &mut Decompress, packed: &[u8], out: &mut Vec<u8>) -> Result<Status, String> {
    loop {
        let used = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        let rest = packed.get(used..).unwrap_or_default();
        let before = (stream.total_in(), stream.total_out());
        let status = stream
            .decompress_vec(rest, out, FlushDecompress::None)
            .map_err(|error| format!("is no valid deflate stream: {error}"))?;
        let stuck = before == (stream.total_in(), stream.total_out());
        if status == Status::StreamEnd || stuck || out.len() == out.capacity() {
            return Ok(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gives_back_what_was_packed() {
        for len in [0, 1, 1000, 100_000] {
            let bytes: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 20) as u8).collect();
            assert_eq!(inflate(&deflate(&bytes), bytes.len()).unwrap(), bytes);
            assert_eq!(inflate_prefix(&deflate(&bytes), usize::MAX), bytes);
        }
    }

    #[test]
    fn a_size_that_lies_is_an_error() {
        let packed = deflate(&[7; 5000]);
        assert_eq!(inflate(&packed, 4999).unwrap_err(), "holds more than the 4999 bytes that it claims");
        assert_eq!(inflate(&packed, 5001).unwrap_err(), "ends after 5000 of 5001 bytes");
        assert!(inflate(&packed, usize::MAX).unwrap_err().contains("impossible"));
        assert!(inflate(&packed[..packed.len() - 3], 5000).unwrap_err().contains("of 5000 bytes"));
        assert_eq!(
            inflate(&[packed.as_slice(), b"xyz"].concat(), 5000).unwrap_err(),
            "has 3 bytes after its end"
        );
        assert!(inflate(&[0xff; 100], 100).unwrap_err().contains("deflate"));
    }
}
