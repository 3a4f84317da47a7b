//! Which of a checkpoint's values are the model's tensors, and what they are called.

use std::collections::HashSet;

use super::pickle::{Heap, Object, Value};
use super::rebuild::{Made, Workshop};
use crate::error::{Error, Printable, Result};
use crate::format::Extra;

/// The named tensors of a checkpoint, and what lies beside them.
#[derive(Debug, Default)]
pub(crate) struct StateDict {
    /// Name and tensor ([`Made::Tensor`] or [`Made::Unreadable`]), in the order of the file.
    pub(crate) tensors: Vec<(String, Made)>,
    /// Everything else.
    pub(crate) extras: Vec<Extra>,
}

/// Keys under which training loops put the state dict, next to other things.
const WRAPPERS: [&str; 4] = ["state_dict", "model", "model_state_dict", "module"];

/// How deep dicts may be nested.
const DEEPEST: usize = 32;
/// How many tensors a model may have.
const MOST_TENSORS: usize = 100_000;
/// How many bytes all names together may have.
const MOST_NAME_BYTES: usize = 64 << 20;
/// How many entries beside the tensors are listed one by one.
const MOST_EXTRAS: usize = 10_000;
/// A dict beside the tensors of at most that many entries is listed entry by entry.
const SMALL_DICT: usize = 16;

/// Finds the tensors in the value that a checkpoint's pickle is: a dict from names to tensors, which may be wrapped
/// in other dicts under a usual name, and may be nested, in which case the keys are joined by dots.
pub(crate) fn collect(heap: &Heap<'_>, workshop: &Workshop, root: Value) -> Result<StateDict> {
    let holders = tensor_holders(heap, workshop);
    let mut collector = Collector {
        heap,
        workshop,
        holders,
        found: StateDict::default(),
        names: HashSet::new(),
        walked: HashSet::new(),
        name_bytes: 0,
        unlisted: 0,
    };
    let state_dict = collector.unwrap(root)?;
    collector.walk(state_dict, "", 0)?;
    if collector.found.tensors.is_empty() {
        return Err(Error::new(
            crate::error::Kind::Model,
            "holds no tensors (transformers 4.57 writes such files when it loads a .h5 checkpoint with from_tf=True; \
             convert the .h5 itself)",
        ));
    }
    Ok(collector.finish())
}

struct Collector<'c, 'a> {
    heap: &'c Heap<'a>,
    workshop: &'c Workshop,
    /// By object: whether it is a tensor or contains one.
    holders: Vec<bool>,
    found: StateDict,
    names: HashSet<String>,
    /// Dicts that have been walked. None is walked twice, so neither cycles nor sharing can blow up the result.
    walked: HashSet<usize>,
    name_bytes: usize,
    unlisted: usize,
}

impl Collector<'_, '_> {
    /// Descends to the state dict and lists what lies beside it.
    fn unwrap(&mut self, root: Value) -> Result<Value> {
        let mut dict = root;
        for _ in 0..DEEPEST {
            let entries = self.entries(dict)?;
            let mut wrapped: Vec<&(String, Value)> = Vec::new();
            for entry in &entries {
                let is_wrapped = WRAPPERS.contains(&entry.0.as_str())
                    && self.heap.dict(entry.1).is_some()
                    && self.holds_tensor(entry.1);
                if is_wrapped && wrapped.iter().all(|other| other.1 != entry.1) {
                    wrapped.push(entry);
                }
            }
            let inner = match wrapped.as_slice() {
                [] => return Ok(dict),
                [(_, inner)] => *inner,
                [(first, _), (second, _), ..] => {
                    return Err(Error::unsupported(format!(
                        "holds tensors under \"{first}\" and under \"{second}\": which are the model's is not clear; \
                         save one of them alone"
                    )));
                }
            };
            for (key, value) in &entries {
                if *value != inner {
                    self.list_beside(key, *value)?;
                }
            }
            dict = inner;
        }
        Err(too_deep())
    }

    /// Takes every tensor below `dict`.
    fn walk(&mut self, dict: Value, prefix: &str, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        if let Value::Object(id) = dict
            && !self.walked.insert(id.index())
        {
            return Err(Error::unsupported(format!(
                "the dict at \"{}\" also occurs elsewhere in the file",
                Printable(prefix)
            )));
        }
        for (key, value) in self.entries(dict)? {
            let name = self.join(prefix, &key)?;
            if let Some(made @ (Made::Tensor(_) | Made::Unreadable(_))) = self.workshop.made(self.heap, value)
            {
                if self.found.tensors.len() == MOST_TENSORS {
                    return Err(Error::unsupported(format!("more than {MOST_TENSORS} tensors")));
                }
                if !self.names.insert(name.clone()) {
                    return Err(Error::malformed("this name occurs twice").in_tensor(&name));
                }
                self.found.tensors.push((name, made));
            } else if !self.holds_tensor(value) {
                self.list(name, value);
            } else if self.heap.dict(value).is_some() {
                self.walk(value, &name, depth + 1)?;
            } else {
                return Err(Error::unsupported(format!(
                    "a {} of tensors at \"{}\": only dicts give tensors a name",
                    self.heap.kind(value),
                    Printable(&name)
                )));
            }
        }
        Ok(())
    }

    /// The entries of a dict, their keys as text. None may occur twice: a model that has two weights of one name
    /// is not the one that torch would load.
    fn entries(&self, dict: Value) -> Result<Vec<(String, Value)>> {
        let Some(entries) = self.heap.dict(dict) else {
            let what = self.describe(dict);
            return Err(Error::unsupported(format!("holds a {what}, not a dict from names to tensors")));
        };
        let mut keys = HashSet::with_capacity(entries.len());
        entries
            .iter()
            .map(|&(key, value)| {
                let text = match (key, self.heap.str(key)) {
                    (_, Some(text)) => text.to_owned(),
                    (Value::Int(number), _) => number.to_string(),
                    _ if self.holds_tensor(value) => {
                        return Err(Error::unsupported(format!(
                            "a {} as the name of a tensor",
                            self.heap.kind(key)
                        )));
                    }
                    _ => return Ok((format!("<{}>", self.heap.kind(key)), value)),
                };
                if !keys.insert(text.clone()) {
                    return Err(Error::malformed(format!(
                        "key \"{}\" occurs twice in a dict",
                        Printable(&text)
                    )));
                }
                Ok((text, value))
            })
            .collect()
    }

    fn join(&mut self, prefix: &str, key: &str) -> Result<String> {
        self.name_bytes = self.name_bytes.saturating_add(prefix.len() + 1 + key.len());
        if self.name_bytes > MOST_NAME_BYTES {
            return Err(Error::unsupported(format!("names of more than {MOST_NAME_BYTES} bytes")));
        }
        Ok(if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") })
    }

    /// Lists an entry that lies beside the state dict, with what is in it if that is little.
    fn list_beside(&mut self, key: &str, value: Value) -> Result<()> {
        let parts = self.heap.len(value);
        if self.heap.dict(value).is_none() || parts == 0 || parts > SMALL_DICT {
            let name = self.join("", key)?;
            self.list(name, value);
            return Ok(());
        }
        for (part, value) in self.entries_leniently(value) {
            let name = self.join(key, &part)?;
            self.list(name, value);
        }
        Ok(())
    }

    /// The entries of a dict that is only listed, whatever its keys are.
    fn entries_leniently(&self, dict: Value) -> Vec<(String, Value)> {
        let key_text = |key: Value| match (key, self.heap.str(key)) {
            (_, Some(text)) => text.to_owned(),
            (Value::Int(number), _) => number.to_string(),
            _ => format!("<{}>", self.heap.kind(key)),
        };
        let entries = self.heap.dict(dict).unwrap_or_default();
        entries.iter().map(|&(key, value)| (key_text(key), value)).collect()
    }

    fn list(&mut self, name: String, value: Value) {
        if self.found.extras.len() < MOST_EXTRAS {
            let what = self.describe(value);
            self.found.extras.push(Extra { name, what });
        } else {
            self.unlisted += 1;
        }
    }

    fn finish(mut self) -> StateDict {
        if self.unlisted > 0 {
            let what = format!("{} more entries", self.unlisted);
            self.found.extras.push(Extra { name: "…".to_owned(), what });
        }
        self.found
    }

    fn holds_tensor(&self, value: Value) -> bool {
        match value {
            Value::Object(id) => self.holders.get(id.index()).copied().unwrap_or(false),
            _ => false,
        }
    }

    /// A value for people: `int 3`, `dict of 12 entries`.
    fn describe(&self, value: Value) -> String {
        let plural =
            |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        match value {
            Value::None => "None".to_owned(),
            Value::Bool(value) => format!("bool {value}"),
            Value::Int(value) => format!("int {value}"),
            Value::Float(value) => format!("float {value}"),
            Value::Object(_) => match self.heap.get(value) {
                Some(Object::Str(text)) => {
                    let start: String = text.chars().take(40).collect();
                    let more = if start.len() < text.len() { "…" } else { "" };
                    format!("string \"{}{more}\"", Printable(&start))
                }
                Some(Object::Long(Some(value))) => format!("int {value}"),
                Some(Object::Bytes(bytes)) => plural(bytes.len(), "byte", "bytes"),
                Some(Object::Tuple(_) | Object::List(_) | Object::Set(_)) => {
                    format!("{} of {}", self.heap.kind(value), plural(self.heap.len(value), "item", "items"))
                }
                Some(Object::Dict(entries)) => {
                    format!("dict of {}", plural(entries.len(), "entry", "entries"))
                }
                _ => match self.workshop.made(self.heap, value) {
                    Some(Made::Tensor(_) | Made::Unreadable(_)) => "tensor".to_owned(),
                    Some(Made::Storage(_)) => "storage".to_owned(),
                    Some(Made::Described(what)) => what.to_owned(),
                    Some(Made::Global(_)) => "class or function".to_owned(),
                    None => self.heap.kind(value).to_owned(),
                },
            },
        }
    }
}

/// For each object, whether it is a tensor or contains one: a search backwards from the tensors.
fn tensor_holders(heap: &Heap<'_>, workshop: &Workshop) -> Vec<bool> {
    let mut parents: Vec<(usize, usize)> = Vec::new();
    let mut to_visit = Vec::new();
    for (id, object) in heap.objects() {
        parents.extend(object.parts().map(|part| (part.index(), id.index())));
        let made = workshop.made(heap, Value::Object(id));
        if matches!(made, Some(Made::Tensor(_) | Made::Unreadable(_))) {
            to_visit.push(id.index());
        }
    }
    parents.sort_unstable();
    let mut holders = vec![false; heap.object_count()];
    while let Some(index) = to_visit.pop() {
        let Some(holder) = holders.get_mut(index) else { continue };
        if std::mem::replace(holder, true) {
            continue;
        }
        let first = parents.partition_point(|&(part, _)| part < index);
        let above = parents.iter().skip(first).take_while(|&&(part, _)| part == index);
        to_visit.extend(above.map(|&(_, parent)| parent));
    }
    holders
}

fn too_deep() -> Error {
    Error::unsupported(format!("dicts nested more than {DEEPEST} deep"))
}
