//! What the target `torch` does with its input.

use std::path::Path;

use deberta_converters::format::torch;
use deberta_converters::mapped::Mapped;

use crate::tensors;

/// Opens and audits the input as a checkpoint, and again as the pickle of a checkpoint whose checksums are right:
/// mutations hardly ever get past those.
pub(crate) fn exercise(data: &[u8]) {
    for file in [data.to_vec(), checkpoint(data)] {
        let _ = torch::audit(&Mapped::from_bytes(file.clone(), Path::new("fuzz")));
        if let Ok(file) = torch::open(Mapped::from_bytes(file, Path::new("fuzz"))) {
            tensors::read_all(&file);
        }
    }
}

/// An archive of stored entries: the pickle, and storages of 64 and 0 bytes.
fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    let entries: [(&str, &[u8]); 5] = [
        ("m/data.pkl", pickle),
        ("m/version", b"3\n"),
        ("m/byteorder", b"big"),
        ("m/data/0", &[1; 64]),
        ("m/data/1", &[]),
    ];
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let (Ok(offset), Ok(len), Ok(name_len)) =
            (u32::try_from(file.len()), u32::try_from(data.len()), u16::try_from(name.len()))
        else {
            return Vec::new();
        };
        // From the version that is needed to the length of the extra fields.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 33, 0];
        for field in [crc32fast::hash(data), len, len] {
            common.extend(field.to_le_bytes());
        }
        common.extend(name_len.to_le_bytes());
        common.extend([0, 0]);
        file.extend([b"PK\x03\x04", common.as_slice(), name.as_bytes(), data].concat());
        directory.extend(
            [b"PK\x01\x02\x14\0", common.as_slice(), &[0; 10], &offset.to_le_bytes(), name.as_bytes()]
                .concat(),
        );
    }
    let (Ok(start), Ok(len)) = (u32::try_from(file.len()), u32::try_from(directory.len())) else {
        return Vec::new();
    };
    file.extend(directory);
    file.extend(
        [b"PK\x05\x06\0\0\0\0\x05\0\x05\0".as_slice(), &len.to_le_bytes(), &start.to_le_bytes(), &[0, 0]]
            .concat(),
    );
    file
}
