//! From what a checkpoint's pickle declares to tensors that can be read.

use std::collections::HashMap;

use super::globals::{ElementType, Global};
use super::pickle::{Heap, Value};
use super::rebuild::{Made, StorageDeclaration, StorageWindow, TensorDeclaration, Workshop};
use super::state_dict;
use super::storage::Storage;
use super::view::View;
use crate::error::{Error, Result};
use crate::format::Extra;
use crate::tensor::{Dtype, TensorInfo};

/// Everything that a checkpoint holds. Nothing in it refers to the pickle any more.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) infos: Vec<TensorInfo>,
    /// For each tensor, its storage and its place there.
    pub(crate) views: Vec<(usize, View)>,
    pub(crate) storages: Vec<Storage>,
    /// For each storage, how many tensors are in it.
    pub(crate) tenants: Vec<usize>,
    pub(crate) extras: Vec<Extra>,
}

/// More dimensions than torch allows.
const MOST_DIMENSIONS: usize = 64;

/// Reading every tensor may take so many times the bytes of all storages, and [`FREE_WORK`] besides. A file can
/// declare any number of tensors on the same bytes.
const MOST_READS: usize = 8;
const FREE_WORK: usize = 64 << 20;

impl Contents {
    /// Resolves the checkpoint that is the value `root`. `find` gives the bytes of a storage by its index among
    /// [`Workshop::storages`]; `file_len` is the length of the file.
    pub(crate) fn resolve(
        heap: &Heap<'_>,
        workshop: &Workshop,
        root: Value,
        file_len: usize,
        mut find: impl FnMut(usize, &StorageDeclaration) -> Result<Storage>,
    ) -> Result<Contents> {
        let state_dict = state_dict::collect(heap, workshop, root)?;
        let mut contents = Contents { extras: state_dict.extras, ..Contents::default() };
        let mut found = HashMap::new();
        for (name, made) in state_dict.tensors {
            let mut add = |made| {
                let declared = match made {
                    Made::Tensor(tensor) => Declared::read(heap, workshop, tensor)?,
                    Made::Unreadable(why) => return Err(Error::unsupported(why)),
                    _ => return Err(Error::malformed("is no tensor")),
                };
                let declaration = workshop.storages().get(declared.window.storage);
                let declaration = declaration.ok_or_else(|| Error::malformed("has no storage"))?;
                let storage = match found.get(&declared.window.storage) {
                    Some(&storage) => storage,
                    None => {
                        let storage = contents.storages.len();
                        contents.storages.push(find(declared.window.storage, declaration)?);
                        contents.tenants.push(0);
                        found.insert(declared.window.storage, storage);
                        storage
                    }
                };
                let view = declared.view(declaration.element, file_len)?;
                Ok((storage, declared.dtype, view))
            };
            let (storage, dtype, view) = add(made).map_err(|error: Error| error.in_tensor(&name))?;
            contents.infos.push(TensorInfo { name, dtype, shape: view.shape().to_vec() });
            contents.views.push((storage, view));
            if let Some(tenants) = contents.tenants.get_mut(storage) {
                *tenants += 1;
            }
        }
        contents.check_work()?;
        Ok(contents)
    }

    /// Refuses a file whose tensors, read one after the other, take far more work than the file has bytes.
    fn check_work(&self) -> Result<()> {
        let stored: usize = self.storages.iter().map(Storage::len).fold(0, usize::saturating_add);
        let allowed = stored.saturating_mul(MOST_READS).saturating_add(FREE_WORK);
        let mut work = 0usize;
        let mut unpacked = None;
        for (storage, view) in &self.views {
            work = work.saturating_add(view.dense_len());
            let deflated = self.storages.get(*storage).filter(|storage| storage.is_deflated());
            if let Some(storage_bytes) = deflated.map(Storage::len)
                && unpacked.replace(*storage) != Some(*storage)
            {
                work = work.saturating_add(storage_bytes);
            }
        }
        if work > allowed {
            return Err(Error::refused(format!(
                "its {} tensors claim {work} bytes out of {stored} stored ones, at most {allowed} make sense",
                self.views.len()
            )));
        }
        Ok(())
    }
}

/// A tensor's declaration, its types checked.
struct Declared {
    window: StorageWindow,
    dtype: Dtype,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Declared {
    fn read(heap: &Heap<'_>, workshop: &Workshop, tensor: TensorDeclaration) -> Result<Declared> {
        let Some(Made::Storage(window)) = workshop.made(heap, tensor.storage) else {
            return Err(Error::malformed(format!("its storage is a {}", heap.kind(tensor.storage))));
        };
        let element = match tensor.dtype {
            Some(dtype) => match workshop.made(heap, dtype) {
                Some(Made::Global(Global::Dtype(element))) => element,
                _ => return Err(Error::malformed(format!("its dtype is a {}", heap.kind(dtype)))),
            },
            None => {
                let storage = workshop.storages().get(window.storage);
                storage.ok_or_else(|| Error::malformed("has no storage"))?.element
            }
        };
        let dtype = element.dtype.ok_or_else(|| {
            Error::unsupported(format!("elements of type {} are not supported", element.name))
        })?;
        if !is_plain(heap, tensor.metadata) {
            return Err(Error::unsupported("its conjugate or negative bit is set, which is not supported"));
        }
        Ok(Declared {
            window,
            dtype,
            offset: number(heap, "offset", tensor.offset)?,
            shape: numbers(heap, "shape", tensor.size)?,
            strides: numbers(heap, "strides", tensor.stride)?,
        })
    }

    /// The view, on a storage of elements of type `stored`.
    fn view(&self, stored: ElementType, file_len: usize) -> Result<View> {
        let bytes = |elements: u64| usize::try_from(elements).ok()?.checked_mul(stored.size);
        let window = bytes(self.window.start)
            .zip(bytes(self.window.len))
            .and_then(|(start, len)| Some(start..start.checked_add(len)?))
            .ok_or_else(|| Error::malformed("its storage is larger than the address space"))?;
        View::new(self.dtype, self.shape.clone(), self.strides.clone(), self.offset, &window, file_len)
    }
}

/// Whether the flags of a tensor leave its elements as they are.
fn is_plain(heap: &Heap<'_>, metadata: Value) -> bool {
    metadata == Value::None
        || heap.dict(metadata).is_some_and(|flags| flags.iter().all(|&(_, flag)| flag == Value::Bool(false)))
}

fn numbers(heap: &Heap<'_>, what: &str, value: Value) -> Result<Vec<usize>> {
    let items = heap.sequence(value).ok_or_else(|| {
        Error::malformed(format!("its {what} should be a tuple and is a {}", heap.kind(value)))
    })?;
    if items.len() > MOST_DIMENSIONS {
        return Err(Error::malformed(format!(
            "its {what} has {} dimensions, at most {MOST_DIMENSIONS} are possible",
            items.len()
        )));
    }
    items.iter().map(|&item| number(heap, what, item)).collect()
}

fn number(heap: &Heap<'_>, what: &str, value: Value) -> Result<usize> {
    match value {
        Value::Int(number) => usize::try_from(number)
            .map_err(|_| Error::malformed(format!("its {what} has the negative number {number}"))),
        other => Err(Error::malformed(format!("its {what} has a {} instead of a number", heap.kind(other)))),
    }
}
