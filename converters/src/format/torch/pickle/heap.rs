//! The values of a pickle.

use std::borrow::Cow;

use super::MAX_STEPS;
use super::place::Place;
use crate::error::Result;

/// A value as it lies on the machine's stack: small, and copied freely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Anything that has an identity: it may be shared, and it may contain itself.
    Object(ObjectId),
}

/// The index of an object on its heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectId(usize);

impl ObjectId {
    /// Its place on the heap, below [`Heap::object_count`].
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// The number under which an environment knows something that it made: an import, a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MadeId(pub(crate) usize);

/// What an [`ObjectId`] stands for. Contents are in the order in which the pickle added them.
#[derive(Debug)]
pub(crate) enum Object<'a> {
    Str(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// An integer outside the range of i64; `None` beyond 128 bits.
    Long(Option<Box<i128>>),
    Tuple(Box<[Value]>),
    List(Vec<Value>),
    Set(Vec<Value>),
    /// Keys may occur twice: that is for the reader of the dict to judge.
    Dict(Vec<(Value, Value)>),
    /// Something that only the environment understands.
    Made(MadeId),
}

impl Object<'_> {
    /// The objects that this one contains.
    pub(crate) fn parts(&self) -> impl Iterator<Item = ObjectId> {
        let (items, entries): (&[Value], &[(Value, Value)]) = match self {
            Object::Tuple(items) => (items, &[]),
            Object::List(items) | Object::Set(items) => (items, &[]),
            Object::Dict(entries) => (&[], entries),
            Object::Str(_) | Object::Bytes(_) | Object::Long(_) | Object::Made(_) => (&[], &[]),
        };
        let values = items.iter().chain(entries.iter().flat_map(|(key, value)| [key, value]));
        values.filter_map(|value| match value {
            Value::Object(id) => Some(*id),
            _ => None,
        })
    }
}

/// All objects of a file's pickles, referring to each other by index.
#[derive(Debug, Default)]
pub(crate) struct Heap<'a> {
    objects: Vec<Object<'a>>,
    /// Instructions executed and items copied so far, over all pickles of the file.
    steps: usize,
}

impl<'a> Heap<'a> {
    /// Counts `steps` more instructions, or items that are about to be copied, and ends a pickle that wants too
    /// many.
    pub(crate) fn charge(&mut self, steps: usize, place: Place<'_>) -> Result<()> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_STEPS {
            return Err(place.unsupported(format_args!("more than {MAX_STEPS} instructions")));
        }
        Ok(())
    }

    /// Instructions executed and items copied so far.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// Adds an object.
    pub(crate) fn add(&mut self, object: Object<'a>) -> Value {
        let id = ObjectId(self.objects.len());
        self.objects.push(object);
        Value::Object(id)
    }

    /// How many objects there are.
    pub(crate) fn object_count(&self) -> usize {
        self.objects.len()
    }

    /// All objects, in the order in which they were made.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (ObjectId, &Object<'a>)> {
        self.objects.iter().enumerate().map(|(index, object)| (ObjectId(index), object))
    }

    /// The object that `value` is, if it is one.
    pub(crate) fn get(&self, value: Value) -> Option<&Object<'a>> {
        let Value::Object(ObjectId(index)) = value else { return None };
        self.objects.get(index)
    }

    /// The object that `value` is, to be changed.
    pub(crate) fn get_mut(&mut self, value: Value) -> Option<&mut Object<'a>> {
        let Value::Object(ObjectId(index)) = value else { return None };
        self.objects.get_mut(index)
    }

    /// The text that `value` is.
    pub(crate) fn str(&self, value: Value) -> Option<&str> {
        match self.get(value)? {
            Object::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The items of the tuple or list that `value` is.
    pub(crate) fn sequence(&self, value: Value) -> Option<&[Value]> {
        match self.get(value)? {
            Object::Tuple(items) => Some(items),
            Object::List(items) => Some(items),
            _ => None,
        }
    }

    /// The items of the tuple that `value` is.
    pub(crate) fn tuple(&self, value: Value) -> Option<&[Value]> {
        match self.get(value)? {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of the dict that `value` is.
    pub(crate) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.get(value)? {
            Object::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The number of items of the container that `value` is; 0 for anything else.
    pub(crate) fn len(&self, value: Value) -> usize {
        match self.get(value) {
            Some(Object::Tuple(items)) => items.len(),
            Some(Object::List(items) | Object::Set(items)) => items.len(),
            Some(Object::Dict(entries)) => entries.len(),
            _ => 0,
        }
    }

    /// What the environment made, if `value` is such.
    pub(crate) fn made(&self, value: Value) -> Option<MadeId> {
        match self.get(value)? {
            Object::Made(made) => Some(*made),
            _ => None,
        }
    }

    /// What kind of value it is, in a word or two.
    pub(crate) fn kind(&self, value: Value) -> &'static str {
        match value {
            Value::None => "None",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Object(_) => match self.get(value) {
                Some(Object::Str(_)) => "string",
                Some(Object::Bytes(_)) => "bytes",
                Some(Object::Long(_)) => "int",
                Some(Object::Tuple(_)) => "tuple",
                Some(Object::List(_)) => "list",
                Some(Object::Set(_)) => "set",
                Some(Object::Dict(_)) => "dict",
                Some(Object::Made(_)) | None => "object",
            },
        }
    }
}
