//! Reading whatever a file claims to hold.

use deberta_converters::format::TensorFile;

/// Reads every tensor that is not too large to be worth it. Errors are fine; panics and lies about sizes are not.
pub(crate) fn read_all(file: &impl TensorFile) {
    const LARGEST: usize = 64 << 20;
    for (index, info) in file.tensors().iter().enumerate() {
        let Ok(len) = info.byte_len() else { continue };
        if len <= LARGEST
            && let Ok(bytes) = file.read(index)
        {
            assert_eq!(bytes.len(), len, "tensor {} of {info:?}", info.name);
        }
    }
    assert!(file.read(file.tensors().len()).is_err(), "there is a tensor behind the last");
    let _ = file.extras().iter().map(|extra| extra.name.len() + extra.what.len()).sum::<usize>();
}
