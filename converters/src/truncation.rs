//! Signs of a download that ended before the file did.

use crate::error::Result;
use crate::format::TensorFile;

/// Says so if the last matrices of a file, or the last rows of one, are zero: what a program leaves that makes room for a
/// file before it fetches it. Only for formats without checksums and with their tensors at the end of the file.
pub(crate) fn zeros_at_the_end(file: &dyn TensorFile) -> Result<Option<String>> {
    let (mut zeros, mut first) = (0, None);
    for (index, info) in file.tensors().iter().enumerate().rev() {
        let bytes = file.read(index)?;
        let here = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
        zeros += here;
        // Biases are zero in many models, and no sign.
        let rows = info.shape.first().copied().filter(|&rows| rows > 1 && info.shape.len() > 1);
        if rows.is_some_and(|rows| here > 0 && here >= bytes.len() / rows) {
            first = Some(info.name.as_str());
        }
        if here < bytes.len() {
            break;
        }
    }
    Ok(first.map(|first| {
        format!(
            "the last {zeros} bytes of the file are zero, those of \"{}\" among them: an interrupted download leaves such a \
             file; compare its checksum with the publisher's",
            crate::error::Printable(first)
        )
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::format::safetensors::open;
    use crate::mapped::Mapped;

    #[test]
    fn rows_of_zeros_at_the_end_are_told_and_biases_are_not() {
        let header = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}"#;
        let told = |data: [u8; 32]| {
            let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
            zeros_at_the_end(&open(Mapped::from_bytes(bytes, Path::new("m"))).unwrap()).unwrap()
        };
        let mut data = [1; 32];
        assert_eq!(told(data), None);
        data[16..].fill(0);
        assert_eq!(told(data), None);
        data[9..].fill(0);
        assert_eq!(told(data), None);
        data[8..].fill(0);
        let text = told(data).unwrap();
        assert!(
            text.starts_with("the last 24 bytes of the file are zero, those of \"a\" among them"),
            "{text}"
        );
    }
}
