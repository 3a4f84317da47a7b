//! What a checkpoint's pickle may make: storages, tensors, and things that are only described.

use std::collections::HashMap;

use super::globals::{self, ElementType, Global, Rebuild};
use super::pickle::{CallKind, Environment, Heap, MadeId, Object, Place, Value};
use crate::error::{Printable, Result};

/// Everything that the pickles of one file have made, by [`MadeId`].
#[derive(Debug, Default)]
pub(crate) struct Workshop {
    made: Vec<Made>,
    storages: Vec<StorageDeclaration>,
    storage_of_key: HashMap<String, usize>,
}

/// Something that is no plain value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Made {
    /// An import.
    Global(Global),
    /// A storage, or the window of an old checkpoint on one.
    Storage(StorageWindow),
    /// A dense tensor. Its arguments are checked when it turns out to have a name.
    Tensor(TensorDeclaration),
    /// A tensor that cannot be read, and why.
    Unreadable(&'static str),
    /// Anything else, in words.
    Described(&'static str),
}

/// A storage as the pickle declares it.
#[derive(Debug)]
pub(crate) struct StorageDeclaration {
    /// Its name in the file.
    pub(crate) key: String,
    /// The type of its elements.
    pub(crate) element: ElementType,
    /// The number of its elements.
    pub(crate) len: u64,
}

/// A part of a storage, in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StorageWindow {
    /// Index into [`Workshop::storages`].
    pub(crate) storage: usize,
    /// Its first element.
    pub(crate) start: u64,
    /// The number of its elements.
    pub(crate) len: u64,
}

/// The arguments of a rebuilt tensor, unchecked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TensorDeclaration {
    /// The storage.
    pub(crate) storage: Value,
    /// The first element, counted from the start of the storage.
    pub(crate) offset: Value,
    /// The shape.
    pub(crate) size: Value,
    /// Elements from one index to the next, for each dimension.
    pub(crate) stride: Value,
    /// The dtype, where it is not that of the storage.
    pub(crate) dtype: Option<Value>,
    /// Flags that change what the elements mean.
    pub(crate) metadata: Value,
}

impl Workshop {
    /// What `value` is, if it is no plain value.
    pub(crate) fn made(&self, heap: &Heap<'_>, value: Value) -> Option<Made> {
        let MadeId(index) = heap.made(value)?;
        self.made.get(index).copied()
    }

    /// The storages, in the order in which the pickle mentions them.
    pub(crate) fn storages(&self) -> &[StorageDeclaration] {
        &self.storages
    }

    /// The storage of that key.
    pub(crate) fn storage_of_key(&self, key: &str) -> Option<usize> {
        self.storage_of_key.get(key).copied()
    }

    fn make(&mut self, heap: &mut Heap<'_>, made: Made) -> Value {
        let id = MadeId(self.made.len());
        self.made.push(made);
        heap.add(Object::Made(id))
    }

    fn rebuild(&self, heap: &Heap<'_>, rebuild: Rebuild, arguments: &[Value]) -> Option<Made> {
        let tensor = |storage, offset, size, stride, dtype, metadata: Option<&Value>| {
            let metadata = metadata.copied().unwrap_or(Value::None);
            Made::Tensor(TensorDeclaration { storage, offset, size, stride, dtype, metadata })
        };
        Some(match (rebuild, arguments) {
            (Rebuild::Tensor, &[storage, offset, size, stride]) => {
                tensor(storage, offset, size, stride, None, None)
            }
            (Rebuild::TensorV2, &[storage, offset, size, stride, _grad, _hooks, ref metadata @ ..])
                if metadata.len() <= 1 =>
            {
                tensor(storage, offset, size, stride, None, metadata.first())
            }
            (
                Rebuild::TensorV3,
                &[storage, offset, size, stride, _grad, _hooks, dtype, ref metadata @ ..],
            ) if metadata.len() <= 1 => tensor(storage, offset, size, stride, Some(dtype), metadata.first()),
            (Rebuild::Parameter, &[data, _grad, _hooks])
            | (Rebuild::ParameterWithState, &[data, _grad, _hooks, _]) => self.tensor(heap, data)?,
            (Rebuild::FromTypeV2, &[function, class, arguments, _state]) => {
                match (self.made(heap, function)?, self.made(heap, class)?) {
                    (Made::Global(Global::Rebuild(inner)), Made::Global(Global::TensorClass))
                        if inner != Rebuild::FromTypeV2 =>
                    {
                        self.rebuild(heap, inner, heap.tuple(arguments)?)?
                    }
                    (Made::Global(Global::Unreadable(why)), Made::Global(Global::TensorClass)) => {
                        Made::Unreadable(why)
                    }
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    /// What `value` is, if it is a tensor.
    fn tensor(&self, heap: &Heap<'_>, value: Value) -> Option<Made> {
        self.made(heap, value).filter(|made| matches!(made, Made::Tensor(_) | Made::Unreadable(_)))
    }

    /// The storage of `("storage", class, key, location, len)`, to which the legacy format adds `None` or the
    /// window `(key, start, len)`.
    fn storage(&mut self, heap: &Heap<'_>, id: Value, place: Place<'_>) -> Result<StorageWindow> {
        let malformed = || place.malformed("a persistent id that describes no storage");
        let id = heap.tuple(id).ok_or_else(malformed)?;
        let (&[tag, class, key, location, len], view) = id.split_first_chunk().ok_or_else(malformed)?;
        if heap.str(tag) != Some("storage") {
            let tag = heap.str(tag).unwrap_or("?");
            return Err(place.refused(format_args!("refuses the persistent id of a {}", Printable(tag))));
        }
        let Some(Made::Global(Global::Storage(element))) = self.made(heap, class) else {
            return Err(malformed());
        };
        // Whatever the device was, the bytes are in the file.
        heap.str(location).ok_or_else(malformed)?;
        let key = storage_key(heap, key).ok_or_else(malformed)?;
        let len = count(len).ok_or_else(malformed)?;
        let storage = self.declare(key, element, len, place)?;
        let (start, window) = match *view {
            [] | [Value::None] => (0, len),
            [view] => match heap.tuple(view) {
                Some(&[_key, start, window]) => {
                    (count(start).ok_or_else(malformed)?, count(window).ok_or_else(malformed)?)
                }
                _ => return Err(malformed()),
            },
            _ => return Err(malformed()),
        };
        if start.checked_add(window).is_none_or(|end| end > len) {
            return Err(place
                .malformed(format_args!("a view of {window} elements at {start}, the storage has {len}"))
                .wanting(start.saturating_add(window), len));
        }
        Ok(StorageWindow { storage, start, len: window })
    }

    fn declare(&mut self, key: String, element: ElementType, len: u64, place: Place<'_>) -> Result<usize> {
        let Some(index) = self.storage_of_key(&key) else {
            let index = self.storages.len();
            self.storages.push(StorageDeclaration { key: key.clone(), element, len });
            self.storage_of_key.insert(key, index);
            return Ok(index);
        };
        match self.storages.get(index) {
            Some(known) if known.element == element && known.len == len => Ok(index),
            Some(known) => Err(place.malformed(format_args!(
                "storage \"{}\" is declared as {len} {} and as {} {}",
                Printable(&key),
                element.name,
                known.len,
                known.element.name
            ))),
            None => Err(place.malformed("a storage that was never declared")),
        }
    }
}

impl<'a> Environment<'a> for Workshop {
    fn global(&mut self, heap: &mut Heap<'a>, module: &str, name: &str, place: Place<'_>) -> Result<Value> {
        match globals::find(module, name) {
            Some(global) => Ok(self.make(heap, Made::Global(global))),
            None => Err(place.refused(format_args!(
                "refuses to call {}: only what torch.save writes for tensors and plain values is allowed \
                 (`deberta-convert audit` lists everything that the file calls){}",
                Printable(&globals::full_name(module, name)),
                globals::lead(module, name)
            ))),
        }
    }

    fn extension(&mut self, _: &mut Heap<'a>, code: u32, place: Place<'_>) -> Result<Value> {
        Err(place.refused(format_args!("refuses to call Python's extension {code}")))
    }

    fn call(
        &mut self,
        heap: &mut Heap<'a>,
        kind: CallKind,
        function: Value,
        arguments: Value,
        place: Place<'_>,
    ) -> Result<Value> {
        let Some(Made::Global(global)) = self.made(heap, function) else {
            return Err(place.refused(format_args!("refuses to call a {}", heap.kind(function))));
        };
        let bad = || place.malformed(format_args!("wrong arguments for {global:?}"));
        let arguments = heap.tuple(arguments).ok_or_else(bad)?;
        let first = arguments.first().copied();
        let is_container = matches!(global, Global::Dict | Global::Set | Global::Size);
        if is_container && arguments.len() > 1 {
            return Err(bad());
        }
        match (global, kind) {
            (Global::Dict, _) => {
                heap.charge(first.map_or(0, |items| heap.len(items)), place)?;
                let entries = dict_entries(heap, first).ok_or_else(bad)?;
                Ok(heap.add(Object::Dict(entries)))
            }
            (Global::Set | Global::Size, _) => {
                heap.charge(first.map_or(0, |items| heap.len(items)), place)?;
                let items =
                    first.map_or(Some([].as_slice()), |items| heap.sequence(items)).ok_or_else(bad)?;
                let copy = if global == Global::Set {
                    Object::Set(items.to_vec())
                } else {
                    Object::Tuple(items.into())
                };
                Ok(heap.add(copy))
            }
            (Global::Rebuild(rebuild), CallKind::Reduce) => {
                let tensor = self.rebuild(heap, rebuild, arguments).ok_or_else(bad)?;
                Ok(self.make(heap, tensor))
            }
            (Global::TensorClass, _) => {
                let data = first.and_then(|data| self.tensor(heap, data));
                let tensor =
                    data.ok_or_else(|| place.unsupported("a tensor as torch saved it before version 0.4"))?;
                Ok(self.make(heap, tensor))
            }
            (Global::Unreadable(why), CallKind::Reduce) => Ok(self.make(heap, Made::Unreadable(why))),
            (Global::Described(what), _) => Ok(self.make(heap, Made::Described(what))),
            (Global::Storage(_) | Global::Dtype(_), _) => {
                Err(place.refused("refuses to call a storage class or a dtype"))
            }
            (Global::Rebuild(_) | Global::Unreadable(_), CallKind::New) => Err(bad()),
        }
    }

    fn build(&mut self, heap: &mut Heap<'a>, object: Value, _state: Value, place: Place<'_>) -> Result<()> {
        // The state of a dict is its attributes (`_metadata`), not its entries; that of a dtype is its byte order.
        let harmless =
            heap.dict(object).is_some() || matches!(self.made(heap, object), Some(Made::Described(_)));
        if harmless {
            Ok(())
        } else {
            Err(place.refused(format_args!("refuses to set the state of a {}", heap.kind(object))))
        }
    }

    fn add_items(&mut self, heap: &mut Heap<'a>, object: Value, place: Place<'_>) -> Result<()> {
        Err(place.refused(format_args!("refuses to add items to a {}", heap.kind(object))))
    }

    fn persistent(&mut self, heap: &mut Heap<'a>, id: Value, place: Place<'_>) -> Result<Value> {
        let window = self.storage(heap, id, place)?;
        Ok(self.make(heap, Made::Storage(window)))
    }
}

/// The entries of a dict made by a call: `OrderedDict()`, `OrderedDict([(key, value), …])`, `Counter({…})`,
/// `defaultdict(factory)`.
fn dict_entries(heap: &Heap<'_>, argument: Option<Value>) -> Option<Vec<(Value, Value)>> {
    let Some(first) = argument else { return Some(Vec::new()) };
    if let Some(entries) = heap.dict(first) {
        return Some(entries.to_vec());
    }
    if heap.made(first).is_some() {
        return Some(Vec::new());
    }
    let pair = |&item: &Value| match heap.sequence(item) {
        Some(&[key, value]) => Some((key, value)),
        _ => None,
    };
    heap.sequence(first)?.iter().map(pair).collect()
}

/// A storage's key, which names an entry of the archive: text, or a number in very old files.
fn storage_key(heap: &Heap<'_>, key: Value) -> Option<String> {
    const LONGEST: usize = 255;
    match key {
        Value::Int(number) => Some(number.to_string()),
        key => heap.str(key).filter(|key| key.len() <= LONGEST).map(str::to_owned),
    }
}

fn count(value: Value) -> Option<u64> {
    match value {
        Value::Int(count) => u64::try_from(count).ok(),
        _ => None,
    }
}
