//! No two tensors may have the same bytes.

use std::ops::Range;

use super::stored::Stored;
use crate::error::{Error, Printable, Result};
use crate::tensor::TensorInfo;

/// Fails when pieces of storage overlap.
///
/// Files of the old format have no checksums, but their data is packed: nearly every damaged address leads into the
/// bytes of another tensor. It also keeps tensors from being longer than the file that holds them.
pub(super) fn check(tensors: &[TensorInfo], stored: &[Stored]) -> Result<()> {
    let mut pieces: Vec<(Range<usize>, &str)> = Vec::new();
    for (info, stored) in tensors.iter().zip(stored) {
        pieces.extend(stored.ranges().map(|range| (range, info.name.as_str())));
    }
    pieces.sort_unstable_by_key(|(range, _)| (range.start, range.end));
    for pair in pieces.windows(2) {
        let [(first, first_name), (second, second_name)] = pair else { continue };
        if second.start < first.end {
            return Err(Error::malformed(format!(
                "its bytes {}..{} overlap bytes {}..{} of tensor \"{}\": the file is damaged, or both are links to \
                 one dataset",
                second.start,
                second.end,
                first.start,
                first.end,
                Printable(first_name)
            ))
            .in_tensor(second_name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::keras::stored::Bytes;
    use crate::tensor::Dtype;

    #[test]
    fn neighbours_are_fine_and_overlaps_are_not() {
        let tensors =
            ["a", "b", "c"].map(|name| TensorInfo { name: name.to_owned(), dtype: Dtype::U8, shape: vec![] });
        let check = |ranges: [Range<usize>; 3]| {
            let stored = ranges.map(|range| Stored { bytes: Bytes::Contiguous(range), swap: 1 });
            super::check(&tensors, &stored).map_err(|error| error.to_string())
        };
        assert_eq!(check([4..8, 0..4, 8..8]), Ok(()));
        let error = check([4..8, 0..4, 7..9]).unwrap_err();
        assert!(
            error.starts_with("tensor \"c\": its bytes 7..9 overlap bytes 4..8 of tensor \"a\""),
            "{error}"
        );
        assert!(check([4..8, 4..8, 0..1]).is_err());
        assert!(check([0..100, 4..8, 9..12]).is_err());
    }
}
