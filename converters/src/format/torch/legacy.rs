//! The stream that torch wrote before 1.6, and still writes on request (torch/serialization.py `_legacy_save`).
//!
//! Five pickles one after the other: a magic number, a protocol version, facts about the machine, the checkpoint,
//! the keys of the storages. Then the storages in that order, each a count of elements (i64) and the elements.
//! Both are little-endian whatever the machine was: `StorageMethods.cpp` converts on big-endian machines, and
//! torch reads the entry `little_endian` of the facts as little as this does.

use std::collections::HashMap;
use std::ops::Range;

use super::contents::Contents;
use super::pickle::{Heap, Object, Ops, Value, run};
use super::rebuild::Workshop;
use super::storage::Storage;
use crate::error::{Error, Printable, Result};

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL: i64 = 1001;

/// What the pickles of a stream are, in order.
pub(crate) const PICKLES: [&str; 5] =
    ["magic number", "protocol version", "sys_info", "pickle", "storage keys"];

/// Whether the first pickle of `file` is the magic number of a stream.
pub(crate) fn is_legacy(file: &[u8]) -> bool {
    let mut heap = Heap::default();
    let first = run(&mut Ops::new(file, 0, ""), &mut heap, &mut Workshop::default());
    first.is_ok_and(|first| is_magic(&heap, first))
}

fn is_magic(heap: &Heap<'_>, value: Value) -> bool {
    matches!(heap.get(value), Some(Object::Long(Some(magic))) if **magic == MAGIC)
}

/// Reads the checkpoint that the stream `file` holds. `None` if its first pickle is not the magic number of such a
/// stream.
pub(crate) fn read(file: &[u8]) -> Result<Option<Contents>> {
    let (mut heap, mut workshop) = (Heap::default(), Workshop::default());
    let mut at = 0;
    let mut values = [Value::None; PICKLES.len()];
    for (name, value) in PICKLES.iter().zip(&mut values) {
        let mut ops = Ops::new(file, at, name);
        *value = run(&mut ops, &mut heap, &mut workshop)?;
        if at == 0 && !is_magic(&heap, *value) {
            return Ok(None);
        }
        at = ops.at();
    }
    let [_magic, protocol, _sys_info, root, keys] = values;
    if protocol != Value::Int(PROTOCOL) {
        return Err(Error::unsupported(format!("a legacy checkpoint of a protocol other than {PROTOCOL}")));
    }
    let ranges = locate(file, &heap, &workshop, keys, at)?;
    Contents::resolve(&heap, &workshop, root, file.len(), |index, declaration| {
        let range = ranges.get(&index).cloned();
        let range = range.ok_or_else(|| {
            Error::malformed(format!("its storage \"{}\" is not in the file", Printable(&declaration.key)))
        })?;
        Ok(Storage::plain(format!("storage \"{}\"", Printable(&declaration.key)), range, None))
    })
    .map(Some)
}

/// Where the elements of each storage are, by its index in the workshop. The storages must fill the file.
fn locate(
    file: &[u8],
    heap: &Heap<'_>,
    workshop: &Workshop,
    keys: Value,
    start: usize,
) -> Result<HashMap<usize, Range<usize>>> {
    let keys = heap.sequence(keys).ok_or_else(|| Error::malformed("the storage keys are no list"))?;
    let mut ranges = HashMap::with_capacity(keys.len());
    let mut at = start;
    for &key in keys {
        let text = match key {
            Value::Int(number) => number.to_string(),
            key => heap.str(key).ok_or_else(|| Error::malformed("a storage key is no string"))?.to_owned(),
        };
        let wrong = |what: String| Error::malformed(format!("storage \"{}\" {what}", Printable(&text)));
        let (index, declaration) = workshop
            .storage_of_key(&text)
            .and_then(|index| Some((index, workshop.storages().get(index)?)))
            .ok_or_else(|| wrong("belongs to no tensor".to_owned()))?;
        let count: [u8; 8] =
            file.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or_else(|| {
                wrong(format!("should start at byte {at}, the file ends at {}: it is truncated", file.len()))
            })?;
        let count = i64::from_le_bytes(count);
        if u64::try_from(count).ok() != Some(declaration.len) {
            return Err(wrong(format!("has {count} elements, the pickle says {}", declaration.len))
                .wanting(declaration.len, count));
        }
        let data_at = at + count_len();
        let end = usize::try_from(declaration.len)
            .ok()
            .and_then(|len| len.checked_mul(declaration.element.size)?.checked_add(data_at));
        let end = end.filter(|&end| end <= file.len()).ok_or_else(|| {
            wrong(format!(
                "has {} elements of {} bytes at byte {data_at}, the file ends at {}: it is truncated",
                declaration.len,
                declaration.element.size,
                file.len()
            ))
            .wanting_if(end.map(|end| (end, file.len())))
        })?;
        if ranges.insert(index, data_at..end).is_some() {
            return Err(wrong("occurs twice".to_owned()));
        }
        at = end;
    }
    if at != file.len() {
        return Err(Error::malformed(format!(
            "{} bytes behind the last storage, at byte {at}",
            file.len() - at
        )));
    }
    Ok(ranges)
}

const fn count_len() -> usize {
    size_of::<i64>()
}
