//! The environment of a pickle that allows everything, does nothing and writes it down.

use super::event::{Event, EventKind};
use super::render::render;
use crate::error::{Printable, Result};
use crate::format::torch::globals::{self, Global};
use crate::format::torch::pickle::{CallKind, Environment, Heap, MadeId, Object, Place, Value};

/// What a pickle has asked for.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// In order.
    pub(super) events: Vec<Event>,
    pub(super) omitted_allowed: u64,
    pub(super) omitted_refused: u64,
    /// How many are listed, those of the file's other pickles included.
    pub(super) listed: Listed,
    things: Vec<Thing>,
}

/// How many events of a file are listed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Listed {
    allowed: usize,
    refused: usize,
}

/// How many events of a file are listed, of those that are allowed and again of those that are not.
const MOST_EVENTS: usize = 50_000;
/// Bytes beyond which a name gets no longer. That of an import is at most a few times 200 characters.
const LONGEST_NAME: usize = 200;

/// What stands in for a value that the pickle would have got from outside.
#[derive(Clone, Copy, Debug)]
enum Thing {
    /// An import: the index of its event, and what it is if it is allowed.
    Import(Option<usize>, Option<Global>),
    /// The result of a call: the index of its event, and whether the call is allowed.
    Result(Option<usize>, bool),
    /// A persistent object: a storage.
    Persistent,
}

impl Recorder {
    /// A recorder for one more pickle of a file of which so many events are listed already.
    pub(super) fn new(listed: Listed) -> Self {
        Recorder { listed, ..Recorder::default() }
    }

    /// What `value` is, if it came from outside.
    fn thing(&self, heap: &Heap<'_>, value: Value) -> Option<Thing> {
        let MadeId(index) = heap.made(value)?;
        self.things.get(index).copied()
    }

    /// The name of a thing: `os.system`, and `os.system(…)` for the result of a call of it.
    fn name(&self, thing: Thing) -> String {
        let target = |event: Option<usize>| {
            event.and_then(|event| self.events.get(event)).map_or("…", |event| event.target.as_str())
        };
        match thing {
            Thing::Import(event, _) => target(event).to_owned(),
            // The result of the result of the result …: names must not grow with every call.
            Thing::Result(event, _) if target(event).len() > LONGEST_NAME => target(event).to_owned(),
            Thing::Result(event, _) => format!("{}(…)", target(event)),
            Thing::Persistent => "storage".to_owned(),
        }
    }

    fn make(&mut self, heap: &mut Heap<'_>, thing: Thing) -> Value {
        let id = MadeId(self.things.len());
        self.things.push(thing);
        heap.add(Object::Made(id))
    }

    /// Notes an event, unless there are too many already, and returns its index.
    fn note(
        &mut self,
        place: Place<'_>,
        kind: EventKind,
        allowed: bool,
        words: impl FnOnce(&Self) -> (String, String),
    ) -> Option<usize> {
        let (listed, omitted) = if allowed {
            (&mut self.listed.allowed, &mut self.omitted_allowed)
        } else {
            (&mut self.listed.refused, &mut self.omitted_refused)
        };
        if *listed == MOST_EVENTS {
            *omitted += 1;
            return None;
        }
        *listed += 1;
        let (target, arguments) = words(self);
        self.events.push(Event { offset: place.at as u64, kind, target, arguments, allowed });
        Some(self.events.len() - 1)
    }

    /// Text for a value: its name if it came from outside.
    fn text(&self, heap: &Heap<'_>, value: Value) -> String {
        render(heap, value, &|value| self.thing(heap, value).map(|thing| self.name(thing)))
    }
}

impl<'a> Environment<'a> for Recorder {
    fn global(&mut self, heap: &mut Heap<'a>, module: &str, name: &str, place: Place<'_>) -> Result<Value> {
        let known = globals::find(module, name);
        let event = self.note(place, EventKind::Import, known.is_some(), |_| {
            (Printable(&globals::full_name(module, name)).to_string(), String::new())
        });
        Ok(self.make(heap, Thing::Import(event, known)))
    }

    fn extension(&mut self, heap: &mut Heap<'a>, code: u32, place: Place<'_>) -> Result<Value> {
        let event =
            self.note(place, EventKind::Extension, false, |_| (format!("extension {code}"), String::new()));
        Ok(self.make(heap, Thing::Import(event, None)))
    }

    fn call(
        &mut self,
        heap: &mut Heap<'a>,
        kind: CallKind,
        function: Value,
        arguments: Value,
        place: Place<'_>,
    ) -> Result<Value> {
        let allowed = match self.thing(heap, function) {
            Some(Thing::Import(_, Some(global))) => !matches!(global, Global::Storage(_) | Global::Dtype(_)),
            _ => false,
        };
        let kind = match kind {
            CallKind::Reduce => EventKind::Call,
            CallKind::New => EventKind::New,
        };
        let event =
            self.note(place, kind, allowed, |this| (this.text(heap, function), this.text(heap, arguments)));
        Ok(self.make(heap, Thing::Result(event, allowed)))
    }

    fn build(&mut self, heap: &mut Heap<'a>, object: Value, state: Value, place: Place<'_>) -> Result<()> {
        let allowed = match self.thing(heap, object) {
            Some(Thing::Result(_, allowed)) => allowed,
            Some(_) => false,
            None => true,
        };
        self.note(place, EventKind::SetState, allowed, |this| {
            (this.text(heap, object), this.text(heap, state))
        });
        Ok(())
    }

    fn add_items(&mut self, heap: &mut Heap<'a>, object: Value, place: Place<'_>) -> Result<()> {
        let allowed = matches!(self.thing(heap, object), Some(Thing::Result(_, true)));
        self.note(place, EventKind::AddItems, allowed, |this| (this.text(heap, object), String::new()));
        Ok(())
    }

    fn persistent(&mut self, heap: &mut Heap<'a>, _id: Value, _place: Place<'_>) -> Result<Value> {
        Ok(self.make(heap, Thing::Persistent))
    }
}
