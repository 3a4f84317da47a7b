//! Entities in sequences of tags, and how many of them were found: what seqeval computes.
//!
//! Source: seqeval 1.2.2, `metrics/sequence_labeling.py` and `scheme.py`.

use std::collections::{BTreeMap, BTreeSet};

/// How tags spell entities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Any of the three, and what breaks their rules, as conlleval and seqeval take it
    #[default]
    Lenient,
    /// I- inside, B- only where an entity follows another one of the same type; strict
    Iob1,
    /// B- at every start, I- inside; strict
    Iob2,
    /// B- I- E- for several words, S- for one; strict
    Bioes,
}

/// A tag, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    prefix: Prefix,
    kind: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    Outside,
    Begin,
    Inside,
    End,
    Single,
}

use Prefix::{Begin, End, Inside, Outside, Single};

/// What stands before and after every sequence.
static OUTSIDE: Tag = Tag { prefix: Outside, kind: String::new() };

impl Tag {
    /// The tag of a word outside of all entities.
    pub fn outside() -> Tag {
        OUTSIDE.clone()
    }

    /// Reads `O`, `B-PER`, …
    ///
    /// # Errors
    /// What is no tag, or none of the scheme.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Tag, String> {
        if text == "O" {
            return Ok(Tag::outside());
        }
        let wrong = || format!("{text:?} is no tag: expected O, or B-TYPE, I-TYPE, E-TYPE or S-TYPE");
        let (prefix, kind) = text.split_once('-').ok_or_else(wrong)?;
        let prefix = match prefix {
            "B" => Begin,
            "I" => Inside,
            "E" => End,
            "S" => Single,
            _ => return Err(wrong()),
        };
        match (scheme, prefix) {
            _ if kind.is_empty() => Err(wrong()),
            (Scheme::Iob1 | Scheme::Iob2, End | Single) => {
                Err(format!("{text:?} is no tag of IOB1 and IOB2: --scheme bioes?"))
            }
            _ => Ok(Tag { prefix, kind: kind.to_owned() }),
        }
    }
}

/// An entity: its type, and its first and last word.
pub type Entity<'t> = (&'t str, usize, usize);

/// The entities that tags spell.
pub fn entities(tags: &[Tag], scheme: Scheme) -> BTreeSet<Entity<'_>> {
    match scheme {
        Scheme::Lenient => lenient(tags),
        _ => strict(tags, scheme),
    }
}

/// `get_entities`: where the prefix or the type changes, an entity ends or starts, whatever the scheme.
fn lenient(tags: &[Tag]) -> BTreeSet<Entity<'_>> {
    let (mut found, mut start, mut previous) = (BTreeSet::new(), 0, &OUTSIDE);
    for (at, tag) in tags.iter().chain([&OUTSIDE]).enumerate() {
        let other = previous.kind != tag.kind;
        let ends = matches!(previous.prefix, End | Single)
            || (matches!(previous.prefix, Begin | Inside) && matches!(tag.prefix, Begin | Single | Outside))
            || (previous.prefix != Outside && other);
        if ends {
            found.insert((previous.kind.as_str(), start, at.saturating_sub(1)));
        }
        let starts = matches!(tag.prefix, Begin | Single)
            || (matches!(previous.prefix, End | Single | Outside) && matches!(tag.prefix, End | Inside))
            || (tag.prefix != Outside && other);
        if starts {
            start = at;
        }
        previous = tag;
    }
    found
}

/// `Tokens.entities`: what breaks the rules of the scheme is no entity.
fn strict(tags: &[Tag], scheme: Scheme) -> BTreeSet<Entity<'_>> {
    let extended: Vec<&Tag> = tags.iter().chain([&OUTSIDE]).collect();
    let (mut found, mut previous, mut at) = (BTreeSet::new(), &OUTSIDE, 0);
    while let Some(&tag) = extended.get(at) {
        if !starts(previous, tag, scheme) {
            previous = tag;
            at += 1;
            continue;
        }
        let mut last = tag;
        let mut end = at + 1;
        while let Some(&next) = extended.get(end).filter(|next| continues(last, next, scheme)) {
            last = next;
            end += 1;
        }
        if extended.get(end).is_some_and(|next| ends(last, next, scheme)) {
            found.insert((tag.kind.as_str(), at, end - 1));
        }
        previous = last;
        at = end;
    }
    found
}

fn starts(previous: &Tag, tag: &Tag, scheme: Scheme) -> bool {
    let same = previous.kind == tag.kind;
    match (scheme, previous.prefix, tag.prefix) {
        (Scheme::Iob1, Outside | Begin, Inside) => true,
        (Scheme::Iob1, Inside, Inside) => !same,
        (Scheme::Iob1, Inside | Begin, Begin) => same,
        (Scheme::Iob2, _, prefix) => prefix == Begin,
        (Scheme::Bioes, _, prefix) => matches!(prefix, Begin | Single),
        _ => false,
    }
}

fn continues(previous: &Tag, tag: &Tag, scheme: Scheme) -> bool {
    let after = matches!(previous.prefix, Begin | Inside) && previous.kind == tag.kind;
    after && (tag.prefix == Inside || (scheme == Scheme::Bioes && tag.prefix == End))
}

fn ends(previous: &Tag, tag: &Tag, scheme: Scheme) -> bool {
    let same = previous.kind == tag.kind;
    match (scheme, previous.prefix, tag.prefix) {
        (Scheme::Bioes, prefix, _) => matches!(prefix, End | Single),
        (_, Begin | Inside, Outside) => true,
        (_, Begin | Inside, Inside) => !same,
        (_, Inside, Begin) => true,
        (Scheme::Iob1, Begin, Begin) => same,
        (Scheme::Iob2, Begin, Begin) => true,
        _ => false,
    }
}

/// How many entities there are, were found, and are among both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entities that there are.
    pub expected: usize,
    /// Entities that were found.
    pub found: usize,
    /// Entities that were found and are there.
    pub right: usize,
}

impl Counts {
    /// Adds those of one sequence to the counts of every type.
    pub fn add(counts: &mut BTreeMap<String, Counts>, expected: &[Tag], found: &[Tag], scheme: Scheme) {
        let (expected, found) = (entities(expected, scheme), entities(found, scheme));
        let mut count = |(kind, ..): &Entity<'_>, add: fn(&mut Counts)| {
            add(counts.entry((*kind).to_owned()).or_default());
        };
        expected.iter().for_each(|entity| count(entity, |counts| counts.expected += 1));
        found.iter().for_each(|entity| count(entity, |counts| counts.found += 1));
        expected.intersection(&found).for_each(|entity| count(entity, |counts| counts.right += 1));
    }

    /// The sum of all.
    pub fn sum<'c>(counts: impl Iterator<Item = &'c Counts>) -> Counts {
        counts.fold(Counts::default(), |sum, counts| Counts {
            expected: sum.expected + counts.expected,
            found: sum.found + counts.found,
            right: sum.right + counts.right,
        })
    }

    /// The share of what was found that is right; 0 if nothing was found.
    pub fn precision(&self) -> f64 {
        self.right as f64 / self.found.max(1) as f64
    }

    /// The share of what there is that was found; 0 if there is nothing.
    pub fn recall(&self) -> f64 {
        self.right as f64 / self.expected.max(1) as f64
    }

    /// The harmonic mean of both; 0 if both are.
    pub fn f1(&self) -> f64 {
        let (precision, recall) = (self.precision(), self.recall());
        let sum = precision + recall;
        if sum == 0.0 { 0.0 } else { 2.0 * precision * recall / sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str, scheme: Scheme) -> Vec<Tag> {
        text.split(' ').map(|tag| Tag::parse(tag, scheme).unwrap()).collect()
    }

    fn found(text: &str, scheme: Scheme) -> Vec<(String, usize, usize)> {
        let tags = tags(text, scheme);
        let mut found: Vec<_> = entities(&tags, scheme)
            .iter()
            .map(|(kind, start, end)| ((*kind).to_owned(), *start, *end))
            .collect();
        found.sort_by_key(|(_, start, _)| *start);
        found
    }

    fn entity(kind: &str, start: usize, end: usize) -> (String, usize, usize) {
        (kind.to_owned(), start, end)
    }

    #[test]
    fn entities_are_those_of_seqevals_documentation() {
        let expected = [entity("PER", 0, 1), entity("LOC", 3, 3)];
        for scheme in [Scheme::Lenient, Scheme::Iob2] {
            assert_eq!(found("B-PER I-PER O B-LOC", scheme), expected);
        }
        assert_eq!(found("B-PER E-PER O S-LOC", Scheme::Bioes), expected);
        assert_eq!(found("I-PER I-PER O I-LOC", Scheme::Iob1), expected);
    }

    #[test]
    fn scores_are_those_of_seqevals_documentation() {
        // seqeval, README: one of two found, and one of one; f1 0.5.
        let mut counts = BTreeMap::new();
        let scheme = Scheme::Lenient;
        for (expected, found) in [
            ("O O O B-MISC I-MISC I-MISC O", "O O B-MISC I-MISC I-MISC I-MISC O"),
            ("B-PER I-PER O", "B-PER I-PER O"),
        ] {
            Counts::add(&mut counts, &tags(expected, scheme), &tags(found, scheme), scheme);
        }
        let all = Counts::sum(counts.values());
        assert_eq!((all.precision(), all.recall(), all.f1()), (0.5, 0.5, 0.5));
        assert_eq!(counts["MISC"].f1(), 0.0);
        assert_eq!(counts["PER"].f1(), 1.0);
    }

    #[test]
    fn what_breaks_the_rules_is_an_entity_only_to_the_lenient() {
        assert_eq!(found("O I-PER I-PER O", Scheme::Lenient), [entity("PER", 1, 2)]);
        assert_eq!(found("O I-PER I-PER O", Scheme::Iob2), []);
        assert_eq!(found("B-PER I-LOC O", Scheme::Lenient), [entity("PER", 0, 0), entity("LOC", 1, 1)]);
        assert_eq!(found("B-PER I-LOC O", Scheme::Iob2), [entity("PER", 0, 0)]);
        assert_eq!(found("B-PER I-PER O", Scheme::Bioes), []);
        assert_eq!(found("I-PER B-PER I-PER", Scheme::Iob1), [entity("PER", 0, 0), entity("PER", 1, 2)]);
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for wrong in ["", "B", "PER", "B-", "X-PER", "b-PER", "BPER"] {
            assert!(Tag::parse(wrong, Scheme::Lenient).unwrap_err().contains("is no tag"), "{wrong}");
        }
        assert!(Tag::parse("E-PER", Scheme::Iob2).unwrap_err().contains("--scheme bioes"));
    }

    #[test]
    fn nothing_gives_zero() {
        let none = Counts::default();
        assert_eq!((none.precision(), none.recall(), none.f1()), (0.0, 0.0, 0.0));
    }
}
