//! What two tokenizers do differently, by their [meanings](Meaning).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use deberta_reference::{AddedToken, Meaning};
use serde_json::Value;

/// How many texts are made of one difference, to show it by.
const HINTS: usize = 64;

/// Something that one tokenizer does otherwise than another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// A word for programs; `docs/tokenizers.md` lists them.
    pub(crate) cause: &'static str,
    /// What it is, for people.
    pub(crate) what: String,
    /// Whether it concerns texts as people write them; if not, a text must show it before anything follows from it.
    pub(crate) matters: bool,
    /// Texts that may show it.
    pub(crate) hints: Vec<String>,
}

impl Difference {
    fn new(cause: &'static str, what: String) -> Difference {
        Difference { cause, what, matters: true, hints: Vec::new() }
    }

    /// `tokens` are concerned.
    fn shown_by<'t>(mut self, tokens: impl IntoIterator<Item = &'t str>) -> Difference {
        self.hints = tokens.into_iter().take(HINTS).map(|token| token.replace(['Ġ', '▁'], " ")).collect();
        self
    }
}

/// What `got` has otherwise than `want`, the vocabulary first.
pub(crate) fn differences(want: &Meaning, got: &Meaning) -> Vec<Difference> {
    let lists = [vocabulary(want, got), scores(want, got), merges(want, got)];
    let mut found: Vec<Difference> = lists.into_iter().flatten().collect();
    found.extend(added(want, got));
    found.extend(steps(&want.normalizer, &got.normalizer, "normalizer"));
    found.extend(steps(&want.pre_tokenizer, &got.pre_tokenizer, "pre-tokenizer"));
    for (which, (want, got)) in ["one text", "a pair"].iter().zip(want.templates.iter().zip(&got.templates)) {
        if want != got {
            let what = format!("{which} becomes {got:?}, expected {want:?} (id:segment)");
            found.push(Difference::new("post-processor", what));
        }
    }
    found.extend(options(want, got));
    found
}

fn vocabulary(want: &Meaning, got: &Meaning) -> Option<Difference> {
    let by_token = |meaning: &Meaning| -> HashMap<String, u32> {
        meaning.tokens.iter().map(|(id, token)| (token.clone(), *id)).collect()
    };
    let (ids, others) = (by_token(want), by_token(got));
    let lacking = |meaning: &'_ Meaning, ids: &HashMap<String, u32>| -> Vec<String> {
        let lacking = meaning.tokens.iter().filter(|(_, token)| !ids.contains_key(token));
        lacking.map(|(_, token)| token.clone()).collect()
    };
    let (missing, extra) = (lacking(want, &others), lacking(got, &ids));
    if !missing.is_empty() || !extra.is_empty() {
        let named = |tokens: &[String], what: &str| {
            let first = tokens.first()?;
            Some(format!("{} {what} ({first:?}{})", tokens.len(), if tokens.len() > 1 { ", …" } else { "" }))
        };
        let parts: Vec<String> =
            [named(&missing, "missing"), named(&extra, "not expected")].into_iter().flatten().collect();
        let what = format!("tokens of the vocabulary: {}", parts.join(", "));
        let tokens = missing.iter().chain(&extra).map(String::as_str);
        return Some(Difference::new("vocabulary", what).shown_by(tokens));
    }
    let moved: Vec<(&str, u32, u32)> = want
        .tokens
        .iter()
        .filter_map(|(id, token)| Some((token.as_str(), *id, *others.get(token)?)))
        .filter(|(_, id, other)| id != other)
        .collect();
    let (token, id, other) = moved.first()?;
    let what = format!("token {token:?} has id {other}, expected {id} ({} tokens have another)", moved.len());
    Some(Difference::new("vocabulary-order", what).shown_by(moved.iter().map(|(token, ..)| *token)))
}

fn scores(want: &Meaning, got: &Meaning) -> Option<Difference> {
    let (Some(scores), Some(others)) = (&want.scores, &got.scores) else {
        let both = want.scores.is_some() == got.scores.is_some();
        return (!both).then(|| Difference::new("model", "one is a unigram model, the other is not".into()));
    };
    let of_token: HashMap<&str, f32> =
        got.tokens.iter().map(|(_, token)| token.as_str()).zip(others.iter().copied()).collect();
    let changed: Vec<(&str, f32, f32)> = want
        .tokens
        .iter()
        .zip(scores)
        .filter_map(|((_, token), score)| Some((token.as_str(), *score, *of_token.get(token.as_str())?)))
        .filter(|(_, score, other)| score.to_bits() != other.to_bits())
        .collect();
    let (token, score, other) = changed.first()?;
    let what = format!("the score of {token:?} is {other}, expected {score} ({} differ)", changed.len());
    Some(Difference::new("scores", what).shown_by(changed.iter().map(|(token, ..)| *token)))
}

fn merges(want: &Meaning, got: &Meaning) -> Option<Difference> {
    let (merges, others) = (want.merges.as_ref()?, got.merges.as_ref()?);
    if merges == others {
        return None;
    }
    let named = |(left, right): &(String, String)| format!("\"{left} {right}\"");
    let (known, found): (HashSet<_>, HashSet<_>) = (merges.iter().collect(), others.iter().collect());
    let missing: Vec<&(String, String)> = merges.iter().filter(|merge| !found.contains(merge)).collect();
    let extra: Vec<&(String, String)> = others.iter().filter(|merge| !known.contains(merge)).collect();
    let product = |(left, right): &(String, String)| format!("{left}{right}");
    if let Some(first) = missing.first().or(extra.first()) {
        let what =
            format!("merges: {} missing, {} not expected ({}, …)", missing.len(), extra.len(), named(first));
        let products: Vec<String> = missing.into_iter().chain(extra).map(product).collect();
        return Some(Difference::new("merges", what).shown_by(products.iter().map(String::as_str)));
    }
    let moved: Vec<usize> =
        merges.iter().zip(others).enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect();
    let at = *moved.first()?;
    let (expected, other) = (merges.get(at)?, others.get(at)?);
    let what = format!(
        "merges are in another order: number {at} is {}, expected {} ({} are in another place)",
        named(other),
        named(expected),
        moved.len()
    );
    // What comes of a merge may need several more: longer tokens that hold its product show it, too.
    let products: Vec<String> = moved.iter().filter_map(|at| merges.get(*at)).map(product).collect();
    let longer = want.tokens.iter().map(|(_, token)| token.as_str());
    let longer = longer.filter(|token| products.iter().any(|product| token.contains(product.as_str())));
    Some(Difference::new("merges-order", what).shown_by(longer))
}

fn added(want: &Meaning, got: &Meaning) -> Vec<Difference> {
    let by_content = |meaning: &Meaning| -> BTreeMap<String, (u32, AddedToken)> {
        let named = |(id, token): &(u32, AddedToken)| (token.content.clone(), (*id, token.clone()));
        meaning.added.iter().map(named).collect()
    };
    let (tokens, others) = (by_content(want), by_content(got));
    let contents: BTreeSet<&String> = tokens.keys().chain(others.keys()).collect();
    let differences = contents.into_iter().filter_map(|content| {
        let (what, matters) = match (tokens.get(content), others.get(content)) {
            (Some(_), None) => (format!("added token {content:?} is missing"), true),
            (None, Some(_)) => (format!("added token {content:?} is not expected"), true),
            (Some((id, _)), Some((other, _))) if id != other => {
                (format!("added token {content:?} has id {other}, expected {id}"), true)
            }
            (Some((_, token)), Some((_, other))) if token != other => {
                let normalized = AddedToken { normalized: token.normalized, ..other.clone() };
                let flags = flags(token, other);
                // A special token is looked for in normalized text or not: that differs only around the token itself.
                let matters = !token.special || *token != normalized;
                (format!("added token {content:?}: {flags}"), matters)
            }
            _ => return None,
        };
        let around =
            [content.clone(), format!("a {content} b"), format!("a{content}b"), content.to_lowercase()];
        Some(Difference { matters, hints: around.to_vec(), ..Difference::new("added-token", what) })
    });
    differences.collect()
}

/// The flags that differ.
fn flags(want: &AddedToken, got: &AddedToken) -> String {
    let flags = |token: &AddedToken| {
        [
            ("single_word", token.single_word),
            ("lstrip", token.lstrip),
            ("rstrip", token.rstrip),
            ("normalized", token.normalized),
            ("special", token.special),
        ]
    };
    let changed = flags(want).into_iter().zip(flags(got)).filter(|(want, got)| want != got);
    let changed = changed.map(|((name, want), (_, got))| format!("{name} is {got}, expected {want}"));
    changed.collect::<Vec<_>>().join(", ")
}

/// What differs between the steps of two normalizers or pre-tokenizers.
fn steps(want: &[String], got: &[String], of: &'static str) -> Option<Difference> {
    if want == got {
        return None;
    }
    let parsed = |steps: &[String]| -> Vec<Value> {
        steps.iter().map(|step| serde_json::from_str(step).unwrap_or_default()).collect()
    };
    let kind = |step: &Value| step.get("type").and_then(Value::as_str).unwrap_or("a step").to_owned();
    let (steps, others) = (parsed(want), parsed(got));
    let missing: Vec<&Value> = steps.iter().filter(|step| !others.contains(step)).collect();
    let extra: Vec<&Value> = others.iter().filter(|step| !steps.contains(step)).collect();
    let concerned: BTreeSet<String> = missing.iter().chain(&extra).map(|step| kind(step)).collect();
    let only = |name: &str| concerned.len() == 1 && concerned.contains(name);
    let prefixes = ["add_prefix_space", "prepend_scheme"];
    let prefix_of = |steps: &[&Value]| -> Vec<Value> {
        let prefix = |step: &&Value| prefixes.iter().find_map(|key| step.get(*key).cloned());
        steps.iter().filter_map(prefix).collect()
    };
    let (before, after) = (prefix_of(&missing), prefix_of(&extra));
    let shown = |steps: &[Value]| {
        let shown: Vec<String> = steps.iter().map(kind).collect();
        if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
    };
    let (cause, what) = if only("Lowercase") {
        let now = if extra.is_empty() { "is not put in" } else { "is put in" };
        ("lower-case", format!("text {now} lower case, expected the contrary"))
    } else if only("Punctuation") {
        let now = if extra.is_empty() { "is not cut" } else { "is cut" };
        ("split-by-punct", format!("text {now} at punctuation, expected the contrary"))
    } else if before != after {
        let [before, after] =
            [before, after].map(|values| values.first().map_or("nothing".to_owned(), Value::to_string));
        ("prefix-space", format!("the space before a text: {after}, expected {before}"))
    } else if concerned.contains("NFC") && concerned.contains("Precompiled") {
        let what = "by NFC, as transformers 5 writes it, expected the map of characters of spm.model";
        ("normalizer", format!("characters are normalized {what}"))
    } else if shown(&steps) == shown(&others) {
        let changed = concerned.into_iter().collect::<Vec<_>>().join(", ");
        (of, format!("the {of} has other settings: {changed}"))
    } else {
        (of, format!("the {of} does: {}; expected: {}", shown(&others), shown(&steps)))
    };
    Some(Difference::new(cause, what))
}

fn options(want: &Meaning, got: &Meaning) -> Vec<Difference> {
    let lacking = |of: &Meaning, other: &Meaning| -> Vec<(String, String)> {
        of.options.iter().filter(|option| !other.options.contains(option)).cloned().collect()
    };
    let (missing, extra) = (lacking(want, got), lacking(got, want));
    let names: BTreeSet<&String> = missing.iter().chain(&extra).map(|(name, _)| name).collect();
    let value = |options: &[(String, String)], name: &str| {
        let found = options.iter().find(|(other, _)| other == name);
        found.map_or("nothing".to_owned(), |(_, value)| value.clone())
    };
    let differences = names.into_iter().map(|name| {
        let what = format!("{name} is {}, expected {}", value(&extra, name), value(&missing, name));
        // What tokenizer.json cannot say concerns the slow class alone, whose files are read anyway.
        let matters = !name.starts_with("spm.model ");
        let cause = if name.ends_with("_token") { "special-token" } else { "option" };
        Difference { matters, ..Difference::new(cause, what) }
    });
    differences.collect()
}
