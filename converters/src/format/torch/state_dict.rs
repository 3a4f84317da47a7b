//! Which of a checkpoint's values are the model's tensors, and what they are called.

use std::collections::HashSet;

use super::pickle::{Heap, Object, ObjectId, Value};
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

/// Keys under which training loops put the state dict, next to other things, whatever its tensors are called.
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
/// in other dicts beside other things, and may be nested, in which case the keys are joined by dots. Of several such dicts
/// beside each other, the keys stay before the names.
pub(crate) fn collect(heap: &Heap<'_>, workshop: &Workshop, root: Value) -> Result<StateDict> {
    let holders = tensor_holders(heap, workshop);
    let model_holders = model_holders(heap, workshop);
    let mut collector = Collector {
        heap,
        workshop,
        holders,
        model_holders,
        found: StateDict::default(),
        names: HashSet::new(),
        walked: HashSet::new(),
        name_bytes: 0,
        unlisted: 0,
    };
    collector.unwrap(root)?;
    if collector.found.tensors.is_empty() {
        let there: Vec<String> =
            collector.found.extras.iter().take(4).map(|extra| Printable(&extra.name).to_string()).collect();
        let why = if there.is_empty() {
            "(transformers 4.57 writes such files when it loads a .h5 checkpoint with from_tf=True; convert the .h5 itself)"
                .to_owned()
        } else {
            format!("beside {}: the weights are in another file", there.join(", "))
        };
        return Err(Error::new(crate::error::Kind::Model, format!("holds no tensors {why}")));
    }
    Ok(collector.finish())
}

struct Collector<'c, 'a> {
    heap: &'c Heap<'a>,
    workshop: &'c Workshop,
    /// By object: whether it is a tensor or contains one.
    holders: Vec<bool>,
    /// By object: whether it is a dict with parameters in it.
    model_holders: Vec<bool>,
    found: StateDict,
    names: HashSet<String>,
    /// Dicts that have been walked. None is walked twice, so neither cycles nor sharing can blow up the result.
    walked: HashSet<usize>,
    name_bytes: usize,
    unlisted: usize,
}

impl Collector<'_, '_> {
    /// Descends to the state dict, or to the several of a training (a model and its average), takes their tensors, and lists
    /// what lies beside them.
    fn unwrap(&mut self, root: Value) -> Result<()> {
        let mut dict = root;
        for _ in 0..DEEPEST {
            let entries = self.entries(dict)?;
            let is_model =
                entries.iter().any(|(key, value)| is_parameter(self.heap, self.workshop, key, *value));
            let mut wrapped: Vec<&(String, Value)> = Vec::new();
            for entry in &entries {
                let (key, value) = (entry.0.as_str(), entry.1);
                let is_wrapped = self.heap.dict(value).is_some()
                    && (WRAPPERS.contains(&key) && self.holds_tensor(value)
                        || !is_model && holds(&self.model_holders, value));
                if is_wrapped && wrapped.iter().all(|other| other.1 != value) {
                    wrapped.push(entry);
                }
            }
            let beside = |value: Value| wrapped.iter().all(|(_, inner)| *inner != value);
            // Where nothing but parameters is beside each other, the dict is a nested one of one model.
            let is_nested = wrapped.iter().all(|(key, _)| !WRAPPERS.contains(&key.as_str()))
                && !entries.iter().any(|(_, value)| beside(*value) && self.holds_tensor(*value));
            match wrapped.as_slice() {
                _ if is_nested => return self.walk(dict, "", 0),
                [] => return self.walk(dict, "", 0),
                [(_, inner)] => {
                    for (key, value) in entries.iter().filter(|(_, value)| beside(*value)) {
                        self.list_beside(key, *value)?;
                    }
                    dict = *inner;
                }
                several => {
                    for (key, inner) in several {
                        let name = self.join("", key)?;
                        self.walk(*inner, &name, 1)?;
                    }
                    for (key, value) in entries.iter().filter(|(_, value)| beside(*value)) {
                        self.list_beside(key, *value)?;
                    }
                    return Ok(());
                }
            }
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
        holds(&self.holders, value)
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

/// Whether the value is a tensor and the key calls it a parameter. An optimizer's tensors have other names.
fn is_parameter(heap: &Heap<'_>, workshop: &Workshop, key: &str, value: Value) -> bool {
    let leaf = key.rsplit_once('.').map_or(key, |(_, leaf)| leaf);
    matches!(leaf, "weight" | "bias" | "gamma" | "beta" | "_weight")
        && matches!(workshop.made(heap, value), Some(Made::Tensor(_) | Made::Unreadable(_)))
}

/// For each object, whether it is a tensor or contains one.
fn tensor_holders(heap: &Heap<'_>, workshop: &Workshop) -> Vec<bool> {
    let is_tensor = |id: ObjectId, _: &Object<'_>| {
        let made = workshop.made(heap, Value::Object(id));
        matches!(made, Some(Made::Tensor(_) | Made::Unreadable(_)))
    };
    holders(heap, is_tensor, |_| true)
}

/// For each object, whether it is a dict that contains parameters, in dicts of it or by itself.
fn model_holders(heap: &Heap<'_>, workshop: &Workshop) -> Vec<bool> {
    let is_model = |_: ObjectId, object: &Object<'_>| match object {
        Object::Dict(entries) => entries
            .iter()
            .any(|&(key, value)| heap.str(key).is_some_and(|key| is_parameter(heap, workshop, key, value))),
        _ => false,
    };
    holders(heap, is_model, |object| matches!(object, Object::Dict(_)))
}

/// For each object, whether it is one of those or contains one, all between them being `containers`: a search backwards.
fn holders(
    heap: &Heap<'_>,
    is_one: impl Fn(ObjectId, &Object<'_>) -> bool,
    containers: impl Fn(&Object<'_>) -> bool,
) -> Vec<bool> {
    let mut parents: Vec<(usize, usize)> = Vec::new();
    let mut to_visit = Vec::new();
    for (id, object) in heap.objects() {
        if containers(object) {
            parents.extend(object.parts().map(|part| (part.index(), id.index())));
        }
        if is_one(id, object) {
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

fn holds(holders: &[bool], value: Value) -> bool {
    match value {
        Value::Object(id) => holders.get(id.index()).copied().unwrap_or(false),
        _ => false,
    }
}

fn too_deep() -> Error {
    Error::unsupported(format!("dicts nested more than {DEEPEST} deep"))
}
