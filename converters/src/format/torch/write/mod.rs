//! Writing checkpoints in the zip format, as `torch.save` does.
//!
//! ```text
//! archive/data.pkl    the state dict, see [`pickle`]
//! archive/byteorder   little
//! archive/data/<i>    the storage of tensor i, at a multiple of 64 bytes
//! archive/version     3
//! ```
//!
//! Entries are stored, and every one has its checksum and its sizes both in front of it and in the directory. The
//! same tensors give the same bytes.

use std::collections::HashSet;

use super::super::{FilePlan, Span};
use crate::error::{Error, Kind, Printable, Result};
use crate::tensor::TensorInfo;

mod pickle;
mod zip;

pub use pickle::Alias;
use zip::Entry;

/// Where everything goes in a checkpoint that is about to be written.
#[derive(Debug)]
pub struct TorchPlan {
    pickle: Vec<u8>,
    /// All entries, in the order of the file; those of the tensors start at [`FIRST_STORAGE`].
    entries: Vec<Entry>,
    offsets: Vec<u64>,
    directory_at: u64,
    file_len: u64,
}

/// Plans a checkpoint that is a dict of `tensors` in their order, followed by `aliases`, each of which shares the
/// storage of its tensor.
///
/// # Errors
/// If a name occurs twice, an alias is of no tensor, or a size cannot be counted.
pub fn plan(tensors: &[TensorInfo], aliases: &[Alias<'_>]) -> Result<TorchPlan> {
    check_names(tensors, aliases)?;
    let pickle = pickle::state_dict(tensors, aliases)?;
    let mut entries = Vec::with_capacity(tensors.len() + 3);
    let mut end = 0u64;
    let mut add = |record: &str, len: usize| {
        let entry =
            u64::try_from(len).ok().and_then(|len| Entry::place(format!("{FOLDER}/{record}"), len, end));
        let entry = entry
            .ok_or_else(|| Error::new(Kind::Request, "the file would have more bytes than can be counted"))?;
        end = entry.end();
        entries.push(entry);
        Ok::<_, Error>(())
    };
    add("data.pkl", pickle.len())?;
    add("byteorder", BYTE_ORDER.len())?;
    for (index, tensor) in tensors.iter().enumerate() {
        add(&format!("data/{index}"), tensor.byte_len()?)?;
    }
    add("version", VERSION.len())?;
    let offsets = entries.iter().skip(FIRST_STORAGE).take(tensors.len()).map(Entry::data_at).collect();
    let file_len = end.checked_add(zip::directory_len(&entries, end));
    let file_len = file_len
        .ok_or_else(|| Error::new(Kind::Request, "the file would have more bytes than can be counted"))?;
    Ok(TorchPlan { pickle, entries, offsets, directory_at: end, file_len })
}

/// The folder of all records. torch takes the name of the file; it means nothing.
const FOLDER: &str = "archive";
const BYTE_ORDER: &[u8] = b"little";
/// The version of the format that torch has written since 1.6 (`kProducedFileFormatVersion`).
const VERSION: &[u8] = b"3\n";
/// How many entries come before the first storage.
const FIRST_STORAGE: usize = 2;

fn check_names(tensors: &[TensorInfo], aliases: &[Alias<'_>]) -> Result<()> {
    let mut names = HashSet::with_capacity(tensors.len() + aliases.len());
    let all = tensors.iter().map(|tensor| tensor.name.as_str()).chain(aliases.iter().map(|alias| alias.name));
    for name in all {
        if !names.insert(name) {
            return Err(Error::new(Kind::Request, "this name is to be written twice").in_tensor(name));
        }
    }
    match aliases.iter().find(|alias| alias.of >= tensors.len()) {
        Some(alias) => Err(Error::new(
            Kind::Request,
            format!(
                "\"{}\" is to be an alias of tensor {} of {}",
                Printable(alias.name),
                alias.of,
                tensors.len()
            ),
        )),
        None => Ok(()),
    }
}

impl FilePlan for TorchPlan {
    fn file_len(&self) -> u64 {
        self.file_len
    }

    fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    fn wants_crc32(&self) -> bool {
        true
    }

    fn seal(&self, crc32: &[u32]) -> Result<Vec<Span>> {
        if crc32.len() != self.offsets.len() {
            return Err(Error::new(
                Kind::Request,
                format!("{} checksums for {} tensors", crc32.len(), self.offsets.len()),
            ));
        }
        // Before and after the storages, the data is known and goes with its header.
        let known = |data: &'static [u8]| (crc32fast::hash(data), data);
        let front = [(crc32fast::hash(&self.pickle), self.pickle.as_slice()), known(BYTE_ORDER)];
        let storages = crc32.iter().map(|&crc32| (crc32, [].as_slice()));
        let records = front.into_iter().chain(storages).chain([known(VERSION)]);

        let mut spans = Vec::with_capacity(self.entries.len() + 1);
        let mut directory = Vec::new();
        for (entry, (crc32, data)) in self.entries.iter().zip(records) {
            spans
                .push(Span { offset: entry.header_at(), bytes: [&entry.local_header(crc32), data].concat() });
            directory.extend(entry.directory_entry(crc32));
        }
        directory.extend(zip::end_records(self.entries.len(), self.directory_at, directory.len()));
        spans.push(Span { offset: self.directory_at, bytes: directory });
        Ok(spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    fn tensor(name: &str, shape: &[usize]) -> TensorInfo {
        TensorInfo { name: name.to_owned(), dtype: Dtype::F32, shape: shape.to_vec() }
    }

    #[test]
    fn data_is_aligned_and_spans_fill_the_rest_of_the_file() {
        let tensors = [tensor("a", &[3]), tensor("b", &[]), tensor("c", &[0, 2]), tensor("d", &[5, 7])];
        let plan = plan(&tensors, &[]).unwrap();
        assert!(plan.offsets().iter().all(|offset| offset % 64 == 0));
        let mut pieces: Vec<_> =
            plan.seal(&[0; 4]).unwrap().iter().map(|span| (span.offset, span.bytes.len() as u64)).collect();
        for (tensor, &offset) in tensors.iter().zip(plan.offsets()) {
            pieces.push((offset, tensor.byte_len().unwrap() as u64));
        }
        pieces.sort_unstable();
        let end = pieces.iter().fold(0, |end, &(offset, len)| {
            assert_eq!(offset, end);
            end + len
        });
        assert_eq!(end, plan.file_len());
    }

    #[test]
    fn requests_that_make_no_sense_are_errors() {
        let message =
            |tensors: &[TensorInfo], aliases: &[Alias<'_>]| plan(tensors, aliases).unwrap_err().to_string();
        let a = [tensor("a", &[1])];
        assert_eq!(
            message(&[tensor("a", &[1]), tensor("a", &[2])], &[]),
            "tensor \"a\": this name is to be written twice"
        );
        assert_eq!(
            message(&a, &[Alias { name: "a", of: 0 }]),
            "tensor \"a\": this name is to be written twice"
        );
        assert_eq!(message(&a, &[Alias { name: "b", of: 1 }]), "\"b\" is to be an alias of tensor 1 of 1");
        assert!(message(&[tensor("a", &[usize::MAX])], &[]).contains("too large"));
        assert!(plan(&a, &[]).unwrap().seal(&[]).is_err());
    }

    /// Checkpoints beyond 4 GiB and 65,535 entries need the 64-bit fields. Their directory must be one that the
    /// reader follows; the tensors' bytes are not there, so only the headers are compared.
    #[test]
    fn large_files_use_64_bit_fields() {
        let gib = 1usize << 30;
        let tensors = [tensor("a", &[gib + 16]), tensor("b", &[gib - 1]), tensor("c", &[2])];
        let large = plan(&tensors, &[]).unwrap();
        let spans = large.seal(&[1, 2, 3]).unwrap();
        let directory = &spans.last().unwrap().bytes;
        assert!(
            directory.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0]),
            "the 32-bit end record points to the 64-bit one"
        );
        assert!(directory.windows(4).any(|window| window == b"PK\x06\x06"));
        let many: Vec<_> = (0..66_000).map(|index| tensor(&index.to_string(), &[1])).collect();
        let many = plan(&many, &[]).unwrap().seal(&vec![0; 66_000]).unwrap();
        assert!(many.last().unwrap().bytes.windows(4).any(|window| window == b"PK\x06\x06"));
    }
}
