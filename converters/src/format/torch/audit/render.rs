//! Values of a pickle in a few words.

use crate::error::Printable;
use crate::format::torch::pickle::{Heap, Object, Value};

/// No rendering is much longer, in bytes.
const LONGEST: usize = 200;
/// How deep containers are looked into, and how many of their items are shown.
const DEEPEST: usize = 4;
const MOST_ITEMS: usize = 8;
/// Characters of a string that are shown.
const MOST_CHARS: usize = 80;

/// The value roughly as Python would print it, cut short. `name` names what the pickle would have got from outside:
/// `os.system`, `os.system(…)`.
pub(super) fn render(heap: &Heap<'_>, value: Value, name: &dyn Fn(Value) -> Option<String>) -> String {
    let mut text = String::new();
    Renderer { name, heap, text: &mut text }.value(value, 0);
    text
}

struct Renderer<'r, 'a> {
    name: &'r dyn Fn(Value) -> Option<String>,
    heap: &'r Heap<'a>,
    text: &'r mut String,
}

impl Renderer<'_, '_> {
    fn value(&mut self, value: Value, depth: usize) {
        match value {
            Value::None => self.text.push_str("None"),
            Value::Bool(true) => self.text.push_str("True"),
            Value::Bool(false) => self.text.push_str("False"),
            Value::Int(number) => self.text.push_str(&number.to_string()),
            Value::Float(number) => self.text.push_str(&number.to_string()),
            Value::Object(_) => match self.heap.get(value) {
                Some(Object::Str(text)) => self.string(text),
                Some(Object::Bytes(bytes)) => self.text.push_str(&format!("<{} bytes>", bytes.len())),
                Some(Object::Long(Some(number))) => self.text.push_str(&number.to_string()),
                Some(Object::Long(None)) => self.text.push_str("<huge int>"),
                Some(Object::Tuple(items)) => self.items("(", items, ")", depth),
                Some(Object::List(items)) => self.items("[", items, "]", depth),
                Some(Object::Set(items)) => self.items("{", items, "}", depth),
                Some(Object::Dict(entries)) => {
                    self.sequence("{", entries, "}", depth, |this, &(key, value)| {
                        this.value(key, depth + 1);
                        this.text.push_str(": ");
                        this.value(value, depth + 1);
                    });
                }
                Some(Object::Made(_)) | None => {
                    let name = (self.name)(value);
                    self.text.push_str(name.as_deref().unwrap_or("?"));
                }
            },
        }
    }

    fn string(&mut self, text: &str) {
        let start: String = text.chars().take(MOST_CHARS).collect();
        let more = if start.len() < text.len() { "…" } else { "" };
        self.text.push_str(&format!("'{}{more}'", Printable(&start)));
    }

    fn items(&mut self, open: &str, items: &[Value], close: &str, depth: usize) {
        self.sequence(open, items, close, depth, |this, &item| this.value(item, depth + 1));
    }

    fn sequence<T>(
        &mut self,
        open: &str,
        items: &[T],
        close: &str,
        depth: usize,
        mut show: impl FnMut(&mut Self, &T),
    ) {
        self.text.push_str(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            if depth == DEEPEST || index == MOST_ITEMS || self.text.len() > LONGEST {
                self.text.push('…');
                break;
            }
            show(self, item);
        }
        self.text.push_str(close);
    }
}
