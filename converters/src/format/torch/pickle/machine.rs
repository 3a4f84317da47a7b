//! The stack machine.

use super::MAX_STEPS;
use super::heap::{Heap, Object, Value};
use super::op::{Op, Ops};
use super::place::Place;
use crate::error::Result;

/// What a pickle can ask for beyond plain values. Nothing here runs anything: an implementation makes a stand-in
/// or refuses.
pub(crate) trait Environment<'a> {
    /// The global `module.name`, imported.
    fn global(&mut self, heap: &mut Heap<'a>, module: &str, name: &str, place: Place<'_>) -> Result<Value>;

    /// A code of Python's extension registry, which stands for a global that the file does not name.
    fn extension(&mut self, heap: &mut Heap<'a>, code: u32, place: Place<'_>) -> Result<Value>;

    /// The result of calling `function` with `arguments`, a tuple as a rule.
    fn call(
        &mut self,
        heap: &mut Heap<'a>,
        kind: CallKind,
        function: Value,
        arguments: Value,
        place: Place<'_>,
    ) -> Result<Value>;

    /// `BUILD`: `object` gets its state, by `__setstate__` or into its attributes.
    fn build(&mut self, heap: &mut Heap<'a>, object: Value, state: Value, place: Place<'_>) -> Result<()>;

    /// Items were added to something that is no list, set or dict, by its methods.
    fn add_items(&mut self, heap: &mut Heap<'a>, object: Value, place: Place<'_>) -> Result<()>;

    /// The object outside the pickle that `id` stands for.
    fn persistent(&mut self, heap: &mut Heap<'a>, id: Value, place: Place<'_>) -> Result<Value>;
}

/// Which instruction makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// `REDUCE`, `INST` and `OBJ`: `function(*arguments)`.
    Reduce,
    /// `NEWOBJ` and `NEWOBJ_EX`: `function.__new__(function, *arguments)`.
    New,
}

/// Bytes that the name of a global may have.
const LONGEST_NAME: usize = 4096;

/// Interprets one pickle, up to its `STOP`, and returns its value. `ops` is left behind the pickle.
pub(crate) fn run<'a>(
    ops: &mut Ops<'a>,
    heap: &mut Heap<'a>,
    environment: &mut impl Environment<'a>,
) -> Result<Value> {
    let mut machine =
        Machine { heap, environment, stack: Vec::new(), marks: Vec::new(), memo: Memo::default() };
    loop {
        let op = ops.next()?;
        if op == Op::Stop {
            return machine.pop(ops.place());
        }
        machine.heap.charge(1, ops.place())?;
        machine.step(op, ops.place())?;
    }
}

struct Machine<'h, 'a, E> {
    heap: &'h mut Heap<'a>,
    environment: &'h mut E,
    stack: Vec<Value>,
    /// Heights of the stack at which the open marks were set.
    marks: Vec<usize>,
    memo: Memo,
}

impl<'a, E: Environment<'a>> Machine<'_, 'a, E> {
    fn step(&mut self, op: Op<'a>, place: Place<'_>) -> Result<()> {
        match op {
            Op::Framing | Op::Stop => {}
            Op::Mark => self.marks.push(self.stack.len()),
            Op::Pop => {
                // Python pops a mark where one is on top.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop(place)?;
                }
            }
            Op::PopMark => drop(self.pop_mark(place)?),
            Op::Dup => self.stack.push(self.top(place)?),
            Op::None => self.stack.push(Value::None),
            Op::Bool(value) => self.stack.push(Value::Bool(value)),
            Op::Int(value) => self.stack.push(Value::Int(value)),
            Op::Long(value) => self.push(Object::Long(value.map(Box::new))),
            Op::Float(value) => self.stack.push(Value::Float(value)),
            Op::Str(text) => self.push(Object::Str(text)),
            Op::Bytes(bytes) => self.push(Object::Bytes(bytes)),
            Op::ByteArray(bytes) => self.push(Object::Bytes(bytes.into())),
            Op::EmptyList => self.push(Object::List(Vec::new())),
            Op::EmptyDict => self.push(Object::Dict(Vec::new())),
            Op::EmptySet => self.push(Object::Set(Vec::new())),
            Op::Tuple => {
                let items = self.pop_mark(place)?;
                self.push(Object::Tuple(items.into()));
            }
            Op::TupleOf(len) => {
                let mut items = vec![Value::None; len];
                for item in items.iter_mut().rev() {
                    *item = self.pop(place)?;
                }
                self.push(Object::Tuple(items.into()));
            }
            Op::List => {
                let items = self.pop_mark(place)?;
                self.push(Object::List(items));
            }
            Op::Dict => {
                let items = self.pop_mark(place)?;
                let entries = pairs(&items, place)?;
                self.push(Object::Dict(entries));
            }
            Op::FrozenSet => {
                let items = self.pop_mark(place)?;
                self.push(Object::Set(items));
            }
            Op::Append => {
                let item = self.pop(place)?;
                self.extend(&[item], place)?;
            }
            Op::Appends | Op::AddItems => {
                let items = self.pop_mark(place)?;
                self.extend(&items, place)?;
            }
            Op::SetItem => {
                let value = self.pop(place)?;
                let key = self.pop(place)?;
                self.set_items(&[key, value], place)?;
            }
            Op::SetItems => {
                let items = self.pop_mark(place)?;
                self.set_items(&items, place)?;
            }
            Op::Put(index) => {
                let top = self.top(place)?;
                self.memo.put(index, top, place)?;
            }
            Op::Memoize => {
                let (index, top) = (self.memo.count as u64, self.top(place)?);
                self.memo.put(index, top, place)?;
            }
            Op::Get(index) => {
                let value = self.memo.get(index);
                self.stack
                    .push(value.ok_or_else(|| place.malformed(format_args!("memo {index} was never set")))?);
            }
            Op::Global(module, name) => {
                let global = self.environment.global(self.heap, module, name, place)?;
                self.stack.push(global);
            }
            Op::StackGlobal => {
                let (name, module) = (self.pop(place)?, self.pop(place)?);
                let (Some(module), Some(name)) = (self.heap.str(module), self.heap.str(name)) else {
                    return Err(place.malformed("the name of a global is no string"));
                };
                if module.len() + name.len() > LONGEST_NAME {
                    return Err(place.malformed("the name of a global is too long"));
                }
                let (module, name) = (module.to_owned(), name.to_owned());
                let global = self.environment.global(self.heap, &module, &name, place)?;
                self.stack.push(global);
            }
            Op::Inst(module, name) => {
                let items = self.pop_mark(place)?;
                let class = self.environment.global(self.heap, module, name, place)?;
                self.call(CallKind::Reduce, class, &items, place)?;
            }
            Op::Obj => {
                let items = self.pop_mark(place)?;
                let (&class, arguments) =
                    items.split_first().ok_or_else(|| place.malformed("OBJ without a class"))?;
                self.call(CallKind::Reduce, class, arguments, place)?;
            }
            Op::Reduce => {
                let (arguments, function) = (self.pop(place)?, self.pop(place)?);
                let made = self.environment.call(self.heap, CallKind::Reduce, function, arguments, place)?;
                self.stack.push(made);
            }
            Op::NewObj => {
                let (arguments, class) = (self.pop(place)?, self.pop(place)?);
                let made = self.environment.call(self.heap, CallKind::New, class, arguments, place)?;
                self.stack.push(made);
            }
            Op::NewObjEx => {
                let (keywords, arguments, class) = (self.pop(place)?, self.pop(place)?, self.pop(place)?);
                let arguments = self.with_keywords(arguments, keywords);
                let made = self.environment.call(self.heap, CallKind::New, class, arguments, place)?;
                self.stack.push(made);
            }
            Op::Build => {
                let state = self.pop(place)?;
                let object = self.top(place)?;
                self.environment.build(self.heap, object, state, place)?;
            }
            Op::BinPersId => {
                let id = self.pop(place)?;
                let object = self.environment.persistent(self.heap, id, place)?;
                self.stack.push(object);
            }
            Op::PersId => return Err(place.unsupported("a persistent id as text; torch.save writes tuples")),
            Op::Extension(code) => {
                let global = self.environment.extension(self.heap, code, place)?;
                self.stack.push(global);
            }
            Op::OutOfBand => return Err(place.unsupported("a buffer that is not in the file")),
        }
        Ok(())
    }

    fn push(&mut self, object: Object<'a>) {
        let value = self.heap.add(object);
        self.stack.push(value);
    }

    /// Where the values begin that the innermost open mark leaves accessible.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self, place: Place<'_>) -> Result<Value> {
        let value = if self.stack.len() > self.floor() { self.stack.pop() } else { None };
        value.ok_or_else(|| place.malformed("the stack is empty"))
    }

    fn top(&self, place: Place<'_>) -> Result<Value> {
        let value = if self.stack.len() > self.floor() { self.stack.last() } else { None };
        value.copied().ok_or_else(|| place.malformed("the stack is empty"))
    }

    fn pop_mark(&mut self, place: Place<'_>) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| place.malformed("no mark is set"))?;
        // Not `split_off`, which would give the new vector the capacity of the whole stack.
        Ok(self.stack.drain(mark.min(self.stack.len())..).collect())
    }

    fn extend(&mut self, items: &[Value], place: Place<'_>) -> Result<()> {
        let target = self.top(place)?;
        match self.heap.get_mut(target) {
            Some(Object::List(list) | Object::Set(list)) => list.extend(items),
            _ => self.environment.add_items(self.heap, target, place)?,
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Value], place: Place<'_>) -> Result<()> {
        let target = self.top(place)?;
        let added = pairs(items, place)?;
        match self.heap.get_mut(target) {
            Some(Object::Dict(entries)) => entries.extend(added),
            _ => self.environment.add_items(self.heap, target, place)?,
        }
        Ok(())
    }

    fn call(&mut self, kind: CallKind, function: Value, arguments: &[Value], place: Place<'_>) -> Result<()> {
        let arguments = self.heap.add(Object::Tuple(arguments.into()));
        let made = self.environment.call(self.heap, kind, function, arguments, place)?;
        self.stack.push(made);
        Ok(())
    }

    /// Keyword arguments as one more argument, unless there are none.
    fn with_keywords(&mut self, arguments: Value, keywords: Value) -> Value {
        if self.heap.dict(keywords).is_some_and(<[_]>::is_empty) {
            return arguments;
        }
        self.heap.add(Object::Tuple([arguments, keywords].into()))
    }
}

/// Values that the pickle wants to use again, by number. Picklers count them up from 0.
#[derive(Default)]
struct Memo {
    values: Vec<Option<Value>>,
    /// How many are set.
    count: usize,
}

impl Memo {
    fn get(&self, index: u64) -> Option<Value> {
        self.values.get(usize::try_from(index).ok()?).copied().flatten()
    }

    fn put(&mut self, index: u64, value: Value, place: Place<'_>) -> Result<()> {
        let index = usize::try_from(index).ok().filter(|&index| index < MAX_STEPS);
        let index = index.ok_or_else(|| place.malformed("a memo number that no pickle gets to"))?;
        if index >= self.values.len() {
            self.values.resize(index + 1, None);
        }
        if let Some(slot) = self.values.get_mut(index)
            && slot.replace(value).is_none()
        {
            self.count += 1;
        }
        Ok(())
    }
}

fn pairs(items: &[Value], place: Place<'_>) -> Result<Vec<(Value, Value)>> {
    let (pairs, rest) = items.as_chunks();
    if !rest.is_empty() {
        return Err(place.malformed("a key without a value"));
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
